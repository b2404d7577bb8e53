"""SageMaker, Application Auto Scaling and a stack's status, as the guard of deployments sees them.

One world answers over HTTP (tests/support_fake_aws.py) and in process; in process, botocore's validator reads
what is asked and what is answered, so that a call which the real client would refuse fails here too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

from support_fake_aws import ACCOUNT, AwsError
from tokenmill_runtime.deployment_services import Services

if TYPE_CHECKING:
    from collections.abc import Callable

    from support_fake_aws import FakeAws

STACK_ID = f"arn:aws:cloudformation:us-east-1:{ACCOUNT}:stack/chat/11111111-2222-3333-4444-555555555555"
NEVER = "2026-01-01T00:00:00Z"
FLAGS = ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended")
NONE = (False, False, False)
ALL = (True, True, True)


@dataclass
class Component:
    """An inference component; `updating` is how often it is described before it is done."""

    image: str = "repo:1"
    desired: int = 2
    current: int = 2
    status: str = "InService"
    updating: int = 0
    reason: str = ""
    resolved: str = "repo@sha256:aaaa"
    container: dict[str, Any] = field(default_factory=dict)
    needs: dict[str, Any] | None = None

    def begin(self, polls: int, *, desired: int | None = None) -> None:
        if self.status in ("Updating", "Creating"):
            raise AwsError("ValidationException", "Cannot update in-progress inference component")
        self.desired = self.desired if desired is None else desired
        self.status, self.updating = "Updating", polls
        self.tick()

    def tick(self) -> None:
        if self.status == "Updating" and self.updating <= 0:
            self.status, self.current = "InService", self.desired
        self.updating -= 1


@dataclass
class Endpoint:
    """An endpoint with one variant."""

    config: str = "config-1"
    status: str = "InService"
    desired: int = 2
    current: int = 2
    image: str = "repo:1"
    reason: str = ""


@dataclass
class Target:
    """A scalable target with its tags."""

    minimum: int = 1
    maximum: int = 8
    suspended: tuple[bool, bool, bool] = NONE
    tags: dict[str, str] = field(default_factory=dict)
    id: str = "1234abcd"

    @property
    def arn(self) -> str:
        return f"arn:aws:application-autoscaling:us-east-1:{ACCOUNT}:scalable-target/{self.id}"


class World:
    """What the services hold. `before` runs before every call and may refuse it or stop the caller."""

    def __init__(self) -> None:
        self.stack_status = "UPDATE_IN_PROGRESS"
        self.components: dict[str, Component] = {}
        self.endpoints: dict[str, Endpoint] = {"ep": Endpoint()}
        self.targets: dict[str, Target] = {}
        self.before: Callable[[str], None] = lambda operation: None
        self.counted: Callable[[Component | Endpoint, int], None] = lambda fleet, count: None
        self.answer: Callable[[], Any] = lambda: {"choices": [{"message": {"content": "ready"}}]}
        self.prompts: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.now = 0.0
        self.scaling_polls = 0

    def call(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self.calls.append(operation)
        self.before(operation)
        return dict(getattr(self, f"_{xform_name(operation)}")(parameters))

    def serve(self, fake: FakeAws) -> None:
        """Answer over HTTP."""
        for service, operation in OPERATIONS:
            fake.answers[service, operation] = lambda parameters, name=operation: self.call(name, parameters)

    def services(self) -> Services:
        """Clients and a clock that never sleeps, in process."""
        return Services(
            sagemaker=lambda: _Client(self, "sagemaker"),
            scaling=lambda: _Client(self, "application-autoscaling"),
            stacks=lambda: _Client(self, "cloudformation"),
            models=lambda: _Client(self, "sagemaker-runtime"),
            sleep=self.sleep,
            monotonic=lambda: self.now,
        )

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def _describe_stacks(self, parameters: dict[str, Any]) -> dict[str, Any]:
        assert parameters["StackName"] == STACK_ID
        stack = {"StackName": "chat", "CreationTime": NEVER, "StackStatus": self.stack_status}
        return {"Stacks": [stack]}

    def _describe_inference_component(self, parameters: dict[str, Any]) -> dict[str, Any]:
        name = parameters["InferenceComponentName"]
        if name not in self.components:
            raise AwsError("ValidationException", f'Could not find inference component "{name}".')
        component = self.components[name]
        component.tick()
        image = {"SpecifiedImage": component.image, "ResolvedImage": component.resolved}
        arn = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}"
        return {
            "InferenceComponentName": name,
            "InferenceComponentArn": f"{arn}:inference-component/{name}",
            "EndpointName": "ep",
            "EndpointArn": f"{arn}:endpoint/ep",
            "VariantName": "AllTraffic",
            "InferenceComponentStatus": component.status,
            "RuntimeConfig": {"DesiredCopyCount": component.desired, "CurrentCopyCount": component.current},
            "Specification": {
                "Container": {"DeployedImage": image, **component.container},
                **({"ComputeResourceRequirements": component.needs} if component.needs else {}),
            },
            "CreationTime": NEVER,
            "LastModifiedTime": NEVER,
            **({"FailureReason": component.reason} if component.reason else {}),
        }

    def _describe_endpoint(self, parameters: dict[str, Any]) -> dict[str, Any]:
        name = parameters["EndpointName"]
        if name not in self.endpoints:
            raise AwsError("ValidationException", f'Could not find endpoint "{name}".')
        found = self.endpoints[name]
        variant = {
            "VariantName": "AllTraffic",
            "DesiredInstanceCount": found.desired,
            "CurrentInstanceCount": found.current,
            "DeployedImages": [{"SpecifiedImage": found.image, "ResolvedImage": "repo@sha256:aaaa"}],
        }
        return {
            "EndpointName": name,
            "EndpointArn": f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:endpoint/{name}",
            "EndpointConfigName": found.config,
            "EndpointStatus": found.status,
            "ProductionVariants": [variant],
            "CreationTime": NEVER,
            "LastModifiedTime": NEVER,
            **({"FailureReason": found.reason} if found.reason else {}),
        }

    def _update_inference_component_runtime_config(self, parameters: dict[str, Any]) -> dict[str, Any]:
        name = parameters["InferenceComponentName"]
        count = parameters["DesiredRuntimeConfig"]["CopyCount"]
        self.counted(self.components[name], count)
        self.components[name].begin(self.scaling_polls, desired=count)
        return {"InferenceComponentArn": f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:inference-component/{name}"}

    def _update_endpoint_weights_and_capacities(self, parameters: dict[str, Any]) -> dict[str, Any]:
        found = self.endpoints[parameters["EndpointName"]]
        found.desired = found.current = parameters["DesiredWeightsAndCapacities"][0]["DesiredInstanceCount"]
        name = parameters["EndpointName"]
        return {"EndpointArn": f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:endpoint/{name}"}

    def _describe_scalable_targets(self, parameters: dict[str, Any]) -> dict[str, Any]:
        assert parameters["ServiceNamespace"] == "sagemaker"
        (resource,) = parameters["ResourceIds"]
        if resource not in self.targets:
            return {"ScalableTargets": []}
        target = self.targets[resource]
        return {
            "ScalableTargets": [
                {
                    "ServiceNamespace": "sagemaker",
                    "ResourceId": resource,
                    "ScalableDimension": parameters["ScalableDimension"],
                    "MinCapacity": target.minimum,
                    "MaxCapacity": target.maximum,
                    "RoleARN": f"arn:aws:iam::{ACCOUNT}:role/scaling",
                    "CreationTime": NEVER,
                    "SuspendedState": dict(zip(FLAGS, target.suspended, strict=True)),
                    "ScalableTargetARN": target.arn,
                }
            ]
        }

    def _register_scalable_target(self, parameters: dict[str, Any]) -> dict[str, Any]:
        target = self.targets.get(parameters["ResourceId"])
        if target is None:
            raise AwsError("ValidationException", "You must specify MinCapacity and MaxCapacity")
        state = parameters["SuspendedState"]
        target.suspended = (state[FLAGS[0]], state[FLAGS[1]], state[FLAGS[2]])
        return {"ScalableTargetARN": target.arn}

    def _list_tags_for_resource(self, parameters: dict[str, Any]) -> dict[str, Any]:
        return {"Tags": dict(self._tagged(parameters["ResourceARN"]).tags)}

    def _tag_resource(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self._tagged(parameters["ResourceARN"]).tags.update(parameters["Tags"])
        return {}

    def _untag_resource(self, parameters: dict[str, Any]) -> dict[str, Any]:
        for key in parameters["TagKeys"]:
            self._tagged(parameters["ResourceARN"]).tags.pop(key, None)
        return {}

    def _tagged(self, arn: str) -> Target:
        for target in self.targets.values():
            if target.arn == arn:
                return target
        raise AwsError("ResourceNotFoundException", "The specified resource doesn't exist.")

    def _invoke_endpoint(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.prompts.append(parameters)
        return {"Body": self.answer()}


OPERATIONS = (
    ("cloudformation", "DescribeStacks"),
    ("sagemaker", "DescribeInferenceComponent"),
    ("sagemaker", "DescribeEndpoint"),
    ("sagemaker", "UpdateInferenceComponentRuntimeConfig"),
    ("sagemaker", "UpdateEndpointWeightsAndCapacities"),
    ("application-autoscaling", "DescribeScalableTargets"),
    ("application-autoscaling", "RegisterScalableTarget"),
    ("application-autoscaling", "ListTagsForResource"),
    ("application-autoscaling", "TagResource"),
    ("application-autoscaling", "UntagResource"),
    ("sagemaker-runtime", "InvokeEndpoint"),
)


class _Client:
    """A client of botocore's shape whose calls the world answers."""

    def __init__(self, world: World, service: str) -> None:
        self._world, self._service = world, service

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operation, input_shape, output_shape = _operation(self._service, name)

        def call(**parameters: Any) -> Any:
            _validate(parameters, input_shape)
            try:
                answer = self._world.call(operation, parameters)
            except AwsError as error:
                response = {"Error": {"Code": error.code, "Message": error.message}}
                if error.code == "ModelError":
                    response["OriginalStatusCode"] = error.status
                raise ClientError(response, operation) from error
            if operation == "InvokeEndpoint":
                return {"Body": BytesIO(json.dumps(answer["Body"]).encode())}
            _validate(answer, output_shape)
            return answer

        return call


