"""Deployments of models on GPUs as numbers that a timing formula takes, one or many at a time."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenmill.core.errors import TokenmillError
from tokenmill.planner.performance.fitted import require_positive

if TYPE_CHECKING:
    from tokenmill.core.instances import Accelerator
    from tokenmill.core.model_spec import ModelSpec
    from tokenmill.planner.performance.fitted import Number, Text

WEIGHT_BYTES = {"bf16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5625, "int4": 0.5625}
"""Bytes of one weight with its scales (4-bit formats carry one 8-bit scale for 16 weights)."""
QUANTIZATIONS = {
    "": "bf16",
    "bf16": "bf16",
    "fp8": "fp8",
    "int8": "int8",
    "int4": "int4",
    "gptq": "int4",
    "awq": "int4",
    "mxfp4": "fp4",
    "nvfp4": "fp4",
    "fp4": "fp4",
}
"""Names of weight formats and the ones that were measured under."""
FAST_FORMATS = {"bf16": 1.0, "fp8": 2.0, "int8": 2.0, "fp4": 2.0, "int4": 1.0}
"""Arithmetic over that of bfloat16 where a chip computes in the format; fp4 was fitted as fast as FP8."""
TEXTS = ("chip", "quantization", "engine", "version", "architecture")
"""Fields of GpuDeployment that are texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuDeployment:
    """One model on GPUs under a steady load, or many of them in arrays of one length.

    Args:
        layers: Decoder layers.
        moe_layers: Layers with routed experts.
        latent_layers: Layers with multi-head latent attention.
        linear_layers: Layers with a constant state instead of a KV cache.
        dense_parameters: Parameters that every token reads, without embeddings and output projection.
        head_parameters: Parameters of the output projection.
        expert_parameters: Parameters of all routed experts.
        experts: Routed experts a layer; 1 for a dense model.
        experts_per_token: Routed experts a token; 1 for a dense model.
        active_parameters: Parameters that one token passes through.
        kv_bytes: Cache of one sequence in the middle of its answer, in bytes.
        kv_shards: GPUs that one sequence's cache is divided over without copies.
        dense_width: Bytes of one weight outside the experts.
        expert_width: Bytes of one weight of the experts.
        bandwidth: Memory bandwidth of one GPU, in bytes a second.
        flops: Arithmetic of one GPU in the weight format, in operations a second.
        fast_interconnect: 1 where the GPUs talk over NVLink, 0 for PCIe.
        ranks: GPUs of one copy.
        attention_ranks: GPUs that share the attention of one sequence.
        expert_ranks: GPUs that whole experts are spread over; 1 where every expert is split.
        speculative: 1 with multi-token prediction or another draft, else 0.
        concurrency: Requests in flight.
        input_tokens: Prompt, in tokens.
        output_tokens: Answer, in tokens.
        chip: "H100" and so on.
        quantization: Weight format, a value of QUANTIZATIONS.
        engine: "vllm", "sglang", "trtllm" and so on.
        version: Of the engine; empty for the newest that was measured.
        architecture: Class name, such as "LlamaForCausalLM".
    """

    layers: Number
    moe_layers: Number
    latent_layers: Number
    linear_layers: Number
    dense_parameters: Number
    head_parameters: Number
    expert_parameters: Number
    experts: Number
    experts_per_token: Number
    active_parameters: Number
    kv_bytes: Number
    kv_shards: Number
    dense_width: Number
    expert_width: Number
    bandwidth: Number
    flops: Number
    fast_interconnect: Number
    ranks: Number
    attention_ranks: Number
    expert_ranks: Number
    speculative: Number
    concurrency: Number
    input_tokens: Number
    output_tokens: Number
    chip: Text
    quantization: Text
    engine: Text
    version: Text
    architecture: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSplit:
    """How one copy is spread over GPUs, and what serves it.

    Args:
        ranks: GPUs of one copy.
        attention_ranks: GPUs that share the attention of a sequence; None for all.
        expert_ranks: GPUs that whole experts are spread over; 1 where every expert is split.
        quantization: Weight format; None for the model's own.
        engine: "vllm", "sglang", "trtllm" and so on.
        version: Of the engine; empty for the newest that was measured.
        speculative: Whether a draft predicts more than one token a step.
    """

    ranks: int = 1
    attention_ranks: int | None = None
    expert_ranks: int = 1
    quantization: str | None = None
    engine: str = "vllm"
    version: str = ""
    speculative: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLoad:
    """A closed loop of requests of one size.

    Args:
        concurrency: Requests in flight.
        input_tokens: Prompt, in tokens.
        output_tokens: Answer, in tokens.
    """

    concurrency: float
    input_tokens: int
    output_tokens: int


def gpu_deployment(
    model: ModelSpec, accelerator: Accelerator, split: GpuSplit, load: GpuLoad
) -> GpuDeployment:
    """Return the numbers that the terms are made of, for one deployment.

    4-bit checkpoints of mixtures keep their attention in 16 bits (nvidia/DeepSeek-R1-FP4 and openai/gpt-oss
    config.json: modules to exclude).

    Args:
        model: The model.
        accelerator: The chip.
        split: How the copy is spread, and the engine.
        load: The requests.

    Raises:
        TokenmillError: Unknown weight format, or a count that is not positive.
    """
    quantization = _format(model.quantization if split.quantization is None else split.quantization)
    require_positive(dataclasses.asdict(load) | {"ranks": split.ranks})
    attention_ranks = split.attention_ranks or split.ranks
    kinds = {group.kind: group.layers for group in model.attention}
    width = WEIGHT_BYTES[quantization]
    four_bits = quantization in ("fp4", "int4")
    return GpuDeployment(
        layers=model.layers,
        moe_layers=model.moe_layers,
        latent_layers=kinds.get("latent", 0),
        linear_layers=kinds.get("linear", 0),
        dense_parameters=model.parameters - model.embedding_parameters - model.expert_parameters,
        head_parameters=model.vocab_size * model.hidden_size,
        expert_parameters=model.expert_parameters,
        experts=max(model.experts, 1),
        experts_per_token=max(model.experts_per_token, 1),
        active_parameters=model.active_parameters,
        kv_bytes=model.kv_bytes(load.input_tokens + load.output_tokens // 2),
        kv_shards=min(attention_ranks, model.kv_heads),
        dense_width=2.0 if four_bits and model.experts else width,
        expert_width=width,
        bandwidth=accelerator.bandwidth_gb_s * 1e9,
        flops=accelerator.bf16_tflops * 1e12 * _fast(accelerator, quantization),
        fast_interconnect=float(accelerator.fast_interconnect),
        ranks=split.ranks,
        attention_ranks=attention_ranks,
        expert_ranks=split.expert_ranks,
        speculative=float(split.speculative),
        concurrency=load.concurrency,
        input_tokens=load.input_tokens,
        output_tokens=load.output_tokens,
        chip=accelerator.name,
        quantization=quantization,
        engine=split.engine,
        version=split.version,
        architecture=model.architecture,
    )


def _fast(accelerator: Accelerator, quantization: str) -> float:
    """Formats that a chip only stores are computed in 16 bits."""
    stored = quantization in accelerator.weight_only
    return 1.0 if stored else FAST_FORMATS[quantization]


def _format(name: str) -> str:
    if name.casefold() not in QUANTIZATIONS:
        raise TokenmillError(
            f"quantization {name!r} has no measured timing; use {', '.join(filter(None, QUANTIZATIONS))}"
        )
    return QUANTIZATIONS[name.casefold()]
