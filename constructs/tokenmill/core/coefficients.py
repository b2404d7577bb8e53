"""Timing formulas that `tools/fit_timing.py` fitted on published measurements, with their errors."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

SCHEMA = 2
DIGEST_DIGITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """All fitted formulas, as documents that `tokenmill.planner.performance` reads.

    Each document holds "terms" (factor by term), "effects" (logarithm by kind and level), "interval",
    "domain", and what it was fitted on: "rows", "configurations", "sources".

    Args:
        schema: Version of the document.
        date: When they were fitted, as YYYY-MM-DD.
        tool: What fitted them.
        neuron_decode: Decode step on NeuronCores.
        neuron_prefill: Prefills before the first token on NeuronCores.
        gpu_decode: Time per output token on GPUs.
        gpu_first_token: Time to first token on GPUs.
        cross_validation: Errors on rows that were left out of the fit, by what was left out.
        fitted_on: Digests of the metrics and ids of the rows that were fitted on.
    """

    schema: int
    date: str
    tool: str
    neuron_decode: dict[str, Any] = field(hash=False)
    neuron_prefill: dict[str, Any] = field(hash=False)
    gpu_decode: dict[str, Any] = field(hash=False)
    gpu_first_token: dict[str, Any] = field(hash=False)
    cross_validation: dict[str, Any] = field(hash=False)
    fitted_on: frozenset[str]

    def of(self, kind: str, phase: str) -> dict[str, Any]:
        """Return the formula of a kind of accelerator.

        Args:
            kind: "neuron" or "gpu".
            phase: "decode" or "prefill".
        """
        if phase == "decode":
            return self.neuron_decode if kind == "neuron" else self.gpu_decode
        return self.neuron_prefill if kind == "neuron" else self.gpu_first_token


@functools.cache
def coefficients() -> Coefficients:
    """Return the fits that ship with the library."""
    text = resources.files("tokenmill.core").joinpath("data", "coefficients.json").read_text(encoding="utf-8")
    document = json.loads(text)
    joined = document.pop("fitted_on")
    digests = (joined[i : i + DIGEST_DIGITS] for i in range(0, len(joined), DIGEST_DIGITS))
    return Coefficients(**document, fitted_on=frozenset(digests))


def coefficients_date() -> str:
    """Return the date of the fits."""
    return coefficients().date
