"""What a request costs, published while it runs: demand must be seen when it arrives, not when it is over."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime import metric_contract as contract
from tokenmill_runtime.emf import emf_line
from tokenmill_runtime.gateway.chat_request import tokens_of
from tokenmill_runtime.token_work import token_work

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tokenmill_runtime.clock import Clock
    from tokenmill_runtime.gateway_config import GatewayModel

PUBLISH_SECONDS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one request; those read from a cache or written to it are part of the input."""

    input_tokens: int
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0

    @classmethod
    def from_openai(cls, usage: object) -> Usage | None:
        """Read a model's usage object; None when there is none that can be believed."""
        if not isinstance(usage, dict):
            return None
        details = usage.get("prompt_tokens_details") or {}
        details = details if isinstance(details, dict) else {}
        found = (
            usage.get("prompt_tokens"),
            usage.get("completion_tokens"),
            details.get("cached_tokens") or 0,
            details.get("cache_write_tokens") or 0,
        )
        counts = [count for count in found if isinstance(count, int) and count >= 0]
        if len(counts) < len(found) or counts[2] + counts[3] > counts[0]:
            return None
        return cls(
            input_tokens=counts[0],
            output_tokens=counts[1],
            cached_input_tokens=counts[2],
            cache_write_tokens=counts[3],
        )


class Meters:
    """Makes the meters of one gateway process and counts its requests in flight by target."""

    def __init__(self, *, clock: Clock, emit: Callable[[str], None]) -> None:
        self.clock = clock
        self.emit = emit
        self.in_flight: Counter[str] = Counter()

    def start(
        self,
        model: GatewayModel,
        *,
        input_tokens: int,
        request_id: str,
        arrived: float,
        max_tokens: int | None = None,
    ) -> Meter:
        """Publish the demand of a request that goes to its model now.

        ``arrived`` is in monotonic seconds; ``max_tokens`` is what Bedrock reserves for the answer, None for
        the model's output limit.
        """
        self.in_flight[model.target] += 1
        meter = Meter(self, model, input_tokens=input_tokens, request_id=request_id, arrived=arrived)
        meter.begin(max_tokens)
        return meter


class Meter:
    """Publishes one request: prefill at arrival, decode as it streams, the model's own count at the end.

    What is published always adds up: each line holds the difference to what went out before, so a correction
    may be negative. ``first_token_ms`` is from the arrival at the gateway.
    """

    def __init__(
        self, meters: Meters, model: GatewayModel, *, input_tokens: int, request_id: str, arrived: float
    ) -> None:
        self._meters = meters
        self._model = model
        self._request_id = request_id
        self._known = Usage(input_tokens=input_tokens)
        self._published = Usage(input_tokens=0)
        self._published_work = 0.0
        self._arrived = self._last_token = arrived
        self._last_line = meters.clock.monotonic()
        self._first_token: float | None = None

    def begin(self, max_tokens: int | None) -> None:
        """Publish the request, and what Bedrock takes from the token quota while it runs."""
        values: dict[str, float] = {contract.REQUESTS: 1, contract.IN_FLIGHT: self._in_flight}
        if self._model.backend == "bedrock":
            # "How tokens are counted in Amazon Bedrock": the whole input and max_tokens, caches included.
            answer = self._model.max_output_tokens if max_tokens is None else max_tokens
            values[contract.RESERVED_TOKENS] = self._known.input_tokens + answer
        self._publish(values)

    def overflow(self) -> None:
        """Publish at once that the request goes to a model that stands in for the wanted one."""
        self._publish({contract.OVERFLOW: 1})

    @property
    def usage(self) -> Usage:
        """The best count so far."""
        return self._known

    @property
    def first_token_ms(self) -> float | None:
        """Milliseconds from arrival to the first token, None before it."""
        return None if self._first_token is None else (self._first_token - self._arrived) * 1000

    @property
    def duration_ms(self) -> float:
        """Milliseconds since arrival."""
        return (self._meters.clock.monotonic() - self._arrived) * 1000

    @property
    def _in_flight(self) -> int:
        return self._meters.in_flight[self._model.target]

    def text(self, text: str, *, single_token: bool) -> None:
        """Count a piece of the answer, and publish when the last line is PUBLISH_SECONDS old."""
        now = self._meters.clock.monotonic()
        self._first_token = now if self._first_token is None else self._first_token
        self._last_token = now
        tokens = 1 if single_token else tokens_of(text)
        known = self._known
        self._known = Usage(input_tokens=known.input_tokens, output_tokens=known.output_tokens + tokens)
        if now - self._last_line >= PUBLISH_SECONDS:
            self._publish({contract.IN_FLIGHT: self._in_flight})

    def correct(self, usage: Usage | None) -> None:
        """Take the model's own count, if it gave one; what was estimated stays otherwise."""
        self._known = usage or self._known

    def finish(self, *, failed: bool, streamed: bool) -> None:
        """Publish what is still missing; latencies only of an answer that streamed to its end."""
        values: dict[str, float] = {contract.ERRORS: int(failed), contract.IN_FLIGHT: self._in_flight}
        if streamed and not failed and self._first_token is not None:
            values[contract.TIME_TO_FIRST_TOKEN] = (self._first_token - self._arrived) * 1000
            if self._known.output_tokens > 1:
                spread = (self._last_token - self._first_token) * 1000
                values[contract.INTER_TOKEN_LATENCY] = spread / (self._known.output_tokens - 1)
        self._publish(values)
        self._meters.in_flight[self._model.target] -= 1

    def _publish(self, values: Mapping[str, float]) -> None:
        known, before = self._known, self._published
        work = token_work(
            input_tokens=known.input_tokens,
            cached_input_tokens=known.cached_input_tokens,
            output_tokens=known.output_tokens,
            coefficients=self._model.token_work,
        )
        differences: dict[str, Any] = {
            contract.TOKEN_WORK: work - self._published_work,
            contract.INPUT_TOKENS: known.input_tokens - before.input_tokens,
            contract.CACHED_INPUT_TOKENS: known.cached_input_tokens - before.cached_input_tokens,
            contract.CACHE_WRITE_TOKENS: known.cache_write_tokens - before.cache_write_tokens,
            contract.OUTPUT_TOKENS: known.output_tokens - before.output_tokens,
        }
        line = {name: value for name, value in differences.items() if value} | dict(values)
        clock = self._meters.clock
        self._meters.emit(
            emf_line(
                line,
                target=self._model.target,
                publisher="gateway",
                timestamp=clock.wall(),
                request_id=self._request_id,
            )
        )
        self._published, self._published_work, self._last_line = known, work, clock.monotonic()
