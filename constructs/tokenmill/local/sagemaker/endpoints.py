"""The operations on endpoints and their configurations.

Sources: Amazon SageMaker API Reference, "CreateEndpointConfig", "UpdateEndpoint",
"UpdateEndpointWeightsAndCapacities"; Amazon SageMaker AI developer guide, "Update endpoints that use auto
scaling" (an update that changes the instance type of a scalable target fails) and "Delete endpoints
configured for auto scaling" (the target goes with the endpoint).
"""

from __future__ import annotations

import math
from typing import Any, Protocol

from tokenmill.local.aws_requests import AwsError, Params, Scope
from tokenmill.local.sagemaker import describe
from tokenmill.local.sagemaker.endpoint_rollout import EndpointRollouts
from tokenmill.local.sagemaker.records import Account, Endpoint, NewFleet, Variant
from tokenmill.local.sagemaker.rollout import check_deployment

_UPDATABLE = ("InService", "UpdateRollbackFailed", "OutOfService")
_IN_PROGRESS = ("Creating", "Updating", "SystemUpdating", "RollingBack")


class ScalingRegistry(Protocol):
    """What the endpoints ask Application Auto Scaling."""

    def registered(self, scope: Scope, resource_id: str) -> bool:
        """Whether a resource is a scalable target."""

    def forget(self, scope: Scope, resource_id: str) -> None:
        """Deregister a resource, if it is a scalable target."""


class EndpointOperations(EndpointRollouts):
    """The operations on endpoints and their configurations; `SageMaker` adds the rest."""

    scaling: ScalingRegistry | None

    def _create_config(self, scope: Scope, params: Params) -> Params:
        account, name = self.accounts[scope], params["EndpointConfigName"]
        arn = scope.arn("sagemaker", f"endpoint-config/{name.lower()}")
        refuse_existing(account.configs, name, "endpoint configuration", arn)
        for variant in params["ProductionVariants"]:
            _check_variant(variant)
            if "ModelName" in variant:
                account.model(variant["ModelName"], scope)
            elif "ExecutionRoleArn" not in params:
                raise AwsError(
                    "ValidationException",
                    "ExecutionRoleArn is required for an endpoint configuration whose variants name no model",
                )
        account.configs[name] = {**params, "EndpointConfigArn": arn, "CreationTime": describe.now()}
        self._tag(scope, arn, params)
        return {"EndpointConfigArn": arn}

    def _describe_config(self, scope: Scope, params: Params) -> Params:
        return describe.without_tags(self.accounts[scope].config(params["EndpointConfigName"], scope))

    def _list_configs(self, scope: Scope, params: Params) -> Params:
        configs = self.accounts[scope].configs.values()
        return {"EndpointConfigs": describe.listed(configs, "EndpointConfig", params)}

    def _delete_config(self, scope: Scope, params: Params) -> Params:
        self.accounts[scope].config(params["EndpointConfigName"], scope)
        del self.accounts[scope].configs[params["EndpointConfigName"]]
        return {}

    def _create_endpoint(self, scope: Scope, params: Params) -> Params:
        account, name = self.accounts[scope], params["EndpointName"]
        config = account.config(params["EndpointConfigName"], scope)
        refuse_existing(account.endpoints, name, "endpoint", scope.arn("sagemaker", f"endpoint/{name}"))
        endpoint = Endpoint(
            name=name,
            scope=scope,
            config_name=params["EndpointConfigName"],
            variants=[Variant.of(variant) for variant in config["ProductionVariants"]],
        )
        account.endpoints[name] = endpoint
        self._tag(scope, endpoint.arn, params)
        self.background(lambda: self.launch(endpoint))
        return {"EndpointArn": endpoint.arn}

    def _describe_endpoint(self, scope: Scope, params: Params) -> Params:
        return self._endpoint_document(self.accounts[scope].endpoint(params["EndpointName"], scope))

    def _endpoint_document(self, endpoint: Endpoint) -> Params:
        account = self.accounts[endpoint.scope]
        return describe.endpoint(endpoint, account, lambda image: self.resolve_image(endpoint.scope, image))

    def _list_endpoints(self, scope: Scope, params: Params) -> Params:
        account = self.accounts[scope]
        found = [self._endpoint_document(endpoint) for endpoint in account.endpoints.values()]
        return {"Endpoints": describe.listed(found, "Endpoint", params, "EndpointStatus", "LastModifiedTime")}

    def _update_endpoint(self, scope: Scope, params: Params) -> Params:
        account = self.accounts[scope]
        endpoint = self._updatable(scope, params["EndpointName"])
        config = account.config(params["EndpointConfigName"], scope)
        # The old configuration is needed to leave it, which users found out who had deleted it.
        account.config(endpoint.config_name, scope)
        variants = [Variant.of(variant) for variant in config["ProductionVariants"]]
        self._refuse_scalable(endpoint, variants)
        _refuse_homeless(account, endpoint, variants)
        if params.get("RetainAllVariantProperties"):
            excluded = params.get("ExcludeRetainedVariantProperties") or []
            _retain(endpoint, variants, {each["VariantPropertyType"] for each in excluded})
        deployment = params.get("DeploymentConfig")
        if deployment is None and params.get("RetainDeploymentConfig"):
            deployment = endpoint.deployment
        check_deployment(deployment or {}, min(variant.desired for variant in variants))
        endpoint.deployment = deployment
        new = NewFleet(config_name=params["EndpointConfigName"], variants=variants)
        endpoint.pending = new
        endpoint.move("Updating")
        self.background(lambda: self.deploy(endpoint, new))
        return {"EndpointArn": endpoint.arn}

    def _update_capacities(self, scope: Scope, params: Params) -> Params:
        endpoint = self._updatable(scope, params["EndpointName"])
        by_name = {variant.name: variant for variant in endpoint.variants}
        changes = params["DesiredWeightsAndCapacities"]
        for change in changes:
            if change["VariantName"] not in by_name:
                raise AwsError(
                    "ValidationException",
                    f'Could not find variant "{change["VariantName"]}" of endpoint "{endpoint.arn}".',
                )
        before = []
        for change in changes:
            variant = by_name[change["VariantName"]]
            before.append((variant, variant.desired, variant.weight))
            variant.desired = int(change.get("DesiredInstanceCount", variant.desired))
            variant.weight = float(change.get("DesiredWeight", variant.weight))
        endpoint.move("Updating")
        self.background(lambda: self.change_instances(endpoint, before))
        return {"EndpointArn": endpoint.arn}

    def _delete_endpoint(self, scope: Scope, params: Params) -> Params:
        account = self.accounts[scope]
        endpoint = account.endpoint(params["EndpointName"], scope)
        if any(component.endpoint == endpoint.name for component in account.components.values()):
            raise AwsError(
                "ValidationException",
                f'Cannot delete endpoint "{endpoint.arn}" while it hosts inference components.',
            )
        if endpoint.status in _IN_PROGRESS:
            raise AwsError("ValidationException", f'Cannot delete in-progress endpoint "{endpoint.arn}".')
        endpoint.move("Deleting")
        self.background(lambda: self._take_down(account, endpoint))
        return {}

    def _take_down(self, account: Account, endpoint: Endpoint) -> None:
        for variant in endpoint.variants:
            if self.scaling is not None:
                self.scaling.forget(endpoint.scope, scaling_id(endpoint, variant))
            self.fleet.stop(endpoint.key(variant))
            self.fleet.stop(endpoint.key(variant, new=True))
        with self.lock:
            account.endpoints.pop(endpoint.name, None)

    def _updatable(self, scope: Scope, name: str) -> Endpoint:
        endpoint = self.accounts[scope].endpoint(name, scope)
        if endpoint.status not in _UPDATABLE:
            raise AwsError("ValidationException", f'Cannot update in-progress endpoint "{endpoint.arn}".')
        return endpoint

    def _refuse_scalable(self, endpoint: Endpoint, variants: list[Variant]) -> None:
        if self.scaling is None:
            return
        types = {variant.name: variant.types for variant in variants}
        blocked = [
            variant.name
            for variant in endpoint.variants
            if types.get(variant.name) != variant.types
            and self.scaling.registered(endpoint.scope, scaling_id(endpoint, variant))
        ]
        if blocked:
            raise AwsError(
                "ValidationException",
                f'The variant(s) "{", ".join(blocked)}" must be deregistered as a scalable target with AWS '
                "Auto Scaling prior to removing it or changing its instance type.",
            )


