"""How long one copy's decode step and prefill take."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tokenmill.core.coefficients import coefficients
from tokenmill.core.engine_timing import EngineTiming
from tokenmill.core.model_spec import DTYPE_BYTES
from tokenmill.planner.memory import kv_bytes_per_token_per_core, kv_room_tokens
from tokenmill.planner.terms import (
    GPU_LINK_GB_S,
    NEURON_LINK_GB_S,
    CopyShape,
    gpu_decode_terms,
    neuron_decode_terms,
    prefill_terms,
    weigh,
)

if TYPE_CHECKING:
    from tokenmill.core.coefficients import TimingFits
    from tokenmill.core.instances import Accelerator
    from tokenmill.core.model_spec import ModelSpec

FP8_SPEED_UP = 2


def copy_shape(model: ModelSpec, accelerator: Accelerator, tensor: int, sequences: int) -> CopyShape:
    """Return what one core of a copy holds, reads and computes.

    Args:
        model: The model.
        accelerator: The chip.
        tensor: Cores that share each layer.
        sequences: Sequences that run together; with experts, more sequences touch more of them.
    """
    embedding = model.vocab_size * model.hidden_size
    read = _touched_weight_bytes(model, sequences) - model.embedding_bytes
    output = embedding * DTYPE_BYTES[model.dtype]
    fast = FP8_SPEED_UP if model.quantization == "fp8" else 1
    return CopyShape(
        layers=model.layers,
        hidden_size=model.hidden_size,
        attention_width=model.attention_heads * model.head_dim,
        tensor=tensor,
        read_bytes=(read + output) / tensor,
        compute_weights=(model.active_parameters - model.embedding_parameters) / tensor,
        kv_bytes_per_token=kv_bytes_per_token_per_core(model, tensor),
        bandwidth=accelerator.bandwidth_gb_s * 1e9 / accelerator.cores_per_chip,
        flops=accelerator.bf16_tflops * 1e12 * fast / accelerator.cores_per_chip,
        fast_interconnect=accelerator.fast_interconnect,
    )


def _touched_weight_bytes(model: ModelSpec, sequences: int) -> float:
    """Bytes of the weights that a step over so many sequences reads, experts drawn evenly."""
    if not model.experts:
        return model.weight_bytes
    missed = (1 - model.experts_per_token / model.experts) ** sequences
    one = model.experts_per_token / model.experts
    experts = (model.weight_bytes - model.active_weight_bytes) / (1 - one)
    return model.weight_bytes - experts * missed


def static_engine(
    model: ModelSpec, accelerator: Accelerator, tensor: int, *, sequences: int, context_tokens: int
) -> EngineTiming:
    """Return the timing of an engine with compiled batch and length, both paid in full at every step.

    optimum-neuron v0.4.5 compiles one prompt length, the whole context
    (optimum/neuron/models/inference/backend/modules/decoder/decoder_builders.py admits one bucket).

    Args:
        model: The model.
        accelerator: The chip.
        tensor: Cores that share each layer.
        sequences: Compiled batch.
        context_tokens: Compiled sequence length, in tokens.
    """
    fits = coefficients().of(accelerator.kind)
    shape = copy_shape(model, accelerator, tensor, sequences)
    terms = neuron_decode_terms(shape, sequences, sequences * context_tokens)
    base, per_token = _prefill_line(shape, fits, NEURON_LINK_GB_S, context_tokens)
    return EngineTiming(
        step_base_ms=_digits(weigh(terms, fits.decode.coefficients)),
        step_per_sequence_ms=0.0,
        step_per_kv_token_ms=0.0,
        prefill_base_ms=_digits(base),
        prefill_per_token_ms=_digits(per_token),
        prefill_buckets=(context_tokens,),
        max_sequences=sequences,
        kv_capacity_tokens=sequences * context_tokens,
    )


def paged_engine(
    model: ModelSpec, accelerator: Accelerator, tensor: int, *, sequences: int, context_tokens: int
) -> EngineTiming:
    """Return the timing of an engine that pays for what runs.

    Args:
        model: The model.
        accelerator: The chip.
        tensor: Cores that share each layer.
        sequences: Most sequences that run together.
        context_tokens: Longest sequence, in tokens; the prefill line is taken at this length.
    """
    fits = coefficients().of(accelerator.kind)
    shape = copy_shape(model, accelerator, tensor, sequences)
    factors = fits.decode.coefficients
    empty = weigh(gpu_decode_terms(shape, 0, 0), factors)
    base, per_token = _prefill_line(shape, fits, GPU_LINK_GB_S, context_tokens)
    return EngineTiming(
        step_base_ms=_digits(empty),
        step_per_sequence_ms=_digits(weigh(gpu_decode_terms(shape, 1, 0), factors) - empty),
        step_per_kv_token_ms=_digits(weigh(gpu_decode_terms(shape, 0, 1), factors) - empty),
        prefill_base_ms=_digits(base),
        prefill_per_token_ms=_digits(per_token),
        prefill_buckets=(),
        max_sequences=sequences,
        kv_capacity_tokens=kv_room_tokens(model, accelerator, tensor),
    )


def _prefill_line(shape: CopyShape, fits: TimingFits, link_gb_s: float, tokens: int) -> tuple[float, float]:
    factors = fits.prefill.coefficients
    base = weigh(prefill_terms(shape, 0, link_gb_s), factors)
    return base, (weigh(prefill_terms(shape, tokens, link_gb_s), factors) - base) / tokens


def _digits(value: float) -> float:
    """Six significant digits, so that plan files do not change with the last bit of an arithmetic."""
    if value == 0:
        return 0.0
    return round(value, 5 - math.floor(math.log10(abs(value))))
