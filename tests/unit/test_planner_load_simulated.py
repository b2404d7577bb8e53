"""The planner's queueing formulas hold against an independent discrete-event simulation of the engine."""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tokenmill.core.engine_timing import EngineTiming
from tokenmill.core.workload import P95, TokenSpread, Workload
from tokenmill.planner.load import busy_seconds_per_request, latency

if TYPE_CHECKING:
    from collections.abc import Callable

    Draw = Callable[[random.Random], float]

REQUESTS = 3000
WARM_UP = 300
INPUT_TOKENS, OUTPUT_TOKENS = 512, 256

COMPILED = EngineTiming(
    step_base_ms=27.6,
    step_per_sequence_ms=0.0,
    step_per_kv_token_ms=0.0,
    prefill_base_ms=0.0,
    prefill_per_token_ms=0.1165,
    prefill_buckets=(2048,),
    max_sequences=16,
    kv_capacity_tokens=32_768,
)
PAGED = EngineTiming(
    step_base_ms=18.0,
    step_per_sequence_ms=0.05,
    step_per_kv_token_ms=0.00017,
    prefill_base_ms=8.0,
    prefill_per_token_ms=0.06,
    prefill_buckets=(),
    max_sequences=64,
    kv_capacity_tokens=10**6,
)
FEW_PLACES = EngineTiming(
    step_base_ms=20.0,
    step_per_sequence_ms=0.0,
    step_per_kv_token_ms=0.0,
    prefill_base_ms=0.0,
    prefill_per_token_ms=0.05,
    prefill_buckets=(2048,),
    max_sequences=4,
    kv_capacity_tokens=8192,
)


@dataclass(frozen=True)
class Traffic:
    """Requests by the coefficients of variation of prompts, answers and arrivals."""

    prompts: float
    answers: float
    arrivals: float = 1.0

    @property
    def workload(self) -> Workload:
        """Return what the planner is told."""
        return Workload(
            requests_per_second=1,
            input_tokens=INPUT_TOKENS,
            output_tokens=OUTPUT_TOKENS,
            input_spread=spread(INPUT_TOKENS, self.prompts),
            output_spread=spread(OUTPUT_TOKENS, self.answers),
            burstiness=self.arrivals,
        )


def shape(mean: float, cv: float) -> tuple[float, float]:
    """Return the parameters of the lognormal variable with a mean and a coefficient of variation."""
    sigma = math.sqrt(math.log1p(cv * cv))
    return math.log(mean) - sigma * sigma / 2, sigma


def spread(mean: float, cv: float) -> TokenSpread:
    """Return the percentiles of that variable."""
    middle, sigma = shape(mean, cv)
    return TokenSpread(p50=round(math.exp(middle)), p95=round(math.exp(middle + P95 * sigma)), cv=cv)


def lengths(mean: float, cv: float) -> Draw:
    """Return a source of that variable."""
    middle, sigma = shape(mean, cv)
    return lambda source: max(1.0, source.lognormvariate(middle, sigma))


def gaps(cv: float) -> Draw:
    """Return a source of times between requests of mean 1: exponential, or two mixed for more variation."""
    if cv == 1:
        return lambda source: source.expovariate(1.0)
    often = (1 + math.sqrt((cv * cv - 1) / (cv * cv + 1))) / 2
    return lambda source: source.expovariate(2 * (often if source.random() < often else 1 - often))


def simulate(engine: EngineTiming, traffic: Traffic, rate: float) -> tuple[list[float], list[float]]:
    """Return times to first token and mean gaps between tokens of every request, in milliseconds.

    One thing at a time: a waiting request that has a place is prefilled, which gives its first token; else
    one step gives each running request a token. Nothing here is shared with the planner's formulas.
    """
    source = random.Random(7)
    draw_gap, draw_prompt = gaps(traffic.arrivals), lengths(INPUT_TOKENS, traffic.prompts)
    draw_answer = lengths(OUTPUT_TOKENS, traffic.answers)
    arrivals, now = [], 0.0
    for _ in range(REQUESTS):
        now += draw_gap(source) / rate * 1e3
        arrivals.append((now, round(draw_prompt(source)), round(draw_answer(source))))
    now, next_one = 0.0, 0
    waiting: deque[tuple[float, int, int]] = deque()
    running: list[list[float]] = []
    first_tokens, mean_gaps = [], []
    while next_one < REQUESTS or waiting or running:
        if not waiting and not running:
            now = max(now, arrivals[next_one][0])
        while next_one < REQUESTS and arrivals[next_one][0] <= now:
            waiting.append(arrivals[next_one])
            next_one += 1
        if waiting and len(running) < engine.max_sequences:
            arrived, prompt, answer = waiting.popleft()
            now += engine.prefill_ms(prompt)
            first_tokens.append(now - arrived)
            if answer > 1:
                running.append([prompt + 1, answer - 1, now, answer - 1])
        elif running:
            now += engine.step_ms(len(running), int(sum(item[0] for item in running)))
            for item in running:
                item[0] += 1
                item[1] -= 1
            mean_gaps += [(now - item[2]) / item[3] for item in running if item[1] == 0]
            running = [item for item in running if item[1] > 0]
    return first_tokens[WARM_UP:], mean_gaps[WARM_UP:]


