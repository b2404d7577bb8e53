"""Engine options are checked as values, and each image is told them in its own words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tokenmill.core._option_rendering import (
    DIALECTS,
    bucket_problems,
    option_environment,
    option_problems,
)
from tokenmill.core.engine_options import EngineOptions, LoraSlots, SpeculativeDraft, ToolCalling
from tokenmill.core.errors import TokenmillError
from tokenmill.core.images import image, image_catalog
from tokenmill.planner.engines import BY_SERVER, staged_image

EAGLE = SpeculativeDraft(tokens=3, method="eagle3", model="a/draft")
ALL = EngineOptions(
    dtype="bfloat16",
    quantization="fp8",
    chunked_prefill=True,
    prefix_caching=False,
    speculative=EAGLE,
    tools=ToolCalling(parser="hermes", reasoning_parser="qwen3", chat_template="/opt/ml/model/chat.jinja"),
    lora=LoraSlots(max_adapters=4, max_rank=32, max_kept=16),
)
DRAFT = '{"method":"eagle3","model":"a/draft","num_speculative_tokens":3}'


def test_lmi_is_told_by_option_variables() -> None:
    """As LMI's documents name them; "false" reaches vLLM as a --no- flag."""
    assert option_environment(ALL, image("lmi-vllm")) == {
        "OPTION_DTYPE": "bfloat16",
        "OPTION_ENABLE_CHUNKED_PREFILL": "true",
        "OPTION_ENABLE_PREFIX_CACHING": "false",
        "OPTION_SPECULATIVE_CONFIG": DRAFT,
        "OPTION_ENABLE_AUTO_TOOL_CHOICE": "true",
        "OPTION_TOOL_CALL_PARSER": "hermes",
        "OPTION_REASONING_PARSER": "qwen3",
        "OPTION_CHAT_TEMPLATE": "/opt/ml/model/chat.jinja",
        "OPTION_ENABLE_LORA": "true",
        "OPTION_MAX_LORAS": "4",
        "OPTION_MAX_LORA_RANK": "32",
        "OPTION_MAX_CPU_LORAS": "16",
    }


def test_vllm_on_sagemaker_is_told_by_flags() -> None:
    """A variable that is "false" is left out there, so what is on by default has a flag to turn it off."""
    assert option_environment(ALL, image("vllm-sagemaker")) == {
        "SM_VLLM_DTYPE": "bfloat16",
        "SM_VLLM_ENABLE_CHUNKED_PREFILL": "true",
        "SM_VLLM_NO_ENABLE_PREFIX_CACHING": "true",
        "SM_VLLM_SPECULATIVE_CONFIG": DRAFT,
        "SM_VLLM_ENABLE_AUTO_TOOL_CHOICE": "true",
        "SM_VLLM_TOOL_CALL_PARSER": "hermes",
        "SM_VLLM_REASONING_PARSER": "qwen3",
        "SM_VLLM_CHAT_TEMPLATE": "/opt/ml/model/chat.jinja",
        "SM_VLLM_ENABLE_LORA": "true",
        "SM_VLLM_MAX_LORAS": "4",
        "SM_VLLM_MAX_LORA_RANK": "32",
        "SM_VLLM_MAX_CPU_LORAS": "16",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "true",
    }


def test_optimum_neuron_is_told_the_parsers_alone() -> None:
    """A flag without argument is a variable without value."""
    tools = EngineOptions(tools=ToolCalling(parser="hermes"))
    assert option_environment(tools, image("hf-vllm-neuronx")) == {
        "SM_ON_ENABLE_AUTO_TOOL_CHOICE": "",
        "SM_ON_TOOL_CALL_PARSER": "hermes",
    }
    assert option_environment(EngineOptions(), image("hf-vllm-neuronx")) == {}
    reasoning = EngineOptions(tools=ToolCalling(reasoning_parser="qwen3"))
    assert option_environment(reasoning, image("hf-vllm-neuronx")) == {"SM_ON_REASONING_PARSER": "qwen3"}


def test_the_neuron_plugin_is_told_its_buckets_as_one_document() -> None:
    """The largest bucket is the most tokens of a step, and drafts are checked on the device."""
    built = image("tokenmill-vllm-neuronx")
    told = option_environment(
        EngineOptions(buckets=(512, 2048), chunked_prefill=True, speculative=EAGLE, prefix_caching=True),
        built,
    )
    document = json.loads(told.pop("SM_VLLM_ADDITIONAL_CONFIG"))
    assert document == {
        "neuron_config": {
            "num_batched_tokens_buckets": [512, 2048],
            "kv_segment_size_buckets": [512, 2048],
            "on_device_sampling_config": {"temperature": "0"},
        }
    }
    assert told == {
        "SM_VLLM_MAX_NUM_BATCHED_TOKENS": "2048",
        "SM_VLLM_SPECULATIVE_CONFIG": DRAFT,
        "SM_VLLM_ENABLE_PREFIX_CACHING": "true",
    }
    whole = option_environment(EngineOptions(buckets=(300, 4096)), built)
    assert json.loads(whole["SM_VLLM_ADDITIONAL_CONFIG"]) == {
        "neuron_config": {"num_batched_tokens_buckets": [300, 4096]}
    }
    assert option_environment(EngineOptions(dtype="bfloat16"), built) == {"SM_VLLM_DTYPE": "bfloat16"}


