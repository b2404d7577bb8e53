"""Fit the time per output token and to the first token on GPUs: factors, shrunken effects, intervals.

The absolute error of the logarithm is minimised (iteratively reweighted least squares with a damped Newton
step), with a ridge on every effect and a weak one that holds factors near their priors. Errors are those of
rows whose whole configuration (or model, architecture, engine, chip) was left out.
"""

from __future__ import annotations

import collections
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tools.fitting.crossval import LEVEL, HeldOut, Method, Sample, held_out, quantile
from tools.fitting.minimise import Recipe
from tools.fitting.minimise import fitted as minimised

from tokenmill.core.errors import TokenmillError
from tokenmill.planner.measurements import NEURON_PREFIXES, QUALITIES
from tokenmill.planner.performance.fitted import half_width, stack
from tokenmill.planner.performance.gpu import (
    decode_ms,
    first_token_ms,
    first_token_terms,
    levels_of,
    stall_terms,
    step_terms,
    unmeasured,
)
from tokenmill.planner.performance.gpu_columns import TEXTS, GpuDeployment
from tokenmill.planner.performance.gpu_rows import row_deployment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Row = Sample[GpuDeployment]
Found = HeldOut[GpuDeployment]
RIDGE = {
    "speculative": 0.01,
    "engine": 5.0,
    "quantization": 10.0,
    "quantization chip": 10.0,
    "architecture": 5.0,
    "architecture engine": 1.0,
    "architecture engine version": 5.0,
}
PRIORS = {
    "expert_read": 1.0,
    "dense_read": 1.0,
    "kv_read": 1.0,
    "layers": 3.5,
    "moe_layers": 2.0,
    "latent_layers": 2.0,
    "linear_layers": 1.0,
    "fp4_layers": 2.0,
    "exchange": 1.0,
    "slow_exchange": 8.0,
    "expert_exchange": 1.0,
    "moe_sequences": 1.0,
    "host": 0.5,
    "prefill_compute": 1.5,
    "prefill_layers": 1.0,
    "prefill_read": 1.0,
}
"""Memory at its peak, arithmetic at two thirds, launches of some 10 us; chosen, with the ridges, by leaving
out configurations and architectures."""
FIRST_TOKEN_PRIORS = {
    "host": 1.0,
    "layers": 1.0,
    "compute": 1.5,
    "read": 1.0,
    "queue": 0.3,
    "exchange": 1.0,
}
FARTHEST_RELEASE = 5
"""Minor releases behind an engine's newest beyond which a measurement says nothing of today's speed."""
FOLDS = 10
NESTED_FOLDS = 5
BUSY = 8
"""Requests in flight beyond which rows are not marked clean; they tell how far errors grow there."""
KNOWN_CONFIGURATIONS = 3
DOMAIN = ("concurrency", "ranks", "input_tokens", "output_tokens")
SCHEMES: dict[str, Callable[[Row], str]] = {
    "configuration": lambda s: s.configuration,
    "model": lambda s: s.model,
    "architecture": lambda s: s.deployment.architecture,
    "engine": lambda s: s.deployment.engine,
    "chip": lambda s: s.deployment.chip,
    "architecture engine": lambda s: f"{s.deployment.architecture} {s.deployment.engine}",
    "architecture engine version": lambda s: s.levels["architecture engine version"],
}
FLAGS = {
    "architecture": "architecture",
    "engine": "engine",
    "quantization chip": "chip",
    "architecture engine": "architecture engine",
    "architecture engine version": "architecture engine version",
}
"""What may be unmeasured, and the scheme whose errors say how much that widens the interval."""
REPORTED = ("configuration", "model", "engine")


@dataclass(frozen=True)
class Task:
    """What is fitted: a column of the files, its terms, its prediction, and how."""

    column: str
    terms: Callable[[GpuDeployment], dict[str, Any]]
    predict: Callable[[GpuDeployment, Mapping[str, Any]], Any]
    recipe: Recipe

    @property
    def method(self) -> Method[GpuDeployment]:
        """How this task is fitted and predicts."""
        return self.fitted_by(lambda samples: fitted(self, samples))

    def fitted_by(self, fit: Callable[[Sequence[Row]], dict[str, Any]]) -> Method[GpuDeployment]:
        """Return how this task predicts with documents of another fit.

        Args:
            fit: Makes a document of rows.
        """
        return Method(
            fit=fit,
            predict=lambda rows, document: self.predict(stack(rows, TEXTS), document),
            unmeasured=unmeasured,
        )


