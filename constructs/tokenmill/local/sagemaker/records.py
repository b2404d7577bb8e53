"""What the SageMaker control plane remembers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from tokenmill.local.aws_requests import AwsError, Params, Scope
from tokenmill.local.sagemaker.faults import Faults
from tokenmill.local.sagemaker.placement import Load

if TYPE_CHECKING:
    from tokenmill.local.sagemaker.fleet import Launch

Record = TypeVar("Record")


def now() -> datetime:
    """Return the time that a record is stamped with."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Split:
    """How requests are shared between an old and a new fleet, evenly and without chance."""

    share: float = 0.0
    _due: float = 0.0

    def takes_new(self) -> bool:
        """Whether the next request goes to the new fleet."""
        self._due += self.share
        # Shares such as a third add up to just below one.
        if self._due > 1 - 1e-9:
            self._due -= 1
            return True
        return False


@dataclass(slots=True, kw_only=True)
class Variant:
    """One production variant's instances."""

    config: Params
    desired: int
    weight: float = 1.0
    held: dict[str, int] = field(default_factory=dict)
    stage: str | None = None

    @classmethod
    def of(cls, config: Params) -> Variant:
        """Return a variant without instances yet.

        Args:
            config: A member of the endpoint configuration's `ProductionVariants`.
        """
        return cls(
            config=config,
            desired=int(config.get("InitialInstanceCount", 1)),
            weight=float(config.get("InitialVariantWeight", 1.0)),
        )

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.config["VariantName"])

    @property
    def types(self) -> list[str]:
        """The instance types that it may have, the preferred one first."""
        pools = sorted(self.config.get("InstancePools") or [], key=lambda pool: int(pool["Priority"]))
        return [str(pool["InstanceType"]) for pool in pools] or [str(self.config.get("InstanceType", ""))]

    @property
    def instances(self) -> int:
        """Instances that it has."""
        return sum(self.held.values())

    @property
    def serves_model(self) -> bool:
        """Whether it serves a model by itself, without inference components."""
        return "ModelName" in self.config

    @property
    def model_name(self) -> str:
        """The model on its instances; a pool may name one of its own."""
        for pool in self.config.get("InstancePools") or []:
            if self.held.get(pool["InstanceType"]) and "ModelNameOverride" in pool:
                return str(pool["ModelNameOverride"])
        return str(self.config["ModelName"])

    @property
    def managed(self) -> Params | None:
        """Its managed instance scaling, when that is enabled."""
        scaling: Params = self.config.get("ManagedInstanceScaling") or {}
        return scaling if scaling.get("Status") == "ENABLED" else None

    @property
    def most_instances(self) -> int:
        """Instances that it may grow to."""
        if self.managed is None:
            return self.desired
        return int(self.managed.get("MaxInstanceCount", self.desired))

    @property
    def fewest_instances(self) -> int:
        """Instances that it keeps."""
        if self.managed is None:
            return self.desired
        return int(self.managed.get("MinInstanceCount", 1))


@dataclass(slots=True, kw_only=True)
class NewFleet:
    """What an endpoint is being moved to, beside what it has."""

    config_name: str
    variants: list[Variant]
    started: datetime = field(default_factory=now)
    split: Split = field(default_factory=Split)


@dataclass(slots=True, kw_only=True)
class Endpoint:
    """One endpoint."""

    name: str
    scope: Scope
    config_name: str
    variants: list[Variant]
    status: str = "Creating"
    failure: str | None = None
    created: datetime = field(default_factory=now)
    modified: datetime = field(default_factory=now)
    deployment: Params | None = None
    pending: NewFleet | None = None

    @property
    def arn(self) -> str:
        """Its ARN."""
        return self.scope.arn("sagemaker", f"endpoint/{self.name}")

    def move(self, status: str, failure: str | None = None) -> None:
        """Change its status.

        Args:
            status: The new one.
            failure: Why, when it failed.
        """
        self.status, self.failure, self.modified = status, failure, now()

    def key(self, variant: Variant, *, new: bool = False) -> str:
        """Return the name of a variant's model server.

        Args:
            variant: The variant, which serves a model.
            new: Of the fleet that the endpoint is being moved to.
        """
        return new_key(f"{self.name}/{variant.name}") if new else f"{self.name}/{variant.name}"


