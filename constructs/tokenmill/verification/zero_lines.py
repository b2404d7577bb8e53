"""A component that goes to no copies by schedule and by tracking, and what a request then leaves."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tokenmill.verification import component_stack, endpoint_update_lines, endpoints, looking
from tokenmill.verification.probe import Outcome, Verdict, holds
from tokenmill.verification.teardown import scalable_dimension

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tokenmill.verification.aws import Aws

METRIC, FAILED = "Idle", "NoCapacityInvocationFailures"
PERIOD_SECONDS = 60
_HIGH_PERIODS, _LOW_PERIODS = 3, 15
# 15 minutes of an idle metric, and the alarm's and the copies' own time.
_TRACKING_SECONDS = 30 * 60
_SCHEDULED_MINUTES, _SCHEDULED_SECONDS = 2, 15 * 60
_TARGET = {"ServiceNamespace": "sagemaker"}


def zero_lines(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Take one component to no copies twice, and call it while it has none.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    scaling = {"Status": "ENABLED", "MinInstanceCount": 0, "MaxInstanceCount": 1}
    place = component_stack.create_place(aws, scaling=scaling)
    name = _create_component(aws, place)
    _register(aws, name)
    if {"tracking-alarm-periods", "tracking-scale-in-zero"} & set(wanted):
        alarms = _track(aws, name)
        if "tracking-alarm-periods" in wanted:
            yield "tracking-alarm-periods", _periods(aws, alarms)
        if "tracking-scale-in-zero" in wanted:
            yield "tracking-scale-in-zero", _scaled_in(aws, name)
        aws.client("application-autoscaling").delete_scaling_policy(PolicyName=METRIC, **_key(name))
    if {"scheduled-zero", "no-capacity-metric"} & set(wanted):
        _wake(aws, name)
        outcome = _scheduled(aws, name)
        yield "scheduled-zero", outcome
        if "no-capacity-metric" in wanted:
            if outcome.verdict is not Verdict.HOLDS:
                _set_copies(aws, name, 0)
            yield "no-capacity-metric", _without_capacity(aws, place.endpoint, name)
    if "update-without-copies" in wanted:
        _set_copies(aws, name, 0)
        yield "update-without-copies", endpoint_update_lines.without_copies(aws, place, name)


def _create_component(aws: Aws, place: component_stack.Place) -> str:
    name = aws.name("idle")
    aws.declare("log-group", looking.component_log(name))
    aws.declare("inference-component", name)
    aws.client("sagemaker").create_inference_component(
        InferenceComponentName=name,
        EndpointName=place.endpoint,
        VariantName=endpoints.VARIANT,
        Specification=component_stack.specification(aws, place, generation=1),
        RuntimeConfig={"CopyCount": 1},
        Tags=aws.tags,
    )
    component_stack.settled(aws, name)
    return name


def _key(name: str) -> dict[str, str]:
    resource = f"inference-component/{name}"
    return {**_TARGET, "ResourceId": resource, "ScalableDimension": scalable_dimension(resource)}


def _register(aws: Aws, name: str) -> None:
    aws.declare("scalable-target", _key(name)["ResourceId"])
    aws.client("application-autoscaling").register_scalable_target(MinCapacity=0, MaxCapacity=1, **_key(name))


def _copies(aws: Aws, name: str) -> int:
    config = component_stack.describe(aws, name)["RuntimeConfig"]
    return int(config["DesiredCopyCount"])


def _dimensions(aws: Aws) -> list[dict[str, str]]:
    return [{"Name": "Run", "Value": aws.run}]


def _track(aws: Aws, name: str) -> list[dict[str, Any]]:
    """Put a policy on metric math, as the library's on token work, and return its alarms."""
    stat = {
        "Metric": {
            "Namespace": endpoints.EMF_NAMESPACE,
            "MetricName": METRIC,
            "Dimensions": _dimensions(aws),
        },
        "Stat": "Sum",
    }
    answer = aws.client("application-autoscaling").put_scaling_policy(
        PolicyName=METRIC,
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 60.0,
            "ScaleInCooldown": 60,
            "ScaleOutCooldown": 60,
            "CustomizedMetricSpecification": {
                "Metrics": [
                    {"Id": "work", "MetricStat": stat, "ReturnData": False},
                    {"Id": "busy", "Expression": f"100 * work / {PERIOD_SECONDS}", "ReturnData": True},
                ]
            },
        },
        **_key(name),
    )
    alarms: list[dict[str, Any]] = answer["Alarms"]
    return alarms


