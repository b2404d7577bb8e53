"""Times on NeuronCores: what makes them longer, what a row stands for, and what is unmeasured."""

from __future__ import annotations

import dataclasses
import math
import timeit
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_timing import NEURON_ROW, model
from tokenmill.core.coefficients import coefficients
from tokenmill.core.errors import TokenmillError
from tokenmill.core.instances import accelerator_catalog
from tokenmill.planner.performance.fitted import half_width, stack, unstack
from tokenmill.planner.performance.neuron import (
    DECODE_TERMS,
    PREFILL_TERMS,
    decode_ms,
    decode_terms,
    interval,
    prefill_ms,
    prefill_terms,
    unmeasured,
)
from tokenmill.planner.performance.neuron_columns import (
    NEURON_LINK_BYTES,
    NXDI,
    SERVED_SOFTWARE,
    TEXTS,
    Compilation,
    NeuronDeployment,
    Prompts,
    kv_bytes_per_core,
    neuron_deployment,
)
from tokenmill.planner.performance.neuron_rows import (
    CONTINUOUS,
    TRANSFORMERS,
    release_of,
    row_deployment,
    software_of,
)

CHIPS = accelerator_catalog()
FITS = coefficients()
LLAMA = "meta-llama/Llama-3.1-8B"
MIXTURE = "Qwen/Qwen3-30B-A3B"
NAMES = (LLAMA, MIXTURE, "deepseek-ai/DeepSeek-V3", "openai/gpt-oss-20b", "Qwen/Qwen3-0.6B")


def deployment(
    name: str = LLAMA,
    chip: str = "Inferentia2",
    tensor: int = 8,
    sequences: int = 4,
    context: int = 4096,
    software: str = SERVED_SOFTWARE,
    quantization: str | None = None,
) -> NeuronDeployment:
    compiled = Compilation(
        tensor=tensor,
        sequences=sequences,
        context_tokens=context,
        software=software,
        quantization=quantization,
    )
    return neuron_deployment(model(name), CHIPS[chip], compiled)


DEPLOYMENTS = st.builds(
    deployment,
    st.sampled_from(NAMES),
    chip=st.sampled_from(("Inferentia2", "Trainium1", "Trainium2")),
    tensor=st.sampled_from((1, 2, 4, 8, 12, 24, 32)),
    sequences=st.integers(1, 128),
    context=st.sampled_from((128, 2048, 4096, 32768)),
    software=st.sampled_from((SERVED_SOFTWARE, NXDI, TRANSFORMERS, "something new")),
)
DECODE_SIZES = (
    "layers",
    "sequences",
    "context_tokens",
    "dense_bytes",
    "expert_bytes",
    "kv_bytes",
)
PREFILL_SIZES = (
    "layers",
    "calls",
    "prompts",
    "prompt_tokens",
    "token_weights",
    "attention_width",
    "hidden_size",
    "dense_bytes",
)


@given(DEPLOYMENTS, st.sampled_from(DECODE_SIZES), st.integers(2, 9))
@settings(max_examples=80, deadline=None)
def test_more_sequences_longer_context_or_a_larger_model_never_decode_faster(
    one: NeuronDeployment, name: str, times: int
) -> None:
    larger = dataclasses.replace(one, **{name: getattr(one, name) * times})

    assert decode_ms(larger, FITS.neuron_decode) >= decode_ms(one, FITS.neuron_decode)


@given(DEPLOYMENTS, st.sampled_from(PREFILL_SIZES), st.integers(2, 9))
@settings(max_examples=80, deadline=None)
def test_more_or_longer_prompts_or_a_larger_model_never_prefill_faster(
    one: NeuronDeployment, name: str, times: int
) -> None:
    larger = dataclasses.replace(one, **{name: getattr(one, name) * times})

    assert prefill_ms(larger, FITS.neuron_prefill) >= prefill_ms(one, FITS.neuron_prefill)


