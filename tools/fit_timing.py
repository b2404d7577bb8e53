"""Fit the planner's timing formulas on published measurements.

Usage: python tools/fit_timing.py FOLDER --write constructs/tokenmill/core/data/coefficients.json

FOLDER holds measurements.csv and measurements_gpu.csv. Every formula is a sum of physical terms, each times a
fitted factor, times shrunken effects of software, format and measured shape. Errors and intervals are those of
rows whose configuration, model or software was left out of the fit.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "constructs"), str(ROOT / "lambda"), str(ROOT)]

import numpy as np  # noqa: E402  the path is set above
from tools.fitting import gpu, neuron  # noqa: E402  the path is set above

from tokenmill.core.coefficients import SCHEMA  # noqa: E402  the path is set above
from tokenmill.planner.accuracy import (  # noqa: E402  the path is set above
    Scored,
    group_errors,
    id_digest,
    scored_row,
)
from tokenmill.planner.performance import gpu as gpu_formula  # noqa: E402  the path is set above
from tokenmill.planner.performance import neuron as neuron_formula  # noqa: E402  the path is set above
from tokenmill.planner.performance.fitted import half_width  # noqa: E402  the path is set above

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FILES = ("measurements.csv", "measurements_gpu.csv")
REPORTED = {"configuration": "configuration", "shape": "model", "software": "software"}
"""Schemes of NeuronCore fits, and the names they are reported under."""


def main() -> int:
    """Fit, print the errors, and write the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--date", default=datetime.date.today().isoformat())
    arguments = parser.parse_args()
    document = fit_all(arguments.folder, arguments.date)
    for scheme, summary in document["cross_validation"]["summary"].items():
        print(f"{scheme}: {json.dumps(summary)}")
    if arguments.write:
        arguments.write.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


def fit_all(folder: Path, date: str) -> dict[str, Any]:
    """Return the document that ships.

    Args:
        folder: Holds FILES.
        date: When it is fitted, as YYYY-MM-DD.
    """
    rows = read_rows(folder)
    scored: list[Scored] = []
    summary: dict[str, dict[str, Any]] = {}
    fits, fitted_on = {}, set()
    for name, task in (("neuron_decode", neuron.DECODE), ("neuron_prefill", neuron.PREFILL)):
        samples = neuron.read_samples(task, list(rows.values()))
        found = neuron.left_out(task, samples)
        fits[name] = neuron.fit(task, samples, found)
        fitted_on |= {f"{task.metric} {sample.id}" for sample in samples}
        for scheme, title in REPORTED.items():
            made = list(_neuron_rows(task, fits[name], found[scheme], rows))
            scored += made if scheme == "configuration" else []
            summary.setdefault(title, {})[task.metric] = _summary(made)
    made, schemes = _gpu(folder, fits, rows)
    scored += made
    fitted_on |= {f"tpot {item.id}" for item in made}
    for title, errors in schemes.items():
        summary.setdefault(title, {})["tpot"] = errors
    digests = sorted(id_digest(text) for text in fitted_on)
    return {
        "schema": SCHEMA,
        "date": date,
        "tool": "tools/fit_timing.py",
        **fits,
        "cross_validation": {"summary": summary, "groups": group_errors(scored)},
        "fitted_on": "".join(digests),
    }


def read_rows(folder: Path) -> dict[str, dict[str, str]]:
    """Return the rows of both files by id; the first of several counts.

    Args:
        folder: Holds FILES.
    """
    rows: dict[str, dict[str, str]] = {}
    for name in FILES:
        with (folder / name).open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                rows.setdefault(row["id"], row)
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


def _gpu(
    folder: Path, fits: dict[str, Any], rows: Mapping[str, Mapping[str, str]]
) -> tuple[list[Scored], dict[str, Any]]:
    document = gpu.fit(folder)
    first_token = document.pop("first_token")
    errors = document.pop("cross_validation")
    schemes = {"configuration": "configuration", "model": "model", "engine": "software"}
    figures = {title: errors[name] for name, title in schemes.items()}
    first_token.pop("cross_validation")
    fits["gpu_decode"], fits["gpu_first_token"] = document, first_token
    samples = gpu.read_samples(folder)
    scored = []
    for index, predicted, other in gpu.held_out(gpu.DECODE, samples, "configuration", gpu.FOLDS):
        sample = samples[index]
        why = gpu_formula.unmeasured(sample.deployment, other)
        width = (predicted, half_width(why, document))
        scored.append(scored_row("tpot", sample.id, rows[sample.id], sample.measured_ms, width, why))
    return scored, figures


def _summary(scored: Sequence[Scored]) -> dict[str, float]:
    return {
        "rows": len(scored),
        "mape": round(float(np.mean([item.ape for item in scored])), 1),
        "median_ape": round(float(np.median([item.ape for item in scored])), 1),
        "coverage80": round(100 * float(np.mean([item.covered for item in scored])), 1),
    }


if __name__ == "__main__":
    sys.exit(main())
