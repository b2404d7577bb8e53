"""Steps that grow with the experts that a batch touches, in queues, pipelines and speculative decoding."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_planner import GOALS, model
from tokenmill.core.engine_timing import EngineTiming
from tokenmill.core.images import image_catalog
from tokenmill.core.instances import accelerator_catalog
from tokenmill.core.workload import AS_PUBLISHED, Limits, Parallelism, SpeculativeDecoding, Workload
from tokenmill.planner.feasibility import Problem
from tokenmill.planner.load import (
    busy_seconds_per_request,
    full_step_ms,
    latency,
    scaled,
)
from tokenmill.planner.splits import Split
from tokenmill.planner.timed import engine_of, speculated

MIXTURE = EngineTiming(
    step_base_ms=5.0,
    step_per_sequence_ms=0.05,
    step_per_kv_token_ms=0.00002,
    prefill_base_ms=5.0,
    prefill_per_token_ms=0.01,
    prefill_buckets=(),
    max_sequences=256,
    kv_capacity_tokens=10**6,
    step_experts_ms=20.0,
    expert_share=8 / 128,
)
LOAD = Workload(requests_per_second=1, input_tokens=500, output_tokens=250)


def dense(engine: EngineTiming) -> EngineTiming:
    return replace(engine, step_experts_ms=0.0, expert_share=0.0)


def bisected_step_ms(engine: EngineTiming, load: Workload, rate: float) -> float:
    """The step at which requests arrive as fast as they leave, without the tangents that planning follows."""
    prefills = rate * (engine.prefill_base_ms + engine.prefill_per_token_ms * load.input_tokens) / 1e3
    held = load.input_tokens + load.output_tokens * (1 + load.output_cv**2) / 2

    def step(running: float) -> float:
        slope = engine.step_per_sequence_ms + engine.step_per_kv_token_ms * held
        return engine.step_base_ms + slope * running + engine.experts_ms(running)

    low, high = 0.0, full_step_ms(engine, load)
    for _ in range(60):
        middle = (low + high) / 2
        running = 1 + rate / (1 - prefills) * load.output_tokens * middle / 1e3
        low, high = (low, middle) if step(running) <= middle else (middle, high)
    return high / (1 - prefills)


def test_one_sequence_reads_its_share_of_the_experts_and_many_read_all() -> None:
    assert MIXTURE.experts_ms(1) == pytest.approx(20 * 8 / 128)
    assert MIXTURE.experts_ms(10_000) == pytest.approx(20)
    assert MIXTURE.step_ms(2, 100) == pytest.approx(5.1 + 0.002 + 20 * (1 - (15 / 16) ** 2))


def test_an_engine_written_before_experts_were_told_apart_is_still_read() -> None:
    written = dense(MIXTURE).to_json()
    old = {name: value for name, value in written.items() if "expert" not in name}
    assert EngineTiming.from_json(old) == dense(MIXTURE)


@given(st.floats(0.0, 0.95), st.floats(0.0, 100.0), st.sampled_from((1 / 128, 8 / 128, 0.5, 1.0)))
@settings(max_examples=100, deadline=None)
def test_the_steady_step_is_where_arrivals_and_departures_meet(
    share: float, experts_ms: float, touched: float
) -> None:
    """The median gap between tokens is that step with prefills in between."""
    engine = replace(MIXTURE, step_experts_ms=experts_ms, expert_share=touched)
    rate = share / busy_seconds_per_request(engine, LOAD)

    still = latency(engine, LOAD, rate, 50)

    assert still.itl_ms == pytest.approx(bisected_step_ms(engine, LOAD, rate), rel=1e-6)


def test_a_quiet_copy_is_faster_than_a_full_one_by_the_experts_it_leaves_alone() -> None:
    quiet = latency(MIXTURE, LOAD, 0.001, 50).itl_ms
    assert quiet == pytest.approx(MIXTURE.step_ms(1, 625), rel=0.01)
    assert quiet < full_step_ms(MIXTURE, LOAD) / 4


@given(st.floats(0.01, 0.9), st.floats(0.01, 0.9))
@settings(max_examples=50, deadline=None)
def test_more_requests_never_answer_faster(one: float, other: float) -> None:
    low, high = sorted((one, other))
    most = 1 / busy_seconds_per_request(MIXTURE, LOAD)
    assert latency(MIXTURE, LOAD, high * most, 95).itl_ms >= latency(MIXTURE, LOAD, low * most, 95).itl_ms * (
        1 - 1e-9
    )


def test_a_factor_on_steps_scales_the_experts_too() -> None:
    slower = scaled(MIXTURE, 1.5, 1.0)
    assert slower.step_ms(7, 900) == pytest.approx(1.5 * MIXTURE.step_ms(7, 900))


def test_tokens_that_are_checked_together_touch_experts_like_as_many_sequences() -> None:
    draft = SpeculativeDecoding(tokens=3, acceptance=0.7, draft_cost=0.0)
    made = speculated(MIXTURE, draft)
    assert made.experts_ms(2) * draft.tokens_per_step == pytest.approx(MIXTURE.experts_ms(2 * 4))


def test_a_stage_of_a_pipeline_meets_its_share_of_the_sequences_at_a_time() -> None:
    """Two stages of a mixture on GPUs: 8 sequences touch experts as 4 do."""
    spec = model("Qwen__Qwen3-30B-A3B")
    problem = Problem(model=spec, workload=LOAD, slo=GOALS, region="us-east-1", limits=Limits(), prices={})
    chip = accelerator_catalog()["H100"]
    image = next(item for item in image_catalog().values() if chip.name in item.accelerators)
    one, two = (
        engine_of(
            problem,
            chip,
            image,
            Split(parallelism=Parallelism(tensor=1, pipeline=stages), quantization=AS_PUBLISHED, model=spec),
            sequences=8,
            speculative=None,
        )
        for stages in (1, 2)
    )

    assert two.step_experts_ms == one.step_experts_ms > 0
    assert two.experts_ms(8) == pytest.approx(one.experts_ms(4), rel=1e-4)
