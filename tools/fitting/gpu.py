"""Fit the time per output token and to the first token on GPUs: factors, shrunken effects, intervals.

The absolute error of the logarithm is minimised (iteratively reweighted least squares with a damped Newton
step), with a ridge on every effect and a weak one that holds factors near their priors. Errors are those of
rows whose whole configuration (or model, architecture, engine, chip) was left out.
"""

from __future__ import annotations

import collections
import csv
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from tools.fitting.minimise import Recipe
from tools.fitting.minimise import fitted as minimised

from tokenmill.core.errors import TokenmillError
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
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

FILES = ("measurements.csv", "measurements_gpu.csv")
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
LEVEL = 0.8
FOLDS = 10
KNOWN_CONFIGURATIONS = 3
DOMAIN = ("concurrency", "ranks", "input_tokens", "output_tokens")
SCHEMES: dict[str, Callable[[Sample], str]] = {
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


@dataclass(frozen=True)
class Task:
    """What is fitted: a column of the files, its terms, its prediction, and how."""

    column: str
    terms: Callable[[GpuDeployment], dict[str, Any]]
    predict: Callable[[GpuDeployment, Mapping[str, Any]], Any]
    recipe: Recipe


DECODE = Task(
    "tpot_ms",
    lambda columns: step_terms(columns) | stall_terms(columns),
    decode_ms,
    Recipe(PRIORS, 3.0, RIDGE),
)
FIRST_TOKEN = Task("ttft_ms", first_token_terms, first_token_ms, Recipe(FIRST_TOKEN_PRIORS, 1.0, RIDGE))


@dataclass(frozen=True)
class Sample:
    """One measured row."""

    id: str
    deployment: GpuDeployment
    levels: dict[str, str]
    model: str
    configuration: str
    source: str
    measured_ms: float


def fit(folder: Path) -> dict[str, Any]:
    """Return factors, effects, interval and errors of output tokens; those of first tokens in "first_token".

    Args:
        folder: Holds measurements.csv and measurements_gpu.csv.
    """
    document = fit_task(folder, DECODE)
    return document | {"first_token": fit_task(folder, FIRST_TOKEN)}


def fit_task(folder: Path, task: Task) -> dict[str, Any]:
    """Return the document of one task.

    Args:
        folder: Holds measurements.csv and measurements_gpu.csv.
        task: What is fitted.
    """
    samples = read_samples(folder, task)
    others = read_samples(folder, task, clean=False)
    loaded = [sample for sample in others if sample.deployment.concurrency > 8]
    return {
        **calibrated(task, samples, loaded, folds=FOLDS),
        "cross_validation": cross_validation(task, samples, loaded),
        "rows": len(samples),
        "configurations": len({sample.configuration for sample in samples}),
        "sources": sorted({sample.source for sample in samples}),
    }


def read_samples(folder: Path, task: Task = DECODE, *, clean: bool = True) -> list[Sample]:
    """Return rows on GPUs, each once.

    Args:
        folder: Holds FILES.
        task: What must have been measured.
        clean: Those that are clean enough to fit; else the others of the same quality, under more load.
    """
    samples: dict[str, Sample] = {}
    for name in FILES:
        with (folder / name).open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                usable = row["quality"] in ("A", "B") and row[task.column] and row["id"] not in samples
                if usable and (row["fit_decode"] == "y") == clean:
                    found = sample_of(row, task)
                    samples |= {row["id"]: found} if found else {}
    return list(samples.values())


def sample_of(row: Mapping[str, str], task: Task = DECODE) -> Sample | None:
    """Return a row as a sample; None (and why, on stderr) where its inputs are missing.

    Args:
        row: Texts by column.
        task: What was measured.
    """
    if row["accelerator"].startswith(("Inferentia", "Trainium")):
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


def fitted(task: Task, samples: Sequence[Sample]) -> dict[str, Any]:
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


def _engine_chips(samples: Sequence[Sample]) -> list[str]:
    """Pairs of engine and chip that enough configurations were measured on to be called known."""
    configurations = {(s.configuration, f"{s.deployment.engine} {s.deployment.chip}") for s in samples}
    counts = collections.Counter(pair for _, pair in configurations)
    return sorted(pair for pair, count in counts.items() if count >= KNOWN_CONFIGURATIONS)


def _latest(samples: Sequence[Sample]) -> dict[str, str]:
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


Fit: TypeAlias = "Callable[[Task, list[Sample]], dict[str, Any]]"


def folds_of(samples: Sequence[Sample], scheme: str, folds: int | None) -> list[list[int]]:
    """Return the indices of each fold; groups stay together, and are dealt out in a fixed shuffled order.

    Args:
        samples: To split.
        scheme: What makes a group, one of SCHEMES.
        folds: How many; None for one a group.
    """
    keys = [SCHEMES[scheme](sample) for sample in samples]
    groups = sorted(set(keys))
    np.random.default_rng(7).shuffle(groups)
    count = min(folds or len(groups), len(groups))
    place = {group: index % count for index, group in enumerate(groups)}
    return [[i for i, key in enumerate(keys) if place[key] == fold] for fold in range(count)]


def held_out(
    task: Task, samples: Sequence[Sample], scheme: str, folds: int | None, fit_on: Fit = fitted
) -> list[tuple[int, float, dict[str, Any]]]:
    """Return for every sample its index, its prediction without its group, and the document that made it.

    Nothing where all samples are of one group.

    Args:
        task: What is predicted.
        samples: To split.
        scheme: One of SCHEMES.
        folds: How many; None for one a group.
        fit_on: Makes a document of the other samples.
    """
    result = []
    for fold in folds_of(samples, scheme, folds):
        left = set(fold)
        rest = [sample for i, sample in enumerate(samples) if i not in left]
        if not rest:
            continue
        document = fit_on(task, rest)
        predicted = task.predict(stack((samples[i].deployment for i in fold), TEXTS), document)
        result += [(i, float(value), document) for i, value in zip(fold, predicted, strict=True)]
    return result


def calibrated(
    task: Task, samples: Sequence[Sample], loaded: Sequence[Sample], folds: int | None
) -> dict[str, Any]:
    """Return a fit whose interval is that of rows left out of it.

    Args:
        task: What is fitted.
        samples: To fit on.
        loaded: Rows with more requests in flight than those; they widen the interval there.
        folds: Of every scheme; None for one a group.
    """
    document = fitted(task, samples)
    known, wide = [], {}
    for i, predicted, other in held_out(task, samples, "configuration", folds):
        if not unmeasured(samples[i].deployment, other):
            known.append(_distance(samples[i], predicted))
    half = float(np.quantile(known, LEVEL))
    for flag, scheme in FLAGS.items():
        errors = [
            _distance(samples[i], predicted)
            for i, predicted, other in held_out(task, samples, scheme, folds)
            if flag in unmeasured(samples[i].deployment, other)
        ]
        wide[flag] = _widening(errors, half)
    # nothing was measured outside of these ranges: taken to be as unsure as a new architecture
    wide |= dict.fromkeys(DOMAIN, wide["architecture"])
    busy = [
        _distance(sample, float(task.predict(sample.deployment, document)))
        for sample in loaded
        if unmeasured(sample.deployment, document) == ("concurrency",)
    ]
    wide["concurrency"] = _widening(busy, half)
    document["interval"]["half_width"] = round(half, 4)
    document["interval"]["widening"] = {name: round(value, 4) for name, value in wide.items()}
    return document


def _distance(sample: Sample, predicted: float) -> float:
    return abs(float(np.log(predicted / sample.measured_ms)))


def _widening(errors: Sequence[float], half: float) -> float:
    if not errors:
        return 0.0
    return float(max(float(np.quantile(errors, LEVEL)) ** 2 - half**2, 0.0) ** 0.5)


def cross_validation(task: Task, samples: Sequence[Sample], loaded: Sequence[Sample]) -> dict[str, Any]:
    """Return errors in percent: by scheme, and for groups of rows when configurations are left out.

    Args:
        task: What is fitted.
        samples: All.
    """
    report: dict[str, Any] = {}
    for scheme in ("configuration", "model", "architecture", "engine", "chip"):
        print(f"gpu {task.column}: leaving out each {scheme}", file=sys.stderr)
        folds = FOLDS if scheme == "configuration" else None
        found = held_out(task, samples, scheme, folds, lambda what, rest: calibrated(what, rest, loaded, 5))
        report[scheme] = [_figures(samples, found)]
        if scheme == "configuration":
            report["groups"] = _groups(samples, found)
    return {name: rows[0] if name != "groups" else rows for name, rows in report.items()}


def _groups(
    samples: Sequence[Sample], found: list[tuple[int, float, dict[str, Any]]]
) -> list[dict[str, Any]]:
    views: dict[str, Callable[[GpuDeployment], str]] = {
        "chip": lambda d: d.chip,
        "moe": lambda d: "moe" if d.experts > 1 else "dense",
        "batch": lambda d: "1" if d.concurrency <= 1 else "2-8" if d.concurrency <= 8 else ">8",
        "architecture": lambda d: d.architecture,
        "quantization": lambda d: d.quantization,
        "engine": lambda d: d.engine,
        "speculative": lambda d: "yes" if d.speculative else "no",
    }
    groups = []
    for by, view in views.items():
        keys = sorted({view(sample.deployment) for sample in samples})
        for key in keys:
            chosen = [item for item in found if view(samples[item[0]].deployment) == key]
            groups.append({"by": by, "key": key, **_figures(samples, chosen)})
    return groups


def _figures(samples: Sequence[Sample], found: list[tuple[int, float, dict[str, Any]]]) -> dict[str, Any]:
    errors, covered = [], []
    by_configuration: dict[str, list[float]] = {}
    for i, predicted, document in found:
        sample = samples[i]
        errors.append(100 * abs(predicted / sample.measured_ms - 1))
        by_configuration.setdefault(sample.configuration, []).append(errors[-1])
        wide = half_width(unmeasured(sample.deployment, document), document)
        covered.append(_distance(sample, predicted) <= wide)
    means = [float(np.mean(values)) for values in by_configuration.values()]
    return {
        "rows": len(errors),
        "mape": round(float(np.mean(errors)), 1),
        "median_ape": round(float(np.median(errors)), 1),
        "mape_by_configuration": round(float(np.mean(means)), 1),
        "coverage80": round(100 * float(np.mean(covered)), 1),
    }
