"""The documents that the control plane answers with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenmill.local.sagemaker.records import now

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tokenmill.local.aws_requests import Params
    from tokenmill.local.sagemaker.records import Account, Component, Endpoint, Variant

__all__ = ["component", "endpoint", "listed", "now", "without_tags"]


def without_tags(record: Params) -> Params:
    """Return a stored request as its describe operation shows it.

    Args:
        record: The stored request.
    """
    return {key: value for key, value in record.items() if key != "Tags"}


def listed(records: Iterable[Mapping[str, Any]], noun: str, params: Params, *more: str) -> list[Params]:
    """Return the summaries of a list operation, filtered as its request asks.

    Args:
        records: Describe documents.
        noun: Prefix of the members, such as `Endpoint`.
        params: The request: `NameContains`, `StatusEquals`, `EndpointNameEquals`, `MaxResults`.
        more: Further members of the summary.
    """
    fields = [f"{noun}Name", f"{noun}Arn", "CreationTime", *more]
    wanted = []
    for record in records:
        name = record[f"{noun}Name"]
        status = record.get(f"{noun}Status")
        if params.get("NameContains", "") not in name:
            continue
        if params.get("StatusEquals") not in (None, status):
            continue
        if params.get("EndpointNameEquals") not in (None, record.get("EndpointName")):
            continue
        wanted.append({key: record[key] for key in fields if key in record})
    return wanted[: params.get("MaxResults", len(wanted))]


def endpoint(record: Endpoint, account: Account) -> Params:
    """Return what DescribeEndpoint shows.

    Args:
        record: The endpoint.
        account: Its neighbours.
    """
    document: Params = {
        "EndpointName": record.name,
        "EndpointArn": record.arn,
        "EndpointConfigName": record.config_name,
        "ProductionVariants": [_variant(variant) for variant in record.variants],
        "EndpointStatus": record.status,
        "CreationTime": record.created,
        "LastModifiedTime": record.modified,
    }
    if record.failure:
        document["FailureReason"] = record.failure
    metrics = account.configs.get(record.config_name, {}).get("MetricsConfig")
    if metrics:
        document["MetricsConfig"] = metrics
    return document


def _variant(record: Variant) -> Params:
    document: Params = {
        "VariantName": record.name,
        "CurrentInstanceCount": record.instances,
        "DesiredInstanceCount": record.desired,
        "CurrentWeight": float(record.config.get("InitialVariantWeight", 1.0)),
        "DesiredWeight": float(record.config.get("InitialVariantWeight", 1.0)),
    }
    for key in ("ManagedInstanceScaling", "RoutingConfig", "CapacityReservationConfig"):
        if key in record.config:
            document[key] = record.config[key]
    return document


def component(record: Component) -> Params:
    """Return what DescribeInferenceComponent shows.

    Args:
        record: The inference component.
    """
    specification = dict(record.specification)
    if "Container" in specification:
        container = dict(specification["Container"])
        image = container.pop("Image", None)
        if image is not None:
            container["DeployedImage"] = {"SpecifiedImage": image, "ResolutionTime": record.created}
        specification["Container"] = container
    document: Params = {
        "InferenceComponentName": record.name,
        "InferenceComponentArn": record.arn,
        "EndpointName": record.endpoint,
        "EndpointArn": record.scope.arn("sagemaker", f"endpoint/{record.endpoint}"),
        "VariantName": record.variant,
        "Specification": specification,
        "RuntimeConfig": {"DesiredCopyCount": record.desired, "CurrentCopyCount": record.current},
        "InferenceComponentStatus": record.status,
        "CreationTime": record.created,
        "LastModifiedTime": record.modified,
    }
    if record.failure:
        document["FailureReason"] = record.failure
    return document
