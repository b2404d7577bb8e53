"""A continuous-batching engine that keeps a plan's time: what runs when, and when each token is there.

The engine holds no weights. It schedules like vLLM: a waiting request that fits is prefilled before the next
decode step, every decode step gives one token to every running sequence, and when the KV cache is full the
youngest sequence is preempted and recomputed later.
Source: vLLM documentation, "Optimization and Tuning" (preemption) and "Metrics" (what is counted).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Protocol

from tokenmill.local.model_server.metrics import EngineMetrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Timing(Protocol):
    """How long one copy's engine takes; `tokenmill.core.engine_timing.EngineTiming` is one."""

    @property
    def max_sequences(self) -> int:
        """Sequences that run at the same time."""

    @property
    def kv_capacity_tokens(self) -> int:
        """Tokens that the KV cache holds."""

    def step_ms(self, sequences: int, kv_tokens: int) -> float:
        """Milliseconds of one decode step."""

    def prefill_ms(self, tokens: int) -> float:
        """Milliseconds of one prefill."""


class Clock(Protocol):
    """What the engine sleeps by."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Wait that long."""


class MonotonicClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Return seconds on a clock that never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait.

        Args:
            seconds: How long.
        """
        await asyncio.sleep(seconds)


@dataclass(slots=True, kw_only=True)
class Sequence:
    """One request inside the engine."""

    number: int
    input_tokens: int
    output_tokens: int
    arrived: float
    generated: int = 0
    first_token: float | None = None
    last_token: float | None = None
    cancelled: bool = False
    tokens: asyncio.Queue[int] = field(default_factory=asyncio.Queue)

    @property
    def kv_tokens(self) -> int:
        """Tokens that the sequence holds in the KV cache."""
        return self.input_tokens + self.generated

    @property
    def done(self) -> bool:
        """Whether nothing is left to generate."""
        return self.cancelled or self.generated >= self.output_tokens


class Engine:
    """One copy's engine.

    Args:
        timing: How long prefill and decode take.
        metrics: Where counts and latencies are kept.
        clock: What is slept by; a test gives its own.
    """

    def __init__(
        self, timing: Timing, *, metrics: EngineMetrics | None = None, clock: Clock | None = None
    ) -> None:
        self.timing = timing
        self.metrics = metrics or EngineMetrics()
        self._clock: Clock = clock or MonotonicClock()
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._wake = asyncio.Event()
        self._numbers = count()
        self._due = 0.0

    @property
    def running(self) -> int:
        """Sequences in the batch."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Sequences that wait for a place."""
        return len(self._waiting)

    @property
    def outstanding(self) -> int:
        """Sequences that are not finished."""
        return self.running + self.waiting

    @property
    def kv_usage(self) -> float:
        """Share of the KV cache in use, 0 to 1."""
        return self._kv_tokens() / self.timing.kv_capacity_tokens

    def fits(self, tokens: int) -> bool:
        """Whether a sequence of that many tokens ever fits into the KV cache.

        Args:
            tokens: Input and output together.
        """
        return tokens <= self.timing.kv_capacity_tokens

    async def generate(self, *, input_tokens: int, output_tokens: int) -> AsyncIterator[int]:
        """Yield the number of every token, counted from 0, at the time the engine has it.

        Args:
            input_tokens: Length of the prompt.
            output_tokens: Tokens to generate.
        """
        sequence = Sequence(
            number=next(self._numbers),
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            arrived=self._clock.now(),
        )
        self._waiting.append(sequence)
        self._wake.set()
        try:
            for _ in range(output_tokens):
                yield await sequence.tokens.get()
        finally:
            sequence.cancelled = True

    async def run(self) -> None:
        """Run iterations for ever; cancel the task to stop."""
        while True:
            if not self.outstanding:
                self._wake.clear()
                await self._wake.wait()
                self._due = self._clock.now()
            await self.step()

    async def step(self) -> None:
        """Run one iteration: a prefill when a waiting sequence fits, else one decode step of the batch."""
        self._drop_finished()
        sequence = self._admit()
        if sequence is not None:
            await self._spend(self.timing.prefill_ms(sequence.kv_tokens))
            self._running.append(sequence)
            self.metrics.prefilled(sequence.kv_tokens)
            self._emit([sequence])
        elif self._running:
            self._make_room()
            await self._spend(self.timing.step_ms(len(self._running), self._kv_tokens()))
            self._emit(list(self._running))
        self._drop_finished()

    async def _spend(self, milliseconds: float) -> None:
        """Sleep until the iteration's end, counted from the last one's: sleeping late does not add up."""
        self._due += milliseconds / 1000
        delay = self._due - self._clock.now()
        if delay > 0:
            await self._clock.sleep(delay)
        else:
            self._due = self._clock.now()
            await asyncio.sleep(0)

    def _kv_tokens(self) -> int:
        return sum(sequence.kv_tokens for sequence in self._running)

    def _admit(self) -> Sequence | None:
        if not self._waiting or len(self._running) >= self.timing.max_sequences:
            return None
        needed = self._waiting[0].kv_tokens + 1
        if self._running and self._kv_tokens() + needed > self.timing.kv_capacity_tokens:
            return None
        return self._waiting.popleft()

    def _make_room(self) -> None:
        while (
            len(self._running) > 1 and self._kv_tokens() + len(self._running) > self.timing.kv_capacity_tokens
        ):
            youngest = self._running.pop()
            self._waiting.appendleft(youngest)
            self.metrics.preemptions += 1

    def _emit(self, sequences: list[Sequence]) -> None:
        now = self._clock.now()
        for sequence in sequences:
            sequence.tokens.put_nowait(sequence.generated)
            sequence.generated += 1
            self.metrics.generated += 1
            if sequence.first_token is None:
                sequence.first_token = now
                self.metrics.time_to_first_token.observe(now - sequence.arrived)
            elif sequence.last_token is not None:
                self.metrics.inter_token_latency.observe(now - sequence.last_token)
            sequence.last_token = now
            if sequence.generated >= sequence.output_tokens:
                self.metrics.end_to_end.observe(now - sequence.arrived)
                self.metrics.finished += 1

    def _drop_finished(self) -> None:
        self._running = [sequence for sequence in self._running if not sequence.done]
        self._waiting = deque(sequence for sequence in self._waiting if not sequence.done)


