"""What SageMaker takes in an endpoint's configuration: requests that start nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError
from tokenmill.verification import endpoint_update_lines, endpoints, looking, small_host
from tokenmill.verification.line import Deployment
from tokenmill.verification.lines import FOOTPRINTS
from tokenmill.verification.probe import Outcome, Verdict, create_role, holds
from tokenmill.verification.request_lines import hub_revision, map_policies

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tokenmill.verification.aws import Aws

_PREFIX_BYTES, _PREFIX_REQUESTS = 4096, 8


def config_lines(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Ask for configurations as the library renders them, and for what else needs no instance.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    if set(wanted) != {"hub-revision-card"}:
        host = small_host.create_host(aws, "configs")
        yield from _configs(aws, host, wanted)
        if "map-policies" in wanted:
            yield "map-policies", map_policies(aws, host.bucket)
    if "hub-revision-card" in wanted:
        yield "hub-revision-card", hub_revision()


def reserved_endpoint(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Start an endpoint of components in a reservation that the account has.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    (line,) = wanted
    plan = _reservation(aws)
    if plan is None:
        yield line, Outcome(Verdict.UNCLEAR, {"reservation": None})
        return
    kind = plan["ReservedCapacitySummaries"][0]["InstanceType"]
    seen: dict[str, Any] = {"reservation": plan["TrainingPlanArn"], "instance_type": kind}
    role = create_role(aws, "reserved", service="sagemaker.amazonaws.com", actions=endpoints.ROLE_ACTIONS)
    reserved = {
        "CapacityReservationPreference": "capacity-reservations-only",
        "MlReservationArn": plan["TrainingPlanArn"],
    }
    variant = {**endpoints.component_variant(kind), "CapacityReservationConfig": reserved}
    name = aws.name("reserved")
    try:
        endpoints.create_endpoint(aws, name, variant, ExecutionRoleArn=role)
    except TokenmillError as error:
        about = "reserv" in str(error).lower()
        yield line, Outcome(Verdict.FAILS if about else Verdict.UNCLEAR, {**seen, "error": str(error)})
        return
    found = aws.client("sagemaker").describe_endpoint(EndpointName=name)["ProductionVariants"][0]
    used = found.get("CapacityReservationConfig", {}).get("UsedByCurrentEndpoint", 0)
    yield line, Outcome(holds(used > 0), {**seen, "used_by_endpoint": used})


def _reservation(aws: Aws) -> dict[str, Any] | None:
    """Return the account's first reservation that is in force and for endpoints."""
    pages = aws.client("sagemaker").get_paginator("list_training_plans").paginate()
    plans: list[dict[str, Any]] = [plan for page in pages for plan in page["TrainingPlanSummaries"]]
    fitting = [
        plan for plan in plans if plan["Status"] == "Active" and "endpoint" in plan.get("TargetResources", [])
    ]
    return next((plan for plan in fitting if plan.get("ReservedCapacitySummaries")), None)


def _configs(aws: Aws, host: small_host.Host, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    if "prefix-routing-components" in wanted:
        yield "prefix-routing-components", _prefix_routing(aws, host.role)
    if "zero-managed-instances" in wanted:
        yield "zero-managed-instances", _zero_instances(aws, host.role)
    if "async-config-fields" in wanted:
        yield "async-config-fields", _async_fields(aws, host)
    if "zero-instance-pools" in wanted:
        yield "zero-instance-pools", endpoint_update_lines.no_instances_of_pools(aws, host.role)


def _create(aws: Aws, suffix: str, variant: dict[str, Any], **config: Any) -> None:
    name = aws.name(suffix)
    aws.declare("endpoint-config", name)
    aws.settle(
        lambda: aws.client("sagemaker").create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=[variant], Tags=aws.tags, **config
        ),
        codes=("ValidationException",),
    )


def _prefix_routing(aws: Aws, role: str) -> Outcome:
    routing = {
        "RoutingStrategy": "PREFIX_AWARE",
        "PrefixAwareRoutingConfig": {
            "PrefixLength": _PREFIX_BYTES,
            "ConcurrencyThreshold": _PREFIX_REQUESTS,
        },
    }
    kind = FOOTPRINTS[Deployment.GPU_ENDPOINT].instance
    variant = {**endpoints.component_variant(kind), "RoutingConfig": routing}
    return looking.acceptance(
        lambda: _create(aws, "prefix", variant, ExecutionRoleArn=role), about="prefix|routing"
    )


def _zero_instances(aws: Aws, role: str) -> Outcome:
    scaling = {"Status": "ENABLED", "MinInstanceCount": 0, "MaxInstanceCount": 1}
    kind = FOOTPRINTS[Deployment.COMPONENT_ENDPOINT].instance
    variant = {**endpoints.component_variant(kind), "ManagedInstanceScaling": scaling}
    return looking.acceptance(
        lambda: _create(aws, "zero", variant, ExecutionRoleArn=role), about="MinInstanceCount|minimum|zero"
    )


def _async_fields(aws: Aws, host: small_host.Host) -> Outcome:
    model = small_host.create_model(aws, "fields", host.container(aws), host.role)
    variant = {
        **endpoints.component_variant(FOOTPRINTS[Deployment.ASYNC_ENDPOINT].instance),
        "ModelName": model,
    }
    answers = {"OutputConfig": {"S3OutputPath": f"s3://{host.bucket}/answers"}}
    return looking.acceptance(
        lambda: _create(
            aws, "fields", variant, AsyncInferenceConfig=answers, MetricsConfig=endpoints.METRICS
        ),
        about="async|routing|metrics",
    )
