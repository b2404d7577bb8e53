"""Deployments of models on NeuronCores as numbers that a timing formula takes, one or many at a time."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from tokenmill.planner.memory_terms import cache_elements
from tokenmill.planner.performance.fitted import require_positive

if TYPE_CHECKING:
    from tokenmill.core.instances import Accelerator
    from tokenmill.core.model_spec import ModelSpec
    from tokenmill.planner.performance.fitted import Number, Text

TEXTS = ("software", "release", "shape")
"""Fields of NeuronDeployment that are texts."""
SERVED_SOFTWARE = "optimum-neuron NxD"
"""What the serving image for Inferentia2 and Trainium1 runs: optimum-neuron's own NxD backend under vLLM."""
NXDI = "NxDI"
"""What AWS's vLLM-Neuron images run: NeuronX Distributed Inference."""
WEIGHT_BYTES = {"": 2.0, "fp8": 1.0, "int8": 1.0}
"""Bytes of one weight in the formats that NeuronCores keep; every other one is converted to 16 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeuronDeployment:
    """One model compiled for NeuronCores, or many of them in arrays of one length.

    Bytes and operations are those of one core.

    Args:
        layers: Decoder layers.
        moe_layers: Layers with routed experts.
        tensor: Logical cores that share each layer.
        sequences: Compiled batch; it is paid in full.
        context_tokens: Compiled sequence length; it is paid in full.
        dense_bytes: Weights that every step reads, in bytes.
        expert_bytes: Weights of all routed experts, in bytes.
        experts: Routed experts a layer; 1 for a dense model.
        experts_per_token: Routed experts a token; 1 for a dense model.
        kv_bytes: Compiled cache of one sequence, with the heads that are copied, in bytes.
        token_weights: Weights that one token is multiplied with, in elements.
        attention_width: Query heads, padded to the cores, times their width, in elements.
        hidden_size: Width of the residual stream, in elements.
        bandwidth: Memory bandwidth, in bytes a second.
        flops: Arithmetic peak, in operations a second.
        link: Speed of the links of a chip, in bytes a second.
        paired: 1 where a logical core is two physical ones (Trainium2), else 0.
        calls: Prefills that run before the first token.
        prompts: Prompts of one prefill.
        prompt_tokens: Compiled length of each prompt.
        software: What compiled and serves the model.
        release: Neuron SDK release where it is older than the rest, such as "2.10"; else empty.
        shape: Architecture, layers and width, such as "LlamaForCausalLM 32x4096".
    """

    layers: Number
    moe_layers: Number
    tensor: Number
    sequences: Number
    context_tokens: Number
    dense_bytes: Number
    expert_bytes: Number
    experts: Number
    experts_per_token: Number
    kv_bytes: Number
    token_weights: Number
    attention_width: Number
    hidden_size: Number
    bandwidth: Number
    flops: Number
    link: Number
    paired: Number
    calls: Number
    prompts: Number
    prompt_tokens: Number
    software: Text
    release: Text
    shape: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Compilation:
    """What a model was compiled for, and by what.

    Args:
        tensor: Logical cores that share each layer.
        sequences: Batch.
        context_tokens: Sequence length, in tokens.
        software: What compiled and serves the model.
        release: Neuron SDK release where it is older than the rest; else empty.
        quantization: Weight format; None for the model's own.
    """

    tensor: int
    sequences: int
    context_tokens: int
    software: str = SERVED_SOFTWARE
    release: str = ""
    quantization: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """What is prefilled before the first token.

    Args:
        calls: Prefills, one after another.
        prompts: Prompts of one prefill.
        tokens: Compiled length of each prompt.
    """

    calls: int
    prompts: int
    tokens: int


def neuron_deployment(
    model: ModelSpec, accelerator: Accelerator, compiled: Compilation, prompts: Prompts | None = None
) -> NeuronDeployment:
    """Return the numbers that the terms are made of, for one deployment.

    Args:
        model: The model.
        accelerator: The chip.
        compiled: What it was compiled for.
        prompts: What is prefilled; None for one prompt of the compiled length.

    Raises:
        TokenmillError: A count that is not positive.
    """
    asked = prompts or Prompts(calls=1, prompts=1, tokens=compiled.context_tokens)
    sizes = {name: getattr(compiled, name) for name in ("tensor", "sequences", "context_tokens")}
    require_positive(sizes | asdict(asked))
    tensor, cores = compiled.tensor, accelerator.cores_per_chip
    quantization = model.quantization if compiled.quantization is None else compiled.quantization
    width = WEIGHT_BYTES.get(quantization, 2.0)
    head = model.vocab_size * model.hidden_size
    dense = model.parameters - model.embedding_parameters - model.expert_parameters
    return NeuronDeployment(
        layers=model.layers,
        moe_layers=model.moe_layers,
        tensor=tensor,
        sequences=compiled.sequences,
        context_tokens=compiled.context_tokens,
        dense_bytes=(dense * width + head * 2.0) / tensor,
        expert_bytes=model.expert_parameters * width / tensor,
        experts=max(model.experts, 1),
        experts_per_token=max(model.experts_per_token, 1),
        kv_bytes=kv_bytes_per_core(model, tensor, compiled.context_tokens),
        token_weights=(model.active_parameters - model.embedding_parameters) / tensor,
        attention_width=math.ceil(model.attention_heads / tensor) * model.head_dim,
        hidden_size=model.hidden_size,
        bandwidth=accelerator.bandwidth_gb_s * 1e9 / cores,
        flops=accelerator.bf16_tflops * 1e12 / cores,
        link=NEURON_LINK_BYTES,
        paired=float(accelerator.cores_in_logical > 1),
        calls=asked.calls,
        prompts=asked.prompts,
        prompt_tokens=asked.tokens,
        software=compiled.software,
        release=compiled.release,
        shape=shape_of(model),
    )


NEURON_LINK_BYTES = 192e9
"""NeuronLink of Inferentia2, bytes a second a chip (aws-neuron/aws-neuron-sdk: inf2-arch.rst)."""


def shape_of(model: ModelSpec) -> str:
    """Return what models of one architecture and size share, so that a fine-tuned model counts as measured.

    Args:
        model: The model.
    """
    return f"{model.architecture} {model.layers}x{model.hidden_size}"


def kv_bytes_per_core(model: ModelSpec, tensor: int, tokens: int) -> float:
    """Return the cache of one sequence on one core, in bytes; heads are copied where cores outnumber them.

    Args:
        model: The model.
        tensor: Logical cores that share each layer.
        tokens: Length of the sequence.
    """
    # the compiled cache keeps the whole length also where the model looks at a window only
    whole = (replace(group, window=None) for group in model.attention)
    return sum(cache_elements(group, tensor, tokens) for group in whole) * model.dtype_bytes
