"""What each core of a split copy holds: properties that any split must have, and figures that are stated."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenmill.core.errors import TokenmillError
from tokenmill.core.images import image
from tokenmill.core.instances import GIB, accelerator_catalog
from tokenmill.core.model_catalog import known_model
from tokenmill.core.workload import Parallelism
from tokenmill.planner.memory import (
    BOUNDLESS,
    cache_bytes_per_core,
    fullest_rank,
    host_memory_mib,
    kv_bytes_per_token_per_core,
    kv_room_tokens,
    largest_batch,
    largest_context,
    memory_per_rank,
    overhead_bytes_per_core,
)
from tokenmill.planner.memory_terms import Split, gpu_scratch_bytes

if TYPE_CHECKING:
    from tokenmill.core.model_spec import ModelSpec

CHIPS = accelerator_catalog()
INF2, TRN2, H100, B200 = (CHIPS[name] for name in ("Inferentia2", "Trainium2", "H100", "B200"))
MIB = 1024**2
MODELS = (
    "Qwen/Qwen3-0.6B",
    "Llama-3.1-8B",
    "Llama-3.1-70B",
    "Qwen3-30B-A3B",
    "gpt-oss-20b",
    "DeepSeek-V3",
    "Mixtral-8x7B-v0.1",
)
models = st.sampled_from(MODELS)
chips = st.sampled_from(sorted(CHIPS))
powers = st.integers(0, 5).map(lambda power: 1 << power)


def spec(name: str) -> ModelSpec:
    found = known_model(name)
    assert found is not None
    return found


@settings(deadline=None)
@given(models, chips, powers, st.integers(1, 64), st.sampled_from([128, 1000, 4096, 40_000]))
def test_more_tensor_parallel_cores_never_lower_the_fitting_batch(
    name: str, chip: str, tensor: int, batch: int, tokens: int
) -> None:
    """A second half of the cores brings memory and takes none."""
    few, many = Parallelism(tensor=tensor), Parallelism(tensor=2 * tensor)
    at_few = fullest_rank(spec(name), CHIPS[chip], few, sequences=batch, context_tokens=tokens)
    at_many = fullest_rank(spec(name), CHIPS[chip], many, sequences=batch, context_tokens=tokens)
    assert at_many.total <= at_few.total


@settings(deadline=None, max_examples=30)
@given(models, chips, st.sampled_from([8, 16]), st.sampled_from(["tensor", "pipeline", "data"]))
def test_more_cores_of_any_kind_never_lower_the_largest_batch(
    name: str, chip: str, tensor: int, kind: str
) -> None:
    """Twice the tensor, pipeline or data degree holds as many sequences at least."""
    base = Parallelism(tensor=tensor)
    more = dataclasses.replace(base, **{kind: 2 * getattr(base, kind)})
    model, accelerator = spec(name), CHIPS[chip]
    least = largest_batch(model, accelerator, base, context_tokens=2048)
    assert largest_batch(model, accelerator, more, context_tokens=2048) >= least


@settings(deadline=None)
@given(models, chips, powers, st.integers(1, 300), st.integers(1, 20_000), st.integers(1, 8))
def test_a_larger_batch_context_or_prefill_never_takes_less(
    name: str, chip: str, tensor: int, batch: int, tokens: int, prompts: int
) -> None:
    """One more sequence, token or prompt adds or leaves as it is."""
    model, accelerator, split = spec(name), CHIPS[chip], Parallelism(tensor=tensor)

    def total(batch: int, tokens: int, prompts: int) -> float:
        return fullest_rank(
            model, accelerator, split, sequences=batch, context_tokens=tokens, prefill_sequences=prompts
        ).total

    here = total(batch, tokens, prompts)
    assert total(batch + 1, tokens, prompts) >= here
    assert total(batch, tokens + 1, prompts) >= here
    assert total(batch, tokens, prompts + 1) >= here


@settings(deadline=None, max_examples=30)
@given(models, chips, st.sampled_from([1, 8, 32]), st.sampled_from([512, 4096]), st.integers(1, 40))
def test_the_largest_batch_and_context_fit_and_one_more_does_not(
    name: str, chip: str, tensor: int, tokens: int, batch: int
) -> None:
    """Bisection ends where fit turns into no fit."""
    model, accelerator, split = spec(name), CHIPS[chip], Parallelism(tensor=tensor)

    def fits(batch: int, tokens: int) -> bool:
        return fullest_rank(model, accelerator, split, sequences=batch, context_tokens=tokens).fits

    most = largest_batch(model, accelerator, split, context_tokens=tokens)
    assert most == 0 or fits(most, tokens)
    assert most == 1 << 16 or not fits(most + 1, tokens)
    longest = largest_context(model, accelerator, split, sequences=batch)
    assert longest == 0 or fits(batch, longest)
    assert longest == model.max_context_tokens or not fits(batch, longest + 1)


@settings(deadline=None)
@given(models, chips, st.sampled_from([1, 2, 8]), st.sampled_from([1, 2, 4]), st.sampled_from([1, 2]))
def test_the_fullest_core_is_one_of_all(name: str, chip: str, tensor: int, pipeline: int, data: int) -> None:
    """Only the cores that can differ are looked at, and none is missed."""
    split = Parallelism(tensor=tensor, pipeline=pipeline, data=data)
    every = memory_per_rank(spec(name), CHIPS[chip], split, sequences=4, context_tokens=1024)
    assert [rank.rank for rank in every] == list(range(split.cores))
    fullest = fullest_rank(spec(name), CHIPS[chip], split, sequences=4, context_tokens=1024)
    assert fullest.total == max(rank.total for rank in every)
    assert fullest.total == pytest.approx(
        sum((fullest.weights, fullest.kv_cache, fullest.scratch, fullest.collectives))
        + sum((fullest.dma_rings, fullest.program, fullest.other))
    )


@pytest.mark.parametrize("name", ["Llama-3.1-8B", "Qwen3-30B-A3B", "DeepSeek-V3"])
def test_weights_of_all_cores_add_up_to_the_checkpoint(name: str) -> None:
    """On GPUs, less what is copied: norms, routers, latent down-projections and key-value heads."""
    model = spec(name)
    held = memory_per_rank(model, B200, Parallelism(tensor=8), sequences=1, context_tokens=1)
    total = sum(rank.weights for rank in held)
    assert total >= model.weight_bytes
    copied = total - model.weight_bytes
    small = (model.parameters - model.embedding_parameters) * model.dtype_bytes
    small -= sum(item.parameters for item in model.projections) * model.dtype_bytes
    whole = sum(
        item.parameters * model.weight_bytes / model.parameters
        for item in model.projections
        if item.part == "router" or item.name in ("q_a_proj", "kv_a_proj_with_mqa", "k_proj", "v_proj")
    )
    assert copied <= 7 * (small + 2 * whole) * 1.01


def test_one_core_holds_exactly_the_checkpoint() -> None:
    """Nothing is copied and nothing shared out."""
    model = spec("Llama-3.1-8B")
    (only,) = memory_per_rank(model, H100, Parallelism(tensor=1), sequences=1, context_tokens=1)
    assert only.weights == pytest.approx(model.weight_bytes, rel=1e-9)


@pytest.mark.parametrize("quantization", ["fp8", "int4", "mxfp4"])
def test_one_core_holds_exactly_the_quantized_checkpoint(quantization: str) -> None:
    """The size that the checkpoint has is what counts, whatever it converts."""
    model = spec("Qwen3-30B-A3B").with_quantization(quantization)
    (only,) = memory_per_rank(model, B200, Parallelism(tensor=1), sequences=1, context_tokens=1)
    assert only.weights == pytest.approx(model.weight_bytes, rel=1e-9)


def test_the_latent_vector_is_on_every_core() -> None:
    """DeepSeek-V3 keeps 576 elements a token and layer, 70,272 bytes, however many cores share it."""
    model = spec("DeepSeek-V3")
    for tensor in (1, 8, 64):
        assert cache_bytes_per_core(model, Parallelism(tensor=tensor), 1) == 61 * 576 * 2 == 70_272


def test_heads_are_copied_beyond_their_number() -> None:
    """8 key-value heads on 64 cores: one each, 8-fold in all."""
    model = spec("Llama-3.1-70B")
    assert cache_bytes_per_core(model, Parallelism(tensor=8), 100) == model.kv_bytes(100) / 8
    assert cache_bytes_per_core(model, Parallelism(tensor=64), 100) == model.kv_bytes(100) / 8


def test_a_window_caps_what_is_kept() -> None:
    """gpt-oss: every other layer keeps 128 tokens."""
    model, one = spec("gpt-oss-20b"), Parallelism(tensor=1)
    assert cache_bytes_per_core(model, one, 128) == model.kv_bytes_per_token * 128
    assert cache_bytes_per_core(model, one, 4096) == model.kv_bytes(4096) < model.kv_bytes_per_token * 4096


def test_a_pipeline_stage_keeps_its_layers() -> None:
    """61 layers in 4 stages: 16 in the longest; embeddings stand in the first and in the last."""
    model, split = spec("DeepSeek-V3"), Parallelism(tensor=8, pipeline=4)
    assert cache_bytes_per_core(model, split, 1) == pytest.approx(70_272 * 16 / 61)
    held = memory_per_rank(model, B200, split, sequences=1, context_tokens=1)
    table = model.vocab_size * model.hidden_size * 2 / 8
    assert held[0].weights == held[31].weights
    assert held[0].weights - held[8].weights == pytest.approx(table)


def test_tied_embeddings_stand_at_both_ends_of_a_pipeline() -> None:
    """One table where there is one stage, two where there are two."""
    model = spec("Qwen/Qwen3-0.6B")
    table = model.vocab_size * model.hidden_size * 2
    one = memory_per_rank(model, H100, Parallelism(tensor=1), sequences=1, context_tokens=1)
    two = memory_per_rank(model, H100, Parallelism(tensor=1, pipeline=2), sequences=1, context_tokens=1)
    assert sum(rank.weights for rank in two) - one[0].weights == pytest.approx(table)


def test_experts_are_shared_out_whole_or_in_slices_alike() -> None:
    """128 experts on 8 cores: 16 whole ones each, or an eighth of each, are the same bytes."""
    model = spec("Qwen3-30B-A3B")

    def weights(expert: int) -> float:
        split = Parallelism(tensor=8, expert=expert)
        return fullest_rank(model, B200, split, sequences=1, context_tokens=1).weights

    assert weights(1) == pytest.approx(weights(4)) == pytest.approx(weights(8))


def test_data_parallel_attention_spreads_sequences_and_experts() -> None:
    """Two replicas of attention halve the sequences of a core; experts over all 16 cores stand once."""
    model = spec("DeepSeek-V3").with_quantization("fp8")
    alone = fullest_rank(model, B200, Parallelism(tensor=8), sequences=64, context_tokens=4096)
    spread = Parallelism(tensor=8, data=2, expert=16)
    both = fullest_rank(model, B200, spread, sequences=64, context_tokens=4096)
    assert both.kv_cache == alone.kv_cache / 2
    assert both.weights < 0.6 * alone.weights


@pytest.mark.parametrize(
    ("given_values", "message"),
    [
        ({"sequences": 0}, "sequences must be 1 or more, got 0"),
        ({"context_tokens": -1}, "context_tokens must be 1 or more, got -1"),
        ({"prefill_sequences": 0}, "prefill_sequences must be 1 or more, got 0"),
    ],
)
def test_fails_on_nothing_to_hold(given_values: dict[str, int], message: str) -> None:
    """Zero sequences or tokens are a mistake of the caller."""
    arguments = {"sequences": 1, "context_tokens": 1} | given_values
    with pytest.raises(TokenmillError, match=message):
        memory_per_rank(spec("Llama-3.1-8B"), H100, Parallelism(tensor=1), **arguments)


@pytest.mark.parametrize("split", [Parallelism(tensor=8, expert=3), Parallelism(tensor=2, expert=8)])
def test_fails_on_experts_that_cannot_be_shared_out(split: Parallelism) -> None:
    """Uneven groups, or more cores than there are."""
    with pytest.raises(TokenmillError, match="must divide or multiply tensor parallelism"):
        fullest_rank(spec("Qwen3-30B-A3B"), H100, split, sequences=1, context_tokens=1)


def test_the_first_core_of_optimum_neuron_holds_the_embeddings_whole() -> None:
    """Llama-3.1-8B: 1,819 MB more than the others, measured; NxD Inference on Trainium2 shares them out."""
    model, split = spec("Llama-3.1-8B"), Parallelism(tensor=8)
    first, *others = memory_per_rank(model, INF2, split, sequences=1, context_tokens=1024)
    assert (first.weights - others[0].weights) / MIB == pytest.approx(1819, rel=0.05)
    even = memory_per_rank(model, TRN2, split, sequences=1, context_tokens=1024)
    assert {rank.total for rank in even} == {even[0].total}


def test_a_logical_core_of_trainium2_has_24_gib_and_the_program_of_two() -> None:
    """96 GiB a chip, 4 logical cores; each physical core has its own microcode and graphs."""
    model = spec("Llama-3.1-8B")
    trn2 = fullest_rank(model, TRN2, Parallelism(tensor=4), sequences=1, context_tokens=1024)
    assert trn2.available == 24 * GIB
    assert trn2.program == 2 * 228 * MIB
    assert trn2.dma_rings == 2 * 220 * MIB


def test_deepseek_v3_takes_what_its_port_states_on_trainium2() -> None:
    """23.1 GB a logical core for token generation, without the shared scratch space
    (aws-neuron/neuronx-distributed-inference@4bcdc54: contrib/models/DeepSeek-V3/README.md)."""
    rank = fullest_rank(
        spec("DeepSeek-V3").with_quantization(""),
        TRN2,
        Parallelism(tensor=64),
        sequences=1,
        context_tokens=1024,
    )
    assert (rank.total - rank.scratch) / GIB == pytest.approx(23.1, rel=0.01)


@pytest.mark.parametrize(
    ("name", "chip", "tensor", "batch", "tokens"),
    [
        # aws-neuron/aws-neuron-sdk: general/benchmarks, transformers-neuronx
        ("Llama-2-7b", "Inferentia2", 8, 32, 4096),
        ("Llama-2-7b", "Inferentia2", 24, 32, 4096),
        ("Llama-2-13b", "Inferentia2", 8, 16, 4096),
        ("Llama-2-70b", "Trainium1", 32, 4, 4096),
        ("CodeLlama-13b-hf", "Inferentia2", 24, 4, 16384),
        ("Mistral-7B-Instruct-v0.2", "Inferentia2", 24, 8, 16384),
        ("opt-66b", "Inferentia2", 24, 1, 2048),
        # huggingface/optimum-neuron: docs/source/benchmarks, benchmark/vllm
        ("Llama-3.1-8B", "Inferentia2", 8, 48, 4096),
        ("Llama-3.1-8B", "Trainium2", 4, 32, 4096),
        ("Llama-3.3-70B", "Inferentia2", 24, 8, 4096),
        ("Llama-4-Scout", "Trainium1", 32, 8, 4096),
        ("Llama-4-Maverick", "Trainium2", 64, 8, 4096),
        ("Qwen3-30B-A3B", "Trainium2", 4, 16, 4096),
        ("Qwen3-32B", "Trainium2", 4, 2, 4096),
        ("Qwen3-235B-A22B", "Trainium2", 64, 4, 4096),
        # aws-neuron/neuronx-distributed-inference: contrib/models/DeepSeek-V3, served by vLLM
        ("DeepSeek-V3", "Trainium2", 64, 8, 512),
    ],
)
def test_what_others_ran_fits(name: str, chip: str, tensor: int, batch: int, tokens: int) -> None:
    """Published deployments in 16-bit weights: what ran had room."""
    model = spec(name).with_quantization("")
    split = Parallelism(tensor=tensor)
    assert fullest_rank(model, CHIPS[chip], split, sequences=batch, context_tokens=tokens).fits


def test_a_gpu_keeps_room_for_a_step_of_its_size() -> None:
    """vLLM's server steps over 8,192 tokens on large GPUs and 2,048 on A100 and small ones."""
    split = Parallelism(tensor=1)
    large, small, a100 = (
        gpu_scratch_bytes(Split(spec("Llama-3.1-8B"), CHIPS[name], split))
        for name in ("H100", "L4", "A100-80GB")
    )
    assert large - GIB == pytest.approx(4 * (small - GIB))
    assert a100 == small
    assert 1.0 < small / GIB < large / GIB < 2.0