@given(DEPLOYMENTS, st.sampled_from(("bandwidth", "flops", "link")), st.floats(1.0, 9.0))
@settings(max_examples=60, deadline=None)
def test_faster_memory_arithmetic_or_links_never_slow_anything_down(
    one: NeuronDeployment, name: str, times: float
) -> None:
    faster = dataclasses.replace(one, **{name: getattr(one, name) * times})

    assert decode_ms(faster, FITS.neuron_decode) <= decode_ms(one, FITS.neuron_decode)
    assert prefill_ms(faster, FITS.neuron_prefill) <= prefill_ms(one, FITS.neuron_prefill)


@given(st.lists(DEPLOYMENTS, min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_arrays_give_what_single_deployments_give(rows: list[NeuronDeployment]) -> None:
    columns = stack(rows, TEXTS)

    for predict, document in ((decode_ms, FITS.neuron_decode), (prefill_ms, FITS.neuron_prefill)):
        assert predict(columns, document) == pytest.approx([predict(row, document) for row in rows])
        widths, reasons = interval(columns, document)
        alone = [interval(row, document) for row in rows]
        assert widths == pytest.approx([width for width, _ in alone])
        assert reasons == [why for _, [why] in alone]
    assert unstack(columns, TEXTS) == rows


def test_terms_come_in_their_stated_order() -> None:
    assert tuple(decode_terms(deployment())) == DECODE_TERMS == tuple(FITS.neuron_decode["terms"])
    assert tuple(prefill_terms(deployment())) == PREFILL_TERMS == tuple(FITS.neuron_prefill["terms"])


def test_a_step_reads_every_weight_but_the_embedding_once_at_the_bandwidth_of_its_cores() -> None:
    """Half of a chip's 820 GB/s a core; the output projection is read too, and stays in 16 bits."""
    spec = model(LLAMA)
    one = deployment(tensor=8)
    layers = spec.parameters - spec.embedding_parameters
    head = spec.vocab_size * spec.hidden_size

    assert decode_terms(one)["weight_read"] == pytest.approx(2 * (layers + head) / 8 / 410e9 * 1e3)
    fp8 = deployment(tensor=8, quantization="fp8")
    assert decode_terms(fp8)["weight_read"] == pytest.approx((layers + 2 * head) / 8 / 410e9 * 1e3)


def test_a_logical_core_of_trainium2_has_a_quarter_of_its_chip() -> None:
    one = deployment(chip="Trainium2", tensor=4)

    assert (one.bandwidth, one.flops, one.paired) == (2900e9 / 4, 667e12 / 4, 1.0)
    assert (deployment().bandwidth, deployment().paired) == (410e9, 0.0)


@pytest.mark.parametrize(
    ("tensor", "heads_a_core"), [(1, 8), (2, 4), (8, 1), (12, 1), (24, 1), (32, 1), (3, 3)]
)
def test_cores_beyond_the_key_value_heads_each_keep_a_copied_one(tensor: int, heads_a_core: int) -> None:
    """Llama-3.1-8B has 8 heads of 128, in 32 layers; keys and values of 2 bytes."""
    assert kv_bytes_per_core(model(LLAMA), tensor, 1000) == heads_a_core * 128 * 2 * 2 * 32 * 1000


def test_query_heads_are_padded_to_a_whole_number_a_core() -> None:
    """32 heads on 24 cores are 2 a core."""
    assert deployment(tensor=24).attention_width == 2 * 128
    assert deployment(tensor=8).attention_width == 4 * 128


def test_a_latent_vector_is_on_every_core_and_a_window_is_compiled_in_full() -> None:
    latent = model("deepseek-ai/DeepSeek-V3")
    assert kv_bytes_per_core(latent, 32, 4096) == latent.kv_bytes(4096)
    windowed = model("openai/gpt-oss-20b")
    assert kv_bytes_per_core(windowed, 1, 4096) > windowed.kv_bytes(4096)


def test_one_token_touches_its_own_experts_and_many_touch_all() -> None:
    spec = model(MIXTURE)
    one, many = (decode_terms(deployment(MIXTURE, sequences=count))["weight_read"] for count in (1, 4096))
    dense = deployment(MIXTURE).dense_bytes / 410e9 * 1e3

    assert (one - dense) / (many - dense) == pytest.approx(spec.experts_per_token / spec.experts)
    assert many - dense == pytest.approx(2 * spec.expert_parameters / 8 / 410e9 * 1e3)


def test_a_prefill_multiplies_every_weight_with_every_padded_token() -> None:
    """Two operations a weight; activations go around the ring twice a layer."""
    spec, one = model(LLAMA), deployment(tensor=8, context=2048)
    terms = prefill_terms(one)

    assert terms["arithmetic"] == pytest.approx(
        2 * (spec.parameters - spec.embedding_parameters) / 8 * 2048 / 95e12 * 1e3
    )
    assert terms["attention"] == pytest.approx(2 * 32 * 512 * 2048 * 2048 / 95e12 * 1e3)
    assert terms["exchange"] == pytest.approx(2 * 32 * 2048 * 4096 * 2 * 2 * 7 / 8 / NEURON_LINK_BYTES * 1e3)
    assert prefill_terms(deployment(tensor=1))["exchange"] == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chip", ["Inferentia2", "Trainium1", "Trainium2", "Trainium3"])
def test_no_prefill_is_faster_than_arithmetic_and_no_step_faster_than_memory(name: str, chip: str) -> None:
    for tensor in (1, 8, 32):
        one = deployment(name, chip, tensor)
        assert prefill_ms(one, FITS.neuron_prefill) > prefill_terms(one)["arithmetic"]
        terms = decode_terms(one)
        assert decode_ms(one, FITS.neuron_decode) > terms["weight_read"] + terms["kv_read"]


@pytest.mark.parametrize(
    ("changed", "reasons"),
    [
        ({}, ()),
        ({"shape": "New 1x1"}, ("shape",)),
        ({"software": "new"}, ("software",)),
        ({"tensor": 24.0}, ("shape cores software",)),
        ({"tensor": 16.0}, ("shape cores software", "tensor")),
        ({"paired": 1.0}, ("paired",)),
        ({"moe_layers": 32.0}, ("experts",)),
        ({"sequences": 4096.0}, ("sequences",)),
        ({"context_tokens": 10.0**6}, ("context_tokens",)),
        ({"prompt_tokens": 10.0**6}, ("prompt_tokens",)),
        ({"shape": "New 1x1", "software": "new", "paired": 1.0}, ("shape", "software", "paired")),
    ],
)
def test_what_no_measurement_resembles_is_named_and_widens_the_interval(
    changed: dict[str, Any], reasons: tuple[str, ...]
) -> None:
    one = dataclasses.replace(deployment(), **changed)
    known = FITS.neuron_decode["interval"]

    assert unmeasured(one, FITS.neuron_decode) == reasons
    wide = math.hypot(known["half_width"], *(known["widening"][reason] for reason in reasons))
    assert interval(one, FITS.neuron_decode) == (pytest.approx(wide), [reasons])
    assert half_width(reasons, FITS.neuron_decode) == pytest.approx(wide)


def test_software_does_not_widen_the_first_token_of_a_mixture_which_has_no_level_of_it() -> None:
    one = dataclasses.replace(deployment(MIXTURE), software="new")

    assert "software" not in unmeasured(one, FITS.neuron_prefill)
    assert "software" in unmeasured(one, FITS.neuron_decode)


@pytest.mark.parametrize(
    ("compiled", "prompts", "message"),
    [
        ((0, 1, 1), None, "tensor 0 must be a positive number"),
        ((1, -1, 1), None, "sequences -1 must be a positive number"),
        ((1, 1, math.nan), None, "context_tokens nan must be a positive number"),
        ((1, 1, 1), (0, 1, 1), "calls 0 must be a positive number"),
        ((1, 1, 1), (1, 0, 1), "prompts 0 must be a positive number"),
        ((1, 1, 1), (1, 1, math.inf), "tokens inf must be a positive number"),
    ],
)
def test_absurd_deployments_are_refused(
    compiled: tuple[Any, ...], prompts: tuple[Any, ...] | None, message: str
) -> None:
    tensor, sequences, context = compiled
    asked = Prompts(calls=prompts[0], prompts=prompts[1], tokens=prompts[2]) if prompts else None
    with pytest.raises(TokenmillError, match=message):
        neuron_deployment(
            model(LLAMA),
            CHIPS["Inferentia2"],
            Compilation(tensor=tensor, sequences=sequences, context_tokens=context),
            asked,
        )


def test_a_prediction_among_many_takes_less_than_20_microseconds() -> None:
    columns = stack([deployment(sequences=1 + number % 8) for number in range(2000)], TEXTS)

    for predict, document in ((decode_ms, FITS.neuron_decode), (prefill_ms, FITS.neuron_prefill)):
        seconds = min(timeit.repeat(lambda p=predict, d=document: p(columns, d), number=1, repeat=5))
        assert seconds / 2000 < 20e-6


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("transformers-neuronx", TRANSFORMERS),
        ("transformers-neuronx via optimum-neuron", CONTINUOUS),
        ("transformers-neuronx (optimum-neuron TGI)", CONTINUOUS),
        ("vLLM + optimum-neuron", SERVED_SOFTWARE),
        ("vLLM + NxDI", NXDI),
        ("other", "other"),
    ],
)
def test_software_has_one_name(text: str, name: str) -> None:
    assert software_of(text) == name


