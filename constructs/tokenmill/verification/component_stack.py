"""An inference component on a small host, made by a CloudFormation stack as the library makes it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tokenmill.core.errors import TokenmillError
from tokenmill.verification import endpoints
from tokenmill.verification.line import Deployment
from tokenmill.verification.lines import FOOTPRINTS
from tokenmill.verification.probe import create_role

if TYPE_CHECKING:
    from tokenmill.verification.aws import Aws

STACK_SECONDS = 30 * 60
UPDATE_SECONDS = 20 * 60
_START_SECONDS = 300
CAPTURED = "captured/"
_CONDITION = {"StringLike": {"cloudwatch:namespace": "/aws/sagemaker/*"}}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the component runs, and from what.

    Args:
        endpoint: The endpoint's name.
        bucket: The bucket with the model.
        capture_refused: What SageMaker said where it took no data capture beside components.
    """

    endpoint: str
    bucket: str
    capture_refused: str = ""


def create_place(aws: Aws, *, scaling: dict[str, Any] | None = None, capture: bool = False) -> Place:
    """Create an endpoint whose role is LlmEndpoint's: metrics in SageMaker's own namespaces only.

    Args:
        aws: The run.
        scaling: Its ManagedInstanceScaling; one instance that stays otherwise.
        capture: Whether it is to write down requests and answers; it goes without where that is refused.

    Raises:
        TokenmillError: The region's registry is not known, or the endpoint failed.
    """
    endpoints.sklearn_image(aws)
    actions = tuple(name for name in endpoints.ROLE_ACTIONS if name != "cloudwatch:PutMetricData")
    if capture:
        actions += ("s3:PutObject",)
    metrics = {"Effect": "Allow", "Action": "cloudwatch:PutMetricData", "Resource": "*"}
    role = create_role(
        aws,
        "components",
        service="sagemaker.amazonaws.com",
        actions=actions,
        more=({**metrics, "Condition": _CONDITION},),
    )
    bucket = endpoints.upload_model(aws)
    variant = endpoints.component_variant(FOOTPRINTS[Deployment.COMPONENT_ENDPOINT].instance)
    if scaling is not None:
        variant["ManagedInstanceScaling"] = scaling
    name = aws.name("components")
    config = {"ExecutionRoleArn": role, "MetricsConfig": endpoints.METRICS}
    if capture:
        try:
            endpoints.create_endpoint(aws, name, variant, **config, DataCaptureConfig=_capture(bucket))
        except ClientError as error:
            if "capture" not in str(error).lower():
                raise
            endpoints.create_endpoint(aws, name, variant, **config)
            return Place(name, bucket, capture_refused=str(error))
        return Place(name, bucket)
    endpoints.create_endpoint(aws, name, variant, **config)
    return Place(name, bucket)


def _capture(bucket: str) -> dict[str, Any]:
    """Return a capture as DataCapture renders it."""
    return {
        "EnableCapture": True,
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": f"s3://{bucket}/{CAPTURED.rstrip('/')}",
        "CaptureOptions": [{"CaptureMode": mode} for mode in ("Input", "Output")],
        "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]},
    }


def stack_name(aws: Aws) -> str:
    """Return the name of the stack and of its component; the capital shows what becomes of one in an ARN.

    Args:
        aws: The run.
    """
    return aws.name("Stacked")


def create_stack(aws: Aws, place: Place) -> str:
    """Create the stack and return what `Ref` gives for its component: the ARN.

    Args:
        aws: The run.
        place: Where the component runs.

    Raises:
        TokenmillError: The stack failed.
    """
    name = stack_name(aws)
    aws.declare("log-group", f"/aws/sagemaker/InferenceComponents/{name}")
    aws.declare("stack", name)
    aws.client("cloudformation").create_stack(
        StackName=name, TemplateBody=_template(aws, place, generation=1), Tags=aws.tags
    )
    stack = _settled(aws, "CREATE_COMPLETE")
    outputs: dict[str, str] = {item["OutputKey"]: item["OutputValue"] for item in stack["Outputs"]}
    return outputs["Arn"]


def update_stack(aws: Aws, place: Place, *, generation: int = 2, copies: int = 1) -> None:
    """Change the component's specification, its copies or both by the stack, and wait for the end of it.

    Args:
        aws: The run.
        place: Where the component runs.
        generation: A number that makes the specification another one.
        copies: The template's copy count.

    Raises:
        TokenmillError: The update failed.
    """
    template = _template(aws, place, generation=generation, copies=copies)
    aws.client("cloudformation").update_stack(StackName=stack_name(aws), TemplateBody=template, Tags=aws.tags)
    _settled(aws, "UPDATE_COMPLETE")


def specification(
    aws: Aws, place: Place, *, generation: int, program: str = "inference.py"
) -> dict[str, Any]:
    """Return the component's specification.

    Args:
        aws: The run.
        place: Where the component runs.
        generation: A number that makes it another one.
        program: The file that the container loads.
    """
    environment = endpoints.sklearn_environment(aws, program=program)
    return {
        "Container": {
            "Image": endpoints.sklearn_image(aws),
            "ArtifactUrl": endpoints.model_data(place.bucket),
            "Environment": {**environment, "GENERATION": str(generation)},
        },
        "StartupParameters": {"ContainerStartupHealthCheckTimeoutInSeconds": _START_SECONDS},
        "ComputeResourceRequirements": {"NumberOfCpuCoresRequired": 0.5, "MinMemoryRequiredInMb": 1024},
    }


def describe(aws: Aws, name: str) -> dict[str, Any]:
    """Return what SageMaker says of a component.

    Args:
        aws: The run.
        name: The component's name.
    """
    found: dict[str, Any] = aws.client("sagemaker").describe_inference_component(InferenceComponentName=name)
    return found


def settled(aws: Aws, name: str) -> dict[str, Any]:
    """Wait until a component is no longer being changed, and return what SageMaker says of it.

    Args:
        aws: The run.
        name: The component's name.
    """

    def look() -> dict[str, Any] | None:
        found = describe(aws, name)
        return None if found["InferenceComponentStatus"] in ("Creating", "Updating") else found

    found: dict[str, Any] = aws.wait(f"the change of {name}", look, seconds=UPDATE_SECONDS)
    return found


def _template(aws: Aws, place: Place, *, generation: int, copies: int = 1) -> str:
    properties = {
        "InferenceComponentName": stack_name(aws),
        "EndpointName": place.endpoint,
        "VariantName": endpoints.VARIANT,
        "RuntimeConfig": {"CopyCount": copies},
        "Specification": specification(aws, place, generation=generation),
    }
    component = {"Type": "AWS::SageMaker::InferenceComponent", "Properties": properties}
    outputs = {"Arn": {"Value": {"Ref": "Component"}}}
    return json.dumps({"Resources": {"Component": component}, "Outputs": outputs})


def _settled(aws: Aws, wanted: str) -> dict[str, Any]:
    name = stack_name(aws)

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = aws.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
        return None if found["StackStatus"].endswith("_IN_PROGRESS") else found

    stack: dict[str, Any] = aws.wait(f"stack {name}", look, seconds=STACK_SECONDS)
    if stack["StackStatus"] != wanted:
        reason = stack.get("StackStatusReason", "")
        raise TokenmillError(f"stack {name} is {stack['StackStatus']}: {reason}")
    return stack
