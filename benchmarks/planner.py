"""Cost of predictions and searches; run as a module it prints the figures of this process as JSON."""

from __future__ import annotations

import csv
import gzip
import json
import resource
import time
from pathlib import Path
from typing import Any

from tokenmill.core.coefficients import coefficients
from tokenmill.core.model_spec import ModelSpec
from tokenmill.core.workload import Limits, Slo, Workload
from tokenmill.planner import plan
from tokenmill.planner.measurements import deployment_of, wanted
from tokenmill.planner.performance import gpu, neuron
from tokenmill.planner.performance.fitted import stack
from tokenmill.planner.performance.gpu_columns import TEXTS as GPU_TEXTS
from tokenmill.planner.performance.neuron_columns import TEXTS as NEURON_TEXTS

ROOT = Path(__file__).resolve().parent.parent
PREDICTIONS = 20_000


def microseconds_per_prediction() -> dict[str, float]:
    """Return CPU microseconds of one prediction among many, with and without its interval."""
    fits = coefficients()
    found = {}
    for metric, texts in (("itl", NEURON_TEXTS), ("tpot", GPU_TEXTS)):
        rows: list[Any] = [deployment_of(metric, row)[0] for row in _rows() if wanted(metric, row)]
        columns: Any = stack((rows * (PREDICTIONS // len(rows) + 1))[:PREDICTIONS], texts)
        if metric == "itl":
            found["decode on NeuronCores"] = _cost(lambda c=columns: neuron.decode_ms(c, fits.neuron_decode))
            interval = _cost(lambda c=columns: neuron.interval(c, fits.neuron_decode))
            found["decode on NeuronCores with interval"] = found["decode on NeuronCores"] + interval
        else:
            found["decode on GPUs"] = _cost(lambda c=columns: gpu.decode_ms(c, fits.gpu_decode))
            found["decode on GPUs with interval"] = _cost(
                lambda c=columns: gpu.decode_interval(c, fits.gpu_decode)
            )
    return found


def full_search() -> dict[str, float]:
    """Return CPU seconds of the dearest of three searches over all types, and peak memory in MiB."""
    model = ModelSpec.from_hf_config(ROOT / "models" / "Qwen__Qwen3-8B.json")
    dearest = 0.0
    for rate in (0.1, 10, 200):
        started = time.process_time()
        plan(
            model=model,
            workload=Workload(requests_per_second=rate, input_tokens=1500, output_tokens=400),
            slo=Slo(ttft_ms=3000, itl_ms=80),
            region="us-east-1",
            limits=Limits(quantizations=("as-published", "fp8"), allow_experimental=True),
        )
        dearest = max(dearest, time.process_time() - started)
    return {"seconds": dearest, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def milliseconds_per_config() -> float:
    """Return CPU milliseconds of reading a model's config.json, the dearest of those that ship."""
    dearest = 0.0
    for path in sorted((ROOT / "constructs/tokenmill/core/data/models").glob("*.json")):
        config = json.loads(path.read_text(encoding="utf-8"))
        started = time.process_time()
        for _ in range(20):
            ModelSpec.from_hf_config(config, model_id="a/b")
        dearest = max(dearest, (time.process_time() - started) / 20 * 1e3)
    return dearest


def _rows() -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    for name in ("measurements", "measurements_gpu"):
        path = ROOT / "tests" / "data" / "performance" / f"{name}.csv.gz"
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            rows += csv.DictReader(file)
    return rows


def _cost(predict: Any) -> float:
    predict()
    started = time.process_time()
    predict()
    return (time.process_time() - started) / PREDICTIONS * 1e6


if __name__ == "__main__":
    # the search first: its memory must not count the measurements
    search = full_search()
    document = {"search": search, "prediction": microseconds_per_prediction()}
    print(json.dumps(document | {"config": milliseconds_per_config()}))