DECODE = Task(
    "tpot_ms",
    lambda columns: step_terms(columns) | stall_terms(columns),
    decode_ms,
    Recipe(PRIORS, 3.0, RIDGE),
)
FIRST_TOKEN = Task("ttft_ms", first_token_terms, first_token_ms, Recipe(FIRST_TOKEN_PRIORS, 1.0, RIDGE))


def fit(rows: Sequence[Mapping[str, str]], task: Task = DECODE) -> dict[str, Any]:
    """Return factors, effects, interval and errors of a task.

    Args:
        rows: Texts by column.
        task: What is fitted.
    """
    samples = read_samples(rows, task)
    others = read_samples(rows, task, clean=False)
    busy = [sample for sample in others if sample.deployment.concurrency > BUSY]
    return {
        **calibrated(task, samples, busy, folds=FOLDS),
        "cross_validation": cross_validation(task, samples, busy),
        "rows": len(samples),
        "configurations": len({sample.configuration for sample in samples}),
        "sources": sorted({sample.source for sample in samples}),
    }


def read_samples(rows: Iterable[Mapping[str, str]], task: Task = DECODE, *, clean: bool = True) -> list[Row]:
    """Return rows on GPUs, each id once.

    Args:
        rows: Texts by column.
        task: What must have been measured.
        clean: Those that are clean enough to fit; else the others of the same quality, under more load.
    """
    samples: dict[str, Row] = {}
    for row in rows:
        usable = row["quality"] in QUALITIES and row[task.column] and row["id"] not in samples
        if usable and (row["fit_decode"] == "y") == clean:
            found = sample_of(row, task)
            samples |= {row["id"]: found} if found else {}
    return list(samples.values())


def sample_of(row: Mapping[str, str], task: Task = DECODE) -> Row | None:
    """Return a row as a sample; None (and why, on stderr) where its inputs are missing.

    Args:
        row: Texts by column.
        task: What was measured.
    """
    if row["accelerator"].startswith(NEURON_PREFIXES):
        return None
    try:
        d = row_deployment(row)
    except TokenmillError as error:
        print(f"{row['id']}: {error}", file=sys.stderr)
        return None
    keys = (d.chip, d.ranks, d.attention_ranks, d.expert_ranks, d.quantization, d.engine, d.speculative)
    shape = f"{d.architecture} {d.layers} {d.active_parameters}"
    return Sample(
        id=row["id"],
        deployment=d,
        levels=levels_of(d, {"latest": {}}),
        model=shape,
        configuration="|".join(map(str, (shape, *keys))),
        source=row["source"].split(":")[0],
        measured_ms=float(row[task.column]),
    )


def fitted(task: Task, samples: Sequence[Row]) -> dict[str, Any]:
    """Return the document of one fit, with an interval of no width.

    Args:
        task: What is fitted.
        samples: To fit on.
    """
    columns = stack((sample.deployment for sample in samples), TEXTS)
    measured = np.array([sample.measured_ms for sample in samples])
    levels = [sample.levels for sample in samples]
    return {
        **minimised(task.terms(columns), levels, measured, np.ones(len(samples)), task.recipe),
        "latest": _latest(samples),
        "dated": _dated(_latest(samples)),
        "engine chips": _engine_chips(samples),
        "domain": {name: [float(f(getattr(columns, name))) for f in (np.min, np.max)] for name in DOMAIN},
        "interval": {"level": LEVEL, "half_width": 0.0, "widening": dict.fromkeys((*FLAGS, *DOMAIN), 0.0)},
    }


def _engine_chips(samples: Sequence[Row]) -> list[str]:
    """Pairs of engine and chip that enough configurations were measured on to be called known."""
    configurations = {(s.configuration, f"{s.deployment.engine} {s.deployment.chip}") for s in samples}
    counts = collections.Counter(pair for _, pair in configurations)
    return sorted(pair for pair, count in counts.items() if count >= KNOWN_CONFIGURATIONS)


