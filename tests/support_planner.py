"""Models and workloads that the planner's tests share."""

from __future__ import annotations

import datetime
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenmill.core.calibration import CalibratedPhase, Calibration
from tokenmill.core.model_spec import ModelSpec
from tokenmill.core.workload import Limits, Slo, Workload
from tokenmill.planner import plan

if TYPE_CHECKING:
    from tokenmill.core.plan import Candidate, Plan

CONFIGS = Path(__file__).resolve().parent / "data" / "hf_configs"
TODAY = datetime.date(2026, 11, 22)
CHAT = Workload(requests_per_second=2, input_tokens=512, output_tokens=256)
GOALS = Slo(ttft_ms=2000, itl_ms=60)
LOOSE = Slo(ttft_ms=20_000, itl_ms=500)
INF2 = Limits(instances=("ml.inf2.*",))
CALIBRATION = Calibration(
    source="measured.csv",
    source_digest="0" * 64,
    date="2026-11-20",
    model="Qwen/Qwen3-8B",
    accelerator="Inferentia2",
    image="hf-vllm-neuronx",
    tensor=4,
    decode=CalibratedPhase(
        factor=1.5, points=6, low=0.9, high=1.1, error_before_percent=33.0, error_after_percent=4.0
    ),
    prefill=CalibratedPhase(
        factor=0.8, points=6, low=0.85, high=1.2, error_before_percent=20.0, error_after_percent=5.0
    ),
)


@functools.cache
def model(name: str) -> ModelSpec:
    """Return the model in a file of tests/data/hf_configs."""
    return ModelSpec.from_hf_config(CONFIGS / f"{name}.json")


def planned(spec: str | ModelSpec = "Qwen__Qwen3-8B", **changes: Any) -> Plan:
    """Return the plan of a chat workload with parts replaced."""
    given: dict[str, Any] = {"workload": CHAT, "slo": GOALS, "region": "us-east-1", "today": TODAY} | changes
    return plan(model=model(spec) if isinstance(spec, str) else spec, **given)


def on(made: Plan, name: str) -> Candidate:
    """Return the candidate on an instance type."""
    return next(item for item in (*made.candidates, *made.experimental) if item.instance_type == name)
