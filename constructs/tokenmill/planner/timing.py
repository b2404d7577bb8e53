"""How long one copy's decode step and prefill take, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenmill.core.coefficients import coefficients
from tokenmill.core.engine_timing import EngineTiming
from tokenmill.core.errors import TokenmillError
from tokenmill.planner.memory import kv_room_tokens
from tokenmill.planner.performance import gpu, neuron
from tokenmill.planner.performance.fitted import half_width
from tokenmill.planner.performance.gpu_columns import GpuDeployment, GpuLoad, GpuSplit, gpu_deployment
from tokenmill.planner.performance.neuron_columns import (
    NXDI,
    SERVED_SOFTWARE,
    Compilation,
    NeuronDeployment,
    Prompts,
    neuron_deployment,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenmill.core.instances import Accelerator
    from tokenmill.core.model_spec import ModelSpec

GPU_ENGINE = "vllm"
PHASES = ("decode", "prefill")
TYPICAL_SEQUENCES = 8
TYPICAL_CONTEXT = 4096
TYPICAL_ANSWER = 256
PEAK_FORMATS = {"fp8": 2.0, "int8": 2.0, "mxfp4": 4.0, "nvfp4": 4.0}
"""Arithmetic over bfloat16's of formats that a chip computes in."""
CLAUSES = {
    "shape": "no model of this architecture and size was measured",
    "architecture": "no model of this architecture was measured",
    "software": "nothing was measured with this serving software",
    "engine": "nothing was measured with this serving engine",
    "shape cores software": "this model was measured on other degrees or software only",
    "architecture engine": "this architecture was measured with other engines only",
    "architecture engine version": "this architecture was measured with other versions only",
    "quantization chip": "this weight format was not measured on this chip",
    "paired": "Trainium2 and later chips were measured too little",
    "experts": "measured times of mixtures of experts on NeuronCores differ widely",
    "tensor": "this tensor-parallel degree was not measured",
    "ranks": "no copy of so many GPUs was measured",
    "sequences": "no batch of this size was measured",
    "concurrency": "no load of so many requests was fitted",
    "context_tokens": "no sequences of this length were measured",
    "prompt_tokens": "no prompts of this length were measured",
    "input_tokens": "no prompts of this length were measured",
    "output_tokens": "no answers of this length were measured",
}
"""What the names of unmeasured things mean, as clauses for a reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertainty:
    """The 80 % interval around a predicted time, as ratios of it.

    Args:
        low: Low end over the prediction.
        high: High end over the prediction.
        extrapolated: Where the prediction leaves what was measured, a clause each; empty where it does not.
    """

    low: float
    high: float
    extrapolated: tuple[str, ...]


def uncertainty(
    model: ModelSpec,
    accelerator: Accelerator,
    tensor: int,
    phase: str,
    *,
    sequences: int = TYPICAL_SEQUENCES,
    context_tokens: int = TYPICAL_CONTEXT,
) -> Uncertainty:
    """Return how far a measured time may lie from the predicted one.

    Args:
        model: The model.
        accelerator: The chip.
        tensor: Cores that share each layer.
        phase: "decode" or "prefill".
        sequences: Sequences that run together.
        context_tokens: Longest sequence, in tokens.

    Raises:
        TokenmillError: Another phase.
    """
    if phase not in PHASES:
        raise TokenmillError(f"phase {phase!r} must be {' or '.join(PHASES)}")
    document = coefficients().of(accelerator.kind, phase)
    reasons: Sequence[str]
    if accelerator.kind == "neuron":
        compiled = _compiled(model, accelerator, tensor, sequences, context_tokens)
        reasons = neuron.unmeasured(compiled, document)
    else:
        reasons = gpu.unmeasured(_loaded(model, accelerator, tensor, sequences, context_tokens), document)
    half = half_width(reasons, document)
    return Uncertainty(
        low=math.exp(-half),
        high=math.exp(half),
        extrapolated=tuple(dict.fromkeys(CLAUSES[reason] for reason in reasons)),
    )


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
    fits = coefficients()
    whole = _compiled(model, accelerator, tensor, sequences, context_tokens)
    token = _compiled(model, accelerator, tensor, sequences, context_tokens, prompt_tokens=1)
    least, most = neuron.prefill_ms(token, fits.neuron_prefill), neuron.prefill_ms(whole, fits.neuron_prefill)
    per_token = (most - least) / max(1, context_tokens - 1)
    return EngineTiming(
        step_base_ms=six_digits(neuron.decode_ms(whole, fits.neuron_decode)),
        step_per_sequence_ms=0.0,
        step_per_kv_token_ms=0.0,
        prefill_base_ms=six_digits(max(0.0, least - per_token)),
        prefill_per_token_ms=six_digits(per_token),
        prefill_buckets=(context_tokens,),
        max_sequences=sequences,
        kv_capacity_tokens=sequences * context_tokens,
    )


def paged_engine(
    model: ModelSpec, accelerator: Accelerator, tensor: int, *, sequences: int, context_tokens: int
) -> EngineTiming:
    """Return the timing of an engine that pays for what runs.

    Neither a prefill nor a step of all sequences is ever faster than the chips' arithmetic at its peak.

    Args:
        model: The model.
        accelerator: The chip.
        tensor: Cores that share each layer.
        sequences: Most sequences that run together.
        context_tokens: Longest sequence, in tokens; what windows and constant states save is taken there.
    """
    fits = coefficients()
    step = gpu.step_curve(_loaded(model, accelerator, tensor, sequences, context_tokens), fits.gpu_decode)
    alone = _loaded(model, accelerator, tensor, 1, context_tokens)
    token = _loaded(model, accelerator, tensor, 1, 1)
    whole, least = (gpu.first_token_ms(item, fits.gpu_first_token) for item in (alone, token))
    per_token = (whole - least) / max(1, context_tokens - 1)
    fastest = peak_token_ms(model, accelerator, tensor)
    touched = 1 - (1 - step.expert_share) ** sequences
    full = step.base_ms + step.sequence_ms * sequences + step.experts_ms * touched
    return EngineTiming(
        step_base_ms=six_digits(step.base_ms),
        step_per_sequence_ms=six_digits(step.sequence_ms + max(0.0, fastest - full / sequences)),
        step_per_kv_token_ms=six_digits(step.byte_ms * model.kv_bytes(context_tokens) / context_tokens),
        prefill_base_ms=six_digits(max(0.0, least - per_token)),
        prefill_per_token_ms=six_digits(max(per_token, fastest)),
        prefill_buckets=(),
        max_sequences=sequences,
        kv_capacity_tokens=kv_room_tokens(model, accelerator, tensor),
        step_experts_ms=six_digits(step.experts_ms),
        expert_share=six_digits(step.expert_share) if model.experts else 0.0,
    )


def peak_token_ms(model: ModelSpec, accelerator: Accelerator, tensor: int) -> float:
    """Return how long the layers' matrices take for one token at the arithmetic peak, in milliseconds.

    Args:
        model: The model.
        accelerator: The chip.
        tensor: Cores that share each layer.
    """
    computed = model.quantization in accelerator.quantizations
    stored = model.quantization in accelerator.weight_only
    times = PEAK_FORMATS.get(model.quantization, 1.0) if computed and not stored else 1.0
    chips = tensor / accelerator.cores_per_chip
    operations = 2 * (model.active_parameters - model.embedding_parameters)
    return operations / (accelerator.bf16_tflops * 1e12 * times * chips) * 1e3


def _compiled(
    model: ModelSpec,
    accelerator: Accelerator,
    tensor: int,
    sequences: int,
    context_tokens: int,
    prompt_tokens: int | None = None,
) -> NeuronDeployment:
    # Trainium2 is served by AWS's own backend, the older chips by optimum-neuron's
    software = NXDI if accelerator.cores_in_logical > 1 else SERVED_SOFTWARE
    compiled = Compilation(
        tensor=tensor, sequences=sequences, context_tokens=context_tokens, software=software
    )
    prompts = Prompts(calls=1, prompts=1, tokens=prompt_tokens or context_tokens)
    return neuron_deployment(model, accelerator, compiled, prompts)


def _loaded(
    model: ModelSpec, accelerator: Accelerator, tensor: int, sequences: int, context_tokens: int
) -> GpuDeployment:
    split = GpuSplit(ranks=tensor, engine=GPU_ENGINE)
    load = GpuLoad(concurrency=sequences, input_tokens=context_tokens, output_tokens=TYPICAL_ANSWER)
    return gpu_deployment(model, accelerator, split, load)


def six_digits(value: float) -> float:
    """Return six significant digits, so that plan files do not change with an arithmetic's last bit.

    Args:
        value: Any number.
    """
    if value == 0:
        return 0.0
    return round(value, 5 - math.floor(math.log10(abs(value))))
