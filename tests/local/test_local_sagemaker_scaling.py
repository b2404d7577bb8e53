"""Policies that scale the cloud's components: real requests, metrics and alarms."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from support_local import specification
from tokenmill.local.processes import wait_until

if TYPE_CHECKING:
    from support_sagemaker_cloud import Api


def target(component: str) -> dict[str, str]:
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"inference-component/{component}",
        "ScalableDimension": "sagemaker:inference-component:DesiredCopyCount",
    }


def test_a_failed_request_wakes_a_component_without_copies(api: Api) -> None:
    """ "Scale an endpoint to zero instances": an alarm on NoCapacityInvocationFailures, a step of one."""
    api.served(
        "config", ManagedInstanceScaling={"Status": "ENABLED", "MinInstanceCount": 0, "MaxInstanceCount": 1}
    )
    component = api.component("sleeper", specification())
    api.scaling.register_scalable_target(**target(component), MinCapacity=0, MaxCapacity=2)
    policy = api.scaling.put_scaling_policy(
        **target(component),
        PolicyName="wake",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity",
            "Cooldown": 60,
            "MetricAggregationType": "Maximum",
            "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
        },
    )["PolicyARN"]
    api.alarm("NoCapacityInvocationFailures", {"InferenceComponentName": component}, [policy])
    api.sagemaker.update_inference_component_runtime_config(
        InferenceComponentName=component, DesiredRuntimeConfig={"CopyCount": 0}
    )
    assert wait_until(lambda: api.endpoint()["ProductionVariants"][0]["CurrentInstanceCount"] == 0, 5)
    with pytest.raises(api.runtime.exceptions.ValidationError, match="has no capacity"):
        api.invoke(component)
    assert wait_until(lambda: api.copies(component) == 1, 12), "alarms are evaluated at least every 5 s"
    assert api.invoke(component)["model"] == "Qwen/Qwen3-8B"

    def activity() -> dict[str, Any]:
        found = api.scaling.describe_scaling_activities(
            ServiceNamespace="sagemaker", ResourceId=f"inference-component/{component}"
        )["ScalingActivities"]
        return dict(found[0])

    assert wait_until(lambda: activity()["StatusCode"] == "Successful", 12)
    assert "triggered policy wake" in activity()["Cause"]


def test_target_tracking_scales_on_metric_math_and_takes_its_alarms_away_again(api: Api) -> None:
    """Three minutes at twice the target: one copy becomes two."""
    api.served("config")
    component = api.component("chat", specification())
    api.scaling.register_scalable_target(**target(component), MinCapacity=1, MaxCapacity=3)
    metric = {"Namespace": api.name, "MetricName": "Work"}
    api.scaling.put_scaling_policy(
        **target(component),
        PolicyName="track",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 50.0,
            "CustomizedMetricSpecification": {
                "Metrics": [
                    {"Id": "percent", "Expression": "100 * FILL(work, 0)", "ReturnData": True},
                    {"Id": "work", "MetricStat": {"Metric": metric, "Stat": "Sum"}, "ReturnData": False},
                ]
            },
        },
    )

    def alarms() -> list[str]:
        found = api.cloudwatch.describe_alarms(
            AlarmNamePrefix=f"TargetTracking-inference-component/{component}"
        )
        return [alarm["AlarmName"] for alarm in found["MetricAlarms"]]

    assert len(alarms()) == 2
    now = time.time()
    api.cloudwatch.put_metric_data(
        Namespace=api.name,
        MetricData=[
            {"MetricName": "Work", "Value": 1.0, "Timestamp": now - 60 * minute - 1} for minute in range(6)
        ],
    )
    assert wait_until(lambda: api.copies(component) == 2, 12)
    api.scaling.deregister_scalable_target(**target(component))
    assert alarms() == []


def test_an_alarm_that_is_set_by_hand_executes_its_policy(api: Api) -> None:
    api.served("config")
    component = api.component("chat", specification())
    api.scaling.register_scalable_target(**target(component), MinCapacity=1, MaxCapacity=3)
    policy = api.scaling.put_scaling_policy(
        **target(component),
        PolicyName="out",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity",
            "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 2}],
        },
    )["PolicyARN"]
    alarm = api.alarm("Invocations", {"InferenceComponentName": component}, [policy])
    api.cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="test")
    assert wait_until(lambda: api.copies(component) == 3, 5)
