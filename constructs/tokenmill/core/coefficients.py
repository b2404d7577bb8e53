"""Timing coefficients that `tools/fit_timing.py` fitted on published measurements, with their error."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib import resources

from tokenmill.core._codec import decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """One fitted formula.

    Args:
        coefficients: Factors of the formula's terms, in its order.
        rows: Measurements it was fitted on.
        configurations: Different combinations of model, hardware, parallelism and batch among them.
        mape_percent: Mean absolute error when each model is predicted from the other models.
        ratio_low: 10th percentile of measured over predicted, under the same cross-validation.
        ratio_high: 90th percentile of the same.
        fixed: What was not fitted and why.
    """

    coefficients: tuple[float, ...]
    rows: int
    configurations: int
    mape_percent: float
    ratio_low: float
    ratio_high: float
    fixed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingFits:
    """Decode and prefill of one kind of accelerator.

    Args:
        decode: One decode step, in milliseconds.
        prefill: One prefill, in milliseconds.
        degrees: Tensor-parallel degrees that were measured.
        sources: Where the measurements stand.
    """

    decode: Fit
    prefill: Fit
    degrees: tuple[int, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """All fits.

    Args:
        schema: Version of the document.
        date: When they were fitted, as YYYY-MM-DD.
        tool: What fitted them.
        neuron: Fits for NeuronCore-v2 (Inferentia2, Trainium1).
        gpu: Fits for GPUs.
    """

    schema: int
    date: str
    tool: str
    neuron: TimingFits
    gpu: TimingFits

    def of(self, kind: str) -> TimingFits:
        """Return the fits of a kind of accelerator.

        Args:
            kind: "neuron" or "gpu".
        """
        return self.neuron if kind == "neuron" else self.gpu


@functools.cache
def coefficients() -> Coefficients:
    """Return the fits that ship with the library."""
    text = resources.files("tokenmill.core").joinpath("data", "coefficients.json").read_text(encoding="utf-8")
    return decode(Coefficients, json.loads(text), "timing coefficients")


def coefficients_date() -> str:
    """Return the date of the fits."""
    return coefficients().date
