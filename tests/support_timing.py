"""Published measurements and rows made of them, for the tests of the timing model."""

from __future__ import annotations

import csv
import functools
from pathlib import Path
from typing import TYPE_CHECKING

from tokenmill.core.model_catalog import known_model
from tokenmill.planner.measurements import COLUMNS, read_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokenmill.core.model_spec import ModelSpec

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tests" / "data" / "performance"
NEURON_ROW = dict.fromkeys(COLUMNS, "") | {
    "id": "1",
    "source_set": "test",
    "source": "made for this test: no measurement",
    "model": "Llama-3.1-8B",
    "hf_id": "meta-llama/Llama-3.1-8B",
    "model_family": "llama",
    "accelerator": "Inferentia2",
    "tp_degree": "8",
    "batch_size": "4",
    "input_tokens": "1000",
    "max_seq_len": "4096",
    "software": "optimum-neuron",
    "tpot_ms": "14",
    "ttft_ms": "1000",
    "quality": "A",
    "fit_decode": "y",
    "fit_prefill": "y",
}
GPU_ROW = NEURON_ROW | {
    "id": "2",
    "accelerator": "H100",
    "tp_degree": "2",
    "concurrency": "4",
    "output_tokens": "256",
    "quantization": "fp8",
    "software": "vLLM",
    "software_version": "vLLM 0.16.0",
    "tpot_ms": "5",
}


@functools.cache
def published() -> tuple[dict[str, str], ...]:
    """Return the calibration rows of both files."""
    return tuple(
        row for name in ("measurements", "measurements_gpu") for row in read_rows(FOLDER / f"{name}.csv.gz")
    )


def model(name: str) -> ModelSpec:
    found = known_model(name)
    assert found is not None
    return found


def write_csv(path: Path, rows: Iterable[dict[str, str]]) -> Path:
    written = list(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(written[0]))
        writer.writeheader()
        writer.writerows(written)
    return path
