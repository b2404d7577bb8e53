"""The metrics of tokenmill: every name, unit, dimension and publisher, for functions and templates alike.

Functions emit only what stands here (`tokenmill_runtime.emf` refuses the rest); dashboards, alarms and
scaling policies read names from here, so the two cannot drift apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Publisher = Literal["gateway", "heartbeat", "units"]
Unit = Literal["Seconds", "Milliseconds", "Count", "None"]
Statistic = Literal["Sum", "Maximum", "Minimum", "p95"]

NAMESPACE: Final = "tokenmill"
TARGET_DIMENSION: Final = "Target"

TOKEN_WORK: Final = "TokenWork"
INPUT_TOKENS: Final = "InputTokens"
CACHED_INPUT_TOKENS: Final = "CachedInputTokens"
CACHE_WRITE_TOKENS: Final = "CacheWriteTokens"
OUTPUT_TOKENS: Final = "OutputTokens"
RESERVED_TOKENS: Final = "ReservedTokens"
REQUESTS: Final = "Requests"
ERRORS: Final = "Errors"
OVERFLOW: Final = "Overflow"
UNITS_OWNED: Final = "UnitsOwned"
UNITS_DECLARED: Final = "UnitsDeclared"
UNITS_RETAINED: Final = "UnitsRetained"
UNITS_MISSING: Final = "UnitsMissing"
IDLE_UNITS: Final = "IdleUnits"
DAILY_USD: Final = "DailyUsd"
DAYS_TO_EXPIRY: Final = "DaysToExpiry"
TIME_TO_FIRST_TOKEN: Final = "TimeToFirstToken"
INTER_TOKEN_LATENCY: Final = "InterTokenLatency"
IN_FLIGHT: Final = "InFlight"
COPIES: Final = "Copies"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDefinition:
    """One metric: what it is called, who publishes it and how it is to be read.

    ``statistic`` is the CloudWatch statistic that makes sense of it; ``storage_resolution`` is 1 or 60
    seconds.
    """

    name: str
    unit: Unit
    publisher: tuple[Publisher, ...]
    statistic: Statistic
    storage_resolution: Literal[1, 60]
    description: str


def _gateway(
    name: str, unit: Unit, statistic: Statistic, description: str, *, resolution: Literal[1, 60] = 60
) -> MetricDefinition:
    return MetricDefinition(
        name=name,
        unit=unit,
        publisher=("gateway",),
        statistic=statistic,
        storage_resolution=resolution,
        description=description,
    )


def _units(name: str, unit: Unit, statistic: Statistic, description: str) -> MetricDefinition:
    return MetricDefinition(
        name=name,
        unit=unit,
        publisher=("units",),
        statistic=statistic,
        storage_resolution=60,
        description=description,
    )


METRICS: Final[tuple[MetricDefinition, ...]] = (
    MetricDefinition(
        name=TOKEN_WORK,
        unit="Seconds",
        publisher=("gateway", "heartbeat"),
        statistic="Sum",
        storage_resolution=1,
        description="engine-busy seconds of one copy that arrived; the heartbeat adds 0 for an idle target",
    ),
    _gateway(
        INPUT_TOKENS, "Count", "Sum", "input tokens: estimated at arrival, corrected by the model's own count"
    ),
    _gateway(
        CACHED_INPUT_TOKENS, "Count", "Sum", "input tokens whose prefill the model's prefix cache saved"
    ),
    _gateway(CACHE_WRITE_TOKENS, "Count", "Sum", "input tokens that the model wrote to its prompt cache"),
    _gateway(
        OUTPUT_TOKENS, "Count", "Sum", "output tokens, as they stream; corrected by the model's own count"
    ),
    _gateway(
        RESERVED_TOKENS,
        "Count",
        "Sum",
        "tokens that Bedrock's quota holds for a request when it starts: estimated input and max_tokens",
    ),
    MetricDefinition(
        name=REQUESTS,
        unit="Count",
        publisher=("gateway", "heartbeat"),
        statistic="Sum",
        storage_resolution=60,
        description="requests sent to the model; the heartbeat adds 0",
    ),
    _gateway(
        ERRORS,
        "Count",
        "Sum",
        "requests that the model did not answer in full; caller's mistakes not counted",
    ),
    _gateway(OVERFLOW, "Count", "Sum", "requests sent to the model that stands in for units or a quota"),
    _gateway(TIME_TO_FIRST_TOKEN, "Milliseconds", "p95", "from the request's arrival to the first token"),
    _gateway(INTER_TOKEN_LATENCY, "Milliseconds", "p95", "mean time between the tokens of a request"),
    _gateway(IN_FLIGHT, "Count", "Maximum", "requests in flight in one gateway process", resolution=1),
    MetricDefinition(
        name=COPIES,
        unit="Count",
        publisher=("heartbeat",),
        statistic="Maximum",
        storage_resolution=60,
        description="copies of the inference component that are in service",
    ),
    _units(UNITS_OWNED, "Count", "Maximum", "model units that are paid for"),
    _units(UNITS_DECLARED, "Count", "Maximum", "model units that the deployment asks for at this hour"),
    _units(UNITS_RETAINED, "Count", "Maximum", "model units that are paid for and that nobody asks for"),
    _units(UNITS_MISSING, "Count", "Maximum", "model units that should be there and could not be had"),
    _units(IDLE_UNITS, "Count", "Maximum", "model units that no request used in the last hour"),
    _units(DAILY_USD, "None", "Maximum", "price of the owned units a day, in US dollars"),
    _units(DAYS_TO_EXPIRY, "None", "Minimum", "days until the first commitment ends; absent without one"),
)

BY_NAME: Final[dict[str, MetricDefinition]] = {metric.name: metric for metric in METRICS}