def at(values: list[float], percent: float) -> float:
    """Return a percentile by nearest rank."""
    ordered = sorted(values)
    return ordered[math.ceil(percent / 100 * len(ordered)) - 1]


def compared(engine: EngineTiming, traffic: Traffic, busy: float, percent: float) -> tuple[float, float]:
    """Return predicted over simulated, of time to first token and of the gap between tokens."""
    rate = busy / busy_seconds_per_request(engine, traffic.workload)
    first_tokens, mean_gaps = simulate(engine, traffic, rate)
    seen = latency(engine, traffic.workload, rate, percent)
    return seen.ttft_ms / at(first_tokens, percent), seen.itl_ms / at(mean_gaps, percent)


@pytest.mark.parametrize("busy", [0.2, 0.5])
@pytest.mark.parametrize("engine", [COMPILED, PAGED], ids=["compiled", "paged"])
@pytest.mark.parametrize(
    "traffic", [Traffic(0.01, 0.01), Traffic(1.0, 0.8), Traffic(2.0, 1.0)], ids=["even", "chat", "heavy"]
)
def test_poisson_traffic_on_a_copy_with_places_to_spare(
    engine: EngineTiming, traffic: Traffic, busy: float
) -> None:
    """First token within 35 %, gap within 12 %, whatever the prompts and answers, at the 95th percentile."""
    first, gap = compared(engine, traffic, busy, 95)
    assert 0.65 < first < 1.35
    assert 0.88 < gap < 1.12


@pytest.mark.parametrize("busy", [0.2, 0.5, 0.7])
@pytest.mark.parametrize("traffic", [Traffic(0.01, 0.01), Traffic(1.0, 0.8)], ids=["even", "chat"])
def test_the_median_is_as_close(traffic: Traffic, busy: float) -> None:
    """Within 30 % and 10 %."""
    first, gap = compared(PAGED, traffic, busy, 50)
    assert 0.9 < first < 1.3
    assert 0.9 < gap < 1.1


@pytest.mark.parametrize("busy", [0.5, 0.7])
@pytest.mark.parametrize(
    "traffic", [Traffic(0.01, 0.01), Traffic(1.0, 0.8), Traffic(1.0, 1.0)], ids=["even", "chat", "wide"]
)
def test_a_copy_that_runs_short_of_places(traffic: Traffic, busy: float) -> None:
    """Seconds of waiting for a place, where prefill takes a tenth of one: within 40 %."""
    first, gap = compared(FEW_PLACES, traffic, busy, 95)
    assert 0.6 < first < 1.4
    assert 0.9 < gap < 1.1


@pytest.mark.parametrize("engine", [COMPILED, PAGED, FEW_PLACES], ids=["compiled", "paged", "few places"])
@pytest.mark.parametrize("busy", [0.5, 0.7])
def test_bursts_are_not_taken_lightly(engine: EngineTiming, busy: float) -> None:
    """With twice Poisson's variation the prediction errs on the safe side, by a factor of 3.5 at most."""
    first, gap = compared(engine, Traffic(1.0, 0.8, 2.0), busy, 95)
    assert 0.85 < first < 3.5
    assert 0.85 < gap < 1.1


def test_heavy_prompts_wait_longer_than_their_mean_says() -> None:
    """The simulation agrees that the spread of prompts matters: even ones of the same mean wait far less."""
    heavy, even = Traffic(2.0, 0.8), Traffic(0.01, 0.8)
    rate = 0.7 / busy_seconds_per_request(PAGED, even.workload)
    simulated = at(simulate(PAGED, heavy, rate)[0], 95) / at(simulate(PAGED, even, rate)[0], 95)
    said = latency(PAGED, heavy.workload, rate, 95).ttft_ms / latency(PAGED, even.workload, rate, 95).ttft_ms
    assert simulated > 1.5
    assert said == pytest.approx(simulated, rel=0.2)