class Copies:
    """The copies of one component, each with an engine of its own; a request goes to the least loaded.

    Args:
        timing: How long each engine takes.
        metrics: Shared by all copies.
        clock: What the engines sleep by.
    """

    def __init__(self, timing: Timing, *, metrics: EngineMetrics, clock: Clock | None = None) -> None:
        self._timing = timing
        self._metrics = metrics
        self._clock = clock
        self._engines: list[tuple[Engine, asyncio.Task[None]]] = []
        self._draining: list[tuple[Engine, asyncio.Task[None]]] = []

    @property
    def engines(self) -> list[Engine]:
        """The engines that take requests."""
        return [engine for engine, _ in self._engines]

    def resize(self, copies: int) -> None:
        """Start or drain engines until that many take requests; a drained one finishes what it has.

        Args:
            copies: How many.
        """
        while len(self._engines) < copies:
            engine = Engine(self._timing, metrics=self._metrics, clock=self._clock)
            self._engines.append((engine, asyncio.create_task(engine.run())))
        while len(self._engines) > copies:
            self._draining.append(self._engines.pop())
        for engine, task in list(self._draining):
            if not engine.outstanding:
                task.cancel()
                self._draining.remove((engine, task))

    def least_outstanding(self) -> Engine:
        """Return the engine with the fewest unfinished requests (LEAST_OUTSTANDING_REQUESTS routing)."""
        return min(self.engines, key=lambda engine: engine.outstanding)

    def close(self) -> None:
        """Stop every engine at once."""
        for _, task in self._engines + self._draining:
            task.cancel()
        self._engines.clear()
        self._draining.clear()