def test_a_draft_without_a_model_has_none_in_its_document() -> None:
    """Prompts are looked up in."""
    told = option_environment(
        EngineOptions(speculative=SpeculativeDraft(tokens=5, method="ngram")), image("lmi-vllm")
    )
    assert told == {"OPTION_SPECULATIVE_CONFIG": '{"method":"ngram","num_speculative_tokens":5}'}


def test_room_for_adapters_may_be_that_of_a_batch_alone() -> None:
    """Nothing is kept in host memory unless asked."""
    slots = LoraSlots(max_adapters=2)
    told = option_environment(EngineOptions(lora=slots), image("lmi-vllm"))
    assert told == {
        "OPTION_ENABLE_LORA": "true",
        "OPTION_MAX_LORAS": "2",
        "OPTION_MAX_LORA_RANK": "16",
    }
    assert (slots.loadable, LoraSlots(max_adapters=2, max_kept=9).loadable) == (2, 9)


@pytest.mark.parametrize(
    ("options", "key", "message"),
    [
        (
            EngineOptions(lora=LoraSlots(max_adapters=1)),
            "hf-vllm-neuronx",
            "lora is given, but image 'hf-vllm-neuronx' has no option for it; leave it out, or serve on "
            "lmi-vllm (GPUs) or vllm-sagemaker (GPUs)",
        ),
        (
            EngineOptions(prefix_caching=True),
            "hf-vllm-neuronx",
            "prefix_caching is True, but image 'hf-vllm-neuronx' has no option for it: it turns prefix "
            "caching off; leave it out, or serve on tokenmill-vllm-neuronx (Trainium2) or lmi-vllm (GPUs) or "
            "vllm-sagemaker (GPUs)",
        ),
        (
            EngineOptions(dtype="float32"),
            "hf-vllm-neuronx",
            "dtype is 'float32', but image 'hf-vllm-neuronx' has no option for it: it computes in the type "
            "of the model's config; leave it out, or serve on tokenmill-vllm-neuronx (Trainium2) or "
            "lmi-vllm (GPUs) or vllm-sagemaker (GPUs)",
        ),
        (
            EngineOptions(buckets=(512,)),
            "lmi-vllm",
            "buckets is (512,), but image 'lmi-vllm' has no option for it; leave it out, or serve on "
            "tokenmill-vllm-neuronx (Trainium2)",
        ),
        (
            EngineOptions(quantization="fp8"),
            "tokenmill-vllm-neuronx",
            "quantization is 'fp8', but image 'tokenmill-vllm-neuronx' has no option for it; leave it out, "
            "or serve on lmi-vllm (GPUs) or vllm-sagemaker (GPUs)",
        ),
        (
            EngineOptions(quantization="int4"),
            "lmi-vllm",
            "quantization is 'int4', which image 'lmi-vllm' does not convert plain weights to; it converts "
            "to fp8; give such a checkpoint",
        ),
        (
            EngineOptions(speculative=SpeculativeDraft(tokens=2, method="ngram")),
            "tokenmill-vllm-neuronx",
            "speculative method is 'ngram', which image 'tokenmill-vllm-neuronx' does not have; give eagle3",
        ),
    ],
)
def test_an_option_that_an_image_lacks_is_refused_with_those_that_have_it(
    options: EngineOptions, key: str, message: str
) -> None:
    """The sentence has the value and the way out."""
    assert option_problems(options, image(key)) == [message]


def test_what_a_server_never_does_may_be_turned_off() -> None:
    """False is no request for an option."""
    off = EngineOptions(chunked_prefill=False, prefix_caching=False)
    assert option_problems(off, image("hf-vllm-neuronx")) == []
    assert option_environment(off, image("hf-vllm-neuronx")) == {}


