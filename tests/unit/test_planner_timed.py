"""How sure a split's times are, and what calibration and speculation make of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support_planner import CALIBRATION, CHAT, GOALS, INF2, LOOSE, model, on, planned
from tokenmill.core.engine_timing import EngineTiming
from tokenmill.core.images import image
from tokenmill.core.instances import instance_type
from tokenmill.core.workload import Limits, Slo, SpeculativeDecoding, Workload
from tokenmill.planner import plan, timed
from tokenmill.planner.timed import speculated
from tokenmill.planner.timing import Uncertainty


def spans(monkeypatch: pytest.MonkeyPatch, wide: str, *reasons: str) -> None:
    """Make the timing say that one phase may take a tenth to ten times the prediction."""

    def said(*given: Any, **_: Any) -> Uncertainty:
        low, high = (0.1, 10.0) if given[3] == wide else (0.9, 1.2)
        return Uncertainty(low=low, high=high, extrapolated=reasons)

    monkeypatch.setattr(timed, "uncertainty", said)


@pytest.mark.parametrize(("phase", "name"), [("decode", "a decode step"), ("prefill", "a prefill")])
def test_times_that_are_too_far_apart_are_shown_but_not_chosen(
    monkeypatch: pytest.MonkeyPatch, phase: str, name: str
) -> None:
    """Whatever the model: it follows from what the timing says of itself, and the way out is to measure."""
    spans(monkeypatch, phase, "a new chip")
    made = planned(limits=INF2, slo=LOOSE)
    assert made.candidates == ()
    assert {item.accelerator for item in made.experimental} == {"Inferentia2"}
    refused = next(item for item in made.rejections if item.code == "timing")
    assert refused.reason.startswith("would meet the goals with ")
    assert refused.reason.endswith(f"but {name} may take 0.1 to 10 times the prediction (a new chip)")
    assert (
        "set limits.allow_experimental to true, measure the endpoint and run tokenmill" in made.nearest_miss
    )
    allowed = planned(limits=replace(INF2, allow_experimental=True), slo=LOOSE)
    assert allowed.chosen.experimental == ""
    assert any(note.startswith(f"{name} may take 0.1 to 10 times") for note in allowed.chosen.notes)


def test_a_wide_interval_without_extrapolation_has_no_bracket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what was said is repeated."""
    spans(monkeypatch, "decode")
    made = planned(limits=INF2, slo=LOOSE)
    assert made.experimental[0].experimental == "a decode step may take 0.1 to 10 times the prediction"


def test_mixtures_on_neuron_follow_the_timing() -> None:
    """Chosen where their interval is narrow enough, shown where it is not; never passed over."""
    made = planned("Qwen__Qwen3-30B-A3B", slo=LOOSE, limits=Limits(instances=("ml.inf2.48xlarge",)))
    (one,) = (*made.candidates, *made.experimental)
    wide = one.ttft_ms_high / one.ttft_ms_low > timed.TOO_WIDE
    assert bool(one.experimental) == wide == (not made.candidates)


def test_an_interval_that_leaves_the_prediction_out_is_widened_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit can be biased; the prediction itself stays inside."""
    monkeypatch.setattr(
        timed, "uncertainty", lambda *_, **__: Uncertainty(low=1.1, high=1.3, extrapolated=("x",))
    )
    best = planned(limits=INF2).chosen
    assert best.itl_ms_low == best.itl_ms < best.itl_ms_high
    assert best.extrapolated == ("x",)
    assert "times are extrapolated: x" in best.notes


def test_speculative_decoding_counts_where_the_server_does_it() -> None:
    """Tokens come faster on a GPU, and a note says what to configure; Inferentia2's image has no option."""
    drafted = replace(CHAT, speculative=SpeculativeDecoding(tokens=4, acceptance=0.8))
    limits = Limits(instances=("ml.g6e.xlarge", "ml.inf2.24xlarge"))
    fast, slow = planned(workload=drafted, limits=limits), planned(limits=limits)
    assert on(fast, "ml.g6e.xlarge").itl_ms < 0.7 * on(slow, "ml.g6e.xlarge").itl_ms
    assert any(
        "speculative decoding of 4 tokens, which the" in note for note in on(fast, "ml.g6e.xlarge").notes
    )
    assert "speculative decoding, from its formula and not measured" in on(fast, "ml.g6e.xlarge").extrapolated
    notes = on(fast, "ml.inf2.24xlarge").notes
    assert "speculative decoding does not count: image hf-vllm-neuronx has no option for it" in notes


