"""The documents that the control plane answers with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenmill.local.sagemaker.component_fleet import container_of
from tokenmill.local.sagemaker.records import now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

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


def endpoint(record: Endpoint, account: Account, digest: Callable[[str], str | None]) -> Params:
    """Return what DescribeEndpoint shows.

    Args:
        record: The endpoint.
        account: Its neighbours.
        digest: Gives the digest that an image's URI resolves to.
    """
    document: Params = {
        "EndpointName": record.name,
        "EndpointArn": record.arn,
        "EndpointConfigName": record.config_name,
        "ProductionVariants": [
            _variant(variant, account, lambda image: _deployed(image, record.created, digest))
            for variant in record.variants
        ],
        "EndpointStatus": record.status,
        "CreationTime": record.created,
        "LastModifiedTime": record.modified,
    }
    if record.failure:
        document["FailureReason"] = record.failure
    config = account.configs.get(record.config_name, {})
    for key in ("MetricsConfig", "AsyncInferenceConfig"):
        if config.get(key):
            document[key] = config[key]
    if config.get("DataCaptureConfig"):
        document["DataCaptureConfig"] = _data_capture(config["DataCaptureConfig"])
    if record.deployment:
        document["LastDeploymentConfig"] = record.deployment
    if record.pending is not None:
        started = record.pending.started
        document["PendingDeploymentSummary"] = {
            "EndpointConfigName": record.pending.config_name,
            "StartTime": started,
            "ProductionVariants": [
                _variant(variant, account, lambda image: _deployed(image, started, digest))
                for variant in record.pending.variants
            ],
        }
    return document


def _data_capture(config: Params) -> Params:
    return {
        "EnableCapture": config.get("EnableCapture", False),
        "CaptureStatus": "Started" if config.get("EnableCapture") else "Stopped",
        "CurrentSamplingPercentage": config["InitialSamplingPercentage"],
        "DestinationS3Uri": config["DestinationS3Uri"],
        "KmsKeyId": config.get("KmsKeyId", ""),
    }


def _variant(record: Variant, account: Account, deployed: Callable[[str], Params]) -> Params:
    document: Params = {
        "VariantName": record.name,
        "CurrentInstanceCount": record.instances,
        "DesiredInstanceCount": record.desired,
        "CurrentWeight": record.weight,
        "DesiredWeight": record.weight,
    }
    for key in ("ManagedInstanceScaling", "RoutingConfig", "CapacityReservationConfig"):
        if key in record.config:
            document[key] = record.config[key]
    if record.config.get("InstancePools"):
        document["InstancePools"] = [
            {"InstanceType": name, "CurrentInstanceCount": record.held.get(name, 0)} for name in record.types
        ]
    if record.stage is not None:
        document["VariantStatus"] = [{"Status": record.stage}]
    if record.serves_model:
        image = container_of(account, {"ModelName": record.model_name}).get("Image")
        if image is not None:
            document["DeployedImages"] = [deployed(image)]
    return document


def component(record: Component, digest: Callable[[str], str | None], *, pooled: bool) -> Params:
    """Return what DescribeInferenceComponent shows.

    Args:
        record: The inference component.
        digest: Gives the digest that an image's URI resolves to.
        pooled: Whether its variant has instance pools; then the placement is shown.
    """
    specifications = [_specification(each, record, digest) for each in record.specifications]
    runtime: Params = {"DesiredCopyCount": record.desired, "CurrentCopyCount": record.current}
    if pooled and record.placed:
        runtime["PlacementStatus"] = [
            {"InstanceType": name, "CurrentCopyCount": count} for name, count in record.placed.items()
        ]
    document: Params = {
        "InferenceComponentName": record.name,
        "InferenceComponentArn": record.arn,
        "EndpointName": record.endpoint,
        "EndpointArn": record.scope.arn("sagemaker", f"endpoint/{record.endpoint}"),
        "VariantName": record.variant,
        "RuntimeConfig": runtime,
        "InferenceComponentStatus": record.status,
        "CreationTime": record.created,
        "LastModifiedTime": record.modified,
    }
    if len(specifications) > 1:
        document["Specifications"] = specifications
    else:
        document["Specification"] = specifications[0]
    if record.failure:
        document["FailureReason"] = record.failure
    if record.deployment:
        document["LastDeploymentConfig"] = record.deployment
    return document


def _specification(specification: Params, record: Component, digest: Callable[[str], str | None]) -> Params:
    shown = dict(specification)
    if "Container" in shown:
        container = dict(shown["Container"])
        image = container.pop("Image", None)
        if image is not None:
            container["DeployedImage"] = _deployed(image, record.created, digest)
        shown["Container"] = container
    return shown


def _deployed(image: str, when: datetime, digest: Callable[[str], str | None]) -> Params:
    found = digest(image)
    document: Params = {"SpecifiedImage": image, "ResolutionTime": when}
    if found is not None:
        repository = image.partition("@")[0]
        # A colon after the last slash starts a tag; one before it, a registry's port.
        path, _, name = repository.rpartition("/")
        name = name.partition(":")[0]
        document["ResolvedImage"] = f"{path}/{name}@{found}" if path else f"{name}@{found}"
    return document
