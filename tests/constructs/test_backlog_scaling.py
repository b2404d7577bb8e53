"""Scaling on the queue: metrics and dimensions that SageMaker publishes, and the way up from nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support_jobs import async_endpoint
from support_stack import of_type, only, template_of
from tokenmill.core.errors import TokenmillError
from tokenmill.core.workload import Capacity
from tokenmill.scaling.backlog_scaling import BacklogPolicy, BacklogScaling

if TYPE_CHECKING:
    import aws_cdk as cdk

ALARM, POLICY = "AWS::CloudWatch::Alarm", "AWS::ApplicationAutoScaling::ScalingPolicy"


def policies(template: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        item["Properties"]["PolicyName"]: item["Properties"] for item in of_type(template, POLICY).values()
    }


def endpoint_name(template: dict[str, Any]) -> dict[str, Any]:
    (logical,) = of_type(template, "AWS::SageMaker::Endpoint")
    return {"Fn::GetAtt": [logical, "EndpointName"]}


def test_instances_between_nothing_and_the_most(stack: cdk.Stack) -> None:
    """The variant's instances, by the name that Application Auto Scaling knows them by."""
    BacklogScaling(stack, "Scaling", endpoint=async_endpoint(stack))
    template = template_of(stack)
    target = only(template, "AWS::ApplicationAutoScaling::ScalableTarget")["Properties"]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (0, 4)
    assert target["ScalableDimension"] == "sagemaker:variant:DesiredInstanceCount"
    assert target["ResourceId"] == {
        "Fn::Join": ["", ["endpoint/", endpoint_name(template), "/variant/AllTraffic"]]
    }


def test_the_tracked_metric_is_one_that_exists(stack: cdk.Stack) -> None:
    """Backlog an instance with the endpoint as its only dimension; two batches an instance."""
    BacklogScaling(stack, "Scaling", endpoint=async_endpoint(stack))
    template = template_of(stack)
    tracking = policies(template)["Backlog"]["TargetTrackingScalingPolicyConfiguration"]
    assert tracking["CustomizedMetricSpecification"] == {
        "Namespace": "AWS/SageMaker",
        "MetricName": "ApproximateBacklogSizePerInstance",
        "Dimensions": [{"Name": "EndpointName", "Value": endpoint_name(template)}],
        "Statistic": "Average",
    }
    assert tracking["TargetValue"] == 16
    assert "DisableScaleIn" not in tracking


def test_a_request_without_an_instance_starts_one(stack: cdk.Stack) -> None:
    """One minute of a queue that nobody empties is enough, and a start under way is not doubled."""
    BacklogScaling(stack, "Scaling", endpoint=async_endpoint(stack), policy=BacklogPolicy(start_seconds=600))
    template = template_of(stack)
    alarm = only(template, ALARM)["Properties"]
    assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/SageMaker", "HasBacklogWithoutCapacity")
    assert alarm["Dimensions"] == [{"Name": "EndpointName", "Value": endpoint_name(template)}]
    assert (alarm["Threshold"], alarm["ComparisonOperator"]) == (1, "GreaterThanOrEqualToThreshold")
    assert (alarm["Period"], alarm["EvaluationPeriods"]) == (60, 1)
    assert alarm["TreatMissingData"] == "notBreaching"
    (wake_up,) = (
        logical
        for logical, item in of_type(template, POLICY).items()
        if item["Properties"]["PolicyName"] == "WakeUp"
    )
    assert alarm["AlarmActions"] == [{"Ref": wake_up}]
    step = policies(template)["WakeUp"]["StepScalingPolicyConfiguration"]
    assert (step["AdjustmentType"], step["Cooldown"]) == ("ChangeInCapacity", 600)
    assert step["StepAdjustments"] == [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}]


def test_an_endpoint_that_is_never_empty_needs_no_wake_up(stack: cdk.Stack) -> None:
    """One policy and no alarm; the capacity given here wins over the endpoint's."""
    scaling = BacklogScaling(
        stack,
        "Scaling",
        endpoint=async_endpoint(stack),
        capacity=Capacity(minimum=1, maximum=2, initial=1),
        policy=BacklogPolicy(requests_per_instance=5),
    )
    template = template_of(stack)
    assert (scaling.wake_up_policy, scaling.wake_up_alarm) == (None, None)
    assert of_type(template, ALARM) == {}
    tracking = policies(template)["Backlog"]["TargetTrackingScalingPolicyConfiguration"]
    assert tracking["TargetValue"] == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"requests_per_instance": 0}, "requests_per_instance is 0; it must be above 0"),
        ({"requests_per_instance": float("inf")}, "requests_per_instance is inf; it must be above 0"),
        ({"scale_in_cooldown_seconds": -1}, "scale_in_cooldown_seconds is -1; it must be 0 or more"),
        ({"scale_out_cooldown_seconds": -1}, "scale_out_cooldown_seconds is -1; it must be 0 or more"),
        ({"start_seconds": 59}, "start_seconds is 59; a start takes from 60 seconds to the hour"),
        ({"start_seconds": 3601}, "start_seconds is 3601; a start takes from 60 seconds to the hour"),
    ],
)
def test_fails_for_numbers_that_no_policy_can_have(changes: dict[str, Any], message: str) -> None:
    """Value and range stand in the message."""
    with pytest.raises(TokenmillError, match=message):
        BacklogPolicy(**changes)
