"""Predicted times agree with published measurements, within the error that the fit states."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support_planner import model
from tokenmill.core.coefficients import coefficients
from tokenmill.core.instances import accelerator_catalog
from tokenmill.core.workload import Workload
from tokenmill.planner.load import busy_seconds_per_request, latency
from tokenmill.planner.timing import copy_shape, paged_engine, static_engine

CHIPS = accelerator_catalog()
LLAMA_8B, LLAMA_70B, QWEN_32B = (
    "meta-llama__Meta-Llama-3.1-8B",
    "meta-llama__Meta-Llama-3.1-70B",
    "Qwen__Qwen3-32B",
)


def test_the_fits_state_their_error() -> None:
    """Decode on NeuronCores is predicted for a model that was left out within 25 % on average."""
    fits = coefficients()
    assert fits.neuron.decode.mape_percent <= 25
    for fit in (fits.neuron.decode, fits.neuron.prefill, fits.gpu.decode, fits.gpu.prefill):
        assert fit.ratio_low < 1 < fit.ratio_high
        assert fit.rows >= fit.configurations
    assert fits.of("neuron") is fits.neuron
    assert fits.of("gpu") is fits.gpu


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
    """Static batch and 4,096 tokens, compiled; within a quarter."""
    engine = static_engine(model(name), CHIPS[chip], tensor, sequences=batch, context_tokens=4096)
    assert engine.step_ms(1, 1) == pytest.approx(measured_ms, rel=0.25)
    assert engine.step_ms(batch, batch * 4096) == engine.step_ms(1, 1)


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
    assert engine.prefill_ms(100) == pytest.approx(measured_ms, rel=0.45)


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
    """Within a quarter."""
    engine = paged_engine(model(name), CHIPS["H100"], tensor, sequences=64, context_tokens=4096)
    assert engine.step_ms(sequences, sequences * tokens) == pytest.approx(measured_ms, rel=0.25)
    assert engine.prefill_buckets == ()


def test_experts_are_read_as_far_as_the_batch_touches_them() -> None:
    """One sequence reads its own eight of 128, many read all; a dense model reads everything always."""
    spec = model("Qwen__Qwen3-30B-A3B")
    one = copy_shape(spec, CHIPS["H100"], 1, 1).read_bytes
    many = copy_shape(spec, CHIPS["H100"], 1, 512).read_bytes
    embedding = spec.embedding_bytes / 2
    assert one == pytest.approx(spec.active_weight_bytes - embedding, rel=1e-6)
    assert many == pytest.approx(spec.weight_bytes - embedding, rel=1e-6)
    dense = model("Qwen__Qwen3-8B")
    assert copy_shape(dense, CHIPS["H100"], 1, 1) == copy_shape(dense, CHIPS["H100"], 1, 512)


def test_fp8_computes_twice_as_fast() -> None:
    """And reads half the bytes."""
    plain, fp8 = model("Qwen__Qwen3-30B-A3B"), model("Qwen__Qwen3-30B-A3B-FP8")
    one, two = copy_shape(plain, CHIPS["H100"], 1, 512), copy_shape(fp8, CHIPS["H100"], 1, 512)
    assert two.flops == 2 * one.flops
    assert two.read_bytes < 0.55 * one.read_bytes


def test_pcie_makes_many_gpus_slower_a_layer() -> None:
    """A10G and L40S talk over PCIe: two of them pay for every layer what one does not."""
    spec = model("Qwen__Qwen3-0.6B")
    one = paged_engine(spec, CHIPS["L40S"], 1, sequences=1, context_tokens=1024)
    two = paged_engine(spec, CHIPS["L40S"], 2, sequences=1, context_tokens=1024)
    assert two.step_ms(1, 1) > one.step_ms(1, 1)


@given(
    batch=st.sampled_from([1, 2, 4, 8, 16, 32]),
    context=st.sampled_from([1024, 2048, 4096, 8192]),
    tensor=st.sampled_from([2, 4, 8, 16]),
)
def test_more_work_never_takes_less_time(batch: int, context: int, tensor: int) -> None:
    """A larger compiled batch or length, or fewer cores, never makes a step or a prefill shorter."""
    spec, chip = model("Qwen__Qwen3-8B"), CHIPS["Inferentia2"]
    base = static_engine(spec, chip, tensor, sequences=batch, context_tokens=context)
    wider = static_engine(spec, chip, tensor, sequences=2 * batch, context_tokens=context)
    longer = static_engine(spec, chip, tensor, sequences=batch, context_tokens=2 * context)
    split = static_engine(spec, chip, 2 * tensor, sequences=batch, context_tokens=context)
    assert wider.step_ms(1, 1) > base.step_ms(1, 1)
    assert longer.step_ms(1, 1) > base.step_ms(1, 1)
    assert longer.prefill_ms(1) > base.prefill_ms(1)
    assert split.step_ms(1, 1) < base.step_ms(1, 1)