@cache
def _operation(service: str, name: str) -> tuple[str, Any, Any]:
    model = botocore.session.get_session().get_service_model(service)
    for operation in model.operation_names:
        if xform_name(operation) == name:
            found = model.operation_model(operation)
            return operation, found.input_shape, found.output_shape
    raise AttributeError(f"{service} has no operation {name}")


def _validate(parameters: dict[str, Any], shape: Any) -> None:
    if shape is None:
        return
    report = ParamValidator().validate(parameters, shape)
    assert not report.has_errors(), report.generate_report()


def request(
    kind: str,
    resource: str,
    properties: dict[str, Any],
    *,
    old: dict[str, Any] | None = None,
    id: str = "request-1",
    url: str = "http://127.0.0.1:9/answer",
) -> dict[str, Any]:
    """An event of CloudFormation, values as texts."""
    event = {
        "RequestType": kind,
        "ResponseURL": url,
        "StackId": STACK_ID,
        "RequestId": id,
        "LogicalResourceId": resource.removeprefix("Custom::Tokenmill"),
        "ResourceType": resource,
        "ResourceProperties": {"ServiceToken": "arn", "ServiceTimeout": "3000", **properties},
    }
    if kind != "Create":
        event["PhysicalResourceId"] = "physical-1"
    if old is not None:
        event["OldResourceProperties"] = old
    return event


SETTLED = {"source": "aws.cloudformation", "detail-type": "CloudFormation Stack Status Change", "detail": {}}
