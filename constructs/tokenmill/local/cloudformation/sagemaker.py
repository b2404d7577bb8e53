"""CloudFormation handlers of SageMaker's types.

What `Ref` and `Fn::GetAtt` give is that of the CloudFormation Template Reference: `Ref` is the ARN.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from tokenmill.core.errors import TokenmillError
from tokenmill.local.cloudformation.common import Outcome, call, last_part, only, wait
from tokenmill.local.sagemaker.component_fleet import model_plan

if TYPE_CHECKING:
    from tokenmill.local.aws_requests import Params
    from tokenmill.local.ministack_seams import Ministack
    from tokenmill.local.sagemaker.control import SageMaker

# The longest deployment that SageMaker takes is eight hours, which take eight minutes here.
DEPLOYMENT_SECONDS = 600.0
_MOVING = ("Creating", "Updating", "RollingBack")
_UPDATE_MEMBERS = (
    "EndpointConfigName",
    "DeploymentConfig",
    "RetainAllVariantProperties",
    "ExcludeRetainedVariantProperties",
    "RetainDeploymentConfig",
)
_RENAME = (
    "CloudFormation cannot update a stack when a custom-named resource requires replacing. "
    "Rename {name} and update the stack again."
)


class NamedBySageMaker:
    """Models and endpoint configurations: nothing about them changes in place, so a change replaces them.

    Args:
        ministack: MiniStack's modules.
        sagemaker: The control plane.
        noun: `Model` or `EndpointConfig`.
    """

    def __init__(self, ministack: Ministack, sagemaker: SageMaker, noun: str) -> None:
        self._ministack = ministack
        self._sagemaker = sagemaker
        self._noun = noun

    def create(self, logical_id: str, properties: Params, stack: str) -> Outcome:
        """Create the resource."""
        name = properties.get(f"{self._noun}Name") or self._generated_name(logical_id, properties, stack)
        self._remember_plan(stack, logical_id, name)
        params = {**properties, f"{self._noun}Name": name}
        answer = call(self._sagemaker, self._ministack.scope(), f"Create{self._noun}", params)
        arn = answer[f"{self._noun}Arn"]
        return arn, {f"{self._noun}Name": name, f"{self._noun}Arn": arn}

    def update(self, physical_id: str, before: Params, after: Params, stack: str, logical_id: str) -> Outcome:
        """Replace the resource; CloudFormation deletes the old one afterwards."""
        name = after.get(f"{self._noun}Name")
        if name and name == before.get(f"{self._noun}Name"):
            raise TokenmillError(_RENAME.format(name=name))
        return self.create(logical_id, after, stack)

    def delete(self, physical_id: str, properties: Params) -> None:
        """Delete the resource; one that is gone is fine."""
        name = properties.get(f"{self._noun}Name") or self._name_of(physical_id)
        if name is not None:
            params = {f"{self._noun}Name": name}
            call(self._sagemaker, self._ministack.scope(), f"Delete{self._noun}", params)

    def _remember_plan(self, stack: str, logical_id: str, name: str) -> None:
        """Give the control plane the plan of a model that a variant serves by itself."""
        definition = self._ministack.template_resource(stack, logical_id)
        plan = (definition.get("Metadata") or {}).get("tokenmill")
        if self._noun == "Model" and plan:
            self._sagemaker.set_plan(self._ministack.scope(), model_plan(name), plan)

    def _name_of(self, arn: str) -> str | None:
        account = self._sagemaker.accounts[self._ministack.scope()]
        records = account.models if self._noun == "Model" else account.configs
        return next((name for name, record in records.items() if record[f"{self._noun}Arn"] == arn), None)

    def _generated_name(self, logical_id: str, properties: Params, stack: str) -> str:
        digest = hashlib.sha256(json.dumps(properties, sort_keys=True, default=str).encode()).hexdigest()[:8]
        return f"{self._ministack.physical_name(stack, logical_id, longest=54)}-{digest}"


class EndpointHandler:
    """Endpoints: created and updated until they are in service.

    An update that SageMaker rolls back ends in service too, with the old configuration, and succeeds here:
    that is how terraform-provider-aws #39099, #46663 and #48997 report it for their tool. What AWS's own
    handler does is not documented; this is the worse of the two, and what a check after a deployment is for.

    Args:
        ministack: MiniStack's modules.
        sagemaker: The control plane.
    """

    def __init__(self, ministack: Ministack, sagemaker: SageMaker) -> None:
        self._ministack = ministack
        self._sagemaker = sagemaker

    def create(self, logical_id: str, properties: Params, stack: str) -> Outcome:
        """Create the endpoint and wait until it is in service."""
        name = properties.get("EndpointName") or self._ministack.physical_name(stack, logical_id, longest=63)
        params = only(properties, "EndpointConfigName", "DeploymentConfig", "Tags") | {"EndpointName": name}
        params["EndpointConfigName"] = last_part(params["EndpointConfigName"])
        call(self._sagemaker, self._ministack.scope(), "CreateEndpoint", params)
        try:
            return self._settled(name)
        except TokenmillError:
            # CloudFormation deletes what it could not create; MiniStack forgets it.
            self.delete(name, properties)
            raise

    def update(self, physical_id: str, before: Params, after: Params, stack: str, logical_id: str) -> Outcome:
        """Move the endpoint to another configuration, or replace it when its name changes."""
        if after.get("EndpointName") != before.get("EndpointName"):
            return self.create(logical_id, after, stack)
        name = physical_id.rsplit("/", 1)[-1]
        if after["EndpointConfigName"] == before["EndpointConfigName"]:
            return self._settled(name)
        params = only(after, *_UPDATE_MEMBERS)
        params |= {"EndpointName": name, "EndpointConfigName": last_part(after["EndpointConfigName"])}
        call(self._sagemaker, self._ministack.scope(), "UpdateEndpoint", params)
        return self._settled(name, rolled_back_is_fine=True)

    def delete(self, physical_id: str, properties: Params) -> None:
        """Delete the endpoint and wait until it is gone."""
        scope, name = self._ministack.scope(), physical_id.rsplit("/", 1)[-1]
        account = self._sagemaker.accounts[scope]
        if name in account.endpoints:
            call(self._sagemaker, scope, "DeleteEndpoint", {"EndpointName": name})
            wait(lambda: name not in account.endpoints, f"endpoint {name} is not gone")

    def _settled(self, name: str, *, rolled_back_is_fine: bool = False) -> Outcome:
        endpoint = self._sagemaker.accounts[self._ministack.scope()].endpoints[name]
        settled = f"endpoint {name} is not in service"
        wait(lambda: endpoint.status not in _MOVING, settled, seconds=DEPLOYMENT_SECONDS)
        if endpoint.status != "InService" or (endpoint.failure and not rolled_back_is_fine):
            raise TokenmillError(f"endpoint {name} is {endpoint.status}: {endpoint.failure}")
        return endpoint.arn, {"EndpointName": name, "EndpointArn": endpoint.arn}


class ComponentHandler:
    """Inference components: created and updated until they are in service.

    Args:
        ministack: MiniStack's modules.
        sagemaker: The control plane.
    """

    def __init__(self, ministack: Ministack, sagemaker: SageMaker) -> None:
        self._ministack = ministack
        self._sagemaker = sagemaker

    def create(self, logical_id: str, properties: Params, stack: str) -> Outcome:
        """Create the component and wait until it is in service."""
        name = properties.get("InferenceComponentName") or self._ministack.physical_name(
            stack, logical_id, longest=63
        )
        self.remember_plan(stack, logical_id, name)
        params = {k: v for k, v in properties.items() if k not in ("EndpointArn", "DeploymentConfig")}
        params["InferenceComponentName"] = name
        params["EndpointName"] = last_part(params["EndpointName"])
        call(self._sagemaker, self._ministack.scope(), "CreateInferenceComponent", params)
        try:
            return self._settled(name)
        except TokenmillError:
            self.delete(name, properties)
            raise

    def update(self, physical_id: str, before: Params, after: Params, stack: str, logical_id: str) -> Outcome:
        """Update the component in place, or replace it when its name or endpoint changes."""
        if any(before.get(key) != after.get(key) for key in ("InferenceComponentName", "EndpointName")):
            return self.create(logical_id, after, stack)
        name = physical_id.rsplit("/", 1)[-1]
        self.remember_plan(stack, logical_id, name)
        members = ("Specification", "Specifications", "RuntimeConfig")
        if any(before.get(key) != after.get(key) for key in members):
            # Everything that the template says goes along: its copies replace those that scaling has made.
            params = only(after, *members, "DeploymentConfig") | {"InferenceComponentName": name}
            call(self._sagemaker, self._ministack.scope(), "UpdateInferenceComponent", params)
            return self._settled(name, rolled_back_is_fine=True)
        return self._settled(name)

    def delete(self, physical_id: str, properties: Params) -> None:
        """Delete the component and wait until it is gone."""
        scope, name = self._ministack.scope(), physical_id.rsplit("/", 1)[-1]
        account = self._sagemaker.accounts[scope]
        if name in account.components:
            call(self._sagemaker, scope, "DeleteInferenceComponent", {"InferenceComponentName": name})
            wait(lambda: name not in account.components, f"inference component {name} is not gone")

    def remember_plan(self, stack: str, logical_id: str, name: str) -> None:
        """Give the control plane the plan that stands in the template's metadata.

        Args:
            stack: The stack.
            logical_id: The resource.
            name: The component.
        """
        definition = self._ministack.template_resource(stack, logical_id)
        plan = (definition.get("Metadata") or {}).get("tokenmill") or {}
        self._sagemaker.set_plan(self._ministack.scope(), name, plan)

    def _settled(self, name: str, *, rolled_back_is_fine: bool = False) -> Outcome:
        component = self._sagemaker.accounts[self._ministack.scope()].components[name]
        settled = f"component {name} is not in service"
        wait(lambda: component.status not in _MOVING, settled, seconds=DEPLOYMENT_SECONDS)
        if component.status != "InService" or (component.failure and not rolled_back_is_fine):
            raise TokenmillError(f"inference component {name} is {component.status}: {component.failure}")
        attributes = {
            "InferenceComponentArn": component.arn,
            "InferenceComponentStatus": component.status,
            "CreationTime": component.created.isoformat(),
            "LastModifiedTime": component.modified.isoformat(),
            "RuntimeConfig.CurrentCopyCount": component.current,
            "RuntimeConfig.DesiredCopyCount": component.desired,
        }
        return component.arn, attributes
