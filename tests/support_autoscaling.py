"""A resource, a clock and a metric for the tests of Application Auto Scaling."""

from __future__ import annotations

from typing import Any

from support_local import SCOPE
from tokenmill.local.autoscaling import AutoScaling
from tokenmill.local.autoscaling.records import Capacity
from tokenmill.local.aws_requests import AwsError

KEY = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "inference-component/qwen",
    "ScalableDimension": "sagemaker:inference-component:DesiredCopyCount",
}


class Scaled:
    """A resource, a clock and a metric that the test sets; it implements what the service needs of others."""

    def __init__(self, *, desired: int = 2, low: int = 1, high: int = 10) -> None:
        self.now = 1_000_000.0
        self.desired = desired
        self.active = True
        self.refusal: str | None = None
        self.value: float | None = None
        self.alarms: dict[str, dict[str, Any]] = {}
        self.states: dict[str, str] = {}
        self.service = AutoScaling(
            capacities=self, alarms=self, statistic=lambda _query: self.value, clock=lambda: self.now
        )
        self.call("RegisterScalableTarget", MinCapacity=low, MaxCapacity=high)

    def call(self, operation: str, *, key: bool = True, **params: Any) -> dict[str, Any]:
        request = {**KEY, **params} if key else params
        self.service.shapes.check(operation, request)
        return self.service.call(SCOPE, operation, request)

    def read(self, _scope: object, _key: object) -> Capacity:
        return Capacity(desired=self.desired, active=self.active, unit="copy count")

    def write(self, _scope: object, _key: object, wanted: int) -> None:
        if self.refusal is not None:
            raise AwsError("ValidationException", self.refusal)
        self.desired = wanted

    def put(self, _scope: object, properties: dict[str, Any]) -> str:
        self.alarms[properties["AlarmName"]] = properties
        return f"arn:alarm:{properties['AlarmName']}"

    def delete(self, _scope: object, name: str) -> None:
        self.alarms.pop(name)

    def state(self, _scope: object, name: str) -> str | None:
        return self.states.get(name)

    def step_policy(self, name: str = "step", **config: Any) -> str:
        steps = config.pop("StepAdjustments", [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}])
        answer = self.call(
            "PutScalingPolicy",
            PolicyName=name,
            PolicyType="StepScaling",
            StepScalingPolicyConfiguration={
                "AdjustmentType": "ChangeInCapacity",
                "StepAdjustments": steps,
                **config,
            },
        )
        return str(answer["PolicyARN"])

    def fire(self, arn: str, *, state: str = "ALARM", threshold: float = 1.0, name: str = "alarm") -> None:
        """Evaluate an alarm, above its threshold, that has a policy among its actions."""
        self.service.alarm_evaluated(
            SCOPE,
            {
                "AlarmName": name,
                "AlarmActions": [arn],
                "StateValue": state,
                "ComparisonOperator": "GreaterThanOrEqualToThreshold",
                "Threshold": threshold,
                "EvaluationPeriods": 1,
                "Namespace": "n",
                "MetricName": "m",
                "Statistic": "Sum",
                "Period": 60,
            },
        )

    def target(self) -> dict[str, Any]:
        answer = self.call("DescribeScalableTargets", key=False, ServiceNamespace="sagemaker")
        [target] = answer["ScalableTargets"]
        return dict(target)

    def activities(self, **params: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call("DescribeScalingActivities", **params)["ScalingActivities"]
        return found


def track(scaled: Scaled, name: str = "track", **config: Any) -> str:
    metric = {"MetricName": "m", "Namespace": "n", "Statistic": "Average"}
    answer = scaled.call(
        "PutScalingPolicy",
        PolicyName=name,
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 50.0,
            "CustomizedMetricSpecification": metric,
            **config,
        },
    )
    return str(answer["PolicyARN"])
