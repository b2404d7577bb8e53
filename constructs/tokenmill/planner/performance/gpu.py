"""How long GPUs take for an output token under a steady load: terms of a roofline, times fitted factors.

A step reads weights and caches, launches the kernels of every layer and exchanges activations; in a closed
loop every new request also stalls the running ones for its prefill. Each term is a time at the hardware's
peak (or a count of layers), `tools/fitting/gpu.py` fits one factor a term and shrunken effects of engine,
weight format and architecture. Functions take plain numbers or NumPy arrays of one length.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenmill.planner.performance.fitted import effect, half_width, unstack, weigh
from tokenmill.planner.performance.gpu_columns import TEXTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill.planner.performance.fitted import Number
    from tokenmill.planner.performance.gpu_columns import GpuDeployment

STEP_TERMS = (
    "expert_read",
    "dense_read",
    "kv_read",
    "layers",
    "moe_layers",
    "latent_layers",
    "linear_layers",
    "fp4_layers",
    "exchange",
    "slow_exchange",
    "expert_exchange",
    "moe_sequences",
    "host",
)
STALL_TERMS = ("prefill_compute", "prefill_layers", "prefill_read")
FIRST_TOKEN_TERMS = ("host", "layers", "compute", "read", "queue", "exchange")
EFFECTS = (
    "speculative",
    "engine",
    "quantization",
    "quantization chip",
    "architecture",
    "architecture engine",
    "architecture engine version",
)
LAUNCH_MS = 0.01
"""Unit of the terms that count layers: the order of a few kernel launches."""


def step_terms(columns: GpuDeployment) -> dict[str, Number]:
    """Return the terms of a step, in milliseconds at the hardware's peak, in the order of STEP_TERMS.

    Experts are drawn evenly: of E experts, c tokens with k each touch E (1 - (1 - k/E)^c).

    Args:
        columns: Deployments.
    """
    c = columns
    pass_ms = 1e3 / c.bandwidth
    touched = 1 - (1 - c.experts_per_token / c.experts) ** c.concurrency
    shared = (c.ranks > 1) * c.layers * LAUNCH_MS
    copies = c.ranks / c.attention_ranks
    return {
        "expert_read": c.expert_parameters * c.expert_width * touched / c.ranks * pass_ms,
        "dense_read": pass_ms
        * (c.dense_parameters * c.dense_width / c.attention_ranks + 2 * c.head_parameters / c.ranks),
        "kv_read": c.kv_bytes * c.concurrency / copies / c.kv_shards * pass_ms,
        "layers": c.layers * LAUNCH_MS,
        "moe_layers": c.moe_layers * LAUNCH_MS,
        "latent_layers": c.latent_layers * LAUNCH_MS,
        "linear_layers": c.linear_layers * LAUNCH_MS,
        "fp4_layers": (c.expert_width < 1) * (c.layers - c.moe_layers) * LAUNCH_MS,
        "exchange": shared,
        "slow_exchange": shared * (1 - c.fast_interconnect),
        "expert_exchange": (c.expert_ranks > 1) * c.moe_layers * LAUNCH_MS,
        "moe_sequences": c.moe_layers * c.concurrency * LAUNCH_MS / 10,
        "host": 0 * c.layers + 1.0,
    }


def stall_terms(columns: GpuDeployment) -> dict[str, Number]:
    """Return what the prefills of the other requests add to a token, in milliseconds, as STALL_TERMS.

    Each of the other concurrency - 1 slots starts one request while this one answers, and its prefill stalls
    the step, so that a token waits (concurrency - 1) / output_tokens prefills.

    Args:
        columns: Deployments.
    """
    c = columns
    share = (c.concurrency - 1) * (c.concurrency > 1) / c.output_tokens
    weights = c.expert_parameters * c.expert_width + c.dense_parameters * c.dense_width
    return {
        "prefill_compute": 2 * c.active_parameters * c.input_tokens / c.ranks / c.flops * 1e3 * share,
        "prefill_layers": c.layers * 10 * LAUNCH_MS * share,
        "prefill_read": weights / c.ranks / c.bandwidth * 1e3 * share,
    }


def step_ms(columns: GpuDeployment, coefficients: Mapping[str, Any]) -> Number:
    """Return the time of a decode step (of an output token, with a draft), in milliseconds, without stalls.

    Affine in kv_bytes, and in concurrency but for the experts that more sequences touch.

    Args:
        columns: Deployments.
        coefficients: What `tools/fitting/gpu.py` wrote.
    """
    return weigh(step_terms(columns), coefficients) * _effects(columns, coefficients)


def stall_ms(columns: GpuDeployment, coefficients: Mapping[str, Any]) -> Number:
    """Return what prefills of other requests add to each output token, in milliseconds.

    Args:
        columns: Deployments.
        coefficients: What `tools/fitting/gpu.py` wrote.
    """
    return weigh(stall_terms(columns), coefficients) * _effects(columns, coefficients)


def decode_ms(columns: GpuDeployment, coefficients: Mapping[str, Any]) -> Number:
    """Return the time per output token under the load, in milliseconds.

    Args:
        columns: Deployments.
        coefficients: What `tools/fitting/gpu.py` wrote.
    """
    return step_ms(columns, coefficients) + stall_ms(columns, coefficients)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCurve:
    """A step as a function of what runs; only the experts that it touches bend it.

    Args:
        base_ms: Nothing runs, in milliseconds.
        sequence_ms: Each sequence adds, in milliseconds.
        experts_ms: Reading all routed experts adds, in milliseconds; n sequences touch
            1 - (1 - share)^n of them.
        expert_share: Share of the routed experts that one token passes through.
        byte_ms: Each byte in the caches of the sequences adds, in milliseconds.
    """

    base_ms: float
    sequence_ms: float
    experts_ms: float
    expert_share: float
    byte_ms: float


def step_curve(deployment: GpuDeployment, coefficients: Mapping[str, Any]) -> StepCurve:
    """Return a step as a function of the sequences that run and of the bytes in their caches.

    Args:
        deployment: Of plain numbers; its concurrency and kv_bytes are not used.
        coefficients: What `tools/fitting/gpu.py` wrote.
    """
    gigabyte = 1e9
    one = dataclasses.replace(deployment, concurrency=1, kv_bytes=gigabyte)
    scale, factors = _effects(one, coefficients), coefficients["terms"]
    parts = {name: float(factors[name] * term * scale) for name, term in step_terms(one).items()}
    share = one.experts_per_token / one.experts
    experts, each, cache = (parts.pop(name) for name in ("expert_read", "moe_sequences", "kv_read"))
    return StepCurve(
        base_ms=sum(parts.values()),
        sequence_ms=each,
        experts_ms=experts / share,
        expert_share=share,
        byte_ms=cache / gigabyte,
    )


def decode_interval(
    columns: GpuDeployment, coefficients: Mapping[str, Any]
) -> tuple[Number, Number, tuple[str, ...] | list[tuple[str, ...]]]:
    """Return an 80 % interval in milliseconds, and per deployment what it extrapolates; empty for nothing.

    The half-width, in logarithms, is that of unseen configurations of measured kinds, widened for each thing
    never measured (square root of the sum of squares); both are quantiles of errors on rows that the model
    was not fitted on.

    Args:
        columns: Deployments.
        coefficients: What `tools/fitting/gpu.py` wrote.
    """
    return _interval(decode_ms(columns, coefficients), columns, coefficients)


def first_token_terms(columns: GpuDeployment) -> dict[str, Number]:
    """Return the terms of the time to the first token, in milliseconds, in the order of FIRST_TOKEN_TERMS.

    A prompt waits for half of the other requests' prefills where all start together ("queue").

    Args:
        columns: Deployments.
    """
    c = columns
    compute = 2 * c.active_parameters * c.input_tokens / c.ranks / c.flops * 1e3
    weights = c.expert_parameters * c.expert_width + c.dense_parameters * c.dense_width
    return {
        "host": 0 * c.layers + 20.0,
        "layers": c.layers * 20 * LAUNCH_MS,
        "compute": compute,
        "read": weights / c.ranks / c.bandwidth * 1e3,
        "queue": compute * (c.concurrency - 1) * (c.concurrency > 1) / 2,
        "exchange": (c.ranks > 1) * c.layers * c.input_tokens * LAUNCH_MS / 1e3,
    }


def first_token_ms(columns: GpuDeployment, coefficients: Mapping[str, Any]) -> Number:
    """Return the time to the first token under the load, in milliseconds; rough: see its interval.

    Args:
        columns: Deployments.
        coefficients: The section "first_token" of what `tools/fitting/gpu.py` wrote.
    """
    return weigh(first_token_terms(columns), coefficients) * _effects(columns, coefficients)


def first_token_interval(
    columns: GpuDeployment, coefficients: Mapping[str, Any]
) -> tuple[Number, Number, tuple[str, ...] | list[tuple[str, ...]]]:
    """Return an 80 % interval of the time to the first token, like `decode_interval`.

    Args:
        columns: Deployments.
        coefficients: The section "first_token" of what `tools/fitting/gpu.py` wrote.
    """
    return _interval(first_token_ms(columns, coefficients), columns, coefficients)


def _interval(
    middle: Number, columns: GpuDeployment, coefficients: Mapping[str, Any]
) -> tuple[Number, Number, tuple[str, ...] | list[tuple[str, ...]]]:
    if isinstance(columns.engine, str):
        reasons = unmeasured(columns, coefficients)
        half = half_width(reasons, coefficients)
        return middle * math.exp(-half), middle * math.exp(half), reasons
    import numpy as np

    rows = [unmeasured(row, coefficients) for row in unstack(columns, TEXTS)]
    widths = np.array([half_width(row, coefficients) for row in rows])
    return middle * np.exp(-widths), middle * np.exp(widths), rows


def unmeasured(deployment: GpuDeployment, coefficients: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of what no measurement resembles, such as "architecture" or "concurrency".

    Args:
        deployment: Of plain numbers.
        coefficients: What `tools/fitting/gpu.py` wrote.
    """
    levels = levels_of(deployment, coefficients)
    known = coefficients["effects"]
    names = ["architecture", "engine", "quantization chip"]
    missing = [name for name in names if levels[name] not in known[name]]
    pair = f"{deployment.engine} {deployment.chip}"
    if not {"engine", "quantization chip"} & set(missing) and pair not in coefficients["engine chips"]:
        missing.append("quantization chip")
    if "architecture" not in missing and "engine" not in missing:
        names = ["architecture engine", "architecture engine version"]
        missing += [name for name in names if levels[name] not in known[name]][:1]
    for name, (low, high) in coefficients["domain"].items():
        if not low <= getattr(deployment, name) <= high:
            missing.append(name)
    return tuple(missing)


