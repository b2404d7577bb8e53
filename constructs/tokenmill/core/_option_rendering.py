"""Engine options in the words of each server, and which server knows which option."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenmill.core.engine_options import SPECULATIVE_METHODS
from tokenmill.core.images import image_catalog
from tokenmill.core.workload import AS_PUBLISHED

if TYPE_CHECKING:
    from tokenmill.core.engine_options import EngineOptions, LoraSlots, SpeculativeDraft
    from tokenmill.core.images import CatalogImage

SEGMENTS = (512, 1024, 2048, 4096, 8192)
"""Pieces that the Neuron plugin cuts prompts into (AWS Neuron documentation, vLLM Neuron: "Configuration
options", kv_segment_size_buckets)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What one server can be told.

    Args:
        prefix: What its variables begin with.
        options: Names of the engine options that it has.
        conversions: Weight formats that it converts plain weights to while loading.
        methods: Ways to draft tokens that it has.
    """

    prefix: str
    options: frozenset[str]
    conversions: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()


VLLM_OPTIONS = frozenset(
    {"dtype", "quantization", "chunked_prefill", "prefix_caching", "speculative", "tools", "lora"}
)
# lmi: deepjavalibrary/djl-serving@d21927c, "vLLM Engine User Guide" (engine arguments pass through as OPTION_
# names; fp8 at run time), "Tool Calling Support in LMI", serving/docs/adapters.md (OPTION_ENABLE_LORA,
# OPTION_MAX_LORAS, OPTION_MAX_LORA_RANK, OPTION_MAX_CPU_LORAS), vllm_rb_properties.py (reasoning_parser;
# "false" becomes --no-NAME).
# vllm: aws/deep-learning-containers@e0ecede, scripts/docker/vllm/sagemaker_args.py: "true" makes a bare flag
# and "false" leaves it out, so that what is on by default is turned off by its --no- flag.
# optimum-neuron: huggingface/optimum-neuron@v0.4.5: serve.py forwards what it does not know to vLLM;
# tests/vllm/service/test_vllm_agentic.py calls tools; platform.py turns prefix caching off; worker.py refuses
# LoRA and speculation; nothing cuts prompts; the type is the checkpoint's.
# vllm-neuron: AWS Neuron documentation, "Configuration options" and "How to use vLLM Neuron features in your
# deployment" (FP8 comes with the checkpoint; EAGLE3 is the method for every served model; no page has
# LoRA).
DIALECTS = {
    "lmi": Dialect(prefix="OPTION_", options=VLLM_OPTIONS, conversions=("fp8",), methods=SPECULATIVE_METHODS),
    "vllm": Dialect(
        prefix="SM_VLLM_", options=VLLM_OPTIONS, conversions=("fp8",), methods=SPECULATIVE_METHODS
    ),
    "optimum-neuron": Dialect(prefix="SM_ON_", options=frozenset({"tools"})),
    "vllm-neuron": Dialect(
        prefix="SM_VLLM_",
        options=frozenset({"dtype", "buckets", "chunked_prefill", "prefix_caching", "speculative", "tools"}),
        methods=("eagle3",),
    ),
}
WAY_WITHOUT = {
    "optimum-neuron": {
        "dtype": "it computes in the type of the model's config",
        "prefix_caching": "it turns prefix caching off",
        "buckets": "it compiles one prompt length, the whole context",
    }
}


def option_problems(options: EngineOptions, image: CatalogImage) -> list[str]:
    """Return a sentence for each option that an image's server does not have.

    Args:
        options: The options.
        image: The serving image.
    """
    dialect = DIALECTS[image.server]
    problems = []
    for name, value in _given(options).items():
        if name not in dialect.options:
            problems.append(_missing(name, value, image))
    if options.quantization != AS_PUBLISHED and "quantization" in dialect.options:
        if options.quantization not in dialect.conversions:
            problems.append(
                f"quantization is {options.quantization!r}, which image {image.key!r} does not convert plain "
                f"weights to; it converts to {', '.join(dialect.conversions)}; give such a checkpoint"
            )
    draft = options.speculative
    if draft and "speculative" in dialect.options and draft.method not in dialect.methods:
        problems.append(
            f"speculative method is {draft.method!r}, which image {image.key!r} does not have; give "
            f"{' or '.join(dialect.methods)}"
        )
    return problems


def bucket_problems(options: EngineOptions, image: CatalogImage, context_tokens: int) -> list[str]:
    """Return a sentence for each reason why compiled prompt lengths cannot serve a context.

    Args:
        options: The options.
        image: The serving image.
        context_tokens: Prompt plus answer of one request, in tokens.
    """
    if "buckets" not in DIALECTS[image.server].options:
        return []
    if not options.buckets:
        if options.chunked_prefill:
            return [
                "chunked_prefill is true, but no buckets say how long a prompt's pieces are; give some of "
                + ", ".join(map(str, SEGMENTS))
            ]
        return []
    largest = options.buckets[-1]
    if largest > context_tokens:
        return [
            f"the largest of buckets is {largest}, more than context_tokens {context_tokens}; leave it out"
        ]
    odd = [size for size in options.buckets if size not in SEGMENTS]
    if options.chunked_prefill and odd:
        return [
            f"buckets has {odd[0]}, but with chunked_prefill the pieces of a prompt are "
            f"{', '.join(map(str, SEGMENTS))} tokens long; give some of these"
        ]
    if not options.chunked_prefill and largest < context_tokens:
        return [
            f"the largest of buckets is {largest}, which no prompt of context_tokens {context_tokens} fits; "
            f"add {context_tokens}, or set chunked_prefill"
        ]
    return []


def option_environment(options: EngineOptions, image: CatalogImage) -> dict[str, str]:
    """Return the variables that tell an image's server the options; those that it lacks are not rendered.

    Args:
        options: The options.
        image: The serving image.
    """
    variables = _tools(options, image)
    if options.lora and image.dynamic_lora:
        variables |= _lora(options.lora, image)
    if image.server == "optimum-neuron":
        return variables
    prefix = DIALECTS[image.server].prefix
    if options.dtype:
        variables[f"{prefix}DTYPE"] = options.dtype
    for name in ("chunked_prefill", "prefix_caching"):
        value = getattr(options, name)
        if value is not None and not (name == "chunked_prefill" and image.server == "vllm-neuron"):
            variables |= _switch(image, f"ENABLE_{name.upper()}", on=value)
    if options.speculative:
        variables[f"{prefix}SPECULATIVE_CONFIG"] = _json(_draft(options.speculative))
    if image.server == "vllm-neuron":
        variables |= _neuron(options)
    return variables


def _given(options: EngineOptions) -> dict[str, object]:
    given: dict[str, object] = {}
    for name in ("dtype", "chunked_prefill", "prefix_caching", "speculative", "tools", "lora"):
        value = getattr(options, name)
        # what a server never does anyway needs no option to be turned off
        if value is not None and value is not False:
            given[name] = value
    if options.quantization != AS_PUBLISHED:
        given["quantization"] = options.quantization
    if options.buckets:
        given["buckets"] = options.buckets
    return given


def _missing(name: str, value: object, image: CatalogImage) -> str:
    shown = f"{name} is {value!r}" if isinstance(value, str | bool | tuple) else f"{name} is given"
    why = WAY_WITHOUT.get(image.server, {}).get(name, "")
    having = [
        f"{found.key} ({'GPUs' if found.cuda else ', '.join(found.accelerators)})"
        for found in image_catalog().values()
        if found.servable and name in DIALECTS[found.server].options
    ]
    return (
        f"{shown}, but image {image.key!r} has no option for it{f': {why}' if why else ''}; leave it out, or "
        f"serve on {' or '.join(having)}"
    )


def _switch(image: CatalogImage, name: str, *, on: bool) -> dict[str, str]:
    if image.server == "lmi":
        return {f"OPTION_{name}": "true" if on else "false"}
    return {f"SM_VLLM_{name}" if on else f"SM_VLLM_NO_{name}": "true"}


def _tools(options: EngineOptions, image: CatalogImage) -> dict[str, str]:
    tools, prefix = options.tools, DIALECTS[image.server].prefix
    if tools is None:
        return {}
    variables = {}
    if tools.parser:
        # an empty value is a flag without argument in the entrypoint of optimum-neuron's image
        variables[f"{prefix}ENABLE_AUTO_TOOL_CHOICE"] = "" if image.server == "optimum-neuron" else "true"
        variables[f"{prefix}TOOL_CALL_PARSER"] = tools.parser
    if tools.reasoning_parser:
        variables[f"{prefix}REASONING_PARSER"] = tools.reasoning_parser
    if tools.chat_template:
        variables[f"{prefix}CHAT_TEMPLATE"] = tools.chat_template
    return variables


def _lora(slots: LoraSlots, image: CatalogImage) -> dict[str, str]:
    prefix = DIALECTS[image.server].prefix
    variables = {
        f"{prefix}ENABLE_LORA": "true",
        f"{prefix}MAX_LORAS": str(slots.max_adapters),
        f"{prefix}MAX_LORA_RANK": str(slots.max_rank),
    }
    if slots.max_kept:
        variables[f"{prefix}MAX_CPU_LORAS"] = str(slots.max_kept)
    if image.server == "vllm":
        # aws/model-hosting-container-standards: docs/sagemaker/05_lora_adapter_management.md
        variables["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "true"
    return variables


def _draft(draft: SpeculativeDraft) -> dict[str, object]:
    config: dict[str, object] = {"method": draft.method, "num_speculative_tokens": draft.tokens}
    return config | ({"model": draft.model} if draft.model else {})


def _neuron(options: EngineOptions) -> dict[str, str]:
    config: dict[str, object] = {}
    variables = {}
    if options.buckets:
        config["num_batched_tokens_buckets"] = list(options.buckets)
        variables["SM_VLLM_MAX_NUM_BATCHED_TOKENS"] = str(options.buckets[-1])
        if options.chunked_prefill:
            config["kv_segment_size_buckets"] = list(options.buckets)
    if options.speculative:
        # drafted tokens are checked on the device, which needs its sampler
        config["on_device_sampling_config"] = {"temperature": "0"}
    if config:
        variables["SM_VLLM_ADDITIONAL_CONFIG"] = _json({"neuron_config": config})
    return variables


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)
