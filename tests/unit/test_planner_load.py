"""What a user sees under load follows queueing theory where theory has an answer."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tokenmill.core.engine_timing import EngineTiming
from tokenmill.core.workload import Workload
from tokenmill.planner.load import SATURATED, best_rate, busy_seconds_per_request, latency


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


def test_an_idle_copy_takes_a_prefill_and_a_step() -> None:
    """Nobody waits at rate 0."""
    seen = latency(engine(prefill=150), load(), 0.0, 95)
    assert seen.ttft_ms == pytest.approx(170)
    assert seen.itl_ms == pytest.approx(20)
    assert seen.utilization == 0


def test_one_place_waits_as_the_single_server_queue_does() -> None:
    """M/M/1: P(wait > t) = load x exp(-(1 - load) t / service)."""
    rate, service, share = 0.4, 100 * 0.02, 0.95
    seen = latency(engine(places=1), load(), rate, 95)
    busy = rate * service
    wait = math.log(busy / (1 - share)) * service / (1 - busy)
    assert seen.ttft_ms == pytest.approx((wait + 0.02) * 1e3)
    assert seen.utilization == pytest.approx(busy)


def test_two_places_wait_as_erlang_says() -> None:
    """M/M/2 at load 1 (half of both): the probability of waiting is 1/3 (Erlang's C formula)."""
    service, share = 100 * 0.02, 0.95
    seen = latency(engine(places=2), load(), 1 / service, 95)
    wait = math.log((1 / 3) / (1 - share)) * service / (2 - 1)
    assert seen.ttft_ms == pytest.approx((wait + 0.02) * 1e3)


def test_prefills_wait_for_prefills() -> None:
    """M/D/1: those who wait do so for prefill / (2 (1 - load)) on average; P(wait) is the load."""
    rate, prefill = 2.0, 0.2
    seen = latency(engine(step=0.001, prefill=200, places=512), load(1), rate, 95)
    busy = rate * prefill
    wait = math.log(busy / 0.05) * prefill / (2 * (1 - busy))
    assert seen.ttft_ms == pytest.approx((wait + prefill) * 1e3, rel=0.001)


def test_prefills_of_others_stretch_the_gap_between_tokens() -> None:
    """On average by 1 / (1 - rate x prefill), at a percentile by as many prefills as Poisson allows."""
    seen = latency(engine(prefill=100, places=64), load(), 2.0, 95)
    running = 2.0 * 100 * 0.020 / (1 - 0.2)
    assert seen.itl_ms > 20 / (1 - 0.2)
    stalls = (seen.itl_ms - 20) * 100 / 100
    assert running < stalls < running + 3 * math.sqrt(running)


def test_many_stalls_are_taken_as_normal() -> None:
    """The switch from Poisson to normal makes no jump."""
    slow = engine(step=100.0, prefill=0.01, places=4096)
    gaps = [latency(slow, load(1000), rate, 95).itl_ms for rate in (1.98, 1.9999, 2.0001, 2.02)]
    assert gaps == sorted(gaps)
    assert gaps[-1] - gaps[0] < 0.001


def test_a_saturated_copy_has_no_latency() -> None:
    """At a busy share of 1 the queue grows for ever; just below it, places can already be short."""
    full = engine(prefill=100, places=2)
    limit = 1 / busy_seconds_per_request(full, load())
    assert latency(full, load(), limit, 95) == SATURATED
    near = latency(full, load(), limit * 0.9999, 95)
    assert math.isinf(near.ttft_ms)
    assert near.utilization < 1


def test_a_step_grows_until_the_running_sequences_have_settled() -> None:
    """Little's law: sequences in flight are rate x time in service."""
    growing = engine(step=10.0, grows=1.0, places=64)
    seen = latency(growing, load(), 5.0, 50)
    step = seen.itl_ms
    running = 5.0 * 100 * step / 1e3
    assert math.ceil(running) == round(step - 10)


@given(
    rates=st.tuples(st.floats(0.0, 5.0), st.floats(0.0, 5.0)),
    prefill=st.floats(0.1, 300.0),
    places=st.integers(1, 64),
    percentile=st.sampled_from([50.0, 90.0, 95.0, 99.0]),
)
def test_more_load_is_never_faster(
    rates: tuple[float, float], prefill: float, places: int, percentile: float
) -> None:
    """Neither is a higher percentile."""
    low, high = sorted(rates)
    copy = engine(prefill=prefill, places=places)
    one, two = latency(copy, load(), low, percentile), latency(copy, load(), high, percentile)
    assert two.ttft_ms >= one.ttft_ms
    assert two.itl_ms >= one.itl_ms
    assert latency(copy, load(), low, 99.9).ttft_ms >= one.ttft_ms


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
