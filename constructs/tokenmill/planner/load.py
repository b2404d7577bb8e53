"""What a user of one copy sees at a given rate: time to first token and inter-token latency at a percentile.

The copy has `max_sequences` places and works on one thing at a time: a prompt that has a place is prefilled
before the next decode step, and a step gives one token to every running request. A request waits

- for a place: Erlang's C formula with the service time of a full copy, corrected for the variation of
  arrivals and answers (Allen and Cunneen) and for bursts (Hayward; Whitt, "Heavy-Traffic Approximations for
  Service Systems with Blocking", 1984);
- behind other prefills: Pollaczek and Khinchine's formula, in which the second moment of the prompts stands,
  so a few long prompts count for more than their tokens (Kleinrock, "Queueing Systems", volume 1, 5.7);
- for the step in progress, and for its own prefill.

Means add up (or percentiles, where a wait is so rare that its percentile is below its mean); of the distances
from mean to percentile the root of the sum of squares is taken, as for independent normal variables. Between
tokens a request sits through the step of the requests that run with it and through the prefills of others, a
compound Poisson sum. `tests/unit/test_planner_load_simulated.py` holds
all of it against a discrete-event simulation.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING

from tokenmill.planner.queueing import erlang_c, tail, together

if TYPE_CHECKING:
    from tokenmill.core.engine_timing import EngineTiming
    from tokenmill.core.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """What a user sees.

    Args:
        ttft_ms: Time to first token at the percentile, in milliseconds.
        itl_ms: Inter-token latency at the percentile, in milliseconds.
        utilization: Busy share of the engine, 1 being saturated.
    """

    ttft_ms: float
    itl_ms: float
    utilization: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What requests ask of one copy, computed once for all rates; times in seconds.

    Args:
        prefill: Mean prefill.
        prefill_square: Mean of its square.
        prefill_tail: Prefill of a prompt at the percentile.
        tokens: Decode steps of a request.
        token_cv: Coefficient of variation of them.
        step_base: A decode step without sequences.
        step_slope: What each running sequence adds to it.
        experts: What reading all routed experts adds to it; 0 for a dense model.
        expert_share: Share of the routed experts that one token passes through.
        places: Sequences that run together.
        arrival_square: Squared coefficient of variation of the time between requests.
        share: The percentile as a share.
        z: Standard deviations of a normal variable from its mean to the percentile.
        busy: Engine time of a request when the copy is full.
    """

    prefill: float
    prefill_square: float
    prefill_tail: float
    tokens: float
    token_cv: float
    step_base: float
    step_slope: float
    experts: float
    expert_share: float
    places: int
    arrival_square: float
    share: float
    z: float
    busy: float

    @property
    def peakedness(self) -> float:
        """Variance over mean of the requests that run, which bursts drive above 1."""
        return max(1.0, (1 + self.arrival_square) / 2)

    def step(self, running: float) -> float:
        """Return a decode step, in seconds.

        Args:
            running: Sequences that run, which as a mean need not be whole.
        """
        left: float = (1 - self.expert_share) ** running
        return self.step_base + self.step_slope * running + self.experts * (1 - left)


PEAK_HOUR_MS = 3_600_000.0
"""A queue cannot have grown for longer than the peak hour."""
SATURATED = Latency(ttft_ms=math.inf, itl_ms=math.inf, utilization=math.inf)
SEEN_SHARE = 2 / 3
"""Share of the variance of the requests in the system that is left in the mean over one request's stay."""
HALVINGS = 14
TANGENTS = 8


def full_step_ms(engine: EngineTiming, workload: Workload) -> float:
    """Return a decode step with every place taken by a request on its way, in milliseconds.

    Args:
        engine: The copy.
        workload: The requests.
    """
    linear = engine.step_base_ms + _step_slope_ms(engine, workload) * engine.max_sequences
    return linear + engine.experts_ms(engine.max_sequences)


def busy_seconds_per_request(engine: EngineTiming, workload: Workload) -> float:
    """Return the engine time that one request takes when the engine is full, in seconds.

    Args:
        engine: The copy.
        workload: The requests.
    """
    decode = workload.output_tokens * full_step_ms(engine, workload) / engine.max_sequences
    return (prefill_moments(engine, workload)[0] * 1e3 + decode) / 1e3


def latency(engine: EngineTiming, workload: Workload, rate: float, percentile: float) -> Latency:
    """Return what a user sees of one copy.

    Args:
        engine: The copy.
        workload: The requests; their rate is not read.
        rate: Requests a second that this copy gets.
        percentile: Share of requests that see at most this, in percent.
    """
    return latency_at(demand(engine, workload, percentile), rate)


