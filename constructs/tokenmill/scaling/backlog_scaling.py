"""Scale the instances of an asynchronous endpoint on the queue in front of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aws_cdk import aws_applicationautoscaling as autoscaling
from constructs import Construct

from tokenmill.core._checks import as_whole, numeric
from tokenmill.core.errors import TokenmillError
from tokenmill.endpoints.async_endpoint import (
    BACKLOG_PER_INSTANCE,
    ENDPOINT_DIMENSION,
    WITHOUT_CAPACITY,
)
from tokenmill.endpoints.base import SAGEMAKER_NAMESPACE
from tokenmill.scaling._one_more import PERIOD_SECONDS, first_of, one_more

if TYPE_CHECKING:
    from aws_cdk import aws_cloudwatch as cloudwatch

    from tokenmill.core.workload import Capacity
    from tokenmill.endpoints.async_endpoint import AsyncEndpoint

# One batch that is being answered and one that waits for it.
BATCHES_AN_INSTANCE = 2
MOST_START_SECONDS = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class BacklogPolicy:
    """When instances are added and removed.

    Args:
        requests_per_instance: Requests, waiting and being answered, that an instance should have; two of its
            batches otherwise.
        scale_out_cooldown_seconds: Wait after instances were added, in seconds.
        scale_in_cooldown_seconds: Wait after instances were removed, in seconds.
        start_seconds: Longest time that an instance takes to start, in seconds; one that is starting keeps
            the wake-up from starting another.

    Raises:
        TokenmillError: If a number is out of its range.
    """

    requests_per_instance: float | None = None
    scale_out_cooldown_seconds: int = 300
    scale_in_cooldown_seconds: int = 300
    start_seconds: int = 900

    def __post_init__(self) -> None:
        wanted = self.requests_per_instance
        if wanted is not None:
            numeric(self, "requests_per_instance")
        as_whole(self, "scale_out_cooldown_seconds", "scale_in_cooldown_seconds", "start_seconds")
        if wanted is not None and not (math.isfinite(wanted) and wanted > 0):
            raise TokenmillError(f"requests_per_instance is {wanted}; it must be above 0")
        for name in ("scale_out_cooldown_seconds", "scale_in_cooldown_seconds"):
            if getattr(self, name) < 0:
                raise TokenmillError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if not PERIOD_SECONDS <= self.start_seconds <= MOST_START_SECONDS:
            raise TokenmillError(
                f"start_seconds is {self.start_seconds}; a start takes from {PERIOD_SECONDS} seconds to the "
                "hour that SageMaker waits for a container"
            )


class BacklogScaling(Construct):
    """Instances follow the backlog; a request that finds none starts one.

    Target tracking holds ApproximateBacklogSizePerInstance, and an alarm on HasBacklogWithoutCapacity runs a
    step policy, because with 0 instances nothing is "per instance" ("Autoscale an asynchronous endpoint",
    Amazon SageMaker AI developer guide). Both metrics have one dimension, EndpointName ("Alarms and logs for
    tracking metrics from asynchronous endpoints"); with any other they are never seen. Scale-in waits for the
    requests that are being answered, because the backlog counts them.

    Args:
        scope: The parent construct.
        id: The construct's id.
        endpoint: The endpoint.
        capacity: Fewest and most instances; the endpoint's own otherwise.
        policy: When instances are added and removed.

    Raises:
        TokenmillError: If the endpoint answers at once, or has no room for so many.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        endpoint: AsyncEndpoint,
        capacity: Capacity | None = None,
        policy: BacklogPolicy | None = None,
    ) -> None:
        capacity = capacity or endpoint.capacity
        _check(endpoint, capacity)
        super().__init__(scope, id)
        self.policy = policy or BacklogPolicy()
        name = endpoint.endpoint_name
        self.target = autoscaling.CfnScalableTarget(
            self,
            "Target",
            service_namespace="sagemaker",
            scalable_dimension=endpoint.scalable_dimension,
            resource_id=endpoint.scaling_resource_id,
            min_capacity=capacity.minimum,
            max_capacity=capacity.maximum,
        )
        wanted = self.policy.requests_per_instance or BATCHES_AN_INSTANCE * endpoint.max_concurrent
        self.backlog_policy = self._backlog(name, wanted)
        self.wake_up_policy: autoscaling.CfnScalingPolicy | None = None
        self.wake_up_alarm: cloudwatch.CfnAlarm | None = None
        if capacity.minimum == 0:
            start = self.policy.start_seconds
            self.wake_up_policy = one_more(self, "WakeUp", target=self.target, start_seconds=start)
            self.wake_up_alarm = first_of(
                self,
                "WakeUpAlarm",
                metric=(SAGEMAKER_NAMESPACE, WITHOUT_CAPACITY, "Maximum"),
                dimensions={ENDPOINT_DIMENSION: name},
                description="Requests wait and there is no instance; one is being started",
                policy=self.wake_up_policy,
            )

    def _backlog(self, endpoint_name: str, wanted: float) -> autoscaling.CfnScalingPolicy:
        cfn = autoscaling.CfnScalingPolicy
        return cfn(
            self,
            "Backlog",
            policy_name="Backlog",
            policy_type="TargetTrackingScaling",
            scaling_target_id=self.target.ref,
            target_tracking_scaling_policy_configuration=cfn.TargetTrackingScalingPolicyConfigurationProperty(
                target_value=wanted,
                scale_in_cooldown=self.policy.scale_in_cooldown_seconds,
                scale_out_cooldown=self.policy.scale_out_cooldown_seconds,
                customized_metric_specification=cfn.CustomizedMetricSpecificationProperty(
                    namespace=SAGEMAKER_NAMESPACE,
                    metric_name=BACKLOG_PER_INSTANCE,
                    dimensions=[cfn.MetricDimensionProperty(name=ENDPOINT_DIMENSION, value=endpoint_name)],
                    statistic="Average",
                ),
            ),
        )


def _check(endpoint: AsyncEndpoint, capacity: Capacity) -> None:
    if endpoint.answers_async is not True:
        raise TokenmillError(
            f"endpoint {endpoint.node.path} answers at once and has no backlog; use TokenScaling"
        )
    most = endpoint.most_copies
    if most is not None and capacity.maximum > most:
        raise TokenmillError(
            f"capacity.maximum is {capacity.maximum}, but the endpoint has {most} at the most, to which a "
            "deployment would take it back; give both the same capacity"
        )
