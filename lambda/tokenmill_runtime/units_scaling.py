"""Units by the tokens: more while those that are there are used up, fewer an hour after they are not.

One purchase is one unit in a slot of its own, because the number of a purchase cannot change. Bedrock counts
the tokens of units under their ARN ("Monitoring the performance of Amazon Bedrock", Amazon Bedrock User
Guide: InputTokenCount, OutputTokenCount, InvocationThrottles).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime import aws
from tokenmill_runtime.custom_resource import Refused
from tokenmill_runtime.units_plan import EXTRA

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tokenmill_runtime.units_plan import Units
    from tokenmill_runtime.units_tasks import Task

HOURS_A_DAY: Final = 24
# Full units throttle; this much of them is asked of before there are more.
FULL: Final = 0.8
PERIOD_SECONDS: Final = 300
LOOK_BACK_SECONDS: Final = 3600
# Tokens of the last periods make units; those of the whole look back keep them.
LATEST_PERIODS: Final = 3
NAMESPACE: Final = "AWS/Bedrock"
METRICS: Final = ("InputTokenCount", "OutputTokenCount", "InvocationThrottles")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What one unit processes a minute, and between which numbers and below which cost units move."""

    input_tokens: float
    output_tokens: float
    floor: int
    ceiling: int
    daily_usd: float
    hourly_usd: float

    @classmethod
    def read(cls, scaling: Mapping[str, str], hourly_usd: float) -> Rules:
        """The rules of a schedule's event. Raises ValueError where they cannot be."""
        rules = cls(
            input_tokens=float(scaling["InputTokensPerMinute"]),
            output_tokens=float(scaling["OutputTokensPerMinute"]),
            floor=int(scaling["Floor"]),
            ceiling=int(scaling["Ceiling"]),
            daily_usd=float(scaling["DailyUsd"]),
            hourly_usd=hourly_usd,
        )
        if min(rules.input_tokens, rules.output_tokens, rules.hourly_usd) <= 0 or rules.floor > rules.ceiling:
            raise ValueError(
                f"tokens and price must be above 0 and Floor at most Ceiling, got {dict(scaling)!r} at "
                f"{hourly_usd!r} USD an hour"
            )
        return rules

    @property
    def affordable(self) -> int:
        """The most units that a day's money pays for."""
        return math.floor(self.daily_usd / (self.hourly_usd * HOURS_A_DAY) + 1e-9)

    def needed(self, use: Use) -> int:
        """Units that process some tokens a minute without being full."""
        busiest = max(use.input_tokens / self.input_tokens, use.output_tokens / self.output_tokens)
        return math.ceil(busiest / FULL - 1e-9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """Tokens a minute and throttled requests in one period."""

    input_tokens: float = 0.0
    output_tokens: float = 0.0
    throttles: float = 0.0


def decide(rules: Rules, owned: int, periods: Sequence[Use]) -> int:
    """How many units there should be, after the use of the last hour, oldest first.

    More at once when the latest periods need them or were throttled; fewer only when no period of the hour
    needed those that are there. Never above the ceiling or the day's money, never below the floor, which
    money does not cut: it was checked when the deployment was made.
    """
    latest = periods[-LATEST_PERIODS:]
    now = max((rules.needed(use) for use in latest), default=0)
    if any(use.throttles > 0 for use in latest):
        now = max(now, owned + 1)
    kept = max((rules.needed(use) for use in periods), default=0)
    wanted = now if now > owned else min(owned, max(kept, now))
    return max(rules.floor, min(wanted, rules.ceiling, rules.affordable))


def scale(task: Task, event: Mapping[str, Any]) -> bool:
    """Buy or give up extra units after the last hour's tokens; whether nothing is left to be done."""
    held = task.held()
    if not task.is_current:
        return all([task.give_up(units) for units in held if task.slot(units).startswith(EXTRA)])
    if any(units.busy for units in held):
        return False
    task.tell_callers(held)
    rules = Rules.read(event["Scaling"], task.wanted.hourly_usd)
    owned = sum(units.units for units in held)
    wanted = decide(rules, owned, use_of(held, task.clock.wall()))
    if wanted == owned:
        return True
    extras = {task.slot(units): units for units in held if task.slot(units).startswith(EXTRA)}
    if wanted < owned:
        return _fewer(task, held, list(extras.values())[wanted - owned :])
    try:
        free = (slot for slot in (f"{EXTRA}{n}" for n in range(1, 100)) if slot not in extras)
        for slot, _ in zip(free, range(wanted - owned), strict=False):
            task.buy(slot, 1)
    except Refused as refused:
        print(f"{owned} units stay, {wanted} were wanted: {refused}", flush=True)
        return True
    return False


def _fewer(task: Task, held: list[Units], gone: list[Units]) -> bool:
    task.tell_callers([units for units in held if units not in gone])
    return all([task.give_up(units) for units in gone])


def use_of(held: Sequence[Units], now: float) -> list[Use]:
    """What units did in the last hour, summed over them, by period."""
    if not held:
        return []
    end = datetime.fromtimestamp(now // PERIOD_SECONDS * PERIOD_SECONDS, UTC)
    queries = [
        {
            "Id": f"m{number}",
            "MetricStat": {
                "Metric": {
                    "Namespace": NAMESPACE,
                    "MetricName": metric,
                    "Dimensions": [{"Name": "ModelId", "Value": units.arn}],
                },
                "Period": PERIOD_SECONDS,
                "Stat": "Sum",
            },
        }
        for number, (units, metric) in enumerate((units, metric) for units in held for metric in METRICS)
    ]
    answer = aws.cloudwatch().get_metric_data(
        MetricDataQueries=queries,
        StartTime=end - timedelta(seconds=LOOK_BACK_SECONDS),
        EndTime=end,
        ScanBy="TimestampAscending",
    )
    sums: dict[datetime, list[float]] = {
        end - timedelta(seconds=PERIOD_SECONDS * back): [0.0, 0.0, 0.0]
        for back in range(LOOK_BACK_SECONDS // PERIOD_SECONDS, 0, -1)
    }
    for result in answer["MetricDataResults"]:
        column = int(result["Id"][1:]) % len(METRICS)
        for moment, value in zip(result["Timestamps"], result["Values"], strict=True):
            sums.setdefault(moment.astimezone(UTC), [0.0, 0.0, 0.0])[column] += value
    minutes = PERIOD_SECONDS / 60
    return [
        Use(input_tokens=row[0] / minutes, output_tokens=row[1] / minutes, throttles=row[2])
        for _, row in sorted(sums.items())
    ]