def latency_range(
    engine: EngineTiming,
    workload: Workload,
    rate: float,
    percentile: float,
    *,
    decode: tuple[float, float],
    prefill: tuple[float, float],
) -> tuple[Latency, Latency]:
    """Return the fastest and the slowest that a user may see, the queues that follow from each included.

    Args:
        engine: The copy.
        workload: The requests; their rate is not read.
        rate: Requests a second that this copy gets.
        percentile: Share of requests that see at most this, in percent.
        decode: Low and high end of a decode step, as ratios of the engine's.
        prefill: Low and high end of a prefill, as ratios of the engine's.
    """
    low, high = (
        latency(scaled(engine, step, prompt), workload, rate, percentile)
        for step, prompt in zip(decode, prefill, strict=True)
    )
    if math.isfinite(high.ttft_ms):
        return low, replace(high, ttft_ms=min(high.ttft_ms, PEAK_HOUR_MS))
    slow = scaled(engine, decode[1], prefill[1])
    # each place that becomes free is taken at once, which costs all the others one prefill
    replaced = slow.max_sequences * prefill_moments(slow, workload)[0] * 1e3 / workload.output_tokens
    middle = latency(engine, workload, rate, percentile).itl_ms
    itl = max(full_step_ms(slow, workload) + replaced, middle if math.isfinite(middle) else 0.0)
    return low, Latency(ttft_ms=PEAK_HOUR_MS, itl_ms=itl, utilization=high.utilization)


def scaled(engine: EngineTiming, decode: float, prefill: float) -> EngineTiming:
    """Return an engine whose steps and prefills take so many times as long.

    Args:
        engine: The copy.
        decode: Factor of a decode step.
        prefill: Factor of a prefill.
    """
    return replace(
        engine,
        step_base_ms=engine.step_base_ms * decode,
        step_per_sequence_ms=engine.step_per_sequence_ms * decode,
        step_per_kv_token_ms=engine.step_per_kv_token_ms * decode,
        step_experts_ms=engine.step_experts_ms * decode,
        prefill_base_ms=engine.prefill_base_ms * prefill,
        prefill_per_token_ms=engine.prefill_per_token_ms * prefill,
    )


def best_rate(
    engine: EngineTiming, workload: Workload, target: float, goal: tuple[float, float, float]
) -> float:
    """Return the highest rate of one copy that keeps the goals, in requests a second; 0 where none does.

    Args:
        engine: The copy.
        workload: The requests.
        target: Busy share that must not be exceeded, 0 to 1.
        goal: Time to first token and inter-token latency in milliseconds, and their percentile in percent.
    """
    ttft, itl, percentile = goal
    asked = demand(engine, workload, percentile)

    def holds(rate: float) -> bool:
        seen = latency_at(asked, rate)
        return seen.ttft_ms <= ttft and seen.itl_ms <= itl

    low, high = 0.0, target / asked.busy
    if not holds(low):
        return 0.0
    if holds(high):
        return high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def demand(engine: EngineTiming, workload: Workload, percentile: float) -> Demand:
    """Return what requests ask of a copy, whatever their rate.

    Args:
        engine: The copy.
        workload: The requests; their rate is not read.
        percentile: Share of requests that see at most the latencies, in percent.
    """
    share, z = percentile / 100, _normal_quantile(percentile)
    mean, square = prefill_moments(engine, workload)
    prompt = workload.input_spread.at(z) if workload.input_spread else float(workload.input_tokens)
    tail = _prefill_ms(engine, max(prompt, workload.input_tokens) * (1 - workload.prefix_cache_share)) / 1e3
    return Demand(
        prefill=mean,
        prefill_square=square,
        prefill_tail=max(mean, tail),
        tokens=float(workload.output_tokens),
        token_cv=workload.output_cv,
        step_base=engine.step_base_ms / 1e3,
        step_slope=_step_slope_ms(engine, workload) / 1e3,
        experts=engine.step_experts_ms / 1e3,
        expert_share=engine.expert_share,
        places=engine.max_sequences,
        arrival_square=workload.burstiness**2,
        share=share,
        z=z,
        busy=busy_seconds_per_request(engine, workload),
    )


def latency_at(asked: Demand, rate: float) -> Latency:
    """Return what a user sees of one copy.

    Args:
        asked: What each request asks.
        rate: Requests a second that this copy gets.
    """
    utilization = rate * asked.busy
    load = rate * asked.prefill
    if utilization >= 1 or load >= 1:
        return SATURATED
    step = _steady_step(asked, rate / (1 - load))
    gap = step / (1 - load)
    decode = asked.tokens * gap
    service = asked.prefill + decode
    parts = (
        _place_wait(asked, utilization, service, decode),
        _prefill_wait(asked, rate, load),
        _step_in_progress(asked, rate * decode, step),
        (asked.prefill, asked.prefill_tail),
    )
    itl = gap + asked.z * _gap_deviation(asked, rate, load, gap)
    return Latency(ttft_ms=together(parts) * 1e3, itl_ms=itl * 1e3, utilization=utilization)


