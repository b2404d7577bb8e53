"""A value of another kind is refused by the name of its field, whatever it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tokenmill.core.errors import TokenmillError
from tokenmill.core.workload import Limits, Parallelism, Slo, SpeculativeDecoding, TokenSpread, Workload

SOUND: dict[type, dict[str, Any]] = {
    Workload: {"requests_per_second": 2, "input_tokens": 512, "output_tokens": 256},
    Slo: {"ttft_ms": 2000, "itl_ms": 60},
    Limits: {},
    Parallelism: {"tensor": 2},
    TokenSpread: {"p50": 1, "p95": 2, "cv": 1},
    SpeculativeDecoding: {"tokens": 4, "acceptance": 0.7},
}


@pytest.mark.parametrize(
    ("cls", "name", "value", "message"),
    [
        (Workload, "requests_per_second", "2", "must be a number, got '2'"),
        (Workload, "requests_per_second", True, "must be a number, got True"),
        (Workload, "requests_per_second", None, "must be a number, got None"),
        (Workload, "prefix_cache_share", "x", "must be a number, got 'x'"),
        (Workload, "burstiness", None, "must be a number, got None"),
        (Workload, "input_spread", 4, "must be a TokenSpread or None, got 4"),
        (Workload, "output_spread", (1, 2), r"must be a TokenSpread or None, got \(1, 2\)"),
        (Workload, "speculative", 3, "must be a SpeculativeDecoding or None, got 3"),
        (Slo, "ttft_ms", "2", "must be a number, got '2'"),
        (Slo, "percentile", "95", "must be a number, got '95'"),
        (Slo, "percentile", 0.95, "must be 50 to 99.9, got 0.95; it is in percent, not a share"),
        (Limits, "instances", "ml.g6.*", "must be a tuple of texts, .* got 'ml.g6"),
        (Limits, "instances", (3,), "must be a tuple of texts, .* got "),
        (Limits, "instances", None, "must be a tuple of texts, .* got None"),
        (Limits, "quantizations", "fp8", "must be a tuple of texts, .* got 'fp8'"),
        (Limits, "target_utilization_percent", None, "must be a number, got None"),
        (
            Limits,
            "target_utilization_percent",
            0.7,
            "must be 10 to 95, got 0.7; it is in percent, not a share",
        ),
        (Parallelism, "tensor", 1.5, "must be a whole number, got 1.5"),
        (Parallelism, "pipeline", None, "must be a whole number, got None"),
        (TokenSpread, "cv", "1", "must be a number, got '1'"),
        (SpeculativeDecoding, "acceptance", None, "must be a number, got None"),
    ],
)
def test_fails_for_a_value_of_another_kind(cls: type, name: str, value: object, message: str) -> None:
    """Never with an error of Python's own."""
    with pytest.raises(TokenmillError, match=f"^{name} {message}"):
        cls(**SOUND[cls] | {name: value})


def test_lists_and_numpys_numbers_count() -> None:
    """What comes from a data frame works, and is one value with what is written by hand."""
    assert Limits(instances=["ml.g6.*"]) == Limits(instances=("ml.g6.*",))
    given: dict[str, Any] = {
        "requests_per_second": np.float32(2),
        "input_tokens": np.int64(512),
        "output_tokens": 256,
    }
    assert Workload(**given) == Workload(**SOUND[Workload])
