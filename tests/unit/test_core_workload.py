"""What a user asks for is checked when it is made, and what looks like a mistake is said."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.core.errors import TokenmillError
from tokenmill.core.plausibility import implausible
from tokenmill.core.workload import Limits, Slo, SpeculativeDecoding, TokenSpread, Workload

if TYPE_CHECKING:
    from collections.abc import Callable

FINE = Workload(requests_per_second=2, input_tokens=512, output_tokens=256)
GOALS = Slo(ttft_ms=2000, itl_ms=60)


def workload(**changes: Any) -> Workload:
    """Return a workload with parts replaced."""
    given: dict[str, Any] = {"requests_per_second": 2.0, "input_tokens": 512, "output_tokens": 256}
    return Workload(**(given | changes))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: workload(input_tokens=1.5), "input_tokens must be a whole number, got 1.5"),
        (lambda: workload(input_tokens=math.nan), "input_tokens must be a whole number, got nan"),
        (lambda: workload(output_tokens=True), "output_tokens must be a whole number, got True"),
        (lambda: workload(output_tokens=0), "output_tokens must be above 0, got 0"),
        (lambda: workload(input_tokens=10**9), "input_tokens must be at most 100,000,000, got 1000000000"),
        (lambda: workload(requests_per_second=math.inf), "requests_per_second must be above 0, got inf"),
        (lambda: workload(requests_per_second=1e9), "requests_per_second must be at most 1,000,000"),
        (
            lambda: workload(prefix_cache_share=1.0),
            "prefix_cache_share must be 0 or more and below 1, got 1.0",
        ),
        (lambda: workload(prefix_cache_share=40), "it is a share, not a percentage"),
        (lambda: workload(burstiness=math.nan), "burstiness must be 0 to 100, got nan"),
        (lambda: TokenSpread(p50=10, p95=5, cv=1), "p95 at least p50 .* got p50 10 and p95 5"),
        (lambda: TokenSpread(p50=1, p95=2, cv=-1), "cv must be 0 to 1000, got -1"),
        (lambda: TokenSpread.lognormal(p50=0, p95=2), "p50 must be above 0, got 0"),
        (lambda: SpeculativeDecoding(tokens=0, acceptance=0.5), "tokens must be 1 to 64, got 0"),
        (lambda: SpeculativeDecoding(tokens=4, acceptance=70), "acceptance must be 0 to 1, got 70"),
        (lambda: SpeculativeDecoding(tokens=4, acceptance=0.7, draft_cost=2), "draft_cost must be 0 to 1"),
        (lambda: Slo(ttft_ms=1e12, itl_ms=5), "ttft_ms must be at most 86,400,000, got 1000000000000.0"),
        (lambda: Limits(context_tokens=10**12), "context_tokens must be 128 or more and at most"),
        (lambda: Limits(context_tokens=math.nan), "context_tokens must be a whole number, got nan"),
        (lambda: Limits(max_sequences=10**12), "max_sequences must be at most"),
        (lambda: Limits(quantizations=("fp7",)), "name one or more of as-published, fp8, .* got 'fp7'"),
        (lambda: Limits(quantizations=()), "got none"),
    ],
)
def test_fails_for_a_number_that_cannot_be(make: Callable[[], object], message: str) -> None:
    """Name, value and range stand in the message."""
    with pytest.raises(TokenmillError, match=message):
        make()


def test_numpy_s_whole_numbers_count() -> None:
    """And become plain ones, so that digests agree."""
    assert workload(input_tokens=np.int64(512)) == workload()
    assert type(workload(input_tokens=np.int64(512)).input_tokens) is int


def test_two_percentiles_make_a_lognormal_length() -> None:
    """sigma = ln(p95 / p50) / 1.645, variation = sqrt(exp(sigma^2) - 1), mean = p50 exp(sigma^2 / 2)."""
    spread = TokenSpread.lognormal(p50=400, p95=2000)
    sigma = math.log(5) / 1.6448536
    assert spread.cv == pytest.approx(math.sqrt(math.exp(sigma**2) - 1))
    assert spread.lognormal_mean == pytest.approx(400 * math.exp(sigma**2 / 2), abs=1)
    assert spread.at(0) == 400
    assert spread.at(1.6448536269514722) == pytest.approx(2000)
    assert TokenSpread.lognormal(p50=1, p95=100_000_000).lognormal_mean <= 100_000_000


def test_what_is_not_known_of_the_spread_is_assumed() -> None:
    """Prompts even, answers exponential; long requests take both percentiles."""
    assert (FINE.input_cv, FINE.output_cv, FINE.long_tokens) == (0.0, 1.0, 768)
    spread = TokenSpread.lognormal(p50=400, p95=2000)
    wide = workload(input_spread=spread, output_spread=TokenSpread(p50=200, p95=210, cv=0.1))
    assert (wide.input_cv, wide.output_cv, wide.long_tokens) == (spread.cv, 0.1, 2256)


def test_expected_tokens_of_a_speculative_step() -> None:
    """(1 - a^(n+1)) / (1 - a): 0.8 with 4 proposals gives 3.36 (Leviathan and others 2023, equation 1)."""
    assert SpeculativeDecoding(tokens=4, acceptance=0.8).tokens_per_step == pytest.approx(
        (1 - 0.8**5) / (1 - 0.8)
    )
    assert SpeculativeDecoding(tokens=4, acceptance=1.0).tokens_per_step == 5
    assert SpeculativeDecoding(tokens=4, acceptance=0.0).tokens_per_step == 1


def test_a_plausible_workload_has_no_warning() -> None:
    """Silence is the rule."""
    assert implausible(FINE, GOALS, Limits()) == ()
    spread = TokenSpread.lognormal(p50=400, p95=2000)
    assert (
        implausible(workload(input_tokens=spread.lognormal_mean, input_spread=spread), GOALS, Limits()) == ()
    )


@pytest.mark.parametrize(
    ("load", "slo", "limits", "said"),
    [
        (
            FINE,
            Slo(ttft_ms=2, itl_ms=1),
            Limits(),
            "slo.ttft_ms = 2 looks like seconds; goals are in milliseconds",
        ),
        (
            FINE,
            Slo(ttft_ms=2000, itl_ms=0.05),
            Limits(),
            "slo.itl_ms = 0.05 looks like seconds; .* would be 50",
        ),
        (FINE, Slo(ttft_ms=700_000, itl_ms=50), Limits(), "slo.ttft_ms = 700000 is more than ten minutes"),
        (
            FINE,
            Slo(ttft_ms=50_000, itl_ms=40_000),
            Limits(),
            "slo.itl_ms = 40000 is more than two seconds a token",
        ),
        (FINE, Slo(ttft_ms=50, itl_ms=500), Limits(), "the two may be swapped"),
        (workload(requests_per_second=7200), GOALS, Limits(), "7200 an hour would be 2$"),
        (workload(requests_per_second=1e-5), GOALS, Limits(), "less than nine requests a day"),
        (
            workload(output_tokens=2_000_000),
            GOALS,
            Limits(),
            "output_tokens = 2000000 is more than a million",
        ),
        (
            workload(input_spread=TokenSpread.lognormal(p50=10, p95=100)),
            GOALS,
            Limits(),
            "input_tokens = 512 is a mean above the 95th percentile 100",
        ),
        (
            workload(input_spread=TokenSpread.lognormal(p50=5000, p95=9000)),
            GOALS,
            Limits(),
            "input_tokens = 512 is a mean far below the median 5000",
        ),
        (FINE, GOALS, Limits(min_copies=1000, max_instances=2), "limits.min_copies = 1000 can never fit"),
    ],
)
def test_what_looks_like_a_mistake_is_said(load: Workload, slo: Slo, limits: Limits, said: str) -> None:
    """With the key, the value, and what it may have been meant as."""
    import re

    assert any(re.search(said, sentence) for sentence in implausible(load, slo, limits))


numbers = st.floats() | st.integers(-(10**12), 10**12) | st.booleans()


@given(
    rate=numbers,
    tokens=st.tuples(numbers, numbers),
    share=numbers,
    burstiness=numbers,
    percentiles=st.none() | st.tuples(numbers, numbers),
    goals=st.tuples(numbers, numbers, numbers),
    context=st.none() | numbers,
)
def test_any_numbers_are_values_or_one_error(
    rate: Any, tokens: Any, share: Any, burstiness: Any, percentiles: Any, goals: Any, context: Any
) -> None:
    """NaN, infinities, negatives and absurd sizes raise TokenmillError; what is accepted is finite."""
    try:
        spread = TokenSpread(p50=percentiles[0], p95=percentiles[1], cv=1.0) if percentiles else None
        load = Workload(
            requests_per_second=rate,
            input_tokens=tokens[0],
            output_tokens=tokens[1],
            input_spread=spread,
            prefix_cache_share=share,
            burstiness=burstiness,
        )
        slo = Slo(ttft_ms=goals[0], itl_ms=goals[1], percentile=goals[2])
        limits = Limits(context_tokens=context)
    except TokenmillError:
        return
    assert math.isfinite(load.tokens_per_hour)
    assert load.tokens_per_hour > 0
    assert all("\n" not in sentence for sentence in implausible(load, slo, limits))
