"""What Application Auto Scaling remembers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

if TYPE_CHECKING:
    from tokenmill.local.aws_requests import Params, Scope

TargetKey = tuple[str, str, str]
KEY_MEMBERS = ("ServiceNamespace", "ResourceId", "ScalableDimension")
IN_SUSPENDED, OUT_SUSPENDED = "DynamicScalingInSuspended", "DynamicScalingOutSuspended"
SCHEDULED_SUSPENDED = "ScheduledScalingSuspended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """A resource's capacity.

    Args:
        desired: What it should have.
        active: Whether it is neither being changed nor failed.
        unit: What is counted, such as "copy count".
    """

    desired: int
    active: bool
    unit: str


class Capacities(Protocol):
    """The resources that are scaled."""

    def read(self, scope: Scope, key: TargetKey) -> Capacity | None:
        """Return a resource's capacity; nothing when there is no such resource."""

    def write(self, scope: Scope, key: TargetKey, wanted: int) -> None:
        """Give a resource another capacity."""


class Alarms(Protocol):
    """The alarms that target tracking makes for itself."""

    def put(self, scope: Scope, properties: Params) -> str:
        """Make an alarm, or change it; return its ARN."""

    def delete(self, scope: Scope, name: str) -> None:
        """Delete an alarm."""

    def state(self, scope: Scope, name: str) -> str | None:
        """Return an alarm's state; nothing when there is no such alarm."""


@dataclass(slots=True, kw_only=True)
class Activity:
    """One scaling activity."""

    key: TargetKey
    description: str
    cause: str
    wanted: int | None = None
    status: str = "InProgress"
    message: str = ""
    not_scaled: Params | None = None
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended: datetime | None = None
    identity: str = field(default_factory=lambda: str(uuid4()))

    def end(self, status: str, message: str) -> None:
        """End the activity.

        Args:
            status: Its status code.
            message: Its status message.
        """
        self.status, self.message, self.ended = status, message, datetime.now(UTC)

    def document(self) -> Params:
        """Return what DescribeScalingActivities shows."""
        shown: Params = {
            "ActivityId": self.identity,
            **dict(zip(KEY_MEMBERS, self.key, strict=True)),
            "Description": self.description,
            "Cause": self.cause,
            "StartTime": self.began,
            "StatusCode": self.status,
            "StatusMessage": self.message,
        }
        if self.ended is not None:
            shown["EndTime"] = self.ended
        if self.not_scaled is not None:
            shown["NotScaledReasons"] = [self.not_scaled]
        return shown


@dataclass(slots=True)
class Cooldown:
    """What a policy did last: when, and from which capacity to which."""

    out_at: float | None = None
    base: int = 0
    reached: int = 0
    in_at: float | None = None


@dataclass(slots=True)
class Account:
    """The records of one account in one region."""

    targets: dict[TargetKey, Params] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    policies: dict[tuple[TargetKey, str], Params] = field(default_factory=dict)
    schedules: dict[tuple[TargetKey, str], Params] = field(default_factory=dict)
    activities: list[Activity] = field(default_factory=list)
    cooldowns: dict[str, Cooldown] = field(default_factory=dict)
    executed: dict[tuple[str, str], float] = field(default_factory=dict)
    checked: dict[tuple[TargetKey, str], float] = field(default_factory=dict)

    def suspended(self, key: TargetKey, what: str) -> bool:
        """Whether a kind of scaling is suspended on a target.

        Args:
            key: The target.
            what: Member of `SuspendedState`.
        """
        state: Params = self.targets.get(key, {}).get("SuspendedState") or {}
        return bool(state.get(what))

    def policy_of(self, arn: str) -> tuple[TargetKey, Params] | None:
        """Return a policy and its target by its ARN; nothing when there is none.

        Args:
            arn: The policy's ARN.
        """
        return next(
            ((key, policy) for (key, _), policy in self.policies.items() if policy["PolicyARN"] == arn), None
        )