def test_a_speculative_step_costs_draft_and_check() -> None:
    """Weights are read once, arithmetic grows with the tokens checked; it all yields 1 + a + a^2 tokens."""
    engine = EngineTiming(
        step_base_ms=10.0,
        step_per_sequence_ms=1.0,
        step_per_kv_token_ms=0.01,
        prefill_base_ms=1.0,
        prefill_per_token_ms=0.1,
        prefill_buckets=(),
        max_sequences=8,
        kv_capacity_tokens=1000,
    )
    draft = SpeculativeDecoding(tokens=2, acceptance=0.5, draft_cost=0.1)
    made, tokens = speculated(engine, draft), 1 + 0.5 + 0.25
    assert made.step_base_ms == pytest.approx(10 * 1.2 / tokens)
    assert made.step_per_sequence_ms == pytest.approx((3 + 0.2) / tokens)
    assert made.step_per_kv_token_ms == pytest.approx(0.012 / tokens)
    assert made.prefill_ms(100) == engine.prefill_ms(100)
    assert speculated(engine, None) is engine
    checked = speculated(engine, draft, 0.5)
    assert checked.step_per_sequence_ms == pytest.approx((3 + 0.2 + 2 * 0.5) / tokens)


def test_a_draft_that_is_never_accepted_costs_its_checking() -> None:
    """Every token of the draft is computed and thrown away."""
    wasted = SpeculativeDecoding(tokens=4, acceptance=0.0)
    load = Workload(requests_per_second=20, input_tokens=500, output_tokens=300)
    slow = replace(load, speculative=wasted)
    goals = Slo(ttft_ms=4000, itl_ms=200)
    limits = Limits(instances=("ml.g6e.xlarge",))
    asked = {"model": model("Qwen__Qwen3-8B"), "slo": goals, "region": "us-east-1", "limits": limits}
    plain, drafted = plan(workload=load, **asked), plan(workload=slow, **asked)
    assert drafted.chosen.engine.step_per_sequence_ms > plain.chosen.engine.step_per_sequence_ms


def test_a_calibration_corrects_its_chip_and_narrows_its_split() -> None:
    """Decode half as fast again, prefill a fifth faster, on Inferentia2 alone; the plan carries it."""
    limits = Limits(instances=("ml.inf2.24xlarge", "ml.g6e.xlarge"))
    made = planned(slo=LOOSE, limits=limits, calibration=CALIBRATION)
    plain = planned(slo=LOOSE, limits=limits)
    before, after = on(plain, "ml.inf2.24xlarge"), on(made, "ml.inf2.24xlarge")
    assert made.calibration == CALIBRATION
    assert made.input_hash != plain.input_hash
    assert any("times are corrected by 12 of your own measurements (measured.csv" in n for n in after.notes)
    assert on(made, "ml.g6e.xlarge") == on(plain, "ml.g6e.xlarge")
    if before.parallelism == after.parallelism and before.max_sequences == after.max_sequences:
        assert after.engine.step_base_ms == pytest.approx(1.5 * before.engine.step_base_ms, rel=1e-4)
        assert after.engine.prefill_per_token_ms == pytest.approx(
            0.8 * before.engine.prefill_per_token_ms, rel=1e-4
        )


def test_a_calibrated_split_takes_the_calibrated_interval() -> None:
    """The degree that was measured is no extrapolation any more; another keeps the shipped interval."""
    from tokenmill.core.workload import Parallelism
    from tokenmill.planner.feasibility import Problem
    from tokenmill.planner.splits import Split

    spec, chip = model("Qwen__Qwen3-8B"), instance_type("ml.inf2.24xlarge").accelerator
    problem = Problem(
        model=spec,
        workload=CHAT,
        slo=GOALS,
        region="us-east-1",
        limits=INF2,
        prices={},
        calibration=CALIBRATION,
    )
    splits = [
        Split(parallelism=Parallelism(tensor=tensor), quantization="as-published", model=spec)
        for tensor in (4, 2)
    ]
    same, other = (timed.intervals(problem, chip, image("hf-vllm-neuronx"), split) for split in splits)
    assert (same.decode, same.prefill, same.extrapolated) == ((0.9, 1.1), (0.85, 1.2), ())
    assert other.decode != same.decode
    assert (
        timed.calibration_of(problem, instance_type("ml.trn1.32xlarge").accelerator, image("hf-vllm-neuronx"))
        is None
    )


def test_a_calibration_of_another_model_does_not_count() -> None:
    """It is said, not silently dropped."""
    other = replace(CALIBRATION, model="someone/else")
    made = planned(limits=INF2, calibration=other)
    assert made.chosen.engine == planned(limits=INF2).chosen.engine
    assert any(
        "was measured on someone/else and does not count for Qwen/Qwen3-8B" in w for w in made.warnings
    )
