"""Inference components: their placement, their copies and their states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenmill.local.aws_requests import AwsError, Params, Scope
from tokenmill.local.sagemaker import describe
from tokenmill.local.sagemaker.fleet import Launch, LaunchError
from tokenmill.local.sagemaker.placement import accelerators_of, instances_needed
from tokenmill.local.sagemaker.records import Account, Component, Endpoint, Variant

if TYPE_CHECKING:
    import threading
    from collections import defaultdict
    from collections.abc import Callable, Mapping

    from tokenmill.local.sagemaker.fleet import Fleet

_CONTEXT_VARIABLES = (
    "SM_ON_SEQUENCE_LENGTH",
    "SM_VLLM_MAX_MODEL_LEN",
    "OPTION_MAX_MODEL_LEN",
    "MAX_MODEL_LEN",
)
_MODEL_VARIABLES = ("SM_ON_MODEL", "SM_VLLM_MODEL", "OPTION_MODEL_ID", "HF_MODEL_ID")
_BUSY = ("Creating", "Updating", "Deleting")


class ComponentOperations:
    """The operations on inference components; `SageMaker` adds the rest."""

    fleet: Fleet
    background: Callable[[Callable[[], None]], None]
    sleep: Callable[[float], None]
    startup_seconds: float
    lock: threading.RLock
    accounts: defaultdict[Scope, Account]
    _tag: Callable[[Scope, str, Params], None]

    def set_plan(self, scope: Scope, name: str, metadata: Mapping[str, Any]) -> None:
        """Remember what the template says about a component: its engine's timing and its model.

        Args:
            scope: Whose component.
            name: The component, which may not exist yet.
            metadata: The `tokenmill` member of the resource's metadata.
        """
        with self.lock:
            self._plans[(scope, name)] = dict(metadata)

    @property
    def _plans(self) -> dict[tuple[Scope, str], Params]:
        plans: dict[tuple[Scope, str], Params] = self.__dict__.setdefault("_plan_documents", {})
        return plans

    def _create_component(self, scope: Scope, params: Params) -> Params:
        account, name = self.accounts[scope], params["InferenceComponentName"]
        if name in account.components:
            arn = account.components[name].arn
            raise AwsError(
                "ValidationException", f'Cannot create already existing inference component "{arn}".'
            )
        endpoint = account.endpoint(params["EndpointName"], scope)
        variant = _variant_of(endpoint, params.get("VariantName"))
        specification = _specification(params)
        component = Component(
            name=name,
            scope=scope,
            endpoint=endpoint.name,
            variant=variant.name,
            specification=specification,
            desired=int((params.get("RuntimeConfig") or {}).get("CopyCount", 1)),
        )
        self._check_model(account, component)
        if component.desired < 1 and "BaseInferenceComponentName" not in specification:
            raise AwsError("ValidationException", "Inference components copy count an integer larger than 0")
        account.components[name] = component
        self._tag(scope, component.arn, params)
        self.background(lambda: self._settle(component, relaunch=True))
        return {"InferenceComponentArn": component.arn}

    def _describe_component(self, scope: Scope, params: Params) -> Params:
        return describe.component(self.accounts[scope].component(params["InferenceComponentName"], scope))

    def _list_components(self, scope: Scope, params: Params) -> Params:
        found = [describe.component(component) for component in self.accounts[scope].components.values()]
        more = ("EndpointArn", "EndpointName", "VariantName", "InferenceComponentStatus", "LastModifiedTime")
        return {"InferenceComponents": describe.listed(found, "InferenceComponent", params, *more)}

    def _update_component(self, scope: Scope, params: Params) -> Params:
        account = self.accounts[scope]
        component = self._idle(account, scope, params["InferenceComponentName"], "update")
        before = component.specification
        if "Specification" in params or "Specifications" in params:
            component.specification = _specification(params)
            try:
                self._check_model(account, component)
            except AwsError:
                component.specification = before
                raise
        if "RuntimeConfig" in params:
            component.desired = int(params["RuntimeConfig"]["CopyCount"])
        component.move("Updating")
        relaunch = component.specification != before or self._plan_changed(component)
        self.background(lambda: self._settle(component, relaunch=relaunch))
        return {"InferenceComponentArn": component.arn}

    def _update_copies(self, scope: Scope, params: Params) -> Params:
        component = self._idle(self.accounts[scope], scope, params["InferenceComponentName"], "update")
        component.desired = int(params["DesiredRuntimeConfig"]["CopyCount"])
        component.move("Updating")
        self.background(lambda: self._settle(component, relaunch=False))
        return {"InferenceComponentArn": component.arn}

    def _delete_component(self, scope: Scope, params: Params) -> Params:
        account = self.accounts[scope]
        component = account.component(params["InferenceComponentName"], scope)
        adapters = [
            other.name
            for other in account.components.values()
            if other.specification.get("BaseInferenceComponentName") == component.name
        ]
        if adapters:
            raise AwsError(
                "ValidationException",
                f'Cannot delete inference component "{component.arn}" while {adapters} refer to it.',
            )
        component.move("Deleting")
        self.background(lambda: self._remove(account, component))
        return {}

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
        self._settle(component, relaunch=True)

    def launch_variant(self, endpoint: Endpoint, variant: Variant) -> str | None:
        """Start the model that a variant names; return why it did not start.

        Args:
            endpoint: The endpoint.
            variant: Its variant, whose configuration names a model.
        """
        account = self.accounts[endpoint.scope]
        environment = _environment(account, {"ModelName": variant.config["ModelName"]})
        launch = Launch(
            model=_first(environment, _MODEL_VARIABLES) or variant.config["ModelName"],
            engine=None,
            context_tokens=_context_tokens(environment),
            copies=variant.desired,
        )
        return self._try_start(f"{endpoint.name}/{variant.name}", launch)

    def fit_instances(self, account: Account, endpoint: Endpoint) -> None:
        """Let managed instance scaling follow the copies, between its bounds.

        Args:
            account: The endpoint's neighbours.
            endpoint: The endpoint.
        """
        for variant in endpoint.variants:
            needed = self._needed(account, endpoint, variant)
            if needed is not None and variant.managed is not None:
                variant.desired = max(variant.fewest_instances, min(needed, variant.most_instances))
                variant.instances = variant.desired

    def _settle(self, component: Component, *, relaunch: bool) -> None:
        """Bring the copies to what is asked for: Creating or Updating, then InService or Failed."""
        account = self.accounts[component.scope]
        updating = component.status == "Updating"
        self.sleep(self.startup_seconds)
        with self.lock:
            failure = self._place(account, component)
        if failure is None and "BaseInferenceComponentName" not in component.specification:
            failure = self._run(account, component, relaunch=relaunch)
        with self.lock:
            if component.status == "Deleting":
                self.fleet.stop(component.name)
                return
            if failure is None:
                component.current = component.desired
            elif updating:
                component.desired = component.current
            self.fit_instances(account, account.endpoints[component.endpoint])
            component.move("InService" if failure is None or updating else "Failed", failure)

    def _place(self, account: Account, component: Component) -> str | None:
        endpoint = account.endpoints.get(component.endpoint)
        if endpoint is None or endpoint.status != "InService":
            return f"endpoint {component.endpoint} is not InService"
        variant = _variant_of(endpoint, component.variant)
        if component.desired > component.current and variant.instance_type in account.capacity_errors:
            return insufficient_capacity(variant.instance_type)
        devices = accelerators_of(variant.instance_type)
        needed = self._needed(account, endpoint, variant)
        if devices is not None and (needed is None or needed > variant.most_instances):
            return (
                f"Not enough hardware resources for {component.desired} copies of {component.accelerators:g} "
                f"accelerators: variant {variant.name} has at most {variant.most_instances} "
                f"{variant.instance_type} with {devices} each."
            )
        return None

    def _needed(self, account: Account, endpoint: Endpoint, variant: Variant) -> int | None:
        devices = accelerators_of(variant.instance_type)
        if devices is None:
            return variant.desired
        here = [
            (component.accelerators, component.desired)
            for component in account.components.values()
            if (component.endpoint, component.variant) == (endpoint.name, variant.name)
            and component.status not in ("Failed", "Deleting")
        ]
        return instances_needed(here, devices)

    def _run(self, account: Account, component: Component, *, relaunch: bool) -> str | None:
        if not relaunch and self.fleet.url(component.name) is not None:
            self.fleet.resize(component.name, component.desired)
            return None
        plan = self._plans.get((component.scope, component.name), {})
        environment = _environment(account, component.specification)
        component.engine = plan.get("engine")
        component.model = plan.get("model") or _first(environment, _MODEL_VARIABLES) or component.name
        launch = Launch(
            model=component.model,
            engine=component.engine,
            context_tokens=_context_tokens(environment),
            copies=component.desired,
        )
        return self._try_start(component.name, launch)

    def _try_start(self, key: str, launch: Launch) -> str | None:
        try:
            self.fleet.start(key, launch)
        except LaunchError as error:
            return str(error)
        return None

    def _remove(self, account: Account, component: Component) -> None:
        self.fleet.stop(component.name)
        with self.lock:
            account.components.pop(component.name, None)
            self._plans.pop((component.scope, component.name), None)
            endpoint = account.endpoints.get(component.endpoint)
            if endpoint is not None:
                self.fit_instances(account, endpoint)

    def _plan_changed(self, component: Component) -> bool:
        plan = self._plans.get((component.scope, component.name), {})
        return (plan.get("engine"), plan.get("model") or component.model) != (
            component.engine,
            component.model,
        )

    def _idle(self, account: Account, scope: Scope, name: str, verb: str) -> Component:
        component = account.component(name, scope)
        if component.status in _BUSY:
            raise AwsError(
                "ValidationException",
                f'Cannot {verb} inference component "{component.arn}" in status {component.status}.',
            )
        return component

    def _check_model(self, account: Account, component: Component) -> None:
        specification = component.specification
        if "ModelName" in specification:
            account.model(specification["ModelName"], component.scope)
        elif "BaseInferenceComponentName" in specification:
            account.component(specification["BaseInferenceComponentName"], component.scope)
        elif "Image" not in (specification.get("Container") or {}):
            raise AwsError(
                "ValidationException",
                "Specification needs ModelName, Container.Image or BaseInferenceComponentName",
            )


def insufficient_capacity(instance_type: str) -> str:
    """Return the reason of a launch that found no capacity.

    Args:
        instance_type: SageMaker's name.
    """
    return (
        f"Unable to provision requested ML compute capacity ({instance_type}) "
        "due to InsufficientInstanceCapacity error."
    )


def _specification(params: Params) -> Params:
    if params.get("Specifications"):
        first: Params = params["Specifications"][0]
        return first
    if not params.get("Specification"):
        raise AwsError("ValidationException", "Specification or Specifications must be given")
    specification: Params = params["Specification"]
    return specification


def _variant_of(endpoint: Endpoint, name: str | None) -> Variant:
    for variant in endpoint.variants:
        if name in (None, variant.name):
            if "ModelName" in variant.config:
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


def _environment(account: Account, specification: Params) -> Mapping[str, str]:
    container = dict(specification.get("Container") or {})
    if "ModelName" in specification:
        model = account.models.get(specification["ModelName"], {})
        container = model.get("PrimaryContainer") or (model.get("Containers") or [{}])[0]
    environment: Mapping[str, str] = container.get("Environment") or {}
    return environment


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((environment[name] for name in names if environment.get(name)), None)


def _context_tokens(environment: Mapping[str, str]) -> int | None:
    value = _first(environment, _CONTEXT_VARIABLES)
    return int(value) if value and value.isdigit() else None