@pytest.mark.parametrize(
    ("text", "release"), [("Neuron SDK 2.14.1", "2.14"), ("Neuron SDK 2.15.0", ""), ("", "")]
)
def test_only_releases_before_the_settled_ones_are_told_apart(text: str, release: str) -> None:
    assert release_of(text) == release


@pytest.mark.parametrize(
    ("changed", "prompts"),
    [
        ({"software": "optimum-neuron"}, (4, 1, 4096)),
        ({"software": "vLLM + optimum-neuron"}, (1, 1, 4096)),
        ({"software": "transformers-neuronx"}, (1, 4, 1024)),
        ({"software": "transformers-neuronx", "input_tokens": ""}, (1, 4, 128)),
        ({"software": "transformers-neuronx", "input_tokens": "9"}, (1, 4, 128)),
        ({"software": "transformers-neuronx via optimum-neuron"}, (4, 1, 4096)),
        ({"software": "transformers-neuronx via optimum-neuron", "batch_size": "1"}, (1, 1, 1024)),
        ({"software": "NxDI", "notes": "a single bucket"}, (1, 4, 4096)),
    ],
)
def test_prompts_are_padded_and_queued_as_the_software_of_the_row_does(
    changed: dict[str, str], prompts: tuple[int, int, int]
) -> None:
    found = row_deployment(NEURON_ROW | changed)

    assert (found.calls, found.prompts, found.prompt_tokens) == prompts


