"""What fits agrees with memory that others measured on the chips."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support_planner import model
from tokenmill.core.images import image
from tokenmill.core.instances import GIB, accelerator_catalog, instance_type
from tokenmill.planner.memory import (
    host_memory_mib,
    kv_bytes_per_token_per_core,
    kv_room_tokens,
    memory_of_copy,
    usable_bytes_per_core,
)

INF2 = accelerator_catalog()["Inferentia2"]
H100 = accelerator_catalog()["H100"]
MIB = 1024**2


def test_the_fullest_core_holds_what_was_measured() -> None:
    """Llama-3.1-8B, tensor parallel 8, batch 32, 4,096 tokens on ml.inf2.48xlarge: 3,767 MB weights, 2,048 MB
    cache and 8,029 MB in all on rank 0 (huggingface/optimum-neuron@6373c379:
    benchmark/vllm/memory_capacity_analysis.md, 2026-03-03)."""
    memory = memory_of_copy(model("meta-llama__Meta-Llama-3.1-8B"), INF2, 8, 32 * 4096)
    assert memory.weights_gib * 1024 == pytest.approx(3767, rel=0.05)
    assert memory.kv_cache_gib * 1024 == pytest.approx(2048, rel=0.001)
    assert memory.total_gib * 1024 == pytest.approx(8029, rel=0.03)
    assert memory.available_gib == 16


@pytest.mark.parametrize(
    ("name", "batch", "tokens", "fits"),
    [
        # huggingface/optimum-neuron@a4dafb1e: benchmark/vllm/qwen3-30B-A3B-2507/README.md, 2026-03-18
        ("Qwen__Qwen3-30B-A3B", 32, 4096, True),
        ("Qwen__Qwen3-30B-A3B", 64, 4096, False),
        # manu-joy/rosa-llm-driven-deployment: inferentia_vllm_test_results.md, 2026-03-27
        ("Qwen__Qwen3-30B-A3B", 16, 8192, True),
        ("Qwen__Qwen3-32B", 4, 4096, True),
    ],
)
def test_what_fitted_fits_and_what_did_not_does_not(name: str, batch: int, tokens: int, fits: bool) -> None:
    """Tensor parallel 8 on Inferentia2, bfloat16, measured."""
    assert (kv_room_tokens(model(name), INF2, 8) >= batch * tokens) == fits


def test_heads_are_copied_where_cores_outnumber_them() -> None:
    """Qwen3-30B-A3B has 4 key-value heads: 8 cores hold as much each as 4 cores do."""
    spec = model("Qwen__Qwen3-30B-A3B")
    assert kv_bytes_per_token_per_core(spec, 8) == kv_bytes_per_token_per_core(spec, 4)
    assert kv_bytes_per_token_per_core(spec, 2) == spec.kv_bytes_per_token / 2


def test_a_gpu_keeps_a_tenth_for_others() -> None:
    """vLLM documentation: gpu_memory_utilization is 0.9; a Neuron core is taken whole."""
    assert usable_bytes_per_core(H100) == pytest.approx(72 * GIB)
    assert usable_bytes_per_core(INF2) == 16 * GIB


def test_neuron_loads_the_whole_checkpoint_through_the_host() -> None:
    """A GPU server maps one shard at a time; a small model is smaller than a shard."""
    big, small = model("Qwen__Qwen3-8B"), model("Qwen__Qwen3-0.6B")
    neuron, gpu = image("hf-vllm-neuronx"), image("lmi-vllm")
    assert host_memory_mib(big, neuron) == 8192 + 15623
    assert host_memory_mib(big, gpu) == 8192 + 5120
    assert host_memory_mib(small, gpu) == 8192 + 1137
    assert instance_type("ml.inf2.xlarge").host_room_mib < host_memory_mib(big, neuron)


@given(
    name=st.sampled_from(["Qwen__Qwen3-0.6B", "Qwen__Qwen3-8B", "openai__gpt-oss-20b"]),
    power=st.integers(0, 4),
    accelerator=st.sampled_from(sorted(accelerator_catalog())),
)
def test_more_cores_never_hold_fewer_tokens(name: str, power: int, accelerator: str) -> None:
    """A second core brings memory and takes none."""
    spec, chip = model(name), accelerator_catalog()[accelerator]
    assert kv_room_tokens(spec, chip, 2 << power) >= kv_room_tokens(spec, chip, 1 << power)


@given(name=st.sampled_from(["Qwen__Qwen3-0.6B", "Qwen__Qwen3-8B", "Qwen__Qwen3-32B"]))
def test_a_larger_chip_never_holds_less(name: str) -> None:
    """H200 has all that H100 has."""
    spec, h200 = model(name), accelerator_catalog()["H200"]
    assert kv_room_tokens(spec, h200, 1) >= kv_room_tokens(spec, H100, 1)
