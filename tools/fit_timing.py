"""Fit the planner's timing formulas on published measurements.

Usage: python -m tools.fit_timing FOLDER --write constructs/tokenmill/core/data/coefficients.json

FOLDER holds measurements.csv and measurements_gpu.csv, plain or gzipped. tests/data/performance of a checkout
has the rows that the shipped coefficients were fitted on, and gives the same ones again in some minutes:

    python -m tools.fit_timing tests/data/performance --write refitted.json

Every formula is a sum of physical terms, each times a fitted factor, times shrunken effects of software,
format and measured shape. Errors and intervals are those of rows whose configuration, model or software was
left out of the fit.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tools.fitting import gpu, neuron
from tools.fitting.crossval import held_out

from tokenmill.core.coefficients import SCHEMA
from tokenmill.planner.accuracy import (
    Accuracy,
    Scored,
    group_errors,
    id_digest,
    scored_row,
)
from tokenmill.planner.accuracy_chart import draw
from tokenmill.planner.measurements import read_rows
from tokenmill.planner.performance import gpu as gpu_formula
from tokenmill.planner.performance import neuron as neuron_formula
from tokenmill.planner.performance.fitted import half_width

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FILES = ("measurements", "measurements_gpu")
ENDINGS = (".csv", ".csv.gz")
REPORTED = {"configuration": "configuration", "shape": "model", "software": "software"}
"""Schemes of NeuronCore fits, and the names they are reported under."""
GPU_REPORTED = {"configuration": "configuration", "model": "model", "engine": "software"}
"""The same for GPUs."""


def main() -> int:
    """Fit, print the errors, and write the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--chart", type=Path, help="draw rows left out to this .png or .svg")
    parser.add_argument("--date", default=datetime.date.today().isoformat())
    arguments = parser.parse_args()
    document, scored = fit_all(read_folder(arguments.folder), arguments.date)
    for scheme, summary in document["cross_validation"]["summary"].items():
        print(f"{scheme}: {json.dumps(summary)}")
    if arguments.write:
        arguments.write.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if arguments.chart:
        draw(Accuracy(scored=tuple(scored), skipped=(), fitted_on=0, duplicates=0), arguments.chart)
    return 0


def fit_all(rows: Sequence[Mapping[str, str]], date: str) -> tuple[dict[str, Any], list[Scored]]:
    """Return the document that ships, and every row with its prediction by a fit without its configuration.

    Args:
        rows: Texts by column.
        date: When it is fitted, as YYYY-MM-DD.
    """
    by_id = {row["id"]: row for row in reversed(rows)}
    scored: list[Scored] = []
    summary: dict[str, dict[str, Any]] = {}
    fits, fitted_on = {}, set()
    for name, task in (("neuron_decode", neuron.DECODE), ("neuron_prefill", neuron.PREFILL)):
        samples = neuron.read_samples(task, rows)
        found = neuron.left_out(task, samples)
        fits[name] = neuron.fit(task, samples, found)
        fitted_on |= {f"{task.metric} {sample.id}" for sample in samples}
        for scheme, title in REPORTED.items():
            made = list(_neuron_rows(task, fits[name], found[scheme], by_id))
            scored += made if scheme == "configuration" else []
            summary.setdefault(title, {})[task.metric] = _summary(made)
    for name, gpu_task in (("gpu_decode", gpu.DECODE), ("gpu_first_token", gpu.FIRST_TOKEN)):
        fits[name] = gpu.fit(rows, gpu_task)
        errors = fits[name].pop("cross_validation")
        if gpu_task is gpu.FIRST_TOKEN:
            # rough, and not among the metrics that are reported: for who fits
            print(f"gpu first token: {json.dumps(errors)}", file=sys.stderr)
            continue
        for scheme, title in GPU_REPORTED.items():
            summary.setdefault(title, {})["tpot"] = errors[scheme]
    made = list(_gpu_rows(fits["gpu_decode"], rows, by_id))
    scored += made
    fitted_on |= {f"tpot {item.id}" for item in made}
    digests = sorted(id_digest(text) for text in fitted_on)
    document = {
        "schema": SCHEMA,
        "date": date,
        "tool": "tools/fit_timing.py",
        **fits,
        "cross_validation": {"summary": summary, "groups": group_errors(scored)},
        "fitted_on": "".join(digests),
    }
    return document, scored


def read_folder(folder: Path) -> list[dict[str, str]]:
    """Return the rows of both files, the first file's first.

    Args:
        folder: Holds FILES with one of ENDINGS.

    Raises:
        TokenmillError: A file is missing or no table of measurements.
    """
    rows = []
    for name in FILES:
        paths = [folder / f"{name}{ending}" for ending in ENDINGS]
        rows += read_rows(next((path for path in paths if path.exists()), paths[0]))
    return rows


def _neuron_rows(
    task: neuron.Task,
    document: Mapping[str, Any],
    found: Iterable[neuron.Found],
    rows: Mapping[str, Mapping[str, str]],
) -> Iterable[Scored]:
    for item in found:
        sample = item.sample
        why = neuron_formula.unmeasured(sample.deployment, item.document)
        predicted = (item.predicted_ms, half_width(why, document))
        yield scored_row(task.metric, sample.id, rows[sample.id], sample.measured_ms, predicted, why)


def _gpu_rows(
    document: Mapping[str, Any], rows: Sequence[Mapping[str, str]], by_id: Mapping[str, Mapping[str, str]]
) -> Iterable[Scored]:
    samples = gpu.read_samples(rows)
    for item in held_out(gpu.DECODE.method, samples, gpu.SCHEMES["configuration"], gpu.FOLDS):
        sample = item.sample
        why = gpu_formula.unmeasured(sample.deployment, item.document)
        width = (item.predicted_ms, half_width(why, document))
        yield scored_row("tpot", sample.id, by_id[sample.id], sample.measured_ms, width, why)


def _summary(scored: Sequence[Scored]) -> dict[str, float]:
    return {
        "rows": len(scored),
        "mape": round(float(np.mean([item.ape for item in scored])), 1),
        "median_ape": round(float(np.median([item.ape for item in scored])), 1),
        "coverage80": round(100 * float(np.mean([item.covered for item in scored])), 1),
    }


if __name__ == "__main__":
    sys.exit(main())
