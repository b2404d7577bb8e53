"""What a user says of provisioned units, as values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from tokenmill.core._checks import as_whole, at_most, known, numeric, positive
from tokenmill.core._kinds import TOPIC, resource
from tokenmill.core.errors import TokenmillError
from tokenmill.core.model_units import UnlistedModel as UnlistedModel

if TYPE_CHECKING:
    from aws_cdk import aws_sns as sns

MOST_IDLE_HOURS = 24 * 7
# Far beyond what users report of quotas; a slip of a digit costs thousands of dollars an hour.
MOST_UNITS = 100
# Beyond what anything here costs a day; a slip of the unit is found by it.
MOST_USD = 10_000_000
MOST_TOKENS = 1_000_000_000


class Commitment(StrEnum):
    """How long units are paid for, whether they are used or not.

    A deployment never buys a commitment: units begin without one, and `tokenmill jobs run commit-units` buys
    the declared one after it has shown price and term. Source: "Increase model invocation capacity with
    Provisioned Throughput in Amazon Bedrock" (Amazon Bedrock User Guide).
    """

    NONE = "NONE"
    ONE_MONTH = "ONE_MONTH"
    SIX_MONTHS = "SIX_MONTHS"


class Replacement(StrEnum):
    """What happens when the number of units or the model changes, neither of which changes in place.

    REFUSE fails the deployment and says what to do. MAKE_BEFORE_BREAK buys the new units beside the old ones,
    which takes a quota for both and pays for both for minutes. BREAK_BEFORE_MAKE gives the old ones up first:
    callers use the fallback in between, and the new ones may not be had. Source: "UpdateProvisionedModel-
    Throughput" (Amazon Bedrock API Reference): name, and for custom models the model, are all that changes.
    """

    REFUSE = "REFUSE"
    MAKE_BEFORE_BREAK = "MAKE_BEFORE_BREAK"
    BREAK_BEFORE_MAKE = "BREAK_BEFORE_MAKE"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCapacity:
    """What one model unit of a model processes, as the account manager or a load test says it.

    AWS publishes no such number ("An MU delivers a specific throughput level for the specified model ...
    contact your AWS account manager"), so there is no default.

    Args:
        input_tokens_per_minute: Input tokens that one unit processes, a minute.
        output_tokens_per_minute: Output tokens that one unit generates, a minute.

    Raises:
        TokenmillError: If a number is not above 0.
    """

    input_tokens_per_minute: float
    output_tokens_per_minute: float

    def __post_init__(self) -> None:
        numeric(self, "input_tokens_per_minute", "output_tokens_per_minute")
        positive(
            input_tokens_per_minute=self.input_tokens_per_minute,
            output_tokens_per_minute=self.output_tokens_per_minute,
        )
        at_most(
            MOST_TOKENS,
            input_tokens_per_minute=self.input_tokens_per_minute,
            output_tokens_per_minute=self.output_tokens_per_minute,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitAlarms:
    """Whom to tell, and when.

    Args:
        topic: Who is told; the alarms only show otherwise.
        expiry_days: Days before a commitment's end from which the alarm on it stands; 0 to 30.
        idle_hours: Hours without a request after which paid units count as forgotten; 1 to 168.

    Raises:
        TokenmillError: If a number is out of its range.
    """

    topic: sns.ITopic | None = None
    expiry_days: int = 7
    idle_hours: int = 3

    def __post_init__(self) -> None:
        resource(TOPIC, topic=self.topic)
        as_whole(self, "expiry_days", "idle_hours")
        if not 0 <= self.expiry_days <= 30:
            raise TokenmillError(
                f"expiry_days is {self.expiry_days}; a commitment is a month at least, so 0 to 30"
            )
        if not 1 <= self.idle_hours <= MOST_IDLE_HOURS:
            raise TokenmillError(f"idle_hours is {self.idle_hours}; allowed are 1 to {MOST_IDLE_HOURS}")


def checked_usd(name: str, usd: float | None) -> float | None:
    """Return an amount that is above 0, or None.

    Args:
        name: What it is called in the complaint.
        usd: US dollars.

    Raises:
        TokenmillError: If it is no number above 0.
    """
    if usd is None:
        return None
    known(name, usd)
    if isinstance(usd, bool) or not isinstance(usd, int | float) or not (math.isfinite(usd) and usd > 0):
        raise TokenmillError(f"{name} is {usd!r:.80}; give US dollars above 0")
    if usd > MOST_USD:
        raise TokenmillError(
            f"{name} is {usd!r:.80}; it is at most {MOST_USD:,} US dollars, so check its unit"
        )
    return float(usd)
