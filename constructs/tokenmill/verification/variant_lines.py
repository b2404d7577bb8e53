"""Updates of a variant's endpoint: what is refused, what is kept, and what a rollback says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenmill.verification import endpoints, looking, small_host, stacks
from tokenmill.verification.aws import ProbeTimeoutError
from tokenmill.verification.line import Deployment
from tokenmill.verification.lines import FOOTPRINTS
from tokenmill.verification.probe import Outcome, Verdict, holds
from tokenmill.verification.teardown import scalable_dimension

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tokenmill.verification.aws import Aws

OTHER_TYPE = "ml.m5.2xlarge"
SCALED = 2
TRIP = "Trip"
_UPDATE_SECONDS = 30 * 60
_BUSY = ("Creating", "Updating", "SystemUpdating", "RollingBack")
_ALL_AT_ONCE = {
    "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 600},
    "TerminationWaitInSeconds": 0,
    "MaximumExecutionTimeoutInSeconds": 3600,
}
_CANARY = {
    "BlueGreenUpdatePolicy": {
        "TrafficRoutingConfiguration": {
            "Type": "CANARY",
            "WaitIntervalInSeconds": 60,
            "CanarySize": {"Type": "INSTANCE_COUNT", "Value": 1},
        }
    }
}


def variant_lines(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Make an endpoint by a stack, change it in ways that SageMaker refuses, keeps and takes back.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    host = small_host.create_host(aws, "variant")
    # A stack does not wait until a new role is known everywhere; this call does.
    small_host.create_model(aws, "settled", host.container(aws), host.role)
    name = aws.name("variant")
    aws.declare("log-group", f"/aws/sagemaker/Endpoints/{name}")
    stacks.create(aws, name, _template(aws, host, generation=1))
    if "variant-image-digest" in wanted:
        yield "variant-image-digest", _digest(_variant(aws, name))
    if "canary-one-instance" in wanted:
        yield "canary-one-instance", _canary(aws, name)
    if "registered-type-change" in wanted:
        yield "registered-type-change", _type_change(aws, name)
    if "retained-variant-count" in wanted:
        yield "retained-variant-count", _retained(aws, name, host)
    if {"stack-hides-endpoint-rollback", "alarm-rollback-reason"} & set(wanted):
        yield from _rolled_back(aws, name, host)


def _describe(aws: Aws, name: str) -> dict[str, Any]:
    found: dict[str, Any] = aws.client("sagemaker").describe_endpoint(EndpointName=name)
    return found


def _variant(aws: Aws, name: str) -> dict[str, Any]:
    variant: dict[str, Any] = _describe(aws, name)["ProductionVariants"][0]
    return variant


def _settled(aws: Aws, name: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = _describe(aws, name)
        return None if found["EndpointStatus"] in _BUSY else found

    found: dict[str, Any] = aws.wait(f"the end of {name}'s update", look, seconds=_UPDATE_SECONDS)
    return found


def _digest(variant: dict[str, Any]) -> Outcome:
    images = variant.get("DeployedImages", [])
    seen = {"images": images}
    resolved = [image.get("ResolvedImage", "").partition("@")[2] for image in images]
    return Outcome(holds(bool(resolved) and all(one.startswith("sha256:") for one in resolved)), seen)


def _other_config(aws: Aws, name: str, suffix: str, **changed: Any) -> str:
    """Create a configuration that differs from the endpoint's, and return its name."""
    client = aws.client("sagemaker")
    live = client.describe_endpoint_config(EndpointConfigName=_describe(aws, name)["EndpointConfigName"])
    other = aws.name(suffix)
    aws.declare("endpoint-config", other)
    variant = {**live["ProductionVariants"][0], **changed}
    client.create_endpoint_config(EndpointConfigName=other, ProductionVariants=[variant], Tags=aws.tags)
    return other


def _refused_update(aws: Aws, name: str, config: str, *, about: str, **update: Any) -> Outcome:
    outcome = looking.refusal(
        lambda: aws.client("sagemaker").update_endpoint(
            EndpointName=name, EndpointConfigName=config, **update
        ),
        about=about,
    )
    if outcome.verdict is Verdict.FAILS:
        # It was taken, so the next line waits for it.
        _settled(aws, name)
    return outcome


def _canary(aws: Aws, name: str) -> Outcome:
    config = _other_config(aws, name, "canary")
    return _refused_update(aws, name, config, about="canary|50|capacity|size", DeploymentConfig=_CANARY)


def _type_change(aws: Aws, name: str) -> Outcome:
    resource = f"endpoint/{name}/variant/{endpoints.VARIANT}"
    aws.declare("scalable-target", resource)
    key = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": resource,
        "ScalableDimension": scalable_dimension(resource),
    }
    client = aws.client("application-autoscaling")
    client.register_scalable_target(MinCapacity=1, MaxCapacity=SCALED, **key)
    config = _other_config(aws, name, "type", InstanceType=OTHER_TYPE)
    outcome = _refused_update(aws, name, config, about="scal|instance type|register")
    client.deregister_scalable_target(**key)
    return outcome


