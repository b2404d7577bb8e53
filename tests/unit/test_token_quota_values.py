"""What Bedrock's throttling counts: reservation, settlement, burndown factors."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.core.errors import TokenmillError
from tokenmill.core.token_quota import TokenUse, burndown, quota_load
from tokenmill.core.workload import Workload

LOAD = Workload(requests_per_second=2, input_tokens=1000, output_tokens=200)


@pytest.mark.parametrize(
    ("model", "factor", "documented"),
    [
        ("anthropic.claude-3-7-sonnet-20250219-v1:0", 5, True),
        ("us.anthropic.claude-sonnet-4-20250514-v1:0", 5, True),
        ("global.anthropic.claude-sonnet-4-5-20250929-v1:0", 5, True),
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", 1, True),
        ("anthropic.claude-opus-4-8-v1:0", 15, False),
        ("us.anthropic.claude-opus-4-7", 5, False),
        ("anthropic.claude-fable-5-v1:0", 10, False),
        ("openai.gpt-oss-120b-1:0", 1, True),
        ("openai.gpt-5.6", 10, True),
        ("amazon.nova-lite-v1:0", 1, True),
        (
            "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-sonnet-4-20250514-v1:0",
            5,
            True,
        ),
    ],
)
def test_factors_by_model(model: str, factor: float, documented: bool) -> None:
    """The longest beginning of an id decides; a profile's geography and an ARN are looked through."""
    found = burndown(model)
    assert (found.factor, found.documented) == (factor, documented)
    assert found.source


def test_a_factor_of_one_s_own_wins() -> None:
    """For every model that begins so, and for no other."""
    own = {"anthropic.claude-opus-4": 7}
    assert burndown("us.anthropic.claude-opus-4-8-v1:0", overrides=own).factor == 7
    assert burndown("anthropic.claude-sonnet-4-20250514-v1:0", overrides=own).factor == 5


@pytest.mark.parametrize("factor", [0.5, 101, True, "5"])
def test_fails_for_a_factor_out_of_range(factor: Any) -> None:
    """With the model and what is allowed."""
    with pytest.raises(TokenmillError, match="burndown factor of 'x' is .*; it must be 1 to 100"):
        burndown("x", overrides={"x": factor})


def test_a_request_reserves_caches_too_and_gives_reads_back() -> None:
    """The example of the guide's rule: everything at the start, no cache reads at the end."""
    use = TokenUse(input_tokens=100, output_tokens=10, cache_read_tokens=1000, cache_write_tokens=50)
    assert use.reserved(4000) == 5150
    assert use.settled(5) == 100 + 50 + 50


def test_a_count_below_zero_is_refused() -> None:
    """It would give quota back."""
    with pytest.raises(TokenmillError, match="output_tokens must be 0 or more, got -1"):
        TokenUse(input_tokens=1, output_tokens=-1)


def test_a_load_by_hand() -> None:
    """120 requests a minute; half of the prompt comes from the cache when they end, none when they start."""
    load = quota_load(LOAD, max_tokens=800, factor=5, cached_share=0.5)
    assert load.requests_per_minute == 120
    assert load.reserved_tpm == 120 * 1800
    assert load.settled_tpm == 120 * (500 + 1000)
    assert load.needed_tpm == 216_000
    assert load.headroom(432_000) == 0.5
    assert load.headroom(108_000) == -1


def test_the_longest_answer_that_fits() -> None:
    """None at all where even the settled tokens are above the quota."""
    load = quota_load(LOAD, max_tokens=800, factor=5)
    assert load.longest_answer(240_000) == 1000
    assert load.longest_answer(239_999) == 0


@given(
    rate=st.floats(0.01, 1000),
    prompt=st.integers(1, 100_000),
    answer=st.integers(1, 10_000),
    room=st.integers(1, 100_000),
    quota=st.floats(1_000, 1e9),
)
def test_what_is_said_to_fit_fits(rate: float, prompt: int, answer: int, room: int, quota: float) -> None:
    """With the longest answer that the quota allows, the load has headroom; one token more has none."""
    workload = Workload(requests_per_second=rate, input_tokens=prompt, output_tokens=answer)
    longest = quota_load(workload, max_tokens=room, factor=1).longest_answer(quota)
    if not longest:
        return
    fitting = quota_load(workload, max_tokens=longest, factor=1)
    assert fitting.headroom(quota) > -1e-9
    above = quota_load(workload, max_tokens=longest + 1, factor=1)
    assert above.reserved_tpm > quota * (1 - 1e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_tokens": 0}, "max_tokens must be above 0, got 0"),
        ({"max_tokens": 1.5}, "max_tokens must be a whole number, got 1.5"),
        ({"factor": 0.5}, "factor must be 1 to 100, got 0.5"),
        ({"cached_share": 50}, "cached_share must be 0 to 1, got 50; it is a share, not a percentage"),
    ],
)
def test_a_load_s_bad_input(changes: dict[str, Any], message: str) -> None:
    """By name, with what is allowed."""
    with pytest.raises(TokenmillError, match=message):
        quota_load(LOAD, **{"max_tokens": 100, "factor": 1, **changes})


def test_a_quota_of_nothing_is_refused() -> None:
    """A share of it means nothing."""
    load = quota_load(LOAD, max_tokens=800, factor=1)
    for ask in (load.headroom, load.longest_answer):
        with pytest.raises(TokenmillError, match="quota_tpm must be above 0, got 0"):
            ask(0)
