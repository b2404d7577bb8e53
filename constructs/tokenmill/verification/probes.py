"""The probes: each deploys once for its lines and looks."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from tokenmill.core.errors import TokenmillError
from tokenmill.core.instances import instance_type
from tokenmill.verification import endpoints, looking, served
from tokenmill.verification.adapter_lines import adapter_lines
from tokenmill.verification.async_lines import async_lines
from tokenmill.verification.aws import ProbeTimeoutError
from tokenmill.verification.bedrock_import_lines import deployment_lines, import_lines
from tokenmill.verification.bedrock_job_lines import job_lines
from tokenmill.verification.bedrock_lines import bedrock_lines
from tokenmill.verification.bedrock_prompt_lines import prompt_lines
from tokenmill.verification.bedrock_router_lines import requested_lines
from tokenmill.verification.bedrock_setting_lines import logging_lines
from tokenmill.verification.bedrock_term_lines import owned_lines
from tokenmill.verification.bedrock_text_lines import guardrail_lines
from tokenmill.verification.bedrock_unit_lines import unit_lines
from tokenmill.verification.build_lines import build_lines
from tokenmill.verification.catalog_lines import catalog_lines
from tokenmill.verification.component_lines import component_lines
from tokenmill.verification.config_lines import config_lines, reserved_endpoint
from tokenmill.verification.gateway_lines import front_door_lines
from tokenmill.verification.gpu_lines import gpu_endpoint, gpu_split_endpoint
from tokenmill.verification.job_lines import gpu_transform, hosted_jobs, neuron_transform
from tokenmill.verification.line import Deployment
from tokenmill.verification.lines import FOOTPRINTS
from tokenmill.verification.planned_lines import planned_endpoint
from tokenmill.verification.probe import Outcome, Verdict, holds
from tokenmill.verification.rollout_lines import rollout_lines
from tokenmill.verification.trainium_lines import trainium_lines
from tokenmill.verification.variant_lines import variant_lines
from tokenmill.verification.zero_lines import zero_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from tokenmill.verification.aws import Aws

_EMPTY = "SM_ON_ALLOW_NON_CACHED_MODEL"
_FLAG = "--allow_non_cached_model"
# vLLM names the revision in the line that it starts with (vllm-project/vllm: v1/engine/core.py).
_REVISION = served.Option(
    environment={"SM_ON_REVISION": "main"}, shown=(" revision=main",), otherwise=" revision=", word="revision"
)
_ACCELERATOR = re.compile("neuron|accelerator|gpu", re.IGNORECASE)


def neuron_endpoint(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Look at one Neuron instance with one component, and then at a component that asks for two devices.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    deployment = Deployment.NEURON_ENDPOINT
    endpoint = endpoints.create_accelerated_endpoint(aws, deployment, "neuron")
    if not set(wanted) <= {"neuron-device-unit", "neuron-revision"}:
        small = endpoints.small_copy(aws, deployment, devices=1)
        room = instance_type(FOOTPRINTS[deployment].instance).host_room_mib
        whole = dataclasses.replace(small, memory_mib=room)
        component, status = endpoints.create_component(aws, endpoint, "one-device", whole)
        yield "host-memory-share", _host_memory(status, room)
        if _no_memory(status):
            served.delete(aws, component)
            component, status = endpoints.create_component(aws, endpoint, "less-memory", small)
        yield from _served(aws, endpoint, component, status, wanted)
        served.delete(aws, component)
    if "neuron-revision" in wanted:
        yield "neuron-revision", _revision(aws, endpoint)
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

    printed = (
        looking.or_nothing(lambda: aws.wait("a log event", events, seconds=looking.METRIC_SECONDS)) or []
    )
    seen = looking.or_nothing(lambda: aws.wait("the metric", metrics, seconds=looking.METRIC_SECONDS)) or []
    whole = [_is_json(message) for message in printed]
    observations = {"log_events": printed, "event_is_the_whole_line": whole, "metric_found": bool(seen)}
    # Without the event in the log nothing was tried, so a missing metric says nothing.
    yield "emf-from-endpoint-logs", Outcome(holds(bool(seen)) if printed else Verdict.UNCLEAR, observations)


PROBES: dict[Deployment, Callable[[Aws, Collection[str]], Iterator[tuple[str, Outcome]]]] = {
    Deployment.NEURON_ENDPOINT: neuron_endpoint,
    Deployment.LOG_ENDPOINT: log_endpoint,
    Deployment.FRONT_DOOR: front_door_lines,
    Deployment.COMPONENT_ENDPOINT: component_lines,
    Deployment.GPU_ENDPOINT: gpu_endpoint,
    Deployment.PLANNED_ENDPOINT: planned_endpoint,
    Deployment.GPU_SPLIT_ENDPOINT: gpu_split_endpoint,
    Deployment.CATALOG_REQUESTS: catalog_lines,
    Deployment.BEDROCK_REQUESTS: bedrock_lines,
    Deployment.CONFIG_REQUESTS: config_lines,
    Deployment.BUILD_REQUESTS: build_lines,
    Deployment.ASYNC_ENDPOINT: async_lines,
    Deployment.HOSTED_JOBS: hosted_jobs,
    Deployment.NEURON_TRANSFORM: neuron_transform,
    Deployment.GPU_TRANSFORM: gpu_transform,
    Deployment.ZERO_ENDPOINT: zero_lines,
    Deployment.ROLLOUT_ENDPOINT: rollout_lines,
    Deployment.VARIANT_ENDPOINT: variant_lines,
    Deployment.ADAPTER_ENDPOINT: adapter_lines,
    Deployment.RESERVED_ENDPOINT: reserved_endpoint,
    Deployment.TRAINIUM_ENDPOINT: trainium_lines,
    Deployment.BEDROCK_MODELS: requested_lines,
    Deployment.BEDROCK_GUARDRAILS: guardrail_lines,
    Deployment.BEDROCK_PROMPTS: prompt_lines,
    Deployment.BEDROCK_JOBS: job_lines,
    Deployment.BEDROCK_LOGGING: logging_lines,
    Deployment.BEDROCK_IMPORT: import_lines,
    Deployment.BEDROCK_DEPLOYMENTS: deployment_lines,
    Deployment.BEDROCK_UNITS: unit_lines,
    Deployment.COMMITTED_UNITS: owned_lines,
}


def _served(
    aws: Aws, endpoint: str, component: str, status: endpoints.Status, wanted: Collection[str]
) -> Iterator[tuple[str, Outcome]]:
    yield "neuron-image-driver", served.image_driver(aws, endpoint, component, status)
    if "chat-without-model" in wanted:
        yield "chat-without-model", _chat_without_model(aws, endpoint, component, status)
    if "empty-environment-value" in wanted:
        yield "empty-environment-value", _empty_value(aws, component, status)
    if "neuron-host-metrics" in wanted:
        yield "neuron-host-metrics", _host_metrics(aws, endpoint, component, status)
    if "neuron-vllm-metrics" in wanted:
        yield "neuron-vllm-metrics", _vllm_metrics(aws, status)


def _no_memory(status: endpoints.Status) -> bool:
    return not status.in_service and bool(re.search("memory|resource", status.reason, re.IGNORECASE))


def _host_memory(status: endpoints.Status, room: int) -> Outcome:
    observations = {"memory_mib": room, "status": status.value, "failure_reason": status.reason}
    if status.in_service:
        return Outcome(Verdict.HOLDS, observations)
    # A container that was placed and did not start says nothing about the place.
    return Outcome(Verdict.FAILS if _no_memory(status) else Verdict.UNCLEAR, observations)


def _chat_without_model(aws: Aws, endpoint: str, component: str, status: endpoints.Status) -> Outcome:
    if not status.in_service:
        return Outcome(Verdict.UNCLEAR, {"status": status.value})
    try:
        answer = endpoints.ask(aws, endpoint, component, model=None)
    except ClientError as error:
        refused = error.response["Error"]["Code"] == "ModelError"
        return Outcome(Verdict.FAILS if refused else Verdict.UNCLEAR, {"error": str(error)})
    return Outcome(holds(bool(answer.get("choices"))), {"answer": answer})


def _empty_value(aws: Aws, component: str, status: endpoints.Status) -> Outcome:
    found = aws.client("sagemaker").describe_inference_component(InferenceComponentName=component)
    environment = found.get("Specification", {}).get("Container", {}).get("Environment", {})
    lines = looking.matching_lines(aws, looking.component_log(component), _FLAG)
    seen = {"kept_by_api": _EMPTY in environment, "log": lines, "status": status.value}
    if _EMPTY not in environment:
        return Outcome(Verdict.FAILS, seen)
    if not lines:
        return Outcome(Verdict.UNCLEAR, seen)
    # The command also names its flag when it refuses a configuration for the lack of it.
    return Outcome(Verdict.HOLDS if status.in_service else Verdict.UNCLEAR, seen)


def _revision(aws: Aws, endpoint: str) -> Outcome:
    small = endpoints.small_copy(aws, Deployment.NEURON_ENDPOINT, devices=1)
    copy = dataclasses.replace(small, environment={**small.environment, **_REVISION.environment})
    component, status = endpoints.create_component(aws, endpoint, "revision", copy)
    outcome = served.accepts(aws, endpoint, component, status, _REVISION)
    served.delete(aws, component)
    return outcome


def _device_unit(aws: Aws, endpoint: str) -> Outcome:
    try:
        copy = endpoints.small_copy(aws, Deployment.NEURON_ENDPOINT, devices=2)
        _, status = endpoints.create_component(aws, endpoint, "two-devices", copy)
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

    def look() -> dict[str, list[str]] | None:
        found = looking.host_metric_names(aws, endpoint, component)
        return found if any(found.values()) else None

    found = looking.or_nothing(lambda: aws.wait("host metrics", look, seconds=looking.METRIC_SECONDS))
    if found is None:
        return Outcome(Verdict.UNCLEAR, {"metrics": {}})
    of_accelerators = [name for listed in found.values() for name in listed if _ACCELERATOR.search(name)]
    return Outcome(holds(not of_accelerators), {"metrics": found, "of_accelerators": of_accelerators})


def _vllm_metrics(aws: Aws, status: endpoints.Status) -> Outcome:
    if not status.in_service:
        return Outcome(Verdict.UNCLEAR, {"status": status.value})
    try:
        found = aws.wait("vLLM metrics", lambda: _promql_names(aws), seconds=looking.METRIC_SECONDS)
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


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
