"""How far predicted times are from published measurements."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenmill.core.coefficients import coefficients
from tokenmill.core.errors import TokenmillError
from tokenmill.planner.performance import gpu, gpu_rows, neuron, neuron_rows
from tokenmill.planner.performance.fitted import stack
from tokenmill.planner.performance.gpu_columns import TEXTS as GPU_TEXTS
from tokenmill.planner.performance.neuron_columns import TEXTS as NEURON_TEXTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

SCHEMA = 1
ID_DIGITS = 8
QUALITIES = ("A", "B")
NEURON_PREFIXES = ("Inferentia", "Trainium")
FLAGS = {"itl": "fit_decode", "tpot": "fit_decode", "ttft": "fit_prefill"}
MEASURED = {"itl": "tpot_ms", "tpot": "tpot_ms", "ttft": "ttft_ms"}
COLUMNS = (
    "id",
    "source_set",
    "model",
    "hf_id",
    "model_family",
    "accelerator",
    "tp_degree",
    "batch_size",
    "concurrency",
    "input_tokens",
    "output_tokens",
    "max_seq_len",
    "weight_dtype",
    "quantization",
    "software",
    "software_version",
    "tpot_ms",
    "ttft_ms",
    "quality",
    "fit_decode",
    "fit_prefill",
    "notes",
)
"""Columns that a file must have; more do no harm."""
CONFIGURATION = (
    "model",
    "accelerator",
    "tp_degree",
    "batch_size",
    "max_seq_len",
    "software",
    "software_version",
)
CHIPS = {"Inferentia2": "inf2", "Trainium1": "trn1", "Trainium2": "trn2", "Trainium3": "trn3"}
GROUPINGS = ("all", "chip", "moe", "batch", "family", "source_set")
LARGEST_SMALL_BATCH = 8


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

    def to_json(self) -> dict[str, Any]:
        """Return the document that machines read."""
        return {
            "schema": SCHEMA,
            "skipped": len(self.skipped),
            "duplicates": self.duplicates,
            "fitted_on": self.fitted_on,
            "groups": group_errors(self.scored),
            "skipped_rows": [{"id": s.id, "metric": s.metric, "reason": s.reason} for s in self.skipped],
        }


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a file with the columns of measurements.csv, plain or gzipped.

    Args:
        path: The file.

    Raises:
        TokenmillError: Missing, not text, without rows, without a column, or a row with too many cells.
    """
    reader = csv.DictReader(io.StringIO(_text(path)), strict=True)
    try:
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise TokenmillError(
                f"{path} has no column {', '.join(missing)}; give a file with the columns of measurements.csv"
            )
        rows = []
        for row in reader:
            if None in row or None in row.values():
                raise TokenmillError(f"{path} line {reader.line_num} has not as many cells as the header")
            rows.append({name: value.strip() for name, value in row.items()})
    except csv.Error as error:
        raise TokenmillError(f"{path} line {reader.line_num} is not CSV: {error}") from None
    if not rows:
        raise TokenmillError(f"{path} holds no rows; give at least one measurement")
    return rows


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
    except FileNotFoundError:
        raise TokenmillError(f"measurement file {path} does not exist") from None
    except IsADirectoryError:
        raise TokenmillError(f"{path} is a folder; name the CSV file in it") from None
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError):
        raise TokenmillError(f"{path} is not text; give a CSV file, plain or gzipped") from None


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
    return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]


def wanted(metric: str, row: Mapping[str, str]) -> bool:
    """Return whether a row counts for a metric: marked clean, of quality A or B, and on the right chips.

    Args:
        metric: "itl", "tpot" or "ttft".
        row: Texts by column.
    """
    on_neuron = row["accelerator"].startswith(NEURON_PREFIXES)
    return row[FLAGS[metric]] == "y" and row["quality"] in QUALITIES and on_neuron == (metric != "tpot")


def deployment_of(metric: str, row: Mapping[str, str]) -> tuple[Any, float]:
    """Return the deployment of a row and its measured time, in milliseconds.

    Args:
        metric: "itl", "tpot" or "ttft".
        row: Texts by column.

    Raises:
        TokenmillError: An input is missing or no number.
    """
    text = row[MEASURED[metric]]
    try:
        measured = float(text)
    except ValueError:
        raise TokenmillError(f"{MEASURED[metric]} {text!r} is not a number") from None
    if not 0 < measured < math.inf:
        raise TokenmillError(f"{MEASURED[metric]} {text!r} is not a positive number of milliseconds")
    if metric == "ttft" and not row["input_tokens"]:
        raise TokenmillError("a time to first token needs input_tokens")
    try:
        make = gpu_rows.row_deployment if metric == "tpot" else neuron_rows.row_deployment
        return make(row), measured
    except (ValueError, OverflowError) as error:
        raise TokenmillError(str(error)) from None


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
        low, _, reasons = gpu.decode_interval(columns, fits.gpu_decode)
        return middle, np.log(middle / low), list(reasons)
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
    from tokenmill.core.model_catalog import known_model

    model = known_model(row["model"]) or known_model(row["hf_id"])
    together = float(
        (row["batch_size"] if metric != "tpot" else row["concurrency"] or row["batch_size"]) or 1
    )
    small = "1" if together <= 1 else "2-8" if together <= LARGEST_SMALL_BATCH else ">8"
    chip = CHIPS.get(row["accelerator"], row["accelerator"].partition("-")[0].casefold())
    return {
        "all": "all",
        "chip": chip,
        "moe": "moe" if model and model.experts else "dense",
        "batch": small,
        "family": row["model_family"],
        "source_set": row["source_set"],
    }


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
