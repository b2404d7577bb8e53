"""Start a copy when a request found none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_applicationautoscaling as autoscaling
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from tokenmill.endpoints.base import LlmEndpointBase

METRIC = "NoCapacityInvocationFailures"
START_SECONDS = 900
PERIOD_SECONDS = 60


class WakeUp(Construct):
    """One failed request starts one copy.

    An alarm on NoCapacityInvocationFailures and a step policy ("Scale an endpoint to zero instances", Amazon
    SageMaker AI developer guide). The page's alarm is above 1, which takes two failures in a minute; this one
    fires on the first. While the copy starts, every further request fails too: the cooldown counts that copy
    in, so that callers who retry do not start a fleet ("Step scaling policies for Application Auto Scaling").

    Args:
        scope: The parent construct.
        id: The construct's id.
        endpoint: The component.
        target: Its scalable target, whose fewest copies are 0.
        start_seconds: Longest time that a copy takes to start, in seconds.

    Raises:
        TokenmillError: If the start takes no time, or an hour and more.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        endpoint: LlmEndpointBase,
        target: autoscaling.CfnScalableTarget,
        start_seconds: int = START_SECONDS,
    ) -> None:
        check_start(start_seconds)
        super().__init__(scope, id)
        self.policy = self._policy(target, start_seconds)
        self.alarm = cloudwatch.CfnAlarm(
            self,
            "Alarm",
            alarm_description=f"A request found no copy of {endpoint.node.id}; one is being started",
            namespace="AWS/SageMaker",
            metric_name=METRIC,
            dimensions=[
                cloudwatch.CfnAlarm.DimensionProperty(
                    name="InferenceComponentName", value=endpoint.component_name
                )
            ],
            statistic="Sum",
            period=PERIOD_SECONDS,
            evaluation_periods=1,
            datapoints_to_alarm=1,
            threshold=1,
            comparison_operator="GreaterThanOrEqualToThreshold",
            treat_missing_data="notBreaching",
            alarm_actions=[self.policy.ref],
        )

    def _policy(
        self, target: autoscaling.CfnScalableTarget, start_seconds: int
    ) -> autoscaling.CfnScalingPolicy:
        cfn = autoscaling.CfnScalingPolicy
        return cfn(
            self,
            "Policy",
            policy_name="WakeUp",
            policy_type="StepScaling",
            scaling_target_id=target.ref,
            step_scaling_policy_configuration=cfn.StepScalingPolicyConfigurationProperty(
                adjustment_type="ChangeInCapacity",
                cooldown=start_seconds,
                metric_aggregation_type="Maximum",
                step_adjustments=[
                    cfn.StepAdjustmentProperty(metric_interval_lower_bound=0, scaling_adjustment=1)
                ],
            ),
        )


def check_start(seconds: int) -> None:
    """Check how long a start takes.

    Args:
        seconds: Longest time that a copy takes to start.

    Raises:
        TokenmillError: If it takes no time, or an hour and more.
    """
    if not 60 <= seconds <= 3600:
        raise TokenmillError(
            f"start_seconds is {seconds}; a start takes from 60 seconds to the hour that SageMaker "
            "waits for a container"
        )
