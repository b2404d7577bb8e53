"""The fits that ship: what they hold, and where they came from."""

from __future__ import annotations

import datetime
import re

import pytest

from tokenmill.core.coefficients import DIGEST_DIGITS, coefficients, coefficients_date
from tokenmill.planner.accuracy import id_digest

PHASES = [(kind, phase) for kind in ("neuron", "gpu") for phase in ("decode", "prefill")]


@pytest.mark.parametrize(("kind", "phase"), PHASES)
def test_a_fit_has_positive_factors_effects_an_interval_and_its_sources(kind: str, phase: str) -> None:
    document = coefficients().of(kind, phase)

    assert all(factor > 0 for factor in document["terms"].values())
    assert all(abs(value) < 1.5 for effects in document["effects"].values() for value in effects.values())
    assert document["interval"]["level"] == 0.8
    assert 0 < document["interval"]["half_width"] < 1
    assert all(width >= 0 for width in document["interval"]["widening"].values())
    assert document["rows"] >= document["configurations"] > 50
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+", source) for source in document["sources"])
    for low, high in document["domain"].values():
        assert 0 < low < high


def test_each_kind_and_phase_has_a_fit_of_its_own() -> None:
    assert len({id(coefficients().of(kind, phase)) for kind, phase in PHASES}) == 4


def test_the_date_is_one_and_the_tool_is_named() -> None:
    assert datetime.date.fromisoformat(coefficients_date()).year >= 2026
    assert coefficients().tool == "tools/fit_timing.py"


def test_every_fitted_row_is_remembered_by_a_short_digest() -> None:
    fitted = coefficients().fitted_on

    rows = coefficients().neuron_decode["rows"] + coefficients().neuron_prefill["rows"]
    assert len(fitted) == rows + coefficients().gpu_decode["rows"]
    assert {len(digest) for digest in fitted} == {DIGEST_DIGITS}
    assert id_digest("itl neuron-sdk-perf-pages-opt-13b-inf2-48xlarge-c5c98326") in fitted
    assert id_digest("itl another") not in fitted


def test_the_fits_are_read_once() -> None:
    assert coefficients() is coefficients()
