"""Mechanisms of an update with the limits that SageMaker documents, and how they render."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aws_cdk import aws_sagemaker as sagemaker

from tokenmill.core._checks import as_whole_or_none
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from tokenmill.core.workload import Capacity

# botocore sagemaker 2017-07-24, shapes RollingUpdatePolicy and InferenceComponentRollingUpdatePolicy: a batch
# is 5 to 50 percent; TrafficRoutingConfig: a canary at most 50 percent, a linear step 10 to 50 percent;
# WaitIntervalInSeconds and TerminationWaitInSeconds 0 to 3,600; MaximumExecutionTimeoutInSeconds 600 to
# 28,800, and larger than all waiting together (BlueGreenUpdatePolicy).
SMALLEST_BATCH_PERCENT = 5
SMALLEST_STEP_PERCENT = 10
SMALLEST_CANARY_PERCENT = 1
LARGEST_PERCENT = 50
WHOLE_PERCENT = 100
LONGEST_WAIT_SECONDS = 3600
SHORTEST_LIMIT_SECONDS = 600
LONGEST_LIMIT_SECONDS = 28_800
DEFAULT_WAIT_SECONDS = 120

PERCENT_TYPE = "CAPACITY_PERCENT"
COPIES_TYPE = "COPY_COUNT"
INSTANCES_TYPE = "INSTANCE_COUNT"

Routing = Literal["ALL_AT_ONCE", "CANARY", "LINEAR"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A part of a fleet.

    Args:
        percent: In percent of the copies or instances.
        count: In copies or instances; exactly one of the two is given.

    Raises:
        TokenmillError: If none or both are given.
    """

    percent: int | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        as_whole_or_none(self, "percent", "count")
        if (self.percent is None) == (self.count is None):
            raise TokenmillError(
                f"a share has percent {self.percent} and count {self.count}; give exactly one of them"
            )

    def of(self, fleet: int) -> int:
        """Return how many copies or instances it is of a fleet, at least 1.

        Args:
            fleet: Copies or instances of the whole.
        """
        if self.count is not None:
            return self.count
        return max(1, math.ceil(fleet * (self.percent or 0) / 100))

    def problem(self, what: str, capacity: Capacity, *, smallest: int, noun: str) -> str | None:
        """Return why the service refuses it at some size that the fleet may have, or None.

        Args:
            what: What the share is called in the sentence.
            capacity: Fewest and most copies or instances.
            smallest: Smallest share, in percent; the largest is always 50.
            noun: "copies" or "instances".
        """
        allowed = f"{smallest} to {LARGEST_PERCENT} percent of the {noun}"
        if self.percent is not None:
            if not smallest <= self.percent <= LARGEST_PERCENT:
                return f"{what} is {self.percent} percent; SageMaker allows {allowed}"
            return None
        count = self.count or 0
        most = capacity.minimum * LARGEST_PERCENT // 100
        fewest = max(1, math.ceil(capacity.maximum * smallest / 100))
        if fewest <= count <= most:
            return None
        if fewest > most:
            return (
                f"{what} is {count} {noun}, and no number is {allowed} at {capacity.minimum} as well as at "
                f"{capacity.maximum}; give a percentage"
            )
        return (
            f"{what} is {count} {noun}; SageMaker allows {allowed}, which is {fewest} to {most} for "
            f"{capacity.minimum} to {capacity.maximum} {noun}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rolling:
    """Replace a batch, watch it, replace the next.

    Args:
        batch: What is replaced at once; one copy of the fewest otherwise.
        wait_seconds: How long alarms are watched after a batch, in seconds, 0 to 3,600.
        limit_seconds: After how long the update is given up, in seconds, 600 to 28,800.
        rollback_batch: What is put back at once; a component's own batch, or all of a variant, otherwise.

    Raises:
        TokenmillError: If a time is outside its range.
    """

    batch: Share | None = None
    wait_seconds: int = DEFAULT_WAIT_SECONDS
    limit_seconds: int = LONGEST_LIMIT_SECONDS
    rollback_batch: Share | None = None

    def __post_init__(self) -> None:
        check_times(wait=self.wait_seconds, limit=self.limit_seconds)

    def chosen(self, capacity: Capacity) -> Share:
        """Return the batch: the given one, or the smallest that is one of the fewest.

        Args:
            capacity: Fewest and most copies or instances.
        """
        if self.batch is not None:
            return self.batch
        percent = math.ceil(100 / max(1, capacity.minimum))
        return Share(percent=min(LARGEST_PERCENT, max(SMALLEST_BATCH_PERCENT, percent)))

    def problem(self, capacity: Capacity, noun: str) -> str | None:
        """Return why a fleet cannot be updated so, or None.

        Args:
            capacity: Fewest and most copies or instances.
            noun: "copies" or "instances".
        """
        batch = self.chosen(capacity)
        found = batch.problem("the batch", capacity, smallest=SMALLEST_BATCH_PERCENT, noun=noun)
        if found is not None:
            return found
        back = self.rollback_batch
        if back is not None and back.percent is not None and not 1 <= back.percent <= WHOLE_PERCENT:
            return f"the rollback batch is {back.percent} percent; give 1 to 100 percent"
        steps = math.ceil(capacity.maximum / batch.of(capacity.maximum))
        return too_slow(steps * self.wait_seconds, self.limit_seconds, f"{steps} batches")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlueGreen:
    """Make a second fleet and move the traffic over.

    Args:
        routing: All at once, a canary and then the rest, or equal steps.
        step: The canary, or each step; None for all at once.
        wait_seconds: How long alarms are watched after a step, in seconds, 0 to 3,600.
        keep_old_seconds: How long the old fleet stays after the last step, in seconds, 0 to 3,600.
        limit_seconds: After how long the update is given up, in seconds, 600 to 28,800.

    Raises:
        TokenmillError: If a time is outside its range, or a step is missing or out of place.
    """

    routing: Routing
    step: Share | None = None
    wait_seconds: int = DEFAULT_WAIT_SECONDS
    keep_old_seconds: int = 0
    limit_seconds: int = LONGEST_LIMIT_SECONDS

    def __post_init__(self) -> None:
        check_times(wait=self.wait_seconds, keep_old=self.keep_old_seconds, limit=self.limit_seconds)
        if (self.step is None) != (self.routing == "ALL_AT_ONCE"):
            raise TokenmillError(
                f"routing {self.routing!r} has step {self.step}; a canary and linear steps have one, all at "
                "once has none"
            )

    def problem(self, capacity: Capacity) -> str | None:
        """Return why a variant cannot be updated so, or None.

        Args:
            capacity: Fewest and most instances.
        """
        steps = 1
        if self.step is not None:
            canary = self.routing == "CANARY"
            what = "the canary" if canary else "the step"
            smallest = SMALLEST_CANARY_PERCENT if canary else SMALLEST_STEP_PERCENT
            found = self.step.problem(what, capacity, smallest=smallest, noun="instances")
            if found is not None:
                return found
            if capacity.minimum < 2:
                return (
                    f"capacity.minimum is {capacity.minimum}, and {what} is at most {LARGEST_PERCENT} "
                    "percent of the instances, so one instance has none; give minimum=2 or more, or "
                    "UpdatePolicy.blue_green()"
                )
            steps = 2 if canary else math.ceil(capacity.maximum / self.step.of(capacity.maximum))
        waiting = steps * self.wait_seconds + self.keep_old_seconds
        return too_slow(waiting, self.limit_seconds, f"{steps} steps and the old fleet")

    def render(self) -> sagemaker.CfnEndpoint.BlueGreenUpdatePolicyProperty:
        """Return the L1 property."""
        cfn = sagemaker.CfnEndpoint
        step = None if self.step is None else instances_size(self.step)
        return cfn.BlueGreenUpdatePolicyProperty(
            traffic_routing_configuration=cfn.TrafficRoutingConfigProperty(
                type=self.routing,
                wait_interval_in_seconds=self.wait_seconds,
                canary_size=step if self.routing == "CANARY" else None,
                linear_step_size=step if self.routing == "LINEAR" else None,
            ),
            termination_wait_in_seconds=self.keep_old_seconds,
            maximum_execution_timeout_in_seconds=self.limit_seconds,
        )


def instances_size(share: Share) -> sagemaker.CfnEndpoint.CapacitySizeProperty:
    """Return a share of a variant's instances as its L1 property.

    Args:
        share: The share.
    """
    return sagemaker.CfnEndpoint.CapacitySizeProperty(
        type=INSTANCES_TYPE if share.percent is None else PERCENT_TYPE,
        value=share.percent or share.count or 0,
    )


def copies_size(
    share: Share,
) -> sagemaker.CfnInferenceComponent.InferenceComponentCapacitySizeProperty:
    """Return a share of a component's copies as its L1 property.

    Args:
        share: The share.
    """
    return sagemaker.CfnInferenceComponent.InferenceComponentCapacitySizeProperty(
        type=COPIES_TYPE if share.percent is None else PERCENT_TYPE, value=share.percent or share.count or 0
    )


def check_times(*, wait: int, limit: int, keep_old: int = 0) -> None:
    """Refuse times that SageMaker refuses.

    Args:
        wait: Seconds between steps.
        limit: Seconds for the whole update.
        keep_old: Seconds that the old fleet stays.

    Raises:
        TokenmillError: If one is outside its range.
    """
    for name, value, fewest, most in (
        ("wait", wait, 0, LONGEST_WAIT_SECONDS),
        ("keep_old", keep_old, 0, LONGEST_WAIT_SECONDS),
        ("limit", limit, SHORTEST_LIMIT_SECONDS, LONGEST_LIMIT_SECONDS),
    ):
        if not fewest <= value <= most:
            raise TokenmillError(f"{name} is {value} s; SageMaker allows {fewest} to {most} s")


def too_slow(waiting: int, limit: int, what: str) -> str | None:
    """Return the sentence for waits that take the whole time of an update, or None.

    Args:
        waiting: Seconds of waiting alone.
        limit: Seconds for the whole update.
        what: What is waited for.
    """
    if waiting < limit:
        return None
    return (
        f"waiting alone takes {waiting} s for {what}, and limit is {limit} s; give a shorter wait, larger "
        f"steps, or a limit of up to {LONGEST_LIMIT_SECONDS} s"
    )