def test_without_a_model_the_overhead_is_the_measured_one() -> None:
    """2,215 MB on the fullest core, of which a model of the same shape takes as much."""
    assert overhead_bytes_per_core(INF2) == 2215 * MIB
    assert overhead_bytes_per_core(INF2, spec("Llama-3.1-8B"), 8) == 2215 * MIB
    assert overhead_bytes_per_core(H100) == 1.5 * GIB


def test_a_model_whose_state_is_constant_holds_any_number_of_tokens() -> None:
    """Linear attention alone: one more token takes nothing, so that only the weights can be too much."""
    llama = spec("Llama-3.1-8B")
    group = dataclasses.replace(
        llama.attention[0], kind="linear", kv_heads=8, key_dim=128, value_dim=128, tail_elements=64
    )
    linear = dataclasses.replace(llama, attention=(group,))
    assert kv_bytes_per_token_per_core(linear, 8) == 0
    assert kv_room_tokens(linear, H100, 1) == BOUNDLESS
    assert kv_room_tokens(linear, CHIPS["L4"], 1) == BOUNDLESS
    assert kv_room_tokens(spec("Llama-3.1-70B"), CHIPS["L4"], 1) < 0
    big = dataclasses.replace(spec("Llama-3.1-70B"), attention=(group,))
    assert kv_room_tokens(big, CHIPS["L4"], 1) == -1
    each = cache_bytes_per_core(linear, Parallelism(tensor=8), 1)
    assert each == 32 * (128 * 128 + 64 / 8) * 2
    assert largest_batch(linear, H100, Parallelism(tensor=8), context_tokens=1) == 1 << 16


