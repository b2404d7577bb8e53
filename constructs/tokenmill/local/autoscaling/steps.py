"""The capacity that a step scaling policy asks for.

Source: Application Auto Scaling API Reference, "StepScalingPolicyConfiguration" and "StepAdjustment"; User
Guide, "How step scaling for Application Auto Scaling works" (rounding of percentages).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tokenmill.local.aws_requests import AwsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenmill.local.aws_requests import Params

_MIN, _MAX = -math.inf, math.inf


def aggregated(points: Sequence[float], kind: str | None) -> float | None:
    """Return the metric value that the steps are chosen by; nothing when there is no data.

    Args:
        points: The alarm's newest data points.
        kind: `MetricAggregationType`.
    """
    if not points:
        return None
    if kind == "Maximum":
        return max(points)
    if kind == "Minimum":
        return min(points)
    return sum(points) / len(points)


def adjustment_for(steps: Sequence[Params], breach: float, *, above: bool) -> int | None:
    """Return the adjustment of the step that a breach falls into; nothing when it falls into none.

    Args:
        steps: The policy's step adjustments.
        breach: Metric value less the alarm's threshold.
        above: Whether the alarm is for values above its threshold; then lower bounds are inclusive.
    """
    for step in steps:
        low = step.get("MetricIntervalLowerBound", _MIN)
        high = step.get("MetricIntervalUpperBound", _MAX)
        inside = low <= breach < high if above else low < breach <= high
        if inside:
            return int(step["ScalingAdjustment"])
    return None


def capacity_after(capacity: int, adjustment: int, config: Params) -> int:
    """Return the capacity after an adjustment, before the target's range applies.

    Args:
        capacity: Capacity that the adjustment is made to.
        adjustment: The step's adjustment.
        config: The policy's configuration.
    """
    kind = config.get("AdjustmentType", "ChangeInCapacity")
    if kind == "ExactCapacity":
        return adjustment
    if kind == "ChangeInCapacity":
        return capacity + adjustment
    change = capacity * adjustment / 100
    if change > 1:
        rounded = math.floor(change)
    elif change > 0:
        rounded = 1
    elif change > -1:
        rounded = -1 if change < 0 else 0
    else:
        rounded = math.ceil(change)
    least = int(config.get("MinAdjustmentMagnitude", 0))
    if rounded and abs(rounded) < least:
        rounded = least if rounded > 0 else -least
    return capacity + rounded


def check_steps(config: Params) -> None:
    """Refuse steps that overlap, leave a gap or have no bound at all.

    Args:
        config: A step scaling policy's configuration.

    Raises:
        AwsError: They do.
    """
    steps = config.get("StepAdjustments") or []
    if not steps or "AdjustmentType" not in config:
        raise AwsError(
            "ValidationException", "a step scaling policy needs AdjustmentType and StepAdjustments"
        )
    bounds = sorted(
        (step.get("MetricIntervalLowerBound", _MIN), step.get("MetricIntervalUpperBound", _MAX))
        for step in steps
    )
    for low, high in bounds:
        if (low, high) == (_MIN, _MAX):
            raise AwsError("ValidationException", "at least one interval bound must be given in each step")
        if high <= low:
            raise AwsError("ValidationException", f"the step from {low:g} to {high:g} is empty")
    for (_, high), (low, _) in zip(bounds, bounds[1:], strict=False):
        if high != low:
            raise AwsError(
                "ValidationException", f"the steps overlap or leave a gap between {high:g} and {low:g}"
            )
