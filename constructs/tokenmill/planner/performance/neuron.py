"""How long NeuronCores take for a decode step and for the first token: roofline terms times fitted factors.

Shapes are static: a step takes the same time however few of the compiled sequences run, and a prompt is
padded to its compiled length. `tools/fitting/neuron.py` fits one factor a term, and shrunken effects of the
software and of measured shapes. Functions take plain numbers or NumPy arrays of one length.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tokenmill.planner.performance.fitted import effect, half_width, unstack, weigh
from tokenmill.planner.performance.neuron_columns import TEXTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill.planner.performance.fitted import Number
    from tokenmill.planner.performance.neuron_columns import NeuronDeployment

LAUNCH_MS = 0.01
"""Unit of the terms that count layers: the order of a few kernel launches."""
DECODE_TERMS = (
    "layers",
    "ring",
    "paired_layers",
    "weight_read",
    "kv_read",
    "layer_sequences",
    "moe_layers",
    "moe_dispatch",
    "context_layers",
)
PREFILL_TERMS = ("layers", "paired_layers", "weight_read", "arithmetic", "attention", "exchange")
DECODE_EFFECTS = ("software", "release", "shape", "shape cores software")
PREFILL_EFFECTS = ("dense software", "experts", "shape", "shape cores software")
"""Prefills of mixtures scatter ten-fold for the same software, which must not move that of dense models."""

SOFTWARE_EFFECTS = ("software", "dense software")


def decode_terms(columns: NeuronDeployment) -> dict[str, Number]:
    """Return the terms of a decode step, in milliseconds, in the order of DECODE_TERMS.

    Experts are drawn evenly: of E experts, b sequences with k each touch E (1 - (1 - k/E)^b). Dispatch to
    experts by one-hot products grows with the square of the tokens of a step.

    Args:
        columns: Deployments.
    """
    c = columns
    pass_ms = 1e3 / c.bandwidth
    touched = 1 - (1 - c.experts_per_token / c.experts) ** c.sequences
    return {
        "layers": c.layers * LAUNCH_MS,
        "ring": c.layers * _log2(c.tensor) * LAUNCH_MS,
        "paired_layers": c.paired * c.layers * LAUNCH_MS,
        "weight_read": (c.dense_bytes + touched * c.expert_bytes) * pass_ms,
        "kv_read": c.kv_bytes * c.sequences * pass_ms,
        "layer_sequences": c.layers * c.sequences * LAUNCH_MS / 10,
        "moe_layers": c.moe_layers * LAUNCH_MS,
        "moe_dispatch": c.moe_layers * c.sequences**2 * LAUNCH_MS / 100,
        "context_layers": c.layers * c.context_tokens / 4096 * LAUNCH_MS,
    }


def prefill_terms(columns: NeuronDeployment) -> dict[str, Number]:
    """Return the terms of the prefills before the first token, in milliseconds, ordered as PREFILL_TERMS.

    Prefills of mixtures of experts were measured 2 to 40 times slower than these terms, one configuration ten
    times slower than the next; no term explains that, the interval says it.

    Args:
        columns: Deployments.
    """
    c = columns
    tokens = c.calls * c.prompts * c.prompt_tokens
    ring = 2 * (c.tensor - 1) / c.tensor
    return {
        "layers": c.calls * c.layers * LAUNCH_MS,
        "paired_layers": c.paired * c.calls * c.layers * LAUNCH_MS,
        "weight_read": c.calls * (c.dense_bytes + c.expert_bytes) / c.bandwidth * 1e3,
        "arithmetic": 2 * c.token_weights * tokens / c.flops * 1e3,
        "attention": 2 * c.layers * c.attention_width * c.prompt_tokens * tokens / c.flops * 1e3,
        "exchange": 2 * c.layers * tokens * c.hidden_size * 2 * ring / c.link * 1e3,
    }


def decode_ms(columns: NeuronDeployment, document: Mapping[str, Any]) -> Number:
    """Return the time of a decode step, in milliseconds.

    Args:
        columns: Deployments.
        document: What `tools/fitting/neuron.py` wrote for decode.
    """
    return weigh(decode_terms(columns), document) * _effects(columns, document)


def prefill_ms(columns: NeuronDeployment, document: Mapping[str, Any]) -> Number:
    """Return the time of the prefills before the first token, in milliseconds.

    Args:
        columns: Deployments.
        document: What `tools/fitting/neuron.py` wrote for prefill.
    """
    return weigh(prefill_terms(columns), document) * _effects(columns, document)


def interval(columns: NeuronDeployment, document: Mapping[str, Any]) -> tuple[Number, list[tuple[str, ...]]]:
    """Return half of the 80 % interval in logarithms, and what no measurement resembles, per deployment.

    Args:
        columns: Deployments.
        document: What `tools/fitting/neuron.py` wrote.
    """
    if isinstance(columns.software, str):
        reasons = unmeasured(columns, document)
        return half_width(reasons, document), [reasons]
    import numpy as np

    rows = [unmeasured(row, document) for row in unstack(columns, TEXTS)]
    return np.array([half_width(row, document) for row in rows]), rows


def unmeasured(deployment: NeuronDeployment, document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of what no measurement resembles: "shape", "software", "tensor", "paired" and so on.

    Args:
        deployment: Of plain numbers.
        document: What `tools/fitting/neuron.py` wrote.
    """
    levels = levels_of(deployment)
    known = document["effects"]
    missing = ["shape"] if levels["shape"] not in known["shape"] else []
    kinds = [kind for kind in SOFTWARE_EFFECTS if kind in known and levels[kind]]
    if any(levels[kind] not in known[kind] for kind in kinds):
        missing.append("software")
    if not missing and levels["shape cores software"] not in known["shape cores software"]:
        missing.append("shape cores software")
    if deployment.paired:
        missing.append("paired")
    if deployment.moe_layers:
        missing.append("experts")
    if deployment.tensor not in document["degrees"]:
        missing.append("tensor")
    for name, (low, high) in document["domain"].items():
        if not low <= getattr(deployment, name) <= high:
            missing.append(name)
    return tuple(missing)


def levels_of(deployment: NeuronDeployment) -> dict[str, str]:
    """Return the level of every kind of effect that a deployment has.

    Args:
        deployment: Of plain numbers.
    """
    d = deployment
    return _levels((d.software, d.release, d.shape, float(d.tensor), float(d.moe_layers)))


def _levels(kind: tuple[str, str, str, float, float]) -> dict[str, str]:
    software, release, shape, tensor, moe_layers = kind
    return {
        "software": software,
        "release": release,
        "dense software": "" if moe_layers else software,
        "experts": "mixture" if moe_layers else "",
        "shape": shape,
        "shape cores software": f"{shape} {tensor:.0f} {software}",
    }


def _effects(columns: NeuronDeployment, document: Mapping[str, Any]) -> Number:
    kinds = document["effects"]

    def one(kind: tuple[str, str, str, float, float]) -> float:
        return effect({name: level for name, level in _levels(kind).items() if name in kinds}, document)

    c = columns
    if isinstance(c.software, str):
        return one((c.software, c.release, c.shape, float(c.tensor), float(c.moe_layers)))
    import numpy as np

    texts = (c.software, c.release, c.shape)
    rows = list(zip(*texts, c.tensor.tolist(), c.moe_layers.tolist(), strict=True))
    found = {kind: one(kind) for kind in set(rows)}
    return np.array([found[kind] for kind in rows])


def _log2(value: Number) -> Number:
    if isinstance(value, (int, float)):
        return math.log2(value)
    import numpy as np

    return np.log2(value)
