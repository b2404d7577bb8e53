"""What a user of one copy sees at a given rate: time to first token and inter-token latency at a percentile.

The copy is a server of `max_sequences` places. A request waits for a place (Erlang's C formula), then for
prefills before it (M/D/1, exponential tail), then for the step in progress, then for its own prefill. Its
decode steps are stretched by the prefills of others, whose number during its answer is Poisson. Formulas:
Kleinrock, "Queueing Systems", volume 1, sections 3.5 and 5.7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

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


POISSON_EXACT = 200
"""Above this mean a Poisson variable is taken as normal, which is then off by less than one."""
SATURATED = Latency(ttft_ms=math.inf, itl_ms=math.inf, utilization=math.inf)


def full_step_ms(engine: EngineTiming, workload: Workload) -> float:
    """Return a decode step with every place taken by a half-answered request, in milliseconds.

    Args:
        engine: The copy.
        workload: The requests.
    """
    return _step_ms(engine, workload, engine.max_sequences)


def busy_seconds_per_request(engine: EngineTiming, workload: Workload) -> float:
    """Return the engine time that one request takes when the engine is full, in seconds.

    Args:
        engine: The copy.
        workload: The requests.
    """
    decode = workload.output_tokens * full_step_ms(engine, workload) / engine.max_sequences
    return (engine.prefill_ms(workload.input_tokens) + decode) / 1e3


def latency(engine: EngineTiming, workload: Workload, rate: float, percentile: float) -> Latency:
    """Return what a user sees of one copy.

    Args:
        engine: The copy.
        workload: The requests; their rate is not read.
        rate: Requests a second that this copy gets.
        percentile: Share of requests that see at most this, in percent.
    """
    utilization = rate * busy_seconds_per_request(engine, workload)
    if utilization >= 1:
        return SATURATED
    prefill = engine.prefill_ms(workload.input_tokens) / 1e3
    share = percentile / 100
    step, gap = _steady_step(engine, workload, rate, prefill)
    service = workload.output_tokens * gap + prefill
    place = _place_wait(engine.max_sequences, rate, service, share)
    queue = _prefill_wait(rate, prefill, share)
    stalls = _poisson_quantile(rate * workload.output_tokens * gap, share)
    itl = step + prefill * stalls / workload.output_tokens
    return Latency(ttft_ms=(place + queue + step + prefill) * 1e3, itl_ms=itl * 1e3, utilization=utilization)


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

    def holds(rate: float) -> bool:
        seen = latency(engine, workload, rate, percentile)
        return seen.ttft_ms <= ttft and seen.itl_ms <= itl

    low, high = 0.0, target / busy_seconds_per_request(engine, workload)
    if not holds(low):
        return 0.0
    if holds(high):
        return high
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _step_ms(engine: EngineTiming, workload: Workload, sequences: int) -> float:
    held = workload.input_tokens + workload.output_tokens // 2
    return engine.step_ms(sequences, sequences * held)


def _steady_step(
    engine: EngineTiming, workload: Workload, rate: float, prefill: float
) -> tuple[float, float]:
    """Seconds of a step and of a token gap when the running sequences have settled."""
    stretch = 1 / max(1e-9, 1 - rate * prefill)
    step = _step_ms(engine, workload, 1) / 1e3
    while True:
        running = rate * workload.output_tokens * step * stretch
        sequences = min(engine.max_sequences, max(1, math.ceil(running)))
        settled = _step_ms(engine, workload, sequences) / 1e3
        # ends: a longer step only ever runs more sequences, and there are max_sequences at most
        if settled == step:
            break
        step = settled
    return step, step * stretch


def _place_wait(places: int, rate: float, service: float, share: float) -> float:
    """Quantile of the wait for one of several places, in seconds."""
    load = rate * service
    if load >= places:
        return math.inf
    blocked = 1.0
    for place in range(1, places + 1):
        blocked = load * blocked / (place + load * blocked)
    waiting = blocked / (1 - load / places * (1 - blocked))
    if waiting <= 1 - share:
        return 0.0
    return math.log(waiting / (1 - share)) * service / (places - load)


def _prefill_wait(rate: float, prefill: float, share: float) -> float:
    """Quantile of the wait behind other prefills, in seconds."""
    load = rate * prefill
    if load <= 1 - share:
        return 0.0
    mean_of_those_who_wait = prefill / (2 * (1 - load))
    return math.log(load / (1 - share)) * mean_of_those_who_wait


def _poisson_quantile(mean: float, share: float) -> int:
    """Smallest count that a Poisson variable does not exceed with the given probability."""
    if mean > POISSON_EXACT:
        return math.ceil(NormalDist(mean, math.sqrt(mean)).inv_cdf(share))
    term = total = math.exp(-mean)
    count = 0
    while total < share:
        count += 1
        term *= mean / count
        total += term
    return count