def test_a_model_that_does_not_fit_holds_nothing() -> None:
    """Neither a sequence nor a token."""
    model, one = spec("Llama-3.1-70B"), Parallelism(tensor=1)
    assert largest_batch(model, INF2, one, context_tokens=1) == 0
    assert largest_context(model, INF2, one, sequences=1) == 0


def test_sharding_in_another_format_holds_both_on_the_host() -> None:
    """DeepSeek-V3 is stored in FP8 and run in bfloat16: about 2 TB while sharding (its port's page)."""
    stored, neuron = spec("DeepSeek-V3").with_quantization("fp8"), image("aws-vllm-neuronx")
    plain = stored.with_quantization("")
    needed = host_memory_mib(plain, neuron, stored=stored)
    assert needed * MIB == pytest.approx(2.0e12, rel=0.05)
    assert host_memory_mib(stored, neuron, stored=stored) == host_memory_mib(stored, neuron)


def test_a_checkpoint_sharded_before_passes_through_in_parts() -> None:
    """Trinity-Nano, 12 GB: 16 GB of host memory are enough then, and not without (its port's page)."""
    nano, neuron = spec("Trinity-Nano"), image("hf-vllm-neuronx")
    assert host_memory_mib(nano, neuron) > 14.4 * 1024 > host_memory_mib(nano, neuron, sharded=True)
