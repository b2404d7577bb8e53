"""What the SageMaker control plane remembers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from tokenmill.local.aws_requests import AwsError, Params, Scope

Record = TypeVar("Record")


def now() -> datetime:
    """Return the time that a record is stamped with."""
    return datetime.now(UTC)


@dataclass(slots=True, kw_only=True)
class Variant:
    """One production variant's instances."""

    config: Params
    instances: int
    desired: int

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.config["VariantName"])

    @property
    def instance_type(self) -> str:
        """Its instance type."""
        return str(self.config.get("InstanceType", ""))

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


@dataclass(slots=True, kw_only=True)
class Component:
    """One inference component."""

    name: str
    scope: Scope
    endpoint: str
    variant: str
    specification: Params
    desired: int
    current: int = 0
    status: str = "Creating"
    failure: str | None = None
    engine: Params | None = None
    model: str | None = None
    created: datetime = field(default_factory=now)
    modified: datetime = field(default_factory=now)

    @property
    def arn(self) -> str:
        """Its ARN."""
        return self.scope.arn("sagemaker", f"inference-component/{self.name}")

    @property
    def accelerators(self) -> float:
        """Accelerator devices that one copy takes; an adapter takes none of its own."""
        needs: Params = self.specification.get("ComputeResourceRequirements") or {}
        return float(needs.get("NumberOfAcceleratorDevicesRequired", 0))

    def move(self, status: str, failure: str | None = None) -> None:
        """Change its status.

        Args:
            status: The new one.
            failure: Why, when it failed.
        """
        self.status, self.failure, self.modified = status, failure, now()


@dataclass(slots=True)
class Account:
    """The records of one account in one region."""

    models: dict[str, Params] = field(default_factory=dict)
    configs: dict[str, Params] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    components: dict[str, Component] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    capacity_errors: set[str] = field(default_factory=set)

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
