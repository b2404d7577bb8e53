"""Fit the planner's timing coefficients on published measurements.

Usage: python tools/fit_timing.py FOLDER --write constructs/tokenmill/core/data/coefficients.json

FOLDER holds measurements.csv, measurements_gpu.csv and models.csv (published benchmarks, model shapes). Each
row is weighed so that a configuration counts once; each model is predicted from the others to measure the
error. Factors are kept at or above a physical floor by non-negative least squares.
"""

from __future__ import annotations

import argparse
import collections
import csv
import datetime
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "constructs"), str(ROOT / "lambda")]

from tokenmill.core.instances import Accelerator, accelerator_catalog  # noqa: E402  the path is set above
from tokenmill.planner.terms import (  # noqa: E402  the path is set above
    GPU_LINK_GB_S,
    NEURON_LINK_GB_S,
    CopyShape,
    gpu_decode_terms,
    kv_heads_per_core,
    neuron_decode_terms,
    prefill_terms,
    weigh,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

OLD_SDKS = ("2.10", "2.11", "2.13", "2.14")
FULL_LENGTH_SOURCES = ("optimum-neuron-vllm", "rosa-inf2-study", "optimum-neuron-docs-charts")
SMALLEST_BUCKET = 128
SMALLEST_FITTED_PROMPT = 512
"""Shorter compiled prompts are bound by their launch; the serving image compiles none."""
NEURON_PREFILL_COMPUTE = 2.0
GPU_ARITHMETIC = 1.0


@dataclass(frozen=True)
class Sample:
    """One measurement with the terms that should explain it."""

    model: str
    configuration: tuple[str, ...]
    source: str
    tensor: int
    terms: tuple[float, ...]
    measured_ms: float


@dataclass(frozen=True)
class Formula:
    """Which factors are fitted, and which are held."""

    floors: tuple[float, ...]
    held: tuple[bool, ...]
    fixed: str


def main() -> int:
    """Fit, print the error, and write the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--date", default=datetime.date.today().isoformat())
    arguments = parser.parse_args()
    document = {
        "schema": 1,
        "date": arguments.date,
        "tool": "tools/fit_timing.py",
        "neuron": fit_kind(
            arguments.folder,
            neuron_samples,
            Formula(
                (0.0, 1.0, 1.0, 0.0),
                (False,) * 4,
                "weight and KV reads are at least one pass at peak bandwidth",
            ),
            Formula(
                (0.0, NEURON_PREFILL_COMPUTE, 0.0),
                (False, True, False),
                "arithmetic held at half of peak: the measured degrees cannot tell it from communication",
            ),
        ),
        "gpu": fit_kind(
            arguments.folder,
            gpu_samples,
            Formula(
                (0.0, 1.0, 1.0, 0.0, GPU_ARITHMETIC),
                (False, False, False, False, True),
                "arithmetic held at peak: measured batches are too small to show it",
            ),
            Formula((0.0, 1.0, 1.0), (False, False, True), "communication held at peak link speed"),
        ),
    }
    text = json.dumps(document, indent=1) + "\n"
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")
    print(text)
    return 0


def fit_kind(
    folder: Path, read: Callable[[Path, str], list[Sample]], decode: Formula, prefill: Formula
) -> dict[str, object]:
    """Return the fits of one kind of accelerator."""
    steps, prompts = read(folder, "decode"), read(folder, "prefill")
    return {
        "decode": fit(steps, decode),
        "prefill": fit(prompts, prefill),
        "degrees": sorted({sample.tensor for sample in steps}),
        "sources": sorted({sample.source for sample in steps + prompts}),
    }


def fit(samples: list[Sample], formula: Formula) -> dict[str, object]:
    """Return factors, their cross-validated error and what was held."""
    weights = configuration_weights(samples)
    factors = bounded_least_squares(samples, weights, formula)
    predicted: dict[Sample, float] = {}
    for model in {sample.model for sample in samples}:
        others = [sample for sample in samples if sample.model != model]
        trained = bounded_least_squares(others, weights, formula)
        predicted |= {s: weigh(s.terms, trained) for s in samples if s.model == model}
    total = sum(weights[s] for s in samples)
    error = sum(weights[s] * abs(predicted[s] / s.measured_ms - 1) for s in samples) / total
    ratios = sorted((s.measured_ms / predicted[s], weights[s]) for s in samples)
    return {
        "coefficients": [float(f"{factor:.4g}") for factor in factors],
        "rows": len(samples),
        "configurations": len({sample.configuration for sample in samples}),
        "mape_percent": round(100 * error, 1),
        "ratio_low": round(quantile(ratios, 0.1), 3),
        "ratio_high": round(quantile(ratios, 0.9), 3),
        "fixed": formula.fixed,
    }


def configuration_weights(samples: Iterable[Sample]) -> dict[Sample, float]:
    """Return weights under which every configuration counts once."""
    samples = list(samples)
    sizes = collections.Counter(sample.configuration for sample in samples)
    return {sample: 1 / sizes[sample.configuration] for sample in samples}


def bounded_least_squares(
    samples: list[Sample], weights: dict[Sample, float], formula: Formula
) -> tuple[float, ...]:
    """Return factors at or above their floors that minimise the squared relative error."""
    rows = [[term / s.measured_ms for term in s.terms] for s in samples]
    count = len(formula.floors)
    normal = [
        [
            sum(weights[s] * row[i] * row[j] for s, row in zip(samples, rows, strict=True))
            for j in range(count)
        ]
        for i in range(count)
    ]
    target = [sum(weights[s] * row[i] for s, row in zip(samples, rows, strict=True)) for i in range(count)]
    factors = list(formula.floors)
    for _ in range(4000):
        for i in range(count):
            if formula.held[i] or normal[i][i] == 0:
                continue
            slope = target[i] - sum(normal[i][j] * factors[j] for j in range(count))
            factors[i] = max(formula.floors[i], factors[i] + slope / normal[i][i])
    return tuple(factors)


def quantile(ratios: list[tuple[float, float]], share: float) -> float:
    """Return the weighted quantile of sorted (value, weight) pairs."""
    goal, running = share * sum(weight for _, weight in ratios), 0.0
    for value, weight in ratios:
        running += weight
        if running >= goal:
            return value
    return ratios[-1][0]


def neuron_samples(folder: Path, phase: str) -> list[Sample]:
    """Return the measurements on Inferentia2 and Trainium1 that are clean enough to fit."""
    samples = []
    for row, model in usable_rows(folder, ("measurements.csv",), phase):
        complete = row["batch_size"] and row["max_seq_len"] and (phase == "decode" or row["input_tokens"])
        old = row["source_set"] == "neuron-sdk-perf-pages" and row["software_version"].endswith(
            tuple(f"{version}.0" for version in OLD_SDKS)
        )
        if row["accelerator"] not in ("Inferentia2", "Trainium1") or old or not complete:
            continue
        shape = copy_shape(row, model, accelerator_catalog()[row["accelerator"]])
        batch, length = int(row["batch_size"]), int(row["max_seq_len"])
        if phase == "decode":
            terms = neuron_decode_terms(shape, batch, batch * length)
        else:
            prompts, tokens = compiled_prompt(row)
            if tokens < SMALLEST_FITTED_PROMPT:
                continue
            terms = tuple(prompts * term for term in prefill_terms(shape, tokens, NEURON_LINK_GB_S))
        samples.append(sample(row, terms, phase))
    return samples


def compiled_prompt(row: dict[str, str]) -> tuple[int, int]:
    """Return how many prompts a time to first token covers, and the compiled length of each.

    optimum-neuron compiles one prompt length, the whole sequence length, where sequences are batched; the
    transformers-neuronx benchmarks compile powers of two and fill a static batch before the first token.
    """
    batch = int(row["batch_size"])
    if row["source_set"] in FULL_LENGTH_SOURCES and batch > 1:
        prompts = batch if row["source_set"] == "optimum-neuron-docs-charts" else 1
        return prompts, int(row["max_seq_len"])
    bucket = 2 ** math.ceil(math.log2(int(row["input_tokens"])))
    return batch, max(SMALLEST_BUCKET, bucket)


def gpu_samples(folder: Path, phase: str) -> list[Sample]:
    """Return the measurements on GPUs that are clean enough to fit."""
    names = {name for name, item in accelerator_catalog().items() if item.kind == "gpu"}
    samples = []
    for row, model in usable_rows(folder, ("measurements.csv", "measurements_gpu.csv"), phase):
        if row["accelerator"] not in names or row["dp_replicas"] not in ("", "1"):
            continue
        shape = copy_shape(row, model, accelerator_catalog()[row["accelerator"]])
        sequences = round(float(row["concurrency"] or 1))
        tokens = int(row["input_tokens"] or 0)
        if phase == "decode":
            held = tokens + int(row["output_tokens"] or 0) // 2
            terms = gpu_decode_terms(shape, sequences, sequences * held)
        else:
            terms = prefill_terms(shape, tokens, GPU_LINK_GB_S)
        samples.append(sample(row, terms, phase))
    return samples


def usable_rows(
    folder: Path, names: tuple[str, ...], phase: str
) -> Iterable[tuple[dict[str, str], dict[str, str]]]:
    """Yield rows marked as clean, with the shape of their dense model."""
    models = {row["model"]: row for row in read_csv(folder / "models.csv")}
    measured = "tpot_ms" if phase == "decode" else "ttft_ms"
    for name in names:
        for row in read_csv(folder / name):
            model = models.get(row["model"], {})
            dense = model.get("layers") and model.get("vocab") and not model.get("n_experts")
            clean = row[f"fit_{phase}"] == "y" and row["quality"] in ("A", "B") and row[measured]
            if dense and clean and row["tp_degree"] and weight_bytes(row):
                yield row, model


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def weight_bytes(row: dict[str, str]) -> int:
    """Return bytes of one weight, or 0 for formats that the formula does not cover."""
    text = row["quantization"] + row["weight_dtype"]
    if "int4" in text or "fp4" in text:
        return 0
    return 1 if "fp8" in text or "int8" in text else 2


def copy_shape(row: dict[str, str], model: dict[str, str], accelerator: Accelerator) -> CopyShape:
    """Return what one core of the measured deployment held and computed."""
    tensor, layers, hidden = int(row["tp_degree"]), int(model["layers"]), int(model["hidden"])
    width = weight_bytes(row)
    embedding = int(model["vocab"]) * hidden
    total = float(model["total_params_b"]) * 1e9
    both = embedding if model["tie_embeddings"] == "True" else 2 * embedding
    flops = accelerator.bf16_tflops * 1e12 * (2 if width == 1 and accelerator.kind == "gpu" else 1)
    heads = kv_heads_per_core(int(model["n_kv_heads"]), tensor)
    return CopyShape(
        layers=layers,
        hidden_size=hidden,
        attention_width=int(model["n_heads"]) * int(model["head_dim"]),
        tensor=tensor,
        read_bytes=(total - both + embedding) * width / tensor,
        compute_weights=(total - both) / tensor,
        kv_bytes_per_token=2 * layers * heads * int(model["head_dim"]) * 2,
        bandwidth=accelerator.bandwidth_gb_s * 1e9 / accelerator.cores_per_chip,
        flops=flops / accelerator.cores_per_chip,
        fast_interconnect=accelerator.fast_interconnect,
    )


def sample(row: dict[str, str], terms: tuple[float, ...], phase: str) -> Sample:
    """Return one sample."""
    keys = (
        "model",
        "instance_type",
        "accelerator",
        "tp_degree",
        "batch_size",
        "concurrency",
        "source_set",
        "software",
    )
    return Sample(
        model=row["model"],
        configuration=tuple(row[key] for key in (*keys, "source_set", "software")),
        source=row["source"].split(":")[0],
        tensor=int(row["tp_degree"]),
        terms=terms,
        measured_ms=float(row["tpot_ms" if phase == "decode" else "ttft_ms"]),
    )


if __name__ == "__main__":
    sys.exit(main())
