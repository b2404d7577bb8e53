"""What throttles a call: tokens a minute of a model on demand, or of the model units that were bought.

A call reserves what it may use before it runs and settles what it used at its end.
Source: Amazon Bedrock User Guide, "How tokens are counted in Amazon Bedrock" (input, cache and `max_tokens`
are reserved; input, cache writes and output times the burndown rate are counted), "Increase model
invocation capacity with Provisioned Throughput". AWS does not publish what one model unit holds:
`UNIT_TOKENS` stands for it.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError
from tokenmill.local.aws_requests import AwsError, Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

UNIT_TOKENS = 60_000
# "amazon.nova-lite-v1:0:24k" is bought, "amazon.nova-lite-v1:0" is the model.
CONTEXT_LENGTH = re.compile(r"(?<=:\d):\d+k$")
# What a request without `maxTokens` reserves of output.
DEFAULT_OUTPUT_TOKENS = 4096
_MINUTE = 60.0
FORM = (
    'bedrock_capacity takes {"on_demand": {"MODEL": TOKENS_A_MINUTE}, "unit": {"MODEL": TOKENS_A_MINUTE}}; '
    "0 refuses every call, null ends a limit"
)


@dataclass(slots=True)
class _Bucket:
    tokens_a_minute: float
    left: float
    at: float

    def refill(self, now: float) -> None:
        self.left = min(self.tokens_a_minute, self.left + (now - self.at) * self.tokens_a_minute / _MINUTE)
        self.at = now


@dataclass(frozen=True, slots=True)
class Reservation:
    """Tokens that a running call holds.

    Args:
        key: Whose they are; nothing where no limit counts.
        tokens: How many.
    """

    key: tuple[Scope, str] | None
    tokens: int


class Capacity:
    """Tokens a minute, by model on demand and by provisioned throughput.

    Args:
        clock: Seconds on a clock that never goes back.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._on_demand: dict[tuple[Scope, str], int] = {}
        self._unit: dict[tuple[Scope, str], int] = {}
        self._buckets: dict[tuple[Scope, str], _Bucket] = {}

    def set_limits(self, scope: Scope, request: object) -> None:
        """Set limits; those that the request does not name stay.

        Args:
            scope: Whose.
            request: The admin call's member.

        Raises:
            TokenmillError: It has another form.
        """
        if not isinstance(request, dict) or not set(request) <= {"on_demand", "unit"}:
            raise TokenmillError(FORM)
        for name, table in (("on_demand", self._on_demand), ("unit", self._unit)):
            limits = request.get(name) or {}
            for model, tokens in _checked(limits).items():
                table.pop((scope, model), None)
                if tokens is not None:
                    table[scope, model] = tokens

    def limits(self, scope: Scope) -> dict[str, dict[str, int]]:
        """Return the limits that were set, by kind and model.

        Args:
            scope: Whose.
        """
        tables = {"on_demand": self._on_demand, "unit": self._unit}
        return {
            kind: {model: tokens for (owner, model), tokens in table.items() if owner == scope}
            for kind, table in tables.items()
        }

    def on_demand(self, scope: Scope, model: str, tokens: int) -> Reservation:
        """Reserve tokens of a model on demand, where a limit is set.

        Args:
            scope: Whose quota.
            model: The id that was called: a model, or a profile with a quota of its own.
            tokens: Input, cache writes and the most output.

        Raises:
            AwsError: The minute's tokens are used up.
        """
        limit = self._on_demand.get((scope, model))
        if limit is None:
            return Reservation(None, tokens)
        return self._reserve((scope, model), limit, tokens)

    def provisioned(self, scope: Scope, arn: str, model: str, units: int, tokens: int) -> Reservation:
        """Reserve tokens of model units.

        Args:
            scope: Whose.
            arn: The provisioned throughput.
            model: The foundation model, for what a unit of it holds.
            units: How many units.
            tokens: Input and the most output.

        Raises:
            AwsError: The units' tokens of the minute are used up.
        """
        limit = units * self._unit_tokens(scope, model)
        return self._reserve((scope, arn), limit, tokens)

    def _unit_tokens(self, scope: Scope, model: str) -> int:
        """What a unit holds: set for exactly this context length, for the model, or not at all."""
        names = (model, CONTEXT_LENGTH.sub("", model))
        return next((self._unit[scope, name] for name in names if (scope, name) in self._unit), UNIT_TOKENS)

    def settle(self, reservation: Reservation, used: int) -> None:
        """Give back what a call reserved and did not use.

        Args:
            reservation: The call's.
            used: Tokens that count.
        """
        if reservation.key is not None:
            bucket = self._buckets[reservation.key]
            bucket.refill(self._clock())
            bucket.left = min(bucket.tokens_a_minute, bucket.left + reservation.tokens - used)

    def _reserve(self, key: tuple[Scope, str], limit: int, tokens: int) -> Reservation:
        now = self._clock()
        bucket = self._buckets.get(key)
        if bucket is None or bucket.tokens_a_minute != limit:
            bucket = self._buckets[key] = _Bucket(limit, float(limit), now)
        bucket.refill(now)
        # A call that is larger than the whole minute may run when the minute is untouched.
        if bucket.left < min(tokens, limit) or limit == 0:
            raise AwsError(
                "ThrottlingException", "Too many tokens, please wait before trying again.", status=429
            )
        bucket.left -= tokens
        return Reservation(key, tokens)


def _checked(limits: object) -> Mapping[str, int | None]:
    if not isinstance(limits, dict):
        raise TokenmillError(FORM)
    checked: dict[str, Any] = limits
    for tokens in checked.values():
        if tokens is not None and (type(tokens) is not int or tokens < 0):
            raise TokenmillError(FORM)
    return checked
