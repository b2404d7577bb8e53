"""The terms of the roofline: what one copy reads, computes and sends, as milliseconds at the hardware's peak.

`tools/fit_timing.py` fits one factor a term on published measurements, and `tokenmill.planner.timing`
multiplies the same terms with the factors, so that what was fitted is what predicts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

ALL_REDUCES_PER_LAYER = 2
NEURON_LINK_GB_S = 192.0
"""NeuronLink of Inferentia2, GB/s a chip (aws-neuron/aws-neuron-sdk: inf2-arch.rst)."""
GPU_LINK_GB_S = 450.0
"""NVLink of H100, GB/s one way (ai-dynamo/aiconfigurator: h100_sxm.yaml)."""
ACTIVATION_BYTES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyShape:
    """One copy of a model, split over cores; bytes and operations are those of one core.

    Args:
        layers: Decoder layers.
        hidden_size: Width of the residual stream, in elements.
        attention_width: Query heads times head width, in elements.
        tensor: Cores that share each layer.
        read_bytes: Weights that a decode step reads, in bytes a core.
        compute_weights: Weights that one token is multiplied with, in elements a core.
        kv_bytes_per_token: Keys and values of one token, in bytes a core.
        bandwidth: Memory bandwidth of a core, in bytes a second.
        flops: Arithmetic peak of a core, in operations a second.
        fast_interconnect: Whether the cores talk over NeuronLink or NVLink.
    """

    layers: int
    hidden_size: int
    attention_width: int
    tensor: int
    read_bytes: float
    compute_weights: float
    kv_bytes_per_token: float
    bandwidth: float
    flops: float
    fast_interconnect: bool


def kv_heads_per_core(kv_heads: int, tensor: int) -> int:
    """Return how many key and value heads a core holds; heads are copied where cores outnumber them.

    Args:
        kv_heads: Key and value heads of the model.
        tensor: Cores that share them.
    """
    return math.ceil(kv_heads / tensor)


def neuron_decode_terms(shape: CopyShape, sequences: int, kv_tokens: int) -> tuple[float, ...]:
    """Return the terms of a decode step on NeuronCores: layers, weight read, KV read, sequence-layers.

    Args:
        shape: The copy.
        sequences: Compiled batch; it is paid in full.
        kv_tokens: Compiled batch times compiled sequence length, in tokens.
    """
    return (
        float(shape.layers),
        shape.read_bytes / shape.bandwidth * 1e3,
        shape.kv_bytes_per_token * kv_tokens / shape.bandwidth * 1e3,
        float(shape.layers * sequences),
    )


def gpu_decode_terms(shape: CopyShape, sequences: int, kv_tokens: int) -> tuple[float, ...]:
    """Return the terms of a decode step on GPUs: layers, weight read, KV read, layers over PCIe, arithmetic.

    Args:
        shape: The copy.
        sequences: Running sequences.
        kv_tokens: Tokens in their KV caches, summed.
    """
    slow_link = shape.tensor > 1 and not shape.fast_interconnect
    return (
        float(shape.layers),
        shape.read_bytes / shape.bandwidth * 1e3,
        shape.kv_bytes_per_token * kv_tokens / shape.bandwidth * 1e3,
        float(shape.layers) if slow_link else 0.0,
        2 * shape.compute_weights * sequences / shape.flops * 1e3,
    )


def prefill_terms(shape: CopyShape, tokens: int, link_gb_s: float) -> tuple[float, ...]:
    """Return the terms of a prefill: layers, arithmetic, communication between cores.

    Args:
        shape: The copy.
        tokens: Prompt tokens, padding included.
        link_gb_s: Speed of the link between chips, in 1e9 bytes a second.
    """
    attention = 2 * shape.layers * shape.attention_width * tokens * tokens / shape.tensor
    operations = 2 * shape.compute_weights * tokens + attention
    sent = ALL_REDUCES_PER_LAYER * shape.layers * tokens * shape.hidden_size * ACTIVATION_BYTES
    ring = 2 * (shape.tensor - 1) / shape.tensor
    return (
        float(shape.layers),
        operations / shape.flops * 1e3,
        sent * ring / (link_gb_s * 1e9) * 1e3,
    )


def weigh(terms: tuple[float, ...], factors: tuple[float, ...]) -> float:
    """Return the sum of terms times factors, in milliseconds.

    Args:
        terms: What one of the functions above returned.
        factors: The fitted factors, in the same order.
    """
    return sum(term * factor for term, factor in zip(terms, factors, strict=True))