@dataclass(slots=True, kw_only=True)
class Component:
    """One inference component."""

    name: str
    scope: Scope
    endpoint: str
    variant: str
    specifications: list[Params]
    desired: int
    current: int = 0
    status: str = "Creating"
    failure: str | None = None
    launch: Launch | None = None
    deployment: Params | None = None
    placed: dict[str, int] = field(default_factory=dict)
    surge: Load | None = None
    kept: int | None = None
    split: Split = field(default_factory=Split)
    created: datetime = field(default_factory=now)
    modified: datetime = field(default_factory=now)

    @property
    def arn(self) -> str:
        """Its ARN."""
        return self.scope.arn("sagemaker", f"inference-component/{self.name}")

    @property
    def base(self) -> str | None:
        """The component that an adapter lies on; nothing for a model."""
        name: str | None = self.specifications[0].get("BaseInferenceComponentName")
        return name

    @property
    def loads(self) -> list[Load]:
        """What its copies take: in a rolling update the old ones that are left, and the new ones."""
        copies = self.desired if self.kept is None else self.kept
        own = load_of(self.name, self.specifications, copies)
        return [own] if self.surge is None else [own, self.surge]

    def move(self, status: str, failure: str | None = None) -> None:
        """Change its status.

        Args:
            status: The new one.
            failure: Why, when it failed.
        """
        self.status, self.failure, self.modified = status, failure, now()


def load_of(name: str, specifications: list[Params], copies: int) -> Load:
    """Return what copies of a component take on each instance type.

    Args:
        name: The component.
        specifications: Its specification, or one an instance type.
        copies: How many.
    """
    sizes = {
        specification.get("InstanceType"): float(
            (specification.get("ComputeResourceRequirements") or {}).get(
                "NumberOfAcceleratorDevicesRequired", 0
            )
        )
        for specification in specifications
    }
    return Load(name=name, sizes=sizes, copies=copies)


def new_key(key: str) -> str:
    """Return the name of the model server that is to replace another.

    Args:
        key: Name of the server that answers now.
    """
    return f"{key}~new"


@dataclass(slots=True)
class Account:
    """The records of one account in one region."""

    models: dict[str, Params] = field(default_factory=dict)
    configs: dict[str, Params] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    components: dict[str, Component] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)

    def endpoint(self, name: str, scope: Scope) -> Endpoint:
        """Return an endpoint.

        Args:
            name: Its name.
            scope: Whose.

        Raises:
            AwsError: There is none.
        """
        return _find(self.endpoints, name, "endpoint", scope)

    def component(self, name: str, scope: Scope) -> Component:
        """Return an inference component.

        Args:
            name: Its name.
            scope: Whose.

        Raises:
            AwsError: There is none.
        """
        return _find(self.components, name, "inference component", scope)

    def adapters_of(self, name: str) -> list[str]:
        """Return the adapters that lie on a component.

        Args:
            name: The base component.
        """
        return [other.name for other in self.components.values() if other.base == name]

    def config(self, name: str, scope: Scope) -> Params:
        """Return an endpoint configuration.

        Args:
            name: Its name.
            scope: Whose.

        Raises:
            AwsError: There is none.
        """
        return _find(self.configs, name, "endpoint configuration", scope)

    def model(self, name: str, scope: Scope) -> Params:
        """Return a model.

        Args:
            name: Its name.
            scope: Whose.

        Raises:
            AwsError: There is none.
        """
        return _find(self.models, name, "model", scope)


def _find(records: dict[str, Record], name: str, noun: str, scope: Scope) -> Record:
    if name not in records:
        kind = {"endpoint configuration": "endpoint-config"}.get(noun, noun.replace(" ", "-"))
        raise AwsError(
            "ValidationException", f'Could not find {noun} "{scope.arn("sagemaker", f"{kind}/{name}")}".'
        )
    return records[name]
