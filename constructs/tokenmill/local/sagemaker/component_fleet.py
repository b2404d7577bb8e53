"""Where the copies of inference components lie, and the model servers that stand for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenmill.local.sagemaker.fleet import Launch, LaunchError
from tokenmill.local.sagemaker.placement import accelerators_of, fleet_of, place

if TYPE_CHECKING:
    import threading
    from collections import defaultdict
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tokenmill.local.aws_requests import Params, Scope
    from tokenmill.local.sagemaker.fleet import Fleet
    from tokenmill.local.sagemaker.placement import Load
    from tokenmill.local.sagemaker.records import Account, Component, Endpoint, Variant

_CONTEXT_VARIABLES = (
    "SM_ON_SEQUENCE_LENGTH",
    "SM_VLLM_MAX_MODEL_LEN",
    "OPTION_MAX_MODEL_LEN",
    "MAX_MODEL_LEN",
)
_MODEL_VARIABLES = ("SM_ON_MODEL", "SM_VLLM_MODEL", "OPTION_MODEL_ID", "HF_MODEL_ID")

Fit = tuple[dict[str, int], dict[str, dict[str, int]]]


class ComponentFleet:
    """Placement and launches; `SageMaker` adds the operations."""

    fleet: Fleet
    background: Callable[[Callable[[], None]], None]
    sleep: Callable[[float], None]
    startup_seconds: float
    lock: threading.RLock
    accounts: defaultdict[Scope, Account]
    plans: dict[tuple[Scope, str], Params]
    alarm_state: Callable[[Scope, str], str | None]

    def launch_variant(
        self, endpoint: Endpoint, variant: Variant, *, key: str | None = None, copies: int | None = None
    ) -> str | None:
        """Start the model that a variant names, a copy an instance; return why it did not start.

        Args:
            endpoint: The endpoint.
            variant: Its variant, whose configuration names a model.
            key: Name of the model server; the variant's own otherwise.
            copies: Instances that serve; those that the variant should have otherwise.
        """
        account = self.accounts[endpoint.scope]
        container = container_of(account, {"ModelName": variant.model_name})
        if account.faults.unhealthy(container.get("Image", "")):
            return (
                f"The primary container for production variant {variant.name} did not pass the ping health "
                "check. Please check CloudWatch logs for this endpoint."
            )
        environment = container.get("Environment") or {}
        plan = self.plans.get((endpoint.scope, model_plan(variant.model_name)), {})
        launch = Launch(
            model=plan.get("model") or _first(environment, _MODEL_VARIABLES) or variant.model_name,
            engine=plan.get("engine"),
            context_tokens=_context_tokens(environment),
            copies=variant.desired if copies is None else copies,
        )
        return self.try_start(key or endpoint.key(variant), launch)

    def try_start(self, key: str, launch: Launch) -> str | None:
        """Start a model server; return why it did not start.

        Args:
            key: Its name.
            launch: What to start.
        """
        try:
            self.fleet.start(key, launch)
        except LaunchError as error:
            return str(error)
        return None

    def start_copies(
        self, component: Component, specifications: Sequence[Params], key: str, copies: int
    ) -> Launch | str:
        """Start copies of a component; return what was started, or why it did not start.

        Args:
            component: The component.
            specifications: What to start, which is not the component's own in an update.
            key: Name of the model server.
            copies: How many.
        """
        account = self.accounts[component.scope]
        container = container_of(account, specification_on(specifications, component.placed))
        if account.faults.unhealthy(container.get("Image", "")):
            return (
                f"The container for inference component {component.name} did not pass the ping health check. "
                "Please check CloudWatch logs for this inference component."
            )
        environment = container.get("Environment") or {}
        plan = self.plans.get((component.scope, component.name), {})
        launch = Launch(
            model=plan.get("model") or _first(environment, _MODEL_VARIABLES) or component.name,
            engine=plan.get("engine"),
            context_tokens=_context_tokens(environment),
            copies=copies,
        )
        return self.try_start(key, launch) or launch

    def fit_instances(self, account: Account, endpoint: Endpoint) -> None:
        """Let managed instance scaling follow the copies, between its bounds.

        Args:
            account: The endpoint's neighbours.
            endpoint: The endpoint.
        """
        for variant in endpoint.variants:
            if variant.managed is not None:
                found = self.fit(account, variant, loads_on(account, endpoint, variant), variant.held)
                if not isinstance(found, str):
                    _settle(account, endpoint, variant, found)

    def make_room(self, account: Account, component: Component) -> str | None:
        """Get the instances for a component's copies; return why there are none.

        Args:
            account: The component's neighbours.
            component: The component.
        """
        endpoint = account.endpoints.get(component.endpoint)
        if endpoint is None or endpoint.status != "InService":
            return f"endpoint {component.endpoint} is not InService"
        variant = next(variant for variant in endpoint.variants if variant.name == component.variant)
        found = self.fit(account, variant, loads_on(account, endpoint, variant), variant.held)
        if isinstance(found, str):
            return found
        _settle(account, endpoint, variant, found)
        return None

    def fit(
        self, account: Account, variant: Variant, loads: list[Load], held: Mapping[str, int]
    ) -> Fit | str:
        """Return the fewest instances that hold the copies and where each lies, or why they cannot be had.

        Args:
            account: Whose instances.
            variant: The variant.
            loads: The copies.
            held: Instances that are there already.
        """
        unavailable = account.faults.insufficient_capacity
        counts = range(variant.fewest_instances, variant.most_instances + 1)
        for count in counts:
            fleet = fleet_of(count, variant.types, held, unavailable)
            if fleet is None:
                return insufficient_capacity(variant.types)
            placed = place(loads, fleet)
            if placed is not None:
                return fleet, placed
        wanted = " and ".join(
            f"{load.copies} copies of {max(load.sizes.values()):g} accelerators"
            for load in loads
            if load.copies
        )
        types = ", ".join(f"{name} with {accelerators_of(name)} each" for name in variant.types)
        return (
            f"Not enough hardware resources for {wanted}: variant {variant.name} has at most "
            f"{variant.most_instances} {types}."
        )


def model_plan(name: str) -> str:
    """Return the name under which the plan of a model is remembered.

    Args:
        name: The model.
    """
    return f"model/{name}"


def insufficient_capacity(instance_types: Sequence[str]) -> str:
    """Return the reason of a launch that found no capacity.

    Args:
        instance_types: SageMaker's names.
    """
    return (
        f"Unable to provision requested ML compute capacity ({', '.join(instance_types)}) "
        "due to InsufficientInstanceCapacity error."
    )


def loads_on(account: Account, endpoint: Endpoint, variant: Variant) -> list[Load]:
    """Return what lies on a variant.

    Args:
        account: The endpoint's neighbours.
        endpoint: The endpoint.
        variant: The variant.
    """
    return [
        load
        for component in account.components.values()
        if (component.endpoint, component.variant) == (endpoint.name, variant.name)
        and component.status not in ("Failed", "Deleting")
        and component.base is None
        for load in component.loads
    ]


def specification_on(specifications: Sequence[Params], placed: Mapping[str, int]) -> Params:
    """Return the specification that most copies run.

    Args:
        specifications: One, or one an instance type.
        placed: Copies by instance type.
    """
    by_type = {specification.get("InstanceType"): specification for specification in specifications}
    busiest = sorted(placed, key=lambda name: -placed[name])
    return next((by_type[name] for name in busiest if name in by_type), specifications[0])


def container_of(account: Account, specification: Params) -> Params:
    """Return the container that a specification runs, its own or its model's.

    Args:
        account: Whose models.
        specification: The specification.
    """
    if "ModelName" in specification:
        model = account.models.get(specification["ModelName"], {})
        container: Params = model.get("PrimaryContainer") or (model.get("Containers") or [{}])[0]
        return container
    return specification.get("Container") or {}


def _settle(account: Account, endpoint: Endpoint, variant: Variant, found: Fit) -> None:
    variant.held, placed = found
    if variant.managed is not None:
        variant.desired = variant.instances
    for component in account.components.values():
        if (component.endpoint, component.variant) == (endpoint.name, variant.name):
            component.placed = _together(placed.get(load.name, {}) for load in component.loads)


def _together(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            total[name] = total.get(name, 0) + count
    return total


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((environment[name] for name in names if environment.get(name)), None)


def _context_tokens(environment: Mapping[str, str]) -> int | None:
    value = _first(environment, _CONTEXT_VARIABLES)
    return int(value) if value and value.isdigit() else None