def prefill_moments(engine: EngineTiming, workload: Workload) -> tuple[float, float]:
    """Return the mean of a prefill, in seconds, and of its square.

    Args:
        engine: The copy.
        workload: The requests; a lognormal length of their mean and variation stands for their prompts.
    """
    tokens, cv = workload.input_tokens * (1 - workload.prefix_cache_share), workload.input_cv
    if not engine.prefill_buckets:
        mean = _prefill_ms(engine, tokens) / 1e3
        deviation = engine.prefill_per_token_ms * tokens * cv / 1e3
        return mean, mean * mean + deviation * deviation
    if cv == 0 or len(engine.prefill_buckets) == 1:
        mean = _prefill_ms(engine, min(tokens, engine.prefill_buckets[-1])) / 1e3
        return mean, mean * mean
    sigma = math.sqrt(math.log1p(cv * cv))
    middle = math.log(tokens) - sigma * sigma / 2
    mean = square = below = 0.0
    for bucket in engine.prefill_buckets:
        last = bucket == engine.prefill_buckets[-1]
        up_to = 1.0 if last else _NORMAL.cdf((math.log(bucket) - middle) / sigma)
        one = _prefill_ms(engine, bucket) / 1e3
        mean += (up_to - below) * one
        square += (up_to - below) * one * one
        below = up_to
    return mean, square


_NORMAL = NormalDist()


@functools.cache
def _normal_quantile(percentile: float) -> float:
    return _NORMAL.inv_cdf(percentile / 100)


def _prefill_ms(engine: EngineTiming, tokens: float) -> float:
    """A prefill of a mean, which need not be whole where nothing is padded."""
    if engine.prefill_buckets:
        return engine.prefill_ms(max(1, math.ceil(tokens)))
    return engine.prefill_base_ms + engine.prefill_per_token_ms * tokens


def _step_slope_ms(engine: EngineTiming, workload: Workload) -> float:
    """What a running request adds to a step; long answers run longer, so more of their tokens are met."""
    held = workload.input_tokens + workload.output_tokens * (1 + workload.output_cv**2) / 2
    return engine.step_per_sequence_ms + engine.step_per_kv_token_ms * held


def _steady_step(asked: Demand, flow: float) -> float:
    """Seconds of a step that a request sees: its own place, and by Little's law those of the others.

    step = base + slope (1 + flow tokens step), where flow counts requests a second of the time to decode.
    Touched experts bend that: from a full copy down, tangents reach the one solution without passing it.
    """
    full = asked.step(asked.places)
    # a busy share below 1 leaves room, to the last bit of an arithmetic
    room = max(1e-12, 1 - flow * asked.tokens * asked.step_slope)
    if not asked.experts:
        return min(full, (asked.step_base + asked.step_slope) / room)
    step = full
    for _ in range(TANGENTS):
        running = 1 + flow * asked.tokens * step
        beyond = max(0.0, step - asked.step(running))
        step -= beyond / max(1e-12, 1 - flow * asked.tokens * _grows(asked, running))
    return min(full, step)


def _grows(asked: Demand, running: float) -> float:
    """What one more sequence adds to a step, in seconds."""
    left: float = (1 - asked.expert_share) ** running
    return asked.step_slope - asked.experts * left * math.log1p(-min(asked.expert_share, 1 - 1e-9))


def _gap_deviation(asked: Demand, rate: float, load: float, gap: float) -> float:
    """Standard deviation of a request's mean gap: others' prefills in it, and how many run beside it."""
    prefills = asked.prefill_square + (asked.arrival_square - 1) * asked.prefill**2
    stalls = rate * gap * max(0.0, prefills) * (1 + asked.token_cv**2) / asked.tokens
    running = min(rate * asked.tokens * gap, float(asked.places))
    others = (_grows(asked, running) / (1 - load)) ** 2 * running * asked.peakedness * SEEN_SHARE
    return math.sqrt(stalls) + math.sqrt(others)


def _place_wait(asked: Demand, utilization: float, service: float, decode: float) -> tuple[float, float]:
    """A copy with every place taken gives one back each `busy` seconds on average."""
    places = max(1, round(asked.places / asked.peakedness))
    waits = erlang_c(places, places * utilization)
    variance = (decode * asked.token_cv) ** 2 + asked.prefill_square - asked.prefill**2
    variation = (asked.arrival_square + variance / (service * service)) / 2
    mean = waits * asked.busy / (1 - utilization) * variation
    beyond = 1 - asked.share
    return mean, mean / waits * math.log(waits / beyond) if waits > beyond else 0.0


def _prefill_wait(asked: Demand, rate: float, load: float) -> tuple[float, float]:
    bursts = (asked.arrival_square - 1) * asked.prefill**2
    mean = rate * max(0.0, asked.prefill_square + bursts) / (2 * (1 - load))
    return tail(mean, load, asked.share)


def _step_in_progress(asked: Demand, running: float, step: float) -> tuple[float, float]:
    """A request that meets a step waits for the rest of it, which is uniform."""
    meets = -math.expm1(-running)
    if meets == 0:
        return 0.0, 0.0
    return meets * step / 2, step * max(0.0, 1 - (1 - asked.share) / meets)