def _latest(samples: Sequence[Row]) -> dict[str, str]:
    """Newest version by architecture and engine: the highest release number, nightly builds aside."""
    found: dict[str, str] = {}
    for sample in samples:
        pair, version = sample.levels["architecture engine"], sample.deployment.version
        found[pair] = max(found.get(pair, version), version, key=_release)
    return dict(sorted(found.items()))


def _dated(latest: Mapping[str, str]) -> list[str]:
    """Pairs of architecture and engine measured only on releases far behind the engine's newest."""
    newest: dict[str, tuple[int, ...]] = {}
    for pair, version in latest.items():
        engine = pair.split(" ")[-1]
        newest[engine] = max(newest.get(engine, ()), _release(version)[1][:2])
    return [
        pair
        for pair, version in latest.items()
        if len(own := _release(version)[1][:2]) == 2
        and newest[pair.split(" ")[-1]] > (own[0], own[1] + FARTHEST_RELEASE)
    ]


def _release(version: str) -> tuple[int, tuple[int, ...], str]:
    numbers = version.replace("rc", ".").replace("post", "").split(".")
    digits = tuple(int(number) for number in numbers if number.isdigit())
    return (1 if version[:1].isdigit() else 0, digits, version)


def calibrated(task: Task, samples: Sequence[Row], busy: Sequence[Row], folds: int | None) -> dict[str, Any]:
    """Return a fit whose interval is that of rows left out of it.

    Args:
        task: What is fitted.
        samples: To fit on.
        busy: Rows with more requests in flight than those; they widen the interval there.
        folds: Of every scheme; None for one a group.
    """
    document = fitted(task, samples)
    found = held_out(task.method, samples, SCHEMES["configuration"], folds)
    half = quantile([item.distance for item in found if not _reasons(item)], LEVEL)
    wide = {}
    for flag, scheme in FLAGS.items():
        found = held_out(task.method, samples, SCHEMES[scheme], folds)
        wide[flag] = _widening([item.distance for item in found if flag in _reasons(item)], half)
    # nothing was measured outside of these ranges: taken to be as unsure as a new architecture
    wide |= dict.fromkeys(DOMAIN, wide["architecture"])
    crowded = [
        item.distance
        for sample in busy
        if _reasons(item := HeldOut(sample, float(task.predict(sample.deployment, document)), document))
        == ("concurrency",)
    ]
    wide["concurrency"] = _widening(crowded, half)
    document["interval"]["half_width"] = round(half, 4)
    document["interval"]["widening"] = {name: round(value, 4) for name, value in wide.items()}
    return document


def _reasons(item: Found) -> tuple[str, ...]:
    return unmeasured(item.sample.deployment, item.document)


def _widening(errors: Sequence[float], half: float) -> float:
    if not errors:
        return 0.0
    return float(max(float(np.quantile(errors, LEVEL)) ** 2 - half**2, 0.0) ** 0.5)


def cross_validation(task: Task, samples: Sequence[Row], busy: Sequence[Row]) -> dict[str, Any]:
    """Return errors in percent by what was left out; intervals are those of the fits without it.

    Args:
        task: What is fitted.
        samples: All.
        busy: Rows with more requests in flight.
    """
    method = task.fitted_by(lambda rest: calibrated(task, rest, busy, NESTED_FOLDS))
    report = {}
    for scheme in REPORTED:
        print(f"gpu {task.column}: leaving out each {scheme}", file=sys.stderr)
        folds = FOLDS if scheme == "configuration" else None
        report[scheme] = _figures(held_out(method, samples, SCHEMES[scheme], folds))
    return report


def _figures(found: Sequence[Found]) -> dict[str, Any]:
    errors = [100 * abs(item.predicted_ms / item.sample.measured_ms - 1) for item in found]
    covered = [item.distance <= half_width(_reasons(item), item.document) for item in found]
    by_configuration: dict[str, list[float]] = {}
    for item, error in zip(found, errors, strict=True):
        by_configuration.setdefault(item.sample.configuration, []).append(error)
    means = [float(np.mean(values)) for values in by_configuration.values()]
    return {
        "rows": len(errors),
        "mape": round(float(np.mean(errors)), 1),
        "median_ape": round(float(np.median(errors)), 1),
        "mape_by_configuration": round(float(np.mean(means)), 1),
        "coverage80": round(100 * float(np.mean(covered)), 1),
    }
