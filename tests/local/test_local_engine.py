"""The engine keeps the plan's time; no test waits for it."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

import pytest

from support_local import TIMING, FakeClock
from tokenmill.local.model_server.engine import Copies, Engine
from tokenmill.local.model_server.metrics import EngineMetrics

if TYPE_CHECKING:
    from collections.abc import Coroutine


def run(coroutine: Coroutine[None, None, object]) -> object:
    return asyncio.run(coroutine)


async def arrivals(engine: Engine, clock: FakeClock, *, input_tokens: int, output_tokens: int) -> list[float]:
    """Milliseconds at which the tokens of one request are there."""
    return [
        round(clock.now() * 1000, 3)
        async for _ in engine.generate(input_tokens=input_tokens, output_tokens=output_tokens)
    ]


async def together(engine: Engine, *requests: Coroutine[None, None, list[float]]) -> list[list[float]]:
    """Answers of requests that arrive at the same moment, in an engine that is stepped by hand."""
    tasks = [asyncio.create_task(request) for request in requests]
    await asyncio.sleep(0)
    while not all(task.done() for task in tasks):
        await engine.step()
        await asyncio.sleep(0)
    return [task.result() for task in tasks]


def test_one_sequence_takes_prefill_then_one_step_a_token() -> None:
    """10 + 1 × 30 ms of prefill give the first token, every further one takes 20 + 1 ms."""

    async def story() -> None:
        clock = FakeClock()
        engine = Engine(TIMING, clock=clock)
        [seen] = await together(engine, arrivals(engine, clock, input_tokens=30, output_tokens=4))
        assert seen == [40.0, 61.0, 82.0, 103.0]

    run(story())


def test_two_sequences_share_every_step() -> None:
    """The second prefill holds the first sequence up; then one step of 20 + 2 ms serves both."""

    async def story() -> None:
        clock = FakeClock()
        engine = Engine(TIMING, clock=clock)
        first, second = await together(
            engine,
            arrivals(engine, clock, input_tokens=30, output_tokens=3),
            arrivals(engine, clock, input_tokens=10, output_tokens=3),
        )
        assert first == [40.0, 82.0, 104.0]
        assert second == [60.0, 82.0, 104.0]

    run(story())


def test_a_full_batch_makes_the_next_one_wait() -> None:
    """With one place the second request is prefilled only when the first is through."""

    async def story() -> None:
        clock = FakeClock()
        engine = Engine(dataclasses.replace(TIMING, max_sequences=1), clock=clock)
        first, second = await together(
            engine,
            arrivals(engine, clock, input_tokens=10, output_tokens=3),
            arrivals(engine, clock, input_tokens=10, output_tokens=1),
        )
        assert first == [20.0, 41.0, 62.0]
        assert second == [82.0]

    run(story())


def test_a_full_cache_preempts_the_youngest_which_still_gets_every_token() -> None:
    """Two prompts of 40 outgrow a cache of 90 tokens; the second is recomputed after the first."""

    async def story() -> None:
        clock = FakeClock()
        engine = Engine(dataclasses.replace(TIMING, kv_capacity_tokens=90), clock=clock)
        first, second = await together(
            engine,
            arrivals(engine, clock, input_tokens=40, output_tokens=20),
            arrivals(engine, clock, input_tokens=40, output_tokens=20),
        )
        assert engine.metrics.preemptions >= 1
        assert len(first) == len(second) == 20
        assert second == sorted(second)
        assert first[-1] < second[-1]

    run(story())


def test_an_abandoned_request_leaves_the_batch() -> None:
    """A client that goes away frees its place at the next step."""

    async def story() -> None:
        clock = FakeClock()
        engine = Engine(TIMING, clock=clock)
        abandoned = engine.generate(input_tokens=10, output_tokens=1000)
        task = asyncio.create_task(anext(abandoned))
        await asyncio.sleep(0)
        await engine.step()
        assert await task == 0
        assert engine.running == 1
        await abandoned.aclose()
        await engine.step()
        assert engine.outstanding == 0

    run(story())


def test_prefill_is_padded_to_the_compiled_bucket() -> None:
    """On Neuron a prompt of 30 in a bucket of 128 takes the bucket's time."""

    async def story() -> None:
        clock = FakeClock()
        engine = Engine(dataclasses.replace(TIMING, prefill_buckets=(128, 512)), clock=clock)
        [seen] = await together(engine, arrivals(engine, clock, input_tokens=30, output_tokens=1))
        assert seen == [138.0]

    run(story())


def test_the_metrics_count_what_ran_under_vllm_names() -> None:
    async def story() -> None:
        clock = FakeClock()
        metrics = EngineMetrics()
        engine = Engine(TIMING, metrics=metrics, clock=clock)
        await together(engine, arrivals(engine, clock, input_tokens=30, output_tokens=4))
        text = metrics.render("m", [engine])
        assert 'vllm:prompt_tokens_total{model_name="m"} 30' in text
        assert 'vllm:generation_tokens_total{model_name="m"} 4' in text
        assert 'vllm:request_success_total{model_name="m"} 1' in text
        assert 'vllm:time_to_first_token_seconds_bucket{model_name="m",le="0.04"} 1' in text
        assert 'vllm:inter_token_latency_seconds_count{model_name="m"} 3' in text
        assert 'vllm:num_requests_running{model_name="m"} 0' in text

    run(story())


def test_requests_go_to_the_copy_with_the_fewest_outstanding() -> None:
    async def story() -> None:
        copies = Copies(TIMING, metrics=EngineMetrics(), clock=FakeClock())
        copies.resize(2)
        busy, idle = copies.engines
        generated = busy.generate(input_tokens=10, output_tokens=10)
        task = asyncio.create_task(anext(generated))
        await asyncio.sleep(0)
        assert copies.least_outstanding() is idle
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        copies.close()

    run(story())


def test_a_copy_that_is_taken_away_takes_no_new_requests() -> None:
    async def story() -> None:
        copies = Copies(TIMING, metrics=EngineMetrics(), clock=FakeClock())
        copies.resize(3)
        copies.resize(1)
        assert len(copies.engines) == 1
        copies.resize(0)
        assert copies.engines == []
        copies.close()

    run(story())
