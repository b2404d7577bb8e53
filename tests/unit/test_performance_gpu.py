"""Time per output token on GPUs: what makes it longer, what is unmeasured, and that a fit finds the truth."""

from __future__ import annotations

import dataclasses
import math
import timeit
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_gpu import COEFFICIENTS, FIRST_TOKEN, MODELS, deployment, model
from tokenmill.core.errors import TokenmillError
from tokenmill.core.instances import accelerator_catalog
from tokenmill.planner.performance.fitted import stack
from tokenmill.planner.performance.gpu import (
    FIRST_TOKEN_TERMS,
    STALL_TERMS,
    STEP_TERMS,
    decode_interval,
    decode_ms,
    first_token_interval,
    first_token_ms,
    first_token_terms,
    stall_ms,
    stall_terms,
    step_curve,
    step_ms,
    step_terms,
    unmeasured,
)
from tokenmill.planner.performance.gpu_columns import TEXTS, GpuDeployment, GpuSplit

SIZES = st.tuples(
    st.integers(min_value=1, max_value=256), st.integers(min_value=1, max_value=16000), st.integers(1, 8000)
)
LAYOUTS = st.builds(
    GpuSplit,
    ranks=st.sampled_from((1, 2, 4, 8, 16)),
    expert_ranks=st.sampled_from((1, 8)),
    quantization=st.sampled_from((None, "fp8", "int4", "nvfp4")),
    engine=st.sampled_from(("vllm", "other")),
    speculative=st.booleans(),
)
DEPLOYMENTS = st.builds(
    deployment,
    st.sampled_from(MODELS),
    chip=st.sampled_from(("A10G", "H100", "B200")),
    split=LAYOUTS,
    load=SIZES,
)


@given(DEPLOYMENTS, st.integers(1, 300))
@settings(max_examples=60, deadline=None)
def test_more_requests_in_flight_are_never_faster(one: GpuDeployment, more: int) -> None:
    busier = dataclasses.replace(one, concurrency=one.concurrency + more)

    assert decode_ms(busier, COEFFICIENTS) >= decode_ms(one, COEFFICIENTS)


@given(st.sampled_from(MODELS), SIZES, st.integers(1, 20000))
@settings(max_examples=60, deadline=None)
def test_a_longer_prompt_is_never_faster(name: str, load: tuple[int, int, int], more: int) -> None:
    concurrency, prompt, answer = load

    short = decode_ms(deployment(name, load=load), COEFFICIENTS)
    longer = decode_ms(deployment(name, load=(concurrency, prompt + more, answer)), COEFFICIENTS)

    assert longer >= short


@given(
    DEPLOYMENTS, st.sampled_from(("concurrency", "input_tokens", "active_parameters")), st.floats(1.0, 9.0)
)
@settings(max_examples=60, deadline=None)
def test_the_first_token_never_comes_sooner_with_more_to_do(
    one: GpuDeployment, name: str, times: float
) -> None:
    more = dataclasses.replace(one, **{name: getattr(one, name) * times})

    assert first_token_ms(more, FIRST_TOKEN) >= first_token_ms(one, FIRST_TOKEN)


def test_the_first_token_has_an_interval_and_waits_for_the_prompts_before_it() -> None:
    alone, together = deployment(load=(1, 1024, 64)), deployment(load=(5, 1024, 64))

    low, high, reasons = first_token_interval(alone, FIRST_TOKEN)

    assert low < first_token_ms(alone, FIRST_TOKEN) < high
    assert reasons == ()
    assert tuple(first_token_terms(alone)) == FIRST_TOKEN_TERMS
    assert first_token_terms(alone)["queue"] == 0
    terms = first_token_terms(together)
    assert terms["queue"] == pytest.approx(2 * terms["compute"])


BIGGER = (
    "layers",
    "dense_parameters",
    "expert_parameters",
    "head_parameters",
    "active_parameters",
    "kv_bytes",
    "dense_width",
    "input_tokens",
)


@given(DEPLOYMENTS, st.sampled_from(BIGGER), st.floats(1.0, 10.0))
@settings(max_examples=80, deadline=None)
def test_a_bigger_model_is_never_faster(one: GpuDeployment, name: str, times: float) -> None:
    bigger = dataclasses.replace(one, **{name: getattr(one, name) * times})

    assert decode_ms(bigger, COEFFICIENTS) >= decode_ms(one, COEFFICIENTS)