def levels_of(deployment: GpuDeployment, coefficients: Mapping[str, Any]) -> dict[str, str]:
    """Return the levels of EFFECTS that a deployment has.

    Args:
        deployment: Of plain numbers; without a version it has the newest one of its architecture and engine,
            or none where that is so old that it says nothing of today's ("dated").
        coefficients: What `tools/fitting/gpu.py` wrote.
    """
    d = deployment
    kind = (d.speculative, d.engine, d.version, d.quantization, d.chip, d.architecture)
    return _levels(kind, coefficients)


def _levels(kind: tuple[float, str, str, str, str, str], coefficients: Mapping[str, Any]) -> dict[str, str]:
    speculative, engine, version, quantization, chip, architecture = kind
    pair = f"{architecture} {engine}"
    latest = coefficients["latest"].get(pair, "")
    if not version and pair in coefficients.get("dated", ()):
        pair, latest = f"{pair} newer", ""
    return {
        "speculative": "yes" if speculative else "",
        "engine": engine,
        "quantization": quantization,
        "quantization chip": f"{quantization} {chip}",
        "architecture": architecture,
        "architecture engine": pair,
        "architecture engine version": f"{pair} {version or latest}",
    }


def _effects(columns: GpuDeployment, coefficients: Mapping[str, Any]) -> Number:
    if isinstance(columns.engine, str):
        return effect(levels_of(columns, coefficients), coefficients)
    import numpy as np

    c = columns
    texts = (c.engine, c.version, c.quantization, c.chip, c.architecture)
    kinds = list(zip(c.speculative.tolist(), *texts, strict=True))
    found = {kind: effect(_levels(kind, coefficients), coefficients) for kind in set(kinds)}
    return np.array([found[kind] for kind in kinds])
