"""How probes look: waits that may end without anything, logs, metrics, and calls that AWS is to refuse."""

from __future__ import annotations

import datetime
import re
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tokenmill.verification.aws import ProbeTimeoutError
from tokenmill.verification.probe import Outcome, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.verification.aws import Aws

METRIC_SECONDS = 15 * 60
LOG_SECONDS = 120
_LOG_LINES = 40
NAMESPACES = {
    "/aws/sagemaker/Endpoints": "EndpointName",
    "/aws/sagemaker/InferenceComponents": "InferenceComponentName",
}


def or_nothing(wait: Callable[[], Any]) -> Any:
    """Return what a wait brings, or None when its time is over.

    Args:
        wait: The wait.
    """
    try:
        return wait()
    except ProbeTimeoutError:
        return None


def execution(aws: Aws, machine: str, *, seconds: float) -> dict[str, str]:
    """Run a state machine to its end; return its status, and error and cause where it failed.

    Args:
        aws: The run.
        machine: Its ARN.
        seconds: How long it may take, in seconds.
    """
    client = aws.client("stepfunctions")
    arn = client.start_execution(stateMachineArn=machine, input="{}")["executionArn"]

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = client.describe_execution(executionArn=arn)
        return None if found["status"] == "RUNNING" else found

    ended = aws.wait("the execution's end", look, seconds=seconds)
    return {key: str(ended.get(key, "")) for key in ("status", "error", "cause")}


def log_lines(aws: Aws, group: str, *, pattern: str = "") -> list[str]:
    """Return some lines of a log group; one that says why, where there is no such group.

    Args:
        aws: The run.
        group: The group's name.
        pattern: A filter pattern of CloudWatch Logs.
    """
    asked = {"filterPattern": pattern} if pattern else {}
    # A page may be empty while later ones are not ("FilterLogEvents", Amazon CloudWatch Logs API Reference).
    pages = (
        aws.client("logs")
        .get_paginator("filter_log_events")
        .paginate(logGroupName=group, PaginationConfig={"MaxItems": _LOG_LINES}, **asked)
    )
    try:
        return [event["message"] for page in pages for event in page.get("events", [])]
    except ClientError as error:
        return [f"no log: {error.response['Error']['Code']}"]


def matching_lines(aws: Aws, group: str, phrase: str) -> list[str]:
    """Return the lines of a log group that hold a phrase.

    Args:
        aws: The run.
        group: The group's name.
        phrase: What they hold.
    """
    return [line for line in log_lines(aws, group, pattern=f'"{phrase}"') if phrase in line]


def component_log(component: str) -> str:
    """Return the name of a component's log group.

    Args:
        component: The component's name.
    """
    return f"/aws/sagemaker/InferenceComponents/{component}"


def host_metric_names(aws: Aws, endpoint: str, component: str) -> dict[str, list[str]]:
    """Return the names of the metrics that an endpoint and its component have, by namespace.

    Args:
        aws: The run.
        endpoint: The endpoint's name.
        component: The component's name.
    """
    values = {"EndpointName": endpoint, "InferenceComponentName": component}
    found: dict[str, list[str]] = {}
    for namespace, dimension in NAMESPACES.items():
        pages = (
            aws.client("cloudwatch")
            .get_paginator("list_metrics")
            .paginate(Namespace=namespace, Dimensions=[{"Name": dimension, "Value": values[dimension]}])
        )
        found[namespace] = sorted({metric["MetricName"] for page in pages for metric in page["Metrics"]})
    return found


def refusal(call: Callable[[], Any], *, about: str) -> Outcome:
    """Return whether AWS refuses a call, and for the reason that is claimed.

    Args:
        call: The call.
        about: Regular expression that the message of the refusal has to match.
    """
    try:
        call()
    except ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        for_this = code == "ValidationException" and re.search(about, message, re.IGNORECASE)
        seen = {"refused": True, "code": code, "message": message}
        return Outcome(Verdict.HOLDS if for_this else Verdict.UNCLEAR, seen)
    return Outcome(Verdict.FAILS, {"refused": False})


def acceptance(call: Callable[[], Any], *, about: str) -> Outcome:
    """Return whether AWS takes a call, or refuses it for what is claimed to be taken.

    Args:
        call: The call.
        about: Regular expression that the message of such a refusal matches.
    """
    try:
        call()
    except ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        for_this = code == "ValidationException" and re.search(about, message, re.IGNORECASE)
        seen = {"accepted": False, "code": code, "message": message}
        return Outcome(Verdict.FAILS if for_this else Verdict.UNCLEAR, seen)
    return Outcome(Verdict.HOLDS, {"accepted": True})


def metric_total(aws: Aws, metric: str, *, namespace: str, dimensions: dict[str, str], period: int) -> float:
    """Return the sum of a metric over the last hour, read in periods of some length.

    Args:
        aws: The run.
        metric: The metric's name.
        namespace: The metric's namespace.
        dimensions: The metric's dimensions.
        period: Length of a period, in seconds.
    """
    now = datetime.datetime.now(datetime.UTC)
    found = aws.client("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=metric,
        Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
        StartTime=now - datetime.timedelta(hours=1),
        EndTime=now,
        Period=period,
        Statistics=["Sum"],
    )
    return sum(float(point["Sum"]) for point in found["Datapoints"])
