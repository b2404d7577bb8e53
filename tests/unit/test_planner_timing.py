"""Timings that plans are made of agree with published measurements and never beat the hardware."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_planner import model
from support_timing import model as known
from tokenmill.core.coefficients import coefficients
from tokenmill.core.engine_timing import EngineTiming
from tokenmill.core.errors import TokenmillError
from tokenmill.core.instances import accelerator_catalog
from tokenmill.core.model_catalog import known_models
from tokenmill.core.workload import Workload
from tokenmill.planner.load import busy_seconds_per_request, latency
from tokenmill.planner.timing import (
    CLAUSES,
    paged_engine,
    peak_token_ms,
    static_engine,
    uncertainty,
)

CHIPS = accelerator_catalog()
GPUS = [name for name, chip in CHIPS.items() if chip.kind == "gpu"]
LLAMA_8B, LLAMA_70B, QWEN_32B = (
    "meta-llama__Meta-Llama-3.1-8B",
    "meta-llama__Meta-Llama-3.1-70B",
    "Qwen__Qwen3-32B",
)
MIXTURE = "Qwen__Qwen3-30B-A3B"


@pytest.mark.parametrize(
    ("name", "chip", "tensor", "batch", "measured_ms"),
    [
        # huggingface/optimum-neuron: docs/assets/benchmarks/inferentia-llama3.1-8b, 2024-09-27, and
        # inferentia-llama3.3-70b, 2025-07-10 (charts)
        (LLAMA_8B, "Inferentia2", 8, 1, 12.0),
        (LLAMA_8B, "Inferentia2", 8, 8, 16.0),
        (LLAMA_8B, "Inferentia2", 8, 32, 30.0),
        (LLAMA_70B, "Inferentia2", 24, 1, 28.0),
        (LLAMA_70B, "Inferentia2", 24, 8, 44.0),
        # huggingface/optimum-neuron: benchmark/vllm/data-parallel/llama3.1-8b (dp4), 2025-09-22
        (LLAMA_8B, "Trainium1", 8, 32, 26.07),
        # manu-joy/rosa-llm-driven-deployment: inferentia_vllm_test_results.md, 2026-03-27
        (QWEN_32B, "Inferentia2", 8, 4, 37.8),
    ],
)
def test_a_neuron_decode_step_takes_what_was_measured(
    name: str, chip: str, tensor: int, batch: int, measured_ms: float
) -> None:
    """Static batch and 4,096 tokens, compiled and paid in full; within a fifth, and within the interval."""
    engine = static_engine(model(name), CHIPS[chip], tensor, sequences=batch, context_tokens=4096)
    sure = uncertainty(model(name), CHIPS[chip], tensor, "decode", sequences=batch)

    assert engine.step_ms(1, 1) == pytest.approx(measured_ms, rel=0.2)
    assert engine.step_ms(batch, batch * 4096) == engine.step_ms(1, 1)
    assert sure.low < measured_ms / engine.step_base_ms < sure.high


@pytest.mark.parametrize(
    ("name", "chip", "measured_ms"),
    [
        # 8,200 ms for a static batch of 32 (huggingface/optimum-neuron:
        # docs/assets/benchmarks/inferentia-llama3.1-8b, 2024-09-27)
        (LLAMA_8B, "Inferentia2", 8200 / 32),
        # huggingface/optimum-neuron: benchmark/vllm/data-parallel/llama3.1-8b (dp4), 2025-09-22
        (LLAMA_8B, "Trainium1", 242.0),
        # manu-joy/rosa-llm-driven-deployment: inferentia_vllm_test_results.md, 2026-03-27
        (QWEN_32B, "Inferentia2", 1111.0),
    ],
)
def test_a_neuron_prefill_takes_what_was_measured(name: str, chip: str, measured_ms: float) -> None:
    """Tensor parallel 8; any prompt costs the compiled 4,096 tokens."""
    engine = static_engine(model(name), CHIPS[chip], 8, sequences=4, context_tokens=4096)

    assert engine.prefill_ms(100) == engine.prefill_ms(4096)
    assert engine.prefill_ms(100) == pytest.approx(measured_ms, rel=0.25)


def test_a_neuron_copy_under_load_behaves_as_measured() -> None:
    """Not fitted: Llama-3.1-8B, tensor parallel 8, batch 32, one of four replicas on trn1.32xlarge at 6.68
    requests/s of 1,500 + 250 tokens in all: 52.2 ms between tokens; saturated, 394 tokens/s a replica
    (huggingface/optimum-neuron: benchmark/vllm/data-parallel/llama3.1-8b, 2025-09)."""
    engine = static_engine(model(LLAMA_8B), CHIPS["Trainium1"], 8, sequences=32, context_tokens=4096)
    load = Workload(requests_per_second=1.67, input_tokens=1500, output_tokens=250)

    assert latency(engine, load, 1.67, 50).itl_ms == pytest.approx(52.2, rel=0.45)
    assert 250 / busy_seconds_per_request(engine, load) == pytest.approx(394, rel=0.35)


@pytest.mark.parametrize(
    ("name", "tensor", "sequences", "tokens", "measured_ms"),
    [
        # ai-dynamo/aiconfigurator@095f58a: aic-core/src/aiconfigurator_core/systems/silicon_sample.csv,
        # 2026-05-06 (TensorRT-LLM, then vLLM)
        (LLAMA_8B, 2, 8, 2048 + 128, 5.52),
        (QWEN_32B, 2, 8, 1024 + 64, 18.04),
    ],
)
def test_a_gpu_decode_step_takes_what_was_measured(
    name: str, tensor: int, sequences: int, tokens: int, measured_ms: float
) -> None:
    """Within a fifth; the measured time holds some prefills of other requests."""
    engine = paged_engine(model(name), CHIPS["H100"], tensor, sequences=64, context_tokens=4096)

    assert engine.step_ms(sequences, sequences * tokens) == pytest.approx(measured_ms, rel=0.2)
    assert engine.prefill_buckets == ()


def test_what_is_served_on_each_chip_has_been_measured_but_trainium2_is_doubted() -> None:
    """optimum-neuron's backend serves Inferentia2 and Trainium1, AWS's own serves Trainium2."""
    for chip in ("Inferentia2", "Trainium1"):
        assert uncertainty(model(LLAMA_8B), CHIPS[chip], 8, "decode").extrapolated == ()
    doubted = uncertainty(model(LLAMA_8B), CHIPS["Trainium2"], 8, "prefill")
    assert "Trainium2 and later chips were measured too little" in doubted.extrapolated
    assert not any("serving software" in clause for clause in doubted.extrapolated)
    assert doubted.high / doubted.low > 100


def test_an_interval_is_as_wide_below_as_above_and_wider_where_nothing_was_measured() -> None:
    for chip, phase in (("Inferentia2", "decode"), ("H100", "decode"), ("H100", "prefill")):
        near = uncertainty(model(LLAMA_8B), CHIPS[chip], 2, phase, sequences=4)
        far = uncertainty(model(LLAMA_8B), CHIPS[chip], 2, phase, sequences=4, context_tokens=10**6)
        assert near.low * near.high == pytest.approx(1)
        assert near.low < 1 < near.high < far.high
        assert set(far.extrapolated) > set(near.extrapolated)


def test_every_reason_that_widens_an_interval_is_said_in_words() -> None:
    fits = coefficients()
    reasons = {
        reason
        for kind in ("neuron", "gpu")
        for phase in ("decode", "prefill")
        for reason in fits.of(kind, phase)["interval"]["widening"]
    }
    assert reasons == set(CLAUSES)


def test_fails_for_a_phase_that_has_no_formula() -> None:
    with pytest.raises(TokenmillError, match="phase 'train' must be decode or prefill"):
        uncertainty(model(LLAMA_8B), CHIPS["H100"], 1, "train")


@pytest.mark.parametrize("name", known_models())
def test_nothing_is_faster_than_the_chips_arithmetic_or_slower_with_less(name: str) -> None:
    """On every chip, published and converted weights; bases are never negative, and tokens always cost."""
    spec = known(name)
    for chip in CHIPS.values():
        formats = [""] if spec.quantization else ["", *chip.quantizations]
        for quantization in formats:
            served = spec.with_quantization(quantization) if quantization else spec
            for tensor in (1, 8):
                make = paged_engine if chip.kind == "gpu" else static_engine
                engine = make(served, chip, tensor, sequences=256, context_tokens=4096)
                peak = peak_token_ms(served, chip, tensor)
                assert engine.prefill_per_token_ms >= peak * 0.99999
                assert engine.step_ms(256, 0) >= 256 * peak * 0.99999
                assert engine.prefill_base_ms >= 0 and engine.step_base_ms > 0
                assert engine.step_per_sequence_ms >= 0 and engine.step_per_kv_token_ms >= 0
                assert EngineTiming.from_json(engine.to_json()) == engine


@pytest.mark.parametrize(
    ("chip", "quantization", "tflops"),
    [
        ("H100", "", 989),
        ("H100", "fp8", 2 * 989),
        ("H100", "mxfp4", 989),
        ("B200", "mxfp4", 4 * 2250),
        ("A10G", "fp8", 70),
        ("A10G", "int8", 140),
        ("B200", "int8", 2250),
    ],
)
def test_the_peak_is_that_of_the_format_a_chip_computes_in(
    chip: str, quantization: str, tflops: float
) -> None:
    """Formats that a chip stores only, or does not know, are computed in 16 bits."""
    spec = model("Qwen__Qwen3-8B")
    served = spec.with_quantization(quantization) if quantization else spec
    operations = 2 * (spec.parameters - spec.embedding_parameters)

    assert peak_token_ms(served, CHIPS[chip], 2) == pytest.approx(operations / 2 / tflops / 1e9)


def test_cores_of_a_neuron_chip_share_its_arithmetic() -> None:
    spec = model("Qwen__Qwen3-8B")
    assert peak_token_ms(spec, CHIPS["Inferentia2"], 2) == pytest.approx(
        2 * (spec.parameters - spec.embedding_parameters) / 190e9
    )


@pytest.mark.parametrize("places", [8, 64, 256])
@pytest.mark.parametrize("running", [1, 4, 16, 64, 256])
def test_a_step_of_a_mixture_does_not_depend_on_the_places_that_are_empty(places: int, running: int) -> None:
    """A line through one sequence and all places would be half of the truth in between."""
    spec = model(MIXTURE)
    engine = paged_engine(spec, CHIPS["H100"], 1, sequences=places, context_tokens=2048)
    exact = paged_engine(spec, CHIPS["H100"], 1, sequences=running, context_tokens=2048)

    assert engine.step_ms(running, running * 2048) == pytest.approx(exact.step_ms(running, running * 2048))


@pytest.mark.parametrize(("running", "most"), [(1, 4.0), (8, 1.9), (64, 1.7), (256, 1.9)])
def test_a_mixture_on_one_gpu_keeps_near_the_roofline(running: int, most: float) -> None:
    """Qwen3-30B-A3B, 2,048 tokens a sequence: touched experts, dense weights and caches, read at the peak;
    one sequence is bound by launches."""
    spec, chip = model(MIXTURE), CHIPS["H100"]
    engine = paged_engine(spec, chip, 1, sequences=256, context_tokens=2048)
    touched = 1 - (1 - spec.experts_per_token / spec.experts) ** running
    dense = spec.parameters - spec.embedding_parameters - spec.expert_parameters
    read = 2 * (dense + spec.vocab_size * spec.hidden_size + touched * spec.expert_parameters)
    roofline = (read + running * spec.kv_bytes(2048)) / (chip.bandwidth_gb_s * 1e6)

    assert roofline < engine.step_ms(running, running * 2048) < most * roofline


def test_a_crowded_step_is_bound_by_arithmetic_where_memory_is_not() -> None:
    """256 sequences of Qwen3-8B on an A10G compute for 60 ms and read weights for 26."""
    spec, chip = model("Qwen__Qwen3-8B"), CHIPS["A10G"]
    crowded = paged_engine(spec, chip, 1, sequences=256, context_tokens=2048)
    few = paged_engine(spec, chip, 1, sequences=8, context_tokens=2048)

    assert crowded.step_ms(256, 0) == pytest.approx(256 * peak_token_ms(spec, chip, 1), rel=1e-4)
    assert few.step_per_sequence_ms == 0


@pytest.mark.parametrize("chip", ["L4", "A10G", "L40S", "H100"])
def test_long_prefills_reach_a_sane_share_of_the_peak(chip: str) -> None:
    """Qwen3-8B, 4,096 tokens, 16-bit weights: a quarter to nine tenths of the arithmetic."""
    spec = model("Qwen__Qwen3-8B")
    engine = paged_engine(spec, CHIPS[chip], 1, sequences=8, context_tokens=4096)

    assert 0.25 < 4096 * peak_token_ms(spec, CHIPS[chip], 1) / engine.prefill_ms(4096) < 0.9


def test_pcie_makes_many_gpus_slower_a_layer() -> None:
    """L40S talk over PCIe: two of them pay for every layer what one does not."""
    spec = model("Qwen__Qwen3-0.6B")
    one = paged_engine(spec, CHIPS["L40S"], 1, sequences=1, context_tokens=1024)
    two = paged_engine(spec, CHIPS["L40S"], 2, sequences=1, context_tokens=1024)
    assert two.step_ms(1, 1) > one.step_ms(1, 1)


@given(
    name=st.sampled_from((LLAMA_8B, MIXTURE, "openai__gpt-oss-20b")),
    chip=st.sampled_from(GPUS),
    tensor=st.sampled_from([1, 2, 4, 8]),
    running=st.integers(1, 200),
    tokens=st.integers(0, 10**6),
    more=st.integers(1, 100),
)
@settings(max_examples=60, deadline=None)
def test_a_step_never_shortens_with_sequences_or_cache(
    name: str, chip: str, tensor: int, running: int, tokens: int, more: int
) -> None:
    engine = paged_engine(
        known(name.replace("__", "/")), CHIPS[chip], tensor, sequences=300, context_tokens=8192
    )

    assert engine.step_ms(running + more, tokens) >= engine.step_ms(running, tokens)
    assert engine.step_ms(running, tokens + more) > engine.step_ms(running, tokens)
    assert engine.prefill_ms(tokens + more) > engine.prefill_ms(tokens)


@given(
    batch=st.sampled_from([1, 2, 4, 8, 16, 32]),
    context=st.sampled_from([1024, 2048, 4096, 8192]),
    tensor=st.sampled_from([1, 2, 4, 8, 16]),
)
@settings(deadline=None)
def test_more_work_never_takes_less_time(batch: int, context: int, tensor: int) -> None:
    """A larger compiled batch or length never makes a step or a prefill shorter."""
    spec, chip = model("Qwen__Qwen3-8B"), CHIPS["Inferentia2"]
    base = static_engine(spec, chip, tensor, sequences=batch, context_tokens=context)
    wider = static_engine(spec, chip, tensor, sequences=2 * batch, context_tokens=context)
    longer = static_engine(spec, chip, tensor, sequences=batch, context_tokens=2 * context)
    assert wider.step_ms(1, 1) > base.step_ms(1, 1)
    assert longer.step_ms(1, 1) > base.step_ms(1, 1)
    assert longer.prefill_ms(1) > base.prefill_ms(1)


def test_timings_have_six_digits_so_that_plan_files_are_stable() -> None:
    engine = paged_engine(model(MIXTURE), CHIPS["H100"], 2, sequences=64, context_tokens=4096)
    for value in (engine.step_base_ms, engine.step_experts_ms, engine.prefill_per_token_ms):
        assert float(f"{value:.6g}") == value
    assert math.isclose(engine.expert_share, 8 / 128)