def scaling_id(endpoint: Endpoint, variant: Variant) -> str:
    """Return the resource id of a variant as Application Auto Scaling writes it.

    Args:
        endpoint: The endpoint.
        variant: Its variant.
    """
    return f"endpoint/{endpoint.name}/variant/{variant.name}"


def refuse_existing(records: dict[str, Any], name: str, noun: str, arn: str) -> None:
    """Refuse a name that is taken.

    Args:
        records: What there is, by name.
        name: The name.
        noun: What it is a name of.
        arn: Its ARN.

    Raises:
        AwsError: It is taken.
    """
    if name in records:
        raise AwsError("ValidationException", f'Cannot create already existing {noun} "{arn}".')


def _check_variant(variant: Params) -> None:
    scaling = variant.get("ManagedInstanceScaling")
    if scaling and "ModelName" in variant:
        raise AwsError(
            "ValidationException",
            "ManagedInstanceScaling is only supported for inference component endpoints.",
        )
    if scaling and scaling.get("MinInstanceCount", 1) > scaling.get("MaxInstanceCount", math.inf):
        raise AwsError("ValidationException", "MinInstanceCount must not be above MaxInstanceCount")
    if "ServerlessConfig" not in variant and ("InstanceType" in variant) == ("InstancePools" in variant):
        raise AwsError(
            "ValidationException", "Exactly one of InstanceType and InstancePools must be given for a variant"
        )


def _refuse_homeless(account: Account, endpoint: Endpoint, variants: list[Variant]) -> None:
    homes = {variant.name for variant in variants if not variant.serves_model}
    for component in account.components.values():
        if component.endpoint == endpoint.name and component.variant not in homes:
            raise AwsError(
                "ValidationException",
                f"Variant {component.variant} hosts inference component {component.name}; "
                "an update cannot remove it.",
            )


def _retain(endpoint: Endpoint, variants: list[Variant], excluded: set[str]) -> None:
    before = {variant.name: variant for variant in endpoint.variants}
    for variant in variants:
        live = before.get(variant.name)
        if live is None:
            continue
        if "DesiredInstanceCount" not in excluded:
            variant.desired = live.desired
        if "DesiredWeight" not in excluded:
            variant.weight = live.weight