def test_every_option_is_served_somewhere() -> None:
    """GPUs take all but buckets, in both images."""
    for key in ("lmi-vllm", "vllm-sagemaker"):
        assert option_problems(ALL, image(key)) == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (EngineOptions(), ""),
        (EngineOptions(buckets=(512, 4096)), ""),
        (EngineOptions(buckets=(512,), chunked_prefill=True), ""),
        (EngineOptions(chunked_prefill=True), "chunked_prefill is true, but no buckets say how long"),
        (EngineOptions(buckets=(512, 8192)), "the largest of buckets is 8192, more than context_tokens 4096"),
        (
            EngineOptions(buckets=(300,), chunked_prefill=True),
            "buckets has 300, but with chunked_prefill the pieces of a prompt are 512, 1024, 2048, 4096, ",
        ),
        (
            EngineOptions(buckets=(512, 1024)),
            "the largest of buckets is 1024, which no prompt of context_tokens 4096 fits; add 4096, or set "
            "chunked_prefill",
        ),
    ],
)
def test_compiled_prompt_lengths_hold_every_prompt(options: EngineOptions, problem: str) -> None:
    """Whole, or in pieces."""
    found = bucket_problems(options, image("tokenmill-vllm-neuronx"), 4096)
    assert len(found) == bool(problem)
    assert "".join(found).startswith(problem)


def test_pieces_of_prompts_need_no_buckets_on_gpus() -> None:
    """Only a compiling server has them."""
    assert bucket_problems(EngineOptions(chunked_prefill=True), image("lmi-vllm"), 4096) == []


@pytest.mark.parametrize(
    ("make", "fields", "message"),
    [
        (EngineOptions, {"dtype": "fp8"}, "dtype must be one of bfloat16, float16, float32, got 'fp8'"),
        (EngineOptions, {"quantization": "fp6"}, "quantization must be one of as-published, fp8, int8, int4"),
        (EngineOptions, {"buckets": (512, 128)}, "buckets must ascend without doubles, got (512, 128)"),
        (EngineOptions, {"buckets": (512, 512)}, "buckets must ascend without doubles"),
        (EngineOptions, {"buckets": (0,)}, "buckets must be a tuple of whole numbers above 0, got (0,)"),
        (EngineOptions, {"buckets": 512}, "buckets must be a tuple of whole numbers above 0, got 512"),
        (EngineOptions, {"chunked_prefill": "yes"}, "chunked_prefill must be a bool or None, got 'yes'"),
        (EngineOptions, {"tools": "hermes"}, "tools must be a ToolCalling or None, got 'hermes'"),
        (SpeculativeDraft, {"tokens": 0}, "tokens must be 1 to 64, got 0"),
        (SpeculativeDraft, {"tokens": 2, "method": "medusa"}, "method must be one of ngram, draft_model"),
        (SpeculativeDraft, {"tokens": 2}, "method draft_model needs a draft model; give model"),
        (
            SpeculativeDraft,
            {"tokens": 2, "method": "ngram", "model": "a/b"},
            "method ngram has no draft model, got 'a/b'; leave model out",
        ),
        (ToolCalling, {}, "tools ask for nothing; give parser, reasoning_parser or chat_template"),
        (ToolCalling, {"parser": " "}, "parser is an empty text; name one, or leave it out"),
        (LoraSlots, {"max_adapters": 0}, "max_adapters must be 1 to 1,024, got 0"),
        (
            LoraSlots,
            {"max_adapters": 1, "max_rank": 24},
            "max_rank must be one of 1, 8, 16, 32, 64, 128, 256",
        ),
        (
            LoraSlots,
            {"max_adapters": 4, "max_kept": 2},
            "max_kept must be max_adapters 4 or more and at most 100,000, got 2",
        ),
    ],
)
def test_fails_for_a_value_out_of_its_range(make: Any, fields: dict[str, Any], message: str) -> None:
    """With the value and what is allowed."""
    with pytest.raises(TokenmillError) as caught:
        make(**fields)
    assert str(caught.value).startswith(message)


def test_a_list_of_buckets_is_kept_as_a_tuple() -> None:
    """So that options stay hashable."""
    assert hash(EngineOptions(buckets=[128, 256])) == hash(EngineOptions(buckets=(128, 256)))


def test_every_image_has_a_server_that_the_tables_know() -> None:
    """Words, abilities and conversions stand for each, and agree."""
    for found in image_catalog().values():
        assert tuple(BY_SERVER[found.server].conversions) == DIALECTS[found.server].conversions
        assert found.dynamic_lora == ("lora" in DIALECTS[found.server].options) != bool(found.static_lora)


def test_stages_run_on_an_image_that_has_an_option_for_them() -> None:
    """LMI refuses more than one, vLLM's own image on the same chips does not; Neuron has none."""
    staged = staged_image(image("lmi-vllm"), "L4")
    assert staged is not None
    assert staged.key == "vllm-sagemaker"
    assert staged_image(staged, "L4", "us-east-1") == staged
    assert staged_image(image("lmi-vllm"), "L4", "cn-north-1") is None
    assert staged_image(image("lmi-vllm"), "GB200") is None
    assert staged_image(image("hf-vllm-neuronx"), "Inferentia2") is None