@given(DEPLOYMENTS, st.sampled_from(("bandwidth", "flops")), st.floats(1.0, 10.0))
@settings(max_examples=60, deadline=None)
def test_more_bandwidth_or_arithmetic_is_never_slower(one: GpuDeployment, name: str, times: float) -> None:
    faster = dataclasses.replace(one, **{name: getattr(one, name) * times})

    assert decode_ms(faster, COEFFICIENTS) <= decode_ms(one, COEFFICIENTS)


@given(st.lists(DEPLOYMENTS, min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_arrays_give_what_single_deployments_give(rows: list[GpuDeployment]) -> None:
    columns = stack(rows, TEXTS)
    low, high, reasons = decode_interval(columns, COEFFICIENTS)

    assert decode_ms(columns, COEFFICIENTS) == pytest.approx([decode_ms(row, COEFFICIENTS) for row in rows])
    alone = [decode_interval(row, COEFFICIENTS) for row in rows]
    assert low == pytest.approx([item[0] for item in alone])
    assert high == pytest.approx([item[1] for item in alone])
    assert reasons == [item[2] for item in alone]


def test_terms_come_in_their_stated_order() -> None:
    assert tuple(step_terms(deployment())) == STEP_TERMS
    assert tuple(stall_terms(deployment())) == STALL_TERMS


def test_weights_are_read_once_a_step_at_peak_bandwidth() -> None:
    dense = deployment("meta-llama/Llama-3.1-8B-Instruct", split=GpuSplit(quantization="fp8"))
    spec = model("meta-llama/Llama-3.1-8B-Instruct")
    bytes_read = spec.parameters - spec.embedding_parameters + 2 * spec.vocab_size * spec.hidden_size

    assert step_terms(dense)["dense_read"] == pytest.approx(bytes_read / 3350e9 * 1e3)
    assert step_terms(dense)["expert_read"] == 0


def test_one_token_touches_its_own_experts_and_many_touch_all() -> None:
    spec = model("Qwen/Qwen3-235B-A22B")
    one = step_terms(deployment(spec.id, load=(1, 1024, 1024)))["expert_read"]
    many = step_terms(deployment(spec.id, load=(10_000, 1024, 1024)))["expert_read"]

    assert one / many == pytest.approx(spec.experts_per_token / spec.experts)
    assert many == pytest.approx(2 * spec.expert_parameters / 3350e9 * 1e3)


def test_cache_is_copied_where_gpus_outnumber_its_heads() -> None:
    reads = [
        step_terms(deployment("Qwen/Qwen3-235B-A22B", split=GpuSplit(ranks=ranks)))["kv_read"]
        for ranks in (2, 4, 8)
    ]

    assert reads[0] == pytest.approx(2 * reads[1])
    assert reads[1] == reads[2]


def test_attention_on_fewer_gpus_serves_fewer_sequences_each() -> None:
    together = step_terms(deployment(split=GpuSplit(ranks=4)))
    apart = step_terms(deployment(split=GpuSplit(ranks=4, attention_ranks=1)))

    assert apart["kv_read"] == pytest.approx(together["kv_read"])
    assert apart["dense_read"] > together["dense_read"]


def test_four_bit_mixtures_keep_their_attention_in_16_bits() -> None:
    mixture = deployment("openai/gpt-oss-120b")
    dense = deployment(split=GpuSplit(quantization="nvfp4"))

    assert (mixture.quantization, mixture.dense_width, mixture.expert_width) == ("fp4", 2.0, 0.5625)
    assert (dense.quantization, dense.dense_width) == ("fp4", 0.5625)
    assert step_terms(dense)["fp4_layers"] > step_terms(mixture)["fp4_layers"] == 0


def test_only_pcie_pays_for_slow_exchange_and_only_several_gpus_exchange() -> None:
    one, pcie, nvlink = (
        step_terms(deployment(chip=chip, split=GpuSplit(ranks=ranks)))
        for chip, ranks in (("A10G", 1), ("A10G", 4), ("H100", 4))
    )

    assert one["exchange"] == one["slow_exchange"] == nvlink["slow_exchange"] == 0
    assert pcie["slow_exchange"] == pcie["exchange"] == nvlink["exchange"] > 0


def test_a_lone_request_is_stalled_by_no_prefill() -> None:
    assert stall_ms(deployment(load=(1, 1024, 64)), COEFFICIENTS) == 0
    assert stall_ms(deployment(load=(2, 1024, 64)), COEFFICIENTS) > 0


def test_time_per_token_is_the_step_and_the_stalls() -> None:
    one = deployment(load=(8, 4096, 128))

    assert decode_ms(one, COEFFICIENTS) == step_ms(one, COEFFICIENTS) + stall_ms(one, COEFFICIENTS)


def test_a_draft_shortens_the_time_per_token_by_its_fitted_effect() -> None:
    plain, draft = deployment(), deployment(split=GpuSplit(speculative=True))

    assert decode_ms(draft, COEFFICIENTS) / decode_ms(plain, COEFFICIENTS) == pytest.approx(math.exp(-0.5))


def test_no_version_means_the_newest_that_was_measured() -> None:
    newest, named, old = (
        decode_ms(deployment(split=GpuSplit(version=version)), COEFFICIENTS) for version in ("", "2.0", "1.0")
    )

    assert newest == named
    assert old / newest == pytest.approx(math.exp(0.6))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("sequences", [1, 2, 7, 64, 256])
def test_the_curve_of_a_step_is_the_step_at_any_number_of_sequences(name: str, sequences: int) -> None:
    one = deployment(name, load=(sequences, 2048, 512), split=GpuSplit(ranks=4, quantization="fp8"))

    curve = step_curve(one, COEFFICIENTS)

    touched = 1 - (1 - curve.expert_share) ** sequences
    linear = curve.base_ms + curve.sequence_ms * sequences + curve.byte_ms * sequences * one.kv_bytes
    assert linear + curve.experts_ms * touched == pytest.approx(step_ms(one, COEFFICIENTS))


def test_a_dense_model_has_no_experts_to_read() -> None:
    assert step_curve(deployment(), COEFFICIENTS).experts_ms == 0


@pytest.mark.parametrize(
    ("chip", "quantization", "times"),
    [
        ("H100", None, 1),
        ("H100", "fp8", 2),
        ("H100", "int4", 1),
        ("H100", "nvfp4", 2),
        ("L4", "fp8", 2),
        ("A10G", "fp8", 1),
        ("A10G", "int8", 2),
        ("A100-80GB", "fp8", 1),
    ],
)
def test_a_format_that_a_chip_only_stores_is_computed_in_16_bits(
    chip: str, quantization: str | None, times: int
) -> None:
    peak = accelerator_catalog()[chip].bf16_tflops * 1e12

    assert deployment(chip=chip, split=GpuSplit(quantization=quantization)).flops == times * peak


@pytest.mark.parametrize(
    ("changed", "reasons"),
    [
        ({}, ()),
        ({"version": "2.0"}, ()),
        ({"version": "3.0"}, ("architecture engine version",)),
        ({"engine": "sglang"}, ("architecture engine",)),
        ({"engine": "new"}, ("engine",)),
        ({"architecture": "New"}, ("architecture",)),
        ({"chip": "A10G"}, ("quantization chip",)),
        ({"chip": "H200"}, ("quantization chip",)),
        ({"concurrency": 9}, ("concurrency",)),
        ({"architecture": "New", "ranks": 16}, ("architecture", "ranks")),
    ],
)
def test_what_no_measurement_resembles_is_named_and_widens_the_interval(
    changed: dict[str, Any], reasons: tuple[str, ...]
) -> None:
    one = dataclasses.replace(deployment(), **changed)

    low, high, named = decode_interval(one, COEFFICIENTS)

    assert named == unmeasured(one, COEFFICIENTS) == reasons
    wide = math.hypot(0.1, *(COEFFICIENTS["interval"]["widening"][reason] for reason in reasons))
    assert math.log(high / low) == pytest.approx(2 * wide)


@pytest.mark.parametrize(
    ("split", "load", "message"),
    [
        (GpuSplit(quantization="fp6"), (1, 1, 1), "quantization 'fp6' has no measured timing; use "),
        (GpuSplit(ranks=0), (1, 1, 1), "ranks 0 must be a positive number"),
        (GpuSplit(), (0, 1, 1), "concurrency 0 must be a positive number"),
        (GpuSplit(), (math.nan, 1, 1), "concurrency nan must be a positive number"),
    ],
)
def test_absurd_deployments_are_refused(split: GpuSplit, load: tuple[float, int, int], message: str) -> None:
    with pytest.raises(TokenmillError, match=message):
        deployment(split=split, load=load)


def test_a_prediction_among_many_takes_less_than_20_microseconds() -> None:
    columns = stack([deployment(load=(1 + i % 8, 1024, 1024)) for i in range(2000)], TEXTS)

    seconds = min(timeit.repeat(lambda: decode_ms(columns, COEFFICIENTS), number=1, repeat=5))

    assert seconds / 2000 < 20e-6