def _retained(aws: Aws, name: str, host: small_host.Host) -> Outcome:
    aws.client("sagemaker").update_endpoint_weights_and_capacities(
        EndpointName=name,
        DesiredWeightsAndCapacities=[{"VariantName": endpoints.VARIANT, "DesiredInstanceCount": SCALED}],
    )
    before = _settled(aws, name)
    count = before["ProductionVariants"][0]["DesiredInstanceCount"]
    if count != SCALED:
        return Outcome(Verdict.UNCLEAR, {"before": count, "reason": before.get("FailureReason", "")})
    status = stacks.update(aws, name, _template(aws, host, generation=2))
    after = _settled(aws, name)
    found = after["ProductionVariants"][0]["DesiredInstanceCount"]
    seen = {"before": count, "after": found, "stack": status}
    if after["EndpointConfigName"] == before["EndpointConfigName"]:
        # The update did not reach the endpoint.
        return Outcome(Verdict.UNCLEAR, seen)
    return Outcome(holds(found == SCALED), seen)


def _rolled_back(aws: Aws, name: str, host: small_host.Host) -> Iterator[tuple[str, Outcome]]:
    before = _settled(aws, name)["EndpointConfigName"]
    alarm = _create_alarm(aws)
    updating: list[bool] = []

    def trip() -> None:
        if _describe(aws, name)["EndpointStatus"] in ("Updating", "RollingBack"):
            updating.append(True)
            aws.client("cloudwatch").put_metric_data(
                Namespace=endpoints.EMF_NAMESPACE,
                MetricData=[{"MetricName": TRIP, "Dimensions": _dimensions(aws), "Value": 1.0}],
            )

    deployment = {
        "BlueGreenUpdatePolicy": _ALL_AT_ONCE,
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": alarm}]},
    }
    template = _template(aws, host, generation=3, deployment=deployment)
    try:
        status = stacks.update(aws, name, template, meanwhile=trip)
    except ProbeTimeoutError as error:
        status = str(error)
    after = _settled(aws, name)
    seen = {
        "stack": status,
        "config": {"before": before, "after": after["EndpointConfigName"]},
        "status": after["EndpointStatus"],
        "failure_reason": after.get("FailureReason", ""),
        "alarm_was_tripped": bool(updating),
    }
    if after["EndpointConfigName"] != before or not updating:
        # Nothing was rolled back.
        for line in ("alarm-rollback-reason", "stack-hides-endpoint-rollback"):
            yield line, Outcome(Verdict.UNCLEAR, seen)
        return
    said = after["EndpointStatus"] == "InService" and bool(seen["failure_reason"])
    yield "alarm-rollback-reason", Outcome(holds(said), seen)
    yield "stack-hides-endpoint-rollback", Outcome(holds(status == "UPDATE_COMPLETE"), seen)


def _dimensions(aws: Aws) -> list[dict[str, str]]:
    return [{"Name": "Run", "Value": aws.run}]


def _create_alarm(aws: Aws) -> str:
    name = aws.name("trip")
    aws.declare("alarm", name)
    aws.client("cloudwatch").put_metric_alarm(
        AlarmName=name,
        Namespace=endpoints.EMF_NAMESPACE,
        MetricName=TRIP,
        Dimensions=_dimensions(aws),
        Statistic="Maximum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1.0,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        TreatMissingData="notBreaching",
        Tags=aws.tags,
    )
    return name


def _template(
    aws: Aws, host: small_host.Host, *, generation: int, deployment: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return an endpoint as VariantEndpoint makes it, with another configuration for each generation."""
    container = host.container(aws, GENERATION=str(generation))
    model, config = f"Model{generation}", f"Config{generation}"
    variant = {
        "VariantName": endpoints.VARIANT,
        "ModelName": {"Fn::GetAtt": [model, "ModelName"]},
        "InstanceType": FOOTPRINTS[Deployment.VARIANT_ENDPOINT].instance,
        "InitialInstanceCount": 1,
        "InitialVariantWeight": 1.0,
    }
    endpoint: dict[str, Any] = {
        "EndpointName": aws.name("variant"),
        "EndpointConfigName": {"Fn::GetAtt": [config, "EndpointConfigName"]},
        "RetainAllVariantProperties": True,
    }
    if deployment is not None:
        endpoint["DeploymentConfig"] = deployment
    models = {"PrimaryContainer": container, "ExecutionRoleArn": host.role}
    return {
        "Resources": {
            model: {"Type": "AWS::SageMaker::Model", "Properties": models},
            config: {
                "Type": "AWS::SageMaker::EndpointConfig",
                "Properties": {"ProductionVariants": [variant]},
            },
            "Endpoint": {"Type": "AWS::SageMaker::Endpoint", "Properties": endpoint},
        }
    }
