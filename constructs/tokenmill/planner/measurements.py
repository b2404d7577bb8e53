"""Files of published measurements: which rows count for what, and the deployments that they stand for."""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError
from tokenmill.planner.performance import gpu_rows, neuron_rows

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

QUALITIES = ("A", "B")
NEURON_PREFIXES = ("Inferentia", "Trainium")
FLAGS = {"itl": "fit_decode", "tpot": "fit_decode", "ttft": "fit_prefill"}
"""Column that marks a row as clean, by metric."""
MEASURED = {"itl": "tpot_ms", "tpot": "tpot_ms", "ttft": "ttft_ms"}
"""Column of the measured time, by metric."""
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
"""Columns that rows of one deployment share."""
COUNTS = {
    "itl": ("tp_degree", "batch_size", "max_seq_len"),
    "ttft": ("tp_degree", "batch_size", "max_seq_len", "input_tokens"),
    "tpot": ("tp_degree", "batch_size", "concurrency", "input_tokens", "output_tokens"),
}
"""Columns of numbers that a prediction is made from, by metric."""
LARGEST_COUNT = 1e8
FASTEST_MS, SLOWEST_MS = 1e-3, 1e7
"""A microsecond or hours for one token: no measurement is meant."""


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a file with the columns of measurements.csv, plain or gzipped.

    Args:
        path: The file.

    Raises:
        TokenmillError: Missing, not text, without rows, without a column, or a row with too many cells.
    """
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    rows = []
    try:
        names = reader.fieldnames or []
        missing = [name for name in COLUMNS if name not in names]
        if missing:
            raise TokenmillError(
                f"{path} has no column {', '.join(missing)}; give a file with the columns of measurements.csv"
            )
        twice = sorted({name for name in COLUMNS if names.count(name) > 1})
        if twice:
            raise TokenmillError(f"{path} has more than one column {', '.join(twice)}; leave one of each")
        for row in reader:
            if None in row or None in row.values():
                raise TokenmillError(f"{path} line {reader.line_num} has not as many cells as the header")
            rows.append({name: value.strip() for name, value in row.items()})
    except csv.Error as error:
        raise TokenmillError(f"{path} is not CSV after line {reader.line_num}: {error}") from None
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
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error):
        raise TokenmillError(f"{path} is not text; give a CSV file, plain or gzipped") from None


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
        TokenmillError: An input is missing, no number or absurd.
    """
    measured = _number(row, MEASURED[metric])
    if not FASTEST_MS <= measured <= SLOWEST_MS:
        raise TokenmillError(
            f"{MEASURED[metric]} {row[MEASURED[metric]]!r} is no time in milliseconds; "
            f"it must be {FASTEST_MS:g} to {SLOWEST_MS:g}"
        )
    for name in COUNTS[metric]:
        if row[name] and not 0 < _number(row, name) <= LARGEST_COUNT:
            raise TokenmillError(f"{name} {row[name]!r} must be above 0 and at most {LARGEST_COUNT:g}")
    if metric == "ttft" and not row["input_tokens"]:
        raise TokenmillError("a time to first token needs input_tokens")
    make = gpu_rows.row_deployment if metric == "tpot" else neuron_rows.row_deployment
    return make(row), measured


def _number(row: Mapping[str, str], name: str) -> float:
    try:
        number = float(row[name])
    except ValueError:
        raise TokenmillError(f"{name} {row[name]!r} is not a number") from None
    if not math.isfinite(number):
        raise TokenmillError(f"{name} {row[name]!r} is not a number")
    return number
