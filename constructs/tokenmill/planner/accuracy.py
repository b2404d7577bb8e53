"""How far predicted times are from published measurements."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenmill.core.coefficients import DIGEST_DIGITS, coefficients
from tokenmill.core.errors import TokenmillError
from tokenmill.core.model_catalog import known_model
from tokenmill.planner.measurements import CONFIGURATION, FLAGS, deployment_of, wanted
from tokenmill.planner.performance import gpu, neuron
from tokenmill.planner.performance.fitted import half_width, stack
from tokenmill.planner.performance.gpu_columns import TEXTS as GPU_TEXTS
from tokenmill.planner.performance.neuron_columns import TEXTS as NEURON_TEXTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SCHEMA = 1
CHIPS = {"Inferentia2": "inf2", "Trainium1": "trn1", "Trainium2": "trn2", "Trainium3": "trn3"}
GROUPINGS = ("all", "chip", "moe", "batch", "family", "source_set")
LARGEST_SMALL_BATCH = 8
FARTHEST = 100.0
"""Times longer or shorter than predicted beyond which a unit or a row is taken to be wrong; prefills of
mixtures were measured up to 40 times slower."""
SECONDS = (1 / 3000, 1 / 300)
"""Measured over predicted where seconds were written for milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One measured time beside its prediction.

    Args:
        id: Of the row.
        metric: "itl", "tpot" or "ttft".
        measured_ms: What was published.
        predicted_ms: What the shipped coefficients say.
        low_ms: Low end of the 80 % interval.
        high_ms: High end of the 80 % interval.
        extrapolated: Names of what no measurement resembles.
        configuration: What rows of one deployment share.
        groups: Key by grouping, such as {"chip": "inf2"}.
    """

    id: str
    metric: str
    measured_ms: float
    predicted_ms: float
    low_ms: float
    high_ms: float
    extrapolated: tuple[str, ...]
    configuration: str
    groups: dict[str, str]

    @property
    def ape(self) -> float:
        """Absolute error, in percent of the measured time."""
        return abs(self.predicted_ms / self.measured_ms - 1) * 100

    @property
    def covered(self) -> bool:
        """Whether the interval holds the measured time."""
        return self.low_ms <= self.measured_ms <= self.high_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """One row that should count and cannot be predicted.

    Args:
        id: Of the row.
        metric: "itl", "tpot" or "ttft".
        reason: What is missing, in a sentence.
    """

    id: str
    metric: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """What scoring a file gave.

    Args:
        scored: Every measured time that has a prediction.
        skipped: Rows without the inputs.
        fitted_on: How many of the scored times the coefficients were fitted on.
        duplicates: Rows whose id stood in the file before.
    """

    scored: tuple[Scored, ...]
    skipped: tuple[Skipped, ...]
    fitted_on: int
    duplicates: int

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes the file implausible, a sentence each."""
        found = (_implausible([item for item in self.scored if item.metric == name]) for name in FLAGS)
        return tuple(filter(None, found))

    def to_json(self) -> dict[str, Any]:
        """Return the document that machines read."""
        return {
            "schema": SCHEMA,
            "skipped": len(self.skipped),
            "duplicates": self.duplicates,
            "fitted_on": self.fitted_on,
            "warnings": list(self.warnings),
            "groups": group_errors(self.scored),
            "skipped_rows": [{"id": s.id, "metric": s.metric, "reason": s.reason} for s in self.skipped],
        }


def score(rows: Iterable[Mapping[str, str]]) -> Accuracy:
    """Return how far the shipped coefficients are from measured rows; nothing is refitted.

    Args:
        rows: With the columns of measurements.csv; each id counts once.
    """
    seen: dict[str, Mapping[str, str]] = {}
    count = 0
    for count, row in enumerate(rows, 1):
        seen.setdefault(row["id"] or f"row {count}", row)
    skipped: list[Skipped] = []
    scored: list[Scored] = []
    for metric in FLAGS:
        scored += _score_metric(metric, seen, skipped)
    fitted = coefficients().fitted_on
    known = sum(id_digest(f"{item.metric} {item.id}") in fitted for item in scored)
    return Accuracy(
        scored=tuple(scored), skipped=tuple(skipped), fitted_on=known, duplicates=count - len(seen)
    )


def cross_validated() -> dict[str, Any]:
    """Return the errors on rows that were left out of the fits, as stored with the shipped coefficients.

    "groups" has the form of a scored file, with each row predicted by a fit without its configuration;
    "summary" says by metric what leaving out models or software does.
    """
    return dict(coefficients().cross_validation)


def id_digest(text: str) -> str:
    """Return the short digest by which a fitted row is remembered.

    Args:
        text: Metric and id of the row.
    """
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_DIGITS]


