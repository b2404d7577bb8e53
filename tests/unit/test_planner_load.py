"""What a user sees under load follows queueing theory where theory has an answer."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tokenmill.core.engine_timing import EngineTiming
from tokenmill.core.workload import TokenSpread, Workload
from tokenmill.planner.load import (
    PEAK_HOUR_MS,
    SATURATED,
    best_rate,
    busy_seconds_per_request,
    full_step_ms,
    latency,
    latency_range,
    prefill_moments,
)


def engine(*, step: float = 20.0, prefill: float = 0.0, places: int = 8, grows: float = 0.0) -> EngineTiming:
    """Return a copy with a constant step unless it grows with its sequences."""
    return EngineTiming(
        step_base_ms=step,
        step_per_sequence_ms=grows,
        step_per_kv_token_ms=0.0,
        prefill_base_ms=prefill,
        prefill_per_token_ms=0.0,
        prefill_buckets=(),
        max_sequences=places,
        kv_capacity_tokens=10**6,
    )


def load(output: int = 100) -> Workload:
    """Return requests of 100 prompt tokens."""
    return Workload(requests_per_second=1, input_tokens=100, output_tokens=output)


EVEN = TokenSpread(p50=100, p95=100, cv=0.0)


def test_an_idle_copy_takes_a_prefill() -> None:
    """Nobody waits at rate 0, and the prefill gives the first token."""
    seen = latency(engine(prefill=150), load(), 0.0, 95)
    assert seen.ttft_ms == pytest.approx(150)
    assert seen.itl_ms == pytest.approx(20)
    assert seen.utilization == 0


def test_one_place_waits_as_the_single_server_queue_does() -> None:
    """M/M/1: P(wait > t) = load x exp(-(1 - load) t / service); the step in progress comes on top."""
    rate, service, share = 0.4, 100 * 0.02, 0.95
    seen = latency(engine(places=1), load(), rate, 95)
    busy = rate * service
    mean = busy * service / (1 - busy)
    wait = math.log(busy / (1 - share)) * service / (1 - busy)
    meets = 1 - math.exp(-busy)
    step_mean, step = meets * 0.01, 0.02 * (1 - (1 - share) / meets)
    expected = mean + step_mean + math.hypot(wait - mean, step - step_mean)
    assert seen.ttft_ms == pytest.approx(expected * 1e3)
    assert seen.utilization == pytest.approx(busy)


def test_two_places_wait_as_erlang_says() -> None:
    """M/M/2 at load 1 (half of both): the probability of waiting is 1/3 (Erlang's C formula)."""
    service = 100 * 0.02
    seen = latency(engine(places=2), load(), 1 / service, 95)
    wait = math.log((1 / 3) / 0.05) * service / (2 - 1)
    assert seen.ttft_ms == pytest.approx(wait * 1e3, rel=0.01)


def test_even_answers_wait_half_as_long_as_exponential_ones() -> None:
    """Allen and Cunneen: the mean wait goes with (1 + the squared variation) / 2."""
    even = Workload(requests_per_second=1, input_tokens=100, output_tokens=100, output_spread=EVEN)
    one, two = latency(engine(places=1), even, 0.4, 95), latency(engine(places=1), load(), 0.4, 95)
    assert one.ttft_ms == pytest.approx(two.ttft_ms / 2, rel=0.01)


def test_prefills_wait_for_prefills() -> None:
    """M/D/1: the mean wait is load x prefill / (2 (1 - load)) (Pollaczek and Khinchine)."""
    rate, prefill = 2.0, 0.2
    seen = latency(engine(step=0.001, prefill=200, places=512), load(1), rate, 95)
    busy = rate * prefill
    wait = math.log(busy / 0.05) * prefill / (2 * (1 - busy))
    assert seen.ttft_ms == pytest.approx((wait + prefill) * 1e3, rel=0.001)


def test_uneven_prompts_enter_by_their_second_moment() -> None:
    """Mean wait: rate x E[S^2] / (2 (1 - load)); a variation of 2 makes E[S^2] 5 times the squared mean."""
    spread = TokenSpread(p50=45, p95=362, cv=2.0)
    uneven = Workload(requests_per_second=1, input_tokens=100, output_tokens=1, input_spread=spread)
    copy = EngineTiming(
        step_base_ms=0.001,
        step_per_sequence_ms=0.0,
        step_per_kv_token_ms=0.0,
        prefill_base_ms=0.0,
        prefill_per_token_ms=2.0,
        prefill_buckets=(),
        max_sequences=512,
        kv_capacity_tokens=10**6,
    )
    mean, square = prefill_moments(copy, uneven)
    assert (mean, square) == (pytest.approx(0.2), pytest.approx(5 * 0.2**2))
    busy = 2 * mean
    wait_mean = 2 * square / (2 * (1 - busy))
    wait = wait_mean / busy * math.log(busy / 0.05)
    own = 362 * 2 / 1e3
    expected = wait_mean + mean + math.hypot(wait - wait_mean, own - mean)
    assert latency(copy, uneven, 2.0, 95).ttft_ms == pytest.approx(expected * 1e3, rel=0.01)


def test_a_prefix_cache_shortens_the_prefill() -> None:
    """By its share of the prompt's tokens."""
    copy = EngineTiming.from_json(engine(prefill=10).to_json() | {"prefill_per_token_ms": 1.0})
    cached = Workload(requests_per_second=1, input_tokens=100, output_tokens=10, prefix_cache_share=0.75)
    assert latency(copy, cached, 0.0, 95).ttft_ms == pytest.approx(10 + 25)
    assert busy_seconds_per_request(copy, load(10)) - busy_seconds_per_request(copy, cached) == pytest.approx(
        0.075
    )


def test_prompts_are_padded_by_how_they_spread() -> None:
    """Half of the prompts are below the median, so they take the small bucket, and the rest the large one."""
    spread = TokenSpread(p50=128, p95=800, cv=1.5)
    mean = round(128 * math.sqrt(1 + 1.5**2))
    uneven = Workload(requests_per_second=1, input_tokens=mean, output_tokens=10, input_spread=spread)
    padded = EngineTiming.from_json(
        engine().to_json() | {"prefill_per_token_ms": 1.0, "prefill_buckets": [128, 1024]}
    )
    average, square = prefill_moments(padded, uneven)
    assert average == pytest.approx((128 + 1024) / 2 / 1e3, rel=0.01)
    assert square == pytest.approx((0.128**2 + 1.024**2) / 2, rel=0.01)
    one = EngineTiming.from_json(padded.to_json() | {"prefill_buckets": [1024]})
    assert prefill_moments(one, uneven) == (pytest.approx(1.024), pytest.approx(1.024**2))
    assert prefill_moments(padded, load(10)) == (pytest.approx(0.128), pytest.approx(0.128**2))


def test_the_interval_holds_the_queues_that_follow() -> None:
    """A step that takes 1.4 times as long makes more than 1.4 times the wait; the ends enclose the middle."""
    copy = engine(prefill=100, places=4)
    seen = latency(copy, load(), 1.0, 95)
    low, high = latency_range(copy, load(), 1.0, 95, decode=(0.8, 1.3), prefill=(0.7, 1.3))
    assert low.ttft_ms < seen.ttft_ms < high.ttft_ms
    assert low.itl_ms < seen.itl_ms < high.itl_ms
    assert high.ttft_ms > 1.5 * seen.ttft_ms


def test_a_copy_that_saturates_at_the_high_end_queues_for_the_peak_hour() -> None:
    """Longer it cannot grow; tokens then come as fast as a full copy makes them."""
    copy = engine(prefill=100, places=4)
    rate = 0.9 / busy_seconds_per_request(copy, load())
    low, high = latency_range(copy, load(), rate, 95, decode=(1.0, 2.0), prefill=(1.0, 2.0))
    assert high.ttft_ms == PEAK_HOUR_MS
    assert high.itl_ms == pytest.approx(2 * full_step_ms(copy, load()) + 4 * 200 / 100)
    hopeless, worse = latency_range(copy, load(), 2 * rate, 95, decode=(1.0, 2.0), prefill=(1.0, 2.0))
    assert math.isinf(hopeless.ttft_ms)
    assert math.isfinite(worse.itl_ms)


def test_prefills_of_others_stretch_the_gap_between_tokens() -> None:
    """On average by 1 / (1 - rate x prefill), at a percentile by as many prefills as Poisson allows."""
    seen = latency(engine(prefill=100, places=64), load(), 2.0, 95)
    gap = 20 / (1 - 0.2)
    stalls = 2.0 * gap / 1e3 * 0.1**2 * 2 / 100
    assert seen.itl_ms == pytest.approx(gap + 1.645 * math.sqrt(stalls) * 1e3, rel=1e-3)


def test_bursts_lengthen_both() -> None:
    """More variation of arrivals, at the same rate."""
    bursty = Workload(requests_per_second=1, input_tokens=100, output_tokens=100, burstiness=3.0)
    copy = engine(prefill=100, places=8)
    calm, wild = latency(copy, load(), 2.0, 95), latency(copy, bursty, 2.0, 95)
    assert wild.ttft_ms > calm.ttft_ms
    assert wild.itl_ms > calm.itl_ms


def test_a_saturated_copy_has_no_latency() -> None:
    """At a busy share of 1 the queue grows for ever; just below it, it is long."""
    full = engine(prefill=100, places=2)
    limit = 1 / busy_seconds_per_request(full, load())
    assert latency(full, load(), limit, 95) == SATURATED
    near = latency(full, load(), limit * 0.9999, 95)
    assert 1e6 < near.ttft_ms < math.inf
    assert near.utilization < 1
    crowded = EngineTiming.from_json(full.to_json() | {"max_sequences": 10_000, "prefill_base_ms": 1000.0})
    assert latency(crowded, load(1), 1.0, 95) == SATURATED


def test_a_request_sees_itself_and_those_that_run_with_it() -> None:
    """Little's law: others in flight are rate x time to decode; step = 10 + 1 + others."""
    growing = engine(step=10.0, grows=1.0, places=64)
    step = 11 / (1 - 5.0 * 100 * 0.001)
    assert latency(growing, load(), 5.0, 50).itl_ms == pytest.approx(step)
    assert latency(growing, load(), 0.0, 50).itl_ms == pytest.approx(11)


def test_a_step_is_never_longer_than_a_full_one() -> None:
    """However many would run, places are what there is."""
    growing = engine(step=1.0, grows=1.0, places=8)
    limit = 1 / busy_seconds_per_request(growing, load())
    assert latency(growing, load(), 0.99 * limit, 50).itl_ms == pytest.approx(9)


@given(
    rates=st.tuples(st.floats(0.0, 5.0), st.floats(0.0, 5.0)),
    prefill=st.floats(0.1, 300.0),
    places=st.integers(1, 64),
    percentile=st.sampled_from([50.0, 90.0, 95.0, 99.0]),
    grows=st.floats(0.0, 2.0),
    burstiness=st.floats(0.0, 5.0),
)
def test_more_load_is_never_faster(
    rates: tuple[float, float],
    prefill: float,
    places: int,
    percentile: float,
    grows: float,
    burstiness: float,
) -> None:
    """Neither is a higher percentile, or a slower copy."""
    low, high = sorted(rates)
    copy = engine(prefill=prefill, places=places, grows=grows)
    asked = Workload(requests_per_second=1, input_tokens=100, output_tokens=100, burstiness=burstiness)
    one, two = latency(copy, asked, low, percentile), latency(copy, asked, high, percentile)
    assert two.ttft_ms >= one.ttft_ms * (1 - 1e-9)
    assert two.itl_ms >= one.itl_ms * (1 - 1e-9)
    assert latency(copy, asked, low, 99.9).ttft_ms >= one.ttft_ms * (1 - 1e-9)
    under, over = latency_range(copy, asked, low, percentile, decode=(0.7, 1.5), prefill=(0.8, 1.2))
    assert under.ttft_ms <= one.ttft_ms
    assert under.itl_ms <= one.itl_ms
    if one != SATURATED and one.ttft_ms < PEAK_HOUR_MS:
        assert over.ttft_ms >= one.ttft_ms
        assert over.itl_ms >= one.itl_ms


@given(ttft=st.floats(1.0, 5000.0), itl=st.floats(1.0, 200.0), prefill=st.floats(1.0, 400.0))
def test_the_best_rate_keeps_the_goals(ttft: float, itl: float, prefill: float) -> None:
    """Whatever it is; and 0 only where an idle copy already misses them."""
    copy = engine(prefill=prefill)
    rate = best_rate(copy, load(), 0.7, (ttft, itl, 95.0))
    idle = latency(copy, load(), 0.0, 95.0)
    assert (rate == 0) == (idle.ttft_ms > ttft or idle.itl_ms > itl) or rate < 1e-3
    assume(rate > 0)
    seen = latency(copy, load(), rate, 95.0)
    assert seen.ttft_ms <= ttft
    assert seen.itl_ms <= itl
    assert seen.utilization <= 0.7 + 1e-9


def test_loose_goals_leave_the_busy_share_as_the_limit() -> None:
    """No goal binds."""
    copy = engine(prefill=10)
    rate = best_rate(copy, load(), 0.5, (1e6, 1e6, 95.0))
    assert rate * busy_seconds_per_request(copy, load()) == pytest.approx(0.5)
