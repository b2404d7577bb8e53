"""One more copy or instance, when an alarm says that there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_applicationautoscaling as autoscaling
from aws_cdk import aws_cloudwatch as cloudwatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from constructs import Construct

PERIOD_SECONDS = 60


def one_more(
    scope: Construct, id: str, *, target: autoscaling.CfnScalableTarget, start_seconds: int
) -> autoscaling.CfnScalingPolicy:
    """Return the step policy that starts one.

    An exact count would take away again what target tracking has asked for.

    Args:
        scope: The parent construct.
        id: The policy's construct id.
        target: What scales.
        start_seconds: Longest time that a start takes, in seconds; until then no other is started.
    """
    cfn = autoscaling.CfnScalingPolicy
    return cfn(
        scope,
        id,
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


def first_of(
    scope: Construct,
    id: str,
    *,
    metric: tuple[str, str, str],
    dimensions: Mapping[str, str],
    description: str,
    policy: autoscaling.CfnScalingPolicy,
) -> cloudwatch.CfnAlarm:
    """Return the alarm that fires on the first data point above zero and runs a policy.

    Args:
        scope: The parent construct.
        id: The alarm's construct id.
        metric: Namespace, name and statistic.
        dimensions: The metric's dimensions.
        description: What the alarm means.
        policy: What it runs.
    """
    namespace, name, statistic = metric
    return cloudwatch.CfnAlarm(
        scope,
        id,
        alarm_description=description,
        namespace=namespace,
        metric_name=name,
        dimensions=[
            cloudwatch.CfnAlarm.DimensionProperty(name=key, value=value) for key, value in dimensions.items()
        ],
        statistic=statistic,
        period=PERIOD_SECONDS,
        evaluation_periods=1,
        datapoints_to_alarm=1,
        threshold=1,
        comparison_operator="GreaterThanOrEqualToThreshold",
        treat_missing_data="notBreaching",
        alarm_actions=[policy.ref],
    )
