"""The probes: each deploys once for its lines and looks."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from tokenmill.core.errors import TokenmillError
from tokenmill.verification import endpoints, front_door
from tokenmill.verification.aws import ProbeTimeoutError, is_absent
from tokenmill.verification.lines import Deployment
from tokenmill.verification.probe import Outcome, Verdict, holds

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from tokenmill.verification.aws import Aws

_METRIC_SECONDS = 15 * 60
_LOG_LINES = 40
_ACCELERATOR = re.compile("neuron|accelerator|gpu", re.IGNORECASE)
_NAMESPACES = ("/aws/sagemaker/Endpoints", "/aws/sagemaker/InferenceComponents")


def neuron_endpoint(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Look at one Neuron instance with one component, and then at a component that asks for two devices.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    endpoint = endpoints.create_neuron_endpoint(aws)
    if set(wanted) != {"neuron-device-unit"}:
        component, status = endpoints.create_component(aws, endpoint, "one-device", devices=1)
        yield "neuron-image-driver", _image_driver(aws, endpoint, component, status)
        if "neuron-host-metrics" in wanted:
            yield "neuron-host-metrics", _host_metrics(aws, endpoint, component, status)
        if "neuron-vllm-metrics" in wanted:
            yield "neuron-vllm-metrics", _vllm_metrics(aws, status)
        aws.client("sagemaker").delete_inference_component(InferenceComponentName=component)
        aws.wait(f"deleting {component}", lambda: _is_gone(aws, component), seconds=900)
    if "neuron-device-unit" in wanted:
        yield "neuron-device-unit", _device_unit(aws, endpoint)


def log_endpoint(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Look for the log event and the metric of a container that prints embedded metric format.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    endpoint = endpoints.create_printing_endpoint(aws)
    group = f"/aws/sagemaker/Endpoints/{endpoint}"

    def events() -> list[str]:
        found = aws.client("logs").filter_log_events(
            logGroupName=group, filterPattern='"CloudWatchMetrics"', limit=5
        )
        return [event["message"] for event in found["events"]]

    def metrics() -> list[Any]:
        dimension = [{"Name": "Run", "Value": aws.run}]
        found = aws.client("cloudwatch").list_metrics(
            Namespace=endpoints.EMF_NAMESPACE, MetricName=endpoints.EMF_METRIC, Dimensions=dimension
        )
        listed: list[Any] = found["Metrics"]
        return listed

    printed = _or_nothing(lambda: aws.wait("a log event", events, seconds=_METRIC_SECONDS)) or []
    seen = _or_nothing(lambda: aws.wait("the metric", metrics, seconds=_METRIC_SECONDS)) or []
    whole = [_is_json(message) for message in printed]
    observations = {"log_events": printed, "event_is_the_whole_line": whole, "metric_found": bool(seen)}
    # Without the event in the log nothing was tried, so a missing metric says nothing.
    yield "emf-from-endpoint-logs", Outcome(holds(bool(seen)) if printed else Verdict.UNCLEAR, observations)


def front_door_lines(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Time the chunks that come through the front door.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    url = front_door.create_front_door(aws)
    # A new stage answers 403 or 5xx for some seconds, and the first request starts the function.
    answers = _or_nothing(lambda: aws.wait("an answer", lambda: _answered(aws, url), seconds=120))
    streamed = answers or front_door.stream(aws, url)
    observations = {
        "status": streamed.status,
        "lines": list(streamed.lines)[: front_door.CHUNKS],
        "arrivals_seconds": list(streamed.arrivals)[: front_door.CHUNKS],
        "spread_seconds": round(streamed.spread_seconds, 3),
    }
    expected = (front_door.CHUNKS - 1) * front_door.SECONDS_BETWEEN
    one_by_one = len(streamed.lines) == front_door.CHUNKS and streamed.spread_seconds >= 0.7 * expected
    yield "rest-api-streaming", Outcome(holds(streamed.status == 200 and one_by_one), observations)
    # The managed runtime cannot load our handler's form: an answer means that the wrapper ran.
    started = streamed.status == 200 and streamed.machines == ("aarch64",)
    yield "arm64-exec-wrapper", Outcome(holds(started), observations | {"machines": list(streamed.machines)})


PROBES: dict[Deployment, Callable[[Aws, Collection[str]], Iterator[tuple[str, Outcome]]]] = {
    Deployment.NEURON_ENDPOINT: neuron_endpoint,
    Deployment.LOG_ENDPOINT: log_endpoint,
    Deployment.FRONT_DOOR: front_door_lines,
}


def _image_driver(aws: Aws, endpoint: str, component: str, status: endpoints.Status) -> Outcome:
    observations: dict[str, Any] = {"status": status.value, "failure_reason": status.reason}
    observations["log"] = _component_log(aws, component)
    if not status.in_service:
        no_capacity = "capacity" in status.reason.lower()
        return Outcome(Verdict.UNCLEAR if no_capacity else Verdict.FAILS, observations)
    observations["answer"] = endpoints.ask(aws, endpoint, component)
    return Outcome(holds(bool(observations["answer"].get("choices"))), observations)


def _device_unit(aws: Aws, endpoint: str) -> Outcome:
    try:
        _, status = endpoints.create_component(aws, endpoint, "two-devices", devices=2)
    except ClientError as error:
        refused = error.response["Error"]["Code"] == "ValidationException"
        return Outcome(Verdict.HOLDS if refused else Verdict.UNCLEAR, {"refused": str(error)})
    except ProbeTimeoutError as error:
        return Outcome(Verdict.UNCLEAR, {"error": str(error)})
    observations = {"status": status.value, "failure_reason": status.reason}
    if status.in_service:
        return Outcome(Verdict.FAILS, observations)
    resources = re.search("accelerator|resource|capacity", status.reason, re.IGNORECASE)
    return Outcome(Verdict.HOLDS if resources else Verdict.UNCLEAR, observations)


def _host_metrics(aws: Aws, endpoint: str, component: str, status: endpoints.Status) -> Outcome:
    if not status.in_service:
        return Outcome(Verdict.UNCLEAR, {"status": status.value})
    names = {"EndpointName": endpoint, "InferenceComponentName": component}

    def look() -> dict[str, list[str]] | None:
        found: dict[str, list[str]] = {}
        for namespace, (dimension, value) in zip(_NAMESPACES, names.items(), strict=True):
            pages = (
                aws.client("cloudwatch")
                .get_paginator("list_metrics")
                .paginate(Namespace=namespace, Dimensions=[{"Name": dimension, "Value": value}])
            )
            found[namespace] = sorted({metric["MetricName"] for page in pages for metric in page["Metrics"]})
        return found if any(found.values()) else None

    found = _or_nothing(lambda: aws.wait("host metrics", look, seconds=_METRIC_SECONDS))
    if found is None:
        return Outcome(Verdict.UNCLEAR, {"metrics": {}})
    of_accelerators = [name for listed in found.values() for name in listed if _ACCELERATOR.search(name)]
    return Outcome(holds(not of_accelerators), {"metrics": found, "of_accelerators": of_accelerators})


def _vllm_metrics(aws: Aws, status: endpoints.Status) -> Outcome:
    if not status.in_service:
        return Outcome(Verdict.UNCLEAR, {"status": status.value})
    try:
        found = aws.wait("vLLM metrics", lambda: _promql_names(aws), seconds=_METRIC_SECONDS)
    except ProbeTimeoutError:
        return Outcome(Verdict.FAILS, {"names": []})
    except TokenmillError as error:
        return Outcome(Verdict.UNCLEAR, {"error": str(error)})
    return Outcome(Verdict.HOLDS, {"names": found})


def _promql_names(aws: Aws) -> list[str]:
    """Return metric names with vllm in them, from CloudWatch's PromQL interface."""
    import urllib3
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

    url = f"{aws.client('cloudwatch').meta.endpoint_url}/api/v1/label/__name__/values"
    request = AWSRequest(method="GET", url=url, headers={"Host": urlsplit(url).netloc})
    SigV4Auth(aws.credentials, "monitoring", aws.region).add_auth(request)
    answer = urllib3.request("GET", url, headers=dict(request.headers.items()), timeout=30, retries=False)
    if answer.status != 200:
        raise TokenmillError(f"CloudWatch's PromQL interface answered {answer.status}: {answer.data[:200]!r}")
    names: list[str] = answer.json()["data"]
    return sorted(name for name in names if "vllm" in name.lower())


def _component_log(aws: Aws, component: str) -> list[str]:
    group = f"/aws/sagemaker/InferenceComponents/{component}"
    try:
        found = aws.client("logs").filter_log_events(logGroupName=group, limit=_LOG_LINES)
    except ClientError as error:
        return [f"no log: {error.response['Error']['Code']}"]
    return [event["message"] for event in found["events"]]


def _is_gone(aws: Aws, component: str) -> bool:
    try:
        aws.client("sagemaker").describe_inference_component(InferenceComponentName=component)
    except ClientError as error:
        return is_absent(error)
    return False


def _answered(aws: Aws, url: str) -> front_door.Streamed | None:
    streamed = front_door.stream(aws, url)
    return streamed if streamed.status == 200 else None


def _or_nothing(wait: Callable[[], Any]) -> Any:
    try:
        return wait()
    except ProbeTimeoutError:
        return None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
