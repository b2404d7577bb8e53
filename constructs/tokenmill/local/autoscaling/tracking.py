"""Target tracking: the two alarms that a policy makes, and the capacity that it asks for.

Source: Application Auto Scaling User Guide, "How target tracking scaling for Application Auto Scaling works".
The alarms' shape (above the target for 3 of 3 minutes, below 0.9 of it for 15 of 15) is not documented; it is
what the AWS Copilot documentation prints for services that Application Auto Scaling scales.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenmill.local.autoscaling.records import TargetKey
    from tokenmill.local.aws_requests import Params

MINUTE = 60
HIGH_RESOLUTION_SECONDS = 10
LOW_SHARE = 0.9
_HIGH_POINTS, _LOW_POINTS = 3, 15
# Metric, statistic and the period of the alarm for more capacity, in seconds.
_PREDEFINED = {
    "SageMakerInferenceComponentInvocationsPerCopy": ("InvocationsPerCopy", "Sum", MINUTE),
    "SageMakerVariantInvocationsPerInstance": ("InvocationsPerInstance", "Sum", MINUTE),
    "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution": (
        "ConcurrentRequestsPerCopy", "Maximum", HIGH_RESOLUTION_SECONDS,
    ),
    "SageMakerVariantConcurrentRequestsPerModelHighResolution": (
        "ConcurrentRequestsPerModel", "Maximum", HIGH_RESOLUTION_SECONDS,
    ),
}  # fmt: skip


def alarms_of(key: TargetKey, policy: Params, identity: str) -> list[Params]:
    """Return the alarms of a policy: for more capacity, and unless it is disabled for less.

    Args:
        key: The scalable target.
        policy: The policy.
        identity: What makes the alarms' names unique.
    """
    config = policy["TargetTrackingScalingPolicyConfiguration"]
    target = float(config["TargetValue"])
    found = _metric(key, config)
    if found is None:
        return []
    metric, period = found
    common = {
        "ActionsEnabled": True,
        "AlarmActions": [policy["PolicyARN"]],
        "AlarmDescription": f"DO NOT EDIT OR DELETE. For TargetTrackingScaling policy {policy['PolicyARN']}.",
        "TreatMissingData": "missing",
    }
    high = {
        **common,
        **metric(period),
        "AlarmName": f"TargetTracking-{key[1]}-AlarmHigh-{identity}",
        "ComparisonOperator": "GreaterThanThreshold",
        "Threshold": target,
        "EvaluationPeriods": _HIGH_POINTS,
    }
    low = {
        **common,
        **metric(MINUTE),
        "AlarmName": f"TargetTracking-{key[1]}-AlarmLow-{identity}",
        "ComparisonOperator": "LessThanThreshold",
        "Threshold": LOW_SHARE * target,
        "EvaluationPeriods": _LOW_POINTS,
    }
    return [high] if config.get("DisableScaleIn") else [high, low]


def wanted_capacity(capacity: int, metric: float, target: float) -> int:
    """Return the capacity that brings a metric to its target, rounded up.

    Args:
        capacity: Capacity that the metric was measured with.
        metric: The metric, which falls as the capacity grows.
        target: Its target.
    """
    return math.ceil(capacity * metric / target - 1e-9)


def _metric(key: TargetKey, config: Params) -> tuple[Any, int] | None:
    custom = config.get("CustomizedMetricSpecification")
    if custom is not None:
        return (lambda period: _custom(custom, period)), MINUTE
    kind = config["PredefinedMetricSpecification"]["PredefinedMetricType"]
    if kind not in _PREDEFINED:
        return None
    name, statistic, fastest = _PREDEFINED[kind]
    dimensions = _dimensions(key[1])

    def predefined(period: int) -> Params:
        return {
            "Namespace": "AWS/SageMaker",
            "MetricName": name,
            "Dimensions": dimensions,
            "Statistic": statistic,
            "Period": period,
        }

    return predefined, fastest


def _custom(custom: Params, period: int) -> Params:
    if not custom.get("Metrics"):
        names = ("Namespace", "MetricName", "Dimensions", "Statistic", "Unit")
        return {name: custom[name] for name in names if name in custom} | {"Period": period}
    queries = []
    for query in custom["Metrics"]:
        if "MetricStat" in query:
            query = {**query, "MetricStat": {**query["MetricStat"], "Period": period}}
        queries.append(query)
    return {"Metrics": queries}


def _dimensions(resource: str) -> list[Params]:
    if resource.startswith("inference-component/"):
        return [{"Name": "InferenceComponentName", "Value": resource.partition("/")[2]}]
    _, endpoint, _, variant = resource.split("/")
    return [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": variant}]