def _periods(aws: Aws, alarms: list[dict[str, Any]]) -> Outcome:
    names = [alarm["AlarmName"] for alarm in alarms]
    if not names:
        return Outcome(Verdict.UNCLEAR, {"alarms": []})
    found = aws.client("cloudwatch").describe_alarms(AlarmNames=names)["MetricAlarms"]
    periods = {
        alarm["ComparisonOperator"]: (
            alarm["EvaluationPeriods"],
            alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"]),
        )
        for alarm in found
    }
    expected = {
        "GreaterThanThreshold": (_HIGH_PERIODS, _HIGH_PERIODS),
        "LessThanThreshold": (_LOW_PERIODS, _LOW_PERIODS),
    }
    return Outcome(holds(periods == expected), {"periods": periods, "alarms": names})


def _scaled_in(aws: Aws, name: str) -> Outcome:
    def look() -> bool:
        aws.client("cloudwatch").put_metric_data(
            Namespace=endpoints.EMF_NAMESPACE,
            MetricData=[{"MetricName": METRIC, "Dimensions": _dimensions(aws), "Value": 0.0}],
        )
        return _copies(aws, name) == 0

    gone = looking.or_nothing(lambda: aws.wait("scaling in", look, seconds=_TRACKING_SECONDS))
    return Outcome(holds(bool(gone)), {"copies": _copies(aws, name)})


def _set_copies(aws: Aws, name: str, copies: int) -> None:
    if _copies(aws, name) != copies:
        aws.client("sagemaker").update_inference_component_runtime_config(
            InferenceComponentName=name, DesiredRuntimeConfig={"CopyCount": copies}
        )
    component_stack.settled(aws, name)


def _wake(aws: Aws, name: str) -> None:
    _set_copies(aws, name, 1)


def _scheduled(aws: Aws, name: str) -> Outcome:
    when = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=_SCHEDULED_MINUTES)
    aws.client("application-autoscaling").put_scheduled_action(
        ScheduledActionName="off",
        Schedule=f"at({when:%Y-%m-%dT%H:%M:%S})",
        ScalableTargetAction={"MinCapacity": 0, "MaxCapacity": 0},
        **_key(name),
    )
    gone = looking.or_nothing(
        lambda: aws.wait("the schedule", lambda: _copies(aws, name) == 0, seconds=_SCHEDULED_SECONDS)
    )
    if gone:
        return Outcome(Verdict.HOLDS, {"copies": 0})
    # Without the action having run, the copies say nothing.
    history = aws.client("application-autoscaling").describe_scaling_activities(**_key(name))
    activities = [
        {key: str(item.get(key, "")) for key in ("Description", "StatusCode", "StatusMessage")}
        for item in history["ScalingActivities"]
    ]
    ran = any("max capacity to 0" in item["Description"].lower() for item in activities)
    seen = {"copies": _copies(aws, name), "activities": activities}
    return Outcome(Verdict.FAILS if ran else Verdict.UNCLEAR, seen)


def _without_capacity(aws: Aws, endpoint: str, name: str) -> Outcome:
    try:
        aws.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=endpoint, InferenceComponentName=name, ContentType="application/json", Body=b"{}"
        )
    except ClientError as error:
        refused = str(error)
    else:
        return Outcome(Verdict.UNCLEAR, {"refused": None, "copies": _copies(aws, name)})

    def look() -> float:
        return looking.metric_total(
            aws,
            FAILED,
            namespace="AWS/SageMaker",
            dimensions={"InferenceComponentName": name},
            period=PERIOD_SECONDS,
        )

    total = looking.or_nothing(lambda: aws.wait("the metric", look, seconds=looking.METRIC_SECONDS))
    return Outcome(holds(bool(total)), {"refused": refused, "failures": total or 0.0})
