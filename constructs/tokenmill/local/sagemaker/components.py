"""The operations on inference components.

Source: Amazon SageMaker API Reference, "CreateInferenceComponent", "UpdateInferenceComponent",
"UpdateInferenceComponentRuntimeConfig", "DescribeInferenceComponent" (InferenceComponentStatus).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenmill.local.aws_requests import AwsError, Params, Scope
from tokenmill.local.sagemaker import describe
from tokenmill.local.sagemaker.component_rollout import Change, ComponentRollouts
from tokenmill.local.sagemaker.records import Account, Component, Endpoint, Variant
from tokenmill.local.sagemaker.rollout import check_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_BUSY = ("Creating", "Updating", "Deleting")


class ComponentOperations(ComponentRollouts):
    """The operations on inference components; `SageMaker` adds the rest."""

    _tag: Callable[[Scope, str, Params], None]
    resolve_image: Callable[[Scope, str], str | None]

    def set_plan(self, scope: Scope, name: str, metadata: Mapping[str, Any]) -> None:
        """Remember what the template says about a component: its engine's timing and its model.

        Args:
            scope: Whose component.
            name: The component, which may not exist yet.
            metadata: The `tokenmill` member of the resource's metadata.
        """
        with self.lock:
            self.plans[(scope, name)] = dict(metadata)

    def follow_plan(self, scope: Scope, name: str) -> None:
        """Start a component again when the plan in its template changed and nothing else did.

        Args:
            scope: Whose component.
            name: The component.
        """
        with self.lock:
            component = self.accounts[scope].components.get(name)
            if component is None or component.status != "InService" or not self._plan_changed(component):
                return
            component.move("Updating")
        specifications, copies = component.specifications, component.desired
        failure = self._started(component, component.name, specifications, copies)
        self._settle(component, failure, copies=copies)

    def _create_component(self, scope: Scope, params: Params) -> Params:
        account, name = self.accounts[scope], params["InferenceComponentName"]
        if name in account.components:
            arn = account.components[name].arn
            raise AwsError(
                "ValidationException", f'Cannot create already existing inference component "{arn}".'
            )
        endpoint = account.endpoint(params["EndpointName"], scope)
        specifications = _specifications(params)
        base = specifications[0].get("BaseInferenceComponentName")
        if base is not None:
            variant_name: str | None = account.component(base, scope).variant
        else:
            variant_name = params.get("VariantName")
        variant = _variant_of(endpoint, variant_name)
        component = Component(
            name=name,
            scope=scope,
            endpoint=endpoint.name,
            variant=variant.name,
            specifications=specifications,
            desired=int((params.get("RuntimeConfig") or {}).get("CopyCount", 1)),
        )
        self._check_specifications(account, component, specifications)
        if component.desired < 1 and component.base is None:
            raise AwsError("ValidationException", "Inference components copy count an integer larger than 0")
        account.components[name] = component
        self._tag(scope, component.arn, params)
        self.background(lambda: self.bring_up(component))
        return {"InferenceComponentArn": component.arn}

    def _describe_component(self, scope: Scope, params: Params) -> Params:
        return self._component_document(
            self.accounts[scope].component(params["InferenceComponentName"], scope)
        )

    def _list_components(self, scope: Scope, params: Params) -> Params:
        found = [self._component_document(each) for each in self.accounts[scope].components.values()]
        more = ("EndpointArn", "EndpointName", "VariantName", "InferenceComponentStatus", "LastModifiedTime")
        return {"InferenceComponents": describe.listed(found, "InferenceComponent", params, *more)}

    def _component_document(self, component: Component) -> Params:
        endpoint = self.accounts[component.scope].endpoints.get(component.endpoint)
        variants = endpoint.variants if endpoint is not None else []
        return describe.component(
            component,
            lambda image: self.resolve_image(component.scope, image),
            pooled=any(len(each.types) > 1 for each in variants if each.name == component.variant),
        )

    def _update_component(self, scope: Scope, params: Params) -> Params:
        account = self.accounts[scope]
        component = self._idle(account, scope, params["InferenceComponentName"], "update")
        before = component.desired
        wanted = int((params.get("RuntimeConfig") or {}).get("CopyCount", before))
        specifications = component.specifications
        if "Specification" in params or "Specifications" in params:
            specifications = _specifications(params)
            self._check_specifications(account, component, specifications)
        changed = specifications != component.specifications or self._plan_changed(component)
        if changed:
            _check_change(wanted, params.get("DeploymentConfig"))
        component.desired = wanted
        component.deployment = params.get("DeploymentConfig", component.deployment)
        component.move("Updating")
        if changed:
            change = Change(
                specifications=specifications,
                copies=wanted,
                copies_before=before,
                deployment=params.get("DeploymentConfig"),
            )
            self.background(lambda: self.change_specification(component, change))
        else:
            self.background(lambda: self.change_copies(component, before))
        return {"InferenceComponentArn": component.arn}

    def _update_copies(self, scope: Scope, params: Params) -> Params:
        component = self._idle(self.accounts[scope], scope, params["InferenceComponentName"], "update")
        before = component.desired
        component.desired = int(params["DesiredRuntimeConfig"]["CopyCount"])
        component.move("Updating")
        self.background(lambda: self.change_copies(component, before))
        return {"InferenceComponentArn": component.arn}

    def _delete_component(self, scope: Scope, params: Params) -> Params:
        account = self.accounts[scope]
        component = account.component(params["InferenceComponentName"], scope)
        _refuse_with_adapters(account, component)
        component.move("Deleting")
        self.background(lambda: self._remove(account, component))
        return {}

    def _remove(self, account: Account, component: Component) -> None:
        self.fleet.stop(component.name)
        with self.lock:
            account.components.pop(component.name, None)
            self.plans.pop((component.scope, component.name), None)
            endpoint = account.endpoints.get(component.endpoint)
            if endpoint is not None:
                self.fit_instances(account, endpoint)

    def _plan_changed(self, component: Component) -> bool:
        launch = component.launch
        plan = self.plans.get((component.scope, component.name), {})
        if launch is None:
            return False
        return (plan.get("engine"), plan.get("model") or launch.model) != (launch.engine, launch.model)

    def _idle(self, account: Account, scope: Scope, name: str, verb: str) -> Component:
        component = account.component(name, scope)
        if component.status in _BUSY:
            raise AwsError(
                "ValidationException",
                f'Cannot {verb} inference component "{component.arn}" in status {component.status}.',
            )
        return component

    def _check_specifications(
        self, account: Account, component: Component, specifications: list[Params]
    ) -> None:
        for specification in specifications:
            if "ModelName" in specification:
                account.model(specification["ModelName"], component.scope)
            elif "BaseInferenceComponentName" in specification:
                base = account.component(specification["BaseInferenceComponentName"], component.scope)
                if base.endpoint != component.endpoint:
                    raise AwsError(
                        "ValidationException",
                        f'Base inference component "{base.arn}" is not on endpoint {component.endpoint}.',
                    )
                if "ArtifactUrl" not in (specification.get("Container") or {}):
                    raise AwsError("ValidationException", "An adapter needs Container.ArtifactUrl")
            elif "Image" not in (specification.get("Container") or {}):
                raise AwsError(
                    "ValidationException",
                    "Specification needs ModelName, Container.Image or BaseInferenceComponentName",
                )


def _check_change(copies: int, deployment: Params | None) -> None:
    policy = (deployment or {}).get("RollingUpdatePolicy")
    if policy:
        check_batch(
            policy["MaximumBatchSize"],
            copies,
            name="MaximumBatchSize",
            fewest=5,
            most=50,
            of="copy count of the inference component",
        )


def _refuse_with_adapters(account: Account, component: Component) -> None:
    adapters = account.adapters_of(component.name)
    if adapters:
        raise AwsError(
            "ValidationException",
            f'Cannot delete inference component "{component.arn}" while {adapters} refer to it.',
        )


def _specifications(params: Params) -> list[Params]:
    several, one = params.get("Specifications"), params.get("Specification")
    if bool(several) == bool(one):
        raise AwsError("ValidationException", "Exactly one of Specification and Specifications must be given")
    if several and len(several) > 1 and not all("InstanceType" in each for each in several):
        raise AwsError("ValidationException", "InstanceType is required with more than one of Specifications")
    return list(several) if several else [params["Specification"]]


def _variant_of(endpoint: Endpoint, name: str | None) -> Variant:
    for variant in endpoint.variants:
        if name in (None, variant.name):
            if variant.serves_model:
                break
            return variant
    else:
        raise AwsError(
            "ValidationException", f'Could not find variant "{name}" of endpoint "{endpoint.arn}".'
        )
    raise AwsError(
        "ValidationException",
        "Inference Components are not supported in this Endpoint. "
        "Please make sure this endpoint can deploy inference components.",
    )