def predict(metric: str, deployments: Sequence[Any]) -> tuple[Any, Any, list[tuple[str, ...]]]:
    """Return predicted milliseconds, half-widths of the 80 % intervals in logarithms, and extrapolations.

    Args:
        metric: "itl", "tpot" or "ttft".
        deployments: GpuDeployment for "tpot", else NeuronDeployment.
    """
    import numpy as np

    fits = coefficients()
    if metric == "tpot":
        columns = stack(deployments, GPU_TEXTS)
        middle = gpu.decode_ms(columns, fits.gpu_decode)
        reasons = [gpu.unmeasured(item, fits.gpu_decode) for item in deployments]
        return middle, np.array([half_width(why, fits.gpu_decode) for why in reasons]), reasons
    columns = stack(deployments, NEURON_TEXTS)
    if metric == "itl":
        half, reasons = neuron.interval(columns, fits.neuron_decode)
        return neuron.decode_ms(columns, fits.neuron_decode), half, reasons
    half, reasons = neuron.interval(columns, fits.neuron_prefill)
    return neuron.prefill_ms(columns, fits.neuron_prefill), half, reasons


def _score_metric(metric: str, rows: Mapping[str, Mapping[str, str]], skipped: list[Skipped]) -> list[Scored]:
    kept: list[tuple[str, Mapping[str, str], Any, float]] = []
    for key, row in rows.items():
        if not wanted(metric, row):
            continue
        try:
            kept.append((key, row, *deployment_of(metric, row)))
        except TokenmillError as error:
            skipped.append(Skipped(id=key, metric=metric, reason=str(error)))
    if not kept:
        return []
    middle, half, reasons = predict(metric, [deployment for _, _, deployment, _ in kept])
    return [
        scored_row(metric, key, row, measured, (float(m), float(h)), why)
        for (key, row, _, measured), m, h, why in zip(kept, middle, half, reasons, strict=True)
    ]


def scored_row(
    metric: str,
    key: str,
    row: Mapping[str, str],
    measured: float,
    predicted: tuple[float, float],
    reasons: tuple[str, ...],
) -> Scored:
    """Return one measured time beside its prediction.

    Args:
        metric: "itl", "tpot" or "ttft".
        key: Id of the row.
        row: Texts by column.
        measured: Milliseconds.
        predicted: Milliseconds, and half-width of the interval in logarithms.
        reasons: What no measurement resembles.
    """
    middle, half = predicted
    return Scored(
        id=key,
        metric=metric,
        measured_ms=measured,
        predicted_ms=middle,
        low_ms=middle * math.exp(-half),
        high_ms=middle * math.exp(half),
        extrapolated=reasons,
        configuration="|".join(row[name] for name in CONFIGURATION),
        groups=_groups(metric, row),
    )


def _groups(metric: str, row: Mapping[str, str]) -> dict[str, str]:
    model = known_model(row["model"]) or known_model(row["hf_id"])
    together = float(
        (row["batch_size"] if metric != "tpot" else row["concurrency"] or row["batch_size"]) or 1
    )
    small = "1" if together <= 1 else "2-8" if together <= LARGEST_SMALL_BATCH else ">8"
    chip = CHIPS.get(row["accelerator"]) or re.sub(r"-\d+gb$", "", row["accelerator"].casefold())
    return {
        "all": "all",
        "chip": chip,
        "moe": "moe" if model and model.experts else "dense",
        "batch": small,
        "family": row["model_family"],
        "source_set": row["source_set"],
    }


def _implausible(scored: Sequence[Scored]) -> str:
    ratios = {item.id: item.measured_ms / item.predicted_ms for item in scored}
    far = {name: ratio for name, ratio in ratios.items() if not 1 / FARTHEST <= ratio <= FARTHEST}
    if not far:
        return ""
    name = next(iter(far))
    like_seconds = any(SECONDS[0] <= ratio <= SECONDS[1] for ratio in far.values())
    return (
        f"{len(far)} of {len(ratios)} {scored[0].metric} rows are implausible, more than {FARTHEST:g} times "
        f"shorter or longer than predicted (first: {name!r})"
        f"{'; they look like seconds where milliseconds are asked for' * like_seconds}"
    )


def group_errors(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """Return errors by metric and group, in percent.

    Args:
        scored: Measured times beside their predictions.
    """
    found = []
    for metric in FLAGS:
        own = [item for item in scored if item.metric == metric]
        for by in GROUPINGS:
            for key in sorted({item.groups[by] for item in own}):
                found.append(
                    {"metric": metric, "by": by, "key": key}
                    | _errors([item for item in own if item.groups[by] == key])
                )
    return found


def _errors(items: Sequence[Scored]) -> dict[str, float]:
    from statistics import fmean, median

    by_configuration: dict[str, list[float]] = {}
    for item in items:
        by_configuration.setdefault(item.configuration, []).append(item.ape)
    return {
        "rows": len(items),
        "mape": round(fmean(item.ape for item in items), 2),
        "median_ape": round(median(item.ape for item in items), 2),
        "mape_by_configuration": round(fmean(fmean(apes) for apes in by_configuration.values()), 2),
        "coverage80": round(100 * fmean(item.covered for item in items), 1),
    }