def test_a_row_states_its_deployment() -> None:
    found = row_deployment(NEURON_ROW | {"quantization": "fp8 (weights)", "tp_degree": "8.0"})

    assert (found.tensor, found.sequences, found.context_tokens) == (8, 4, 4096)
    assert (found.software, found.release, found.shape) == (SERVED_SOFTWARE, "", "LlamaForCausalLM 32x4096")
    assert found.dense_bytes < row_deployment(NEURON_ROW).dense_bytes


def test_a_release_counts_for_the_software_of_the_sdk_only() -> None:
    old = NEURON_ROW | {"software_version": "Neuron SDK 2.10.0"}

    assert row_deployment(old | {"software": "transformers-neuronx"}).release == "2.10"
    assert row_deployment(old).release == ""


def test_a_model_is_found_by_either_of_its_names() -> None:
    assert row_deployment(NEURON_ROW | {"model": "nickname"}).layers == 32


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"accelerator": "Inferentia9"}, "unknown NeuronCore chip 'Inferentia9'"),
        ({"accelerator": "H100"}, "unknown NeuronCore chip 'H100'"),
        ({"model": "none", "hf_id": ""}, "unknown model 'none'"),
        ({"tp_degree": "", "max_seq_len": ""}, "needs tp_degree, max_seq_len"),
        ({"batch_size": "4.5"}, "batch_size '4.5' is not a whole number"),
        ({"batch_size": "four"}, "batch_size 'four' is not a whole number"),
        ({"batch_size": "1e999"}, "batch_size '1e999' is not a whole number"),
        ({"software": "NxDI", "input_tokens": "nan"}, "input_tokens 'nan' is not a whole number"),
    ],
)
def test_rows_without_their_inputs_are_refused(changed: dict[str, str], message: str) -> None:
    with pytest.raises(TokenmillError, match=message):
        row_deployment(NEURON_ROW | changed)
