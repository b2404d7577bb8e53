"""The instances below an endpoint: which types, in what order, how requests and copies are spread."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from tokenmill.core._checks import as_whole, as_whole_or_none, of_kind, text
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from tokenmill.endpoints.serving import Serving

# "InstancePool", "ProductionVariant", "PrefixAwareRoutingConfig", "InferenceComponentSchedulingConfig",
# "ProductionVariantManagedInstanceScalingScaleInPolicy" (Amazon SageMaker API Reference).
LARGEST_PRIORITY = 5
RESERVATION = re.compile(r"arn:aws[a-z\-]*:sagemaker:[a-z0-9\-]*:[0-9]{12}:[a-z0-9\-]{1,14}/.+")
PLACEMENTS = ("SPREAD", "BINPACK")
LARGEST_IMBALANCE = 100
SCALE_IN_STRATEGIES = ("IDLE_RELEASE", "CONSOLIDATION")


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancePool:
    """One instance type that an endpoint may run on.

    Args:
        instance_type: SageMaker's name of the type, such as "ml.g6e.2xlarge".
        priority: 1 to 5; 1 is tried first and released last.
        serving: How a copy is cut on this type; the endpoint's own cut otherwise.

    Raises:
        TokenmillError: If the priority is out of its range, or `serving` is for another type.
    """

    instance_type: str
    priority: int
    serving: Serving | None = None

    def __post_init__(self) -> None:
        text("instance_type of a pool", self.instance_type)
        as_whole(self, "priority")
        if not 1 <= self.priority <= LARGEST_PRIORITY:
            raise TokenmillError(
                f"priority of {self.instance_type} is {self.priority}; it must be 1 to {LARGEST_PRIORITY}"
            )
        if self.serving is not None and self.serving.instance_type != self.instance_type:
            raise TokenmillError(
                f"the pool of {self.instance_type} has a serving for {self.serving.instance_type}; give "
                f"Serving(instance_type={self.instance_type!r}, ...)"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """To which instance a request goes. Made by `least_busy`, `random` and `prefix_aware`.

    Args:
        strategy: SageMaker's name of the strategy.
        prefix_length: Bytes of the request body that decide, 1,024 to 65,536; with PREFIX_AWARE only.
        concurrency_threshold: Requests in flight on an instance above which the next go elsewhere, 1 to
            1,024; with PREFIX_AWARE only.

    Raises:
        TokenmillError: If a number is out of its range.
    """

    strategy: str = "LEAST_OUTSTANDING_REQUESTS"
    prefix_length: int | None = None
    concurrency_threshold: int | None = None

    def __post_init__(self) -> None:
        as_whole_or_none(self, "prefix_length", "concurrency_threshold")
        strategies = ("LEAST_OUTSTANDING_REQUESTS", "RANDOM", "PREFIX_AWARE")
        if self.strategy not in strategies:
            raise TokenmillError(f"routing is {self.strategy!r}; allowed are {', '.join(strategies)}")
        numbers = {
            "prefix_length": (self.prefix_length, 1024, 65_536),
            "concurrency_threshold": (self.concurrency_threshold, 1, 1024),
        }
        for name, (value, least, most) in numbers.items():
            if (value is not None) != (self.strategy == "PREFIX_AWARE"):
                raise TokenmillError(
                    f"{name} is {value} with routing {self.strategy}; PREFIX_AWARE needs it and no other "
                    "strategy takes it, so use Routing.prefix_aware(...)"
                )
            if value is not None and not least <= value <= most:
                raise TokenmillError(f"{name} is {value}; it must be {least:,} to {most:,}")

    @classmethod
    def least_busy(cls) -> Self:
        """Return routing to the instance with the fewest requests in flight."""
        return cls()

    @classmethod
    def random(cls) -> Self:
        """Return routing by chance."""
        return cls(strategy="RANDOM")

    @classmethod
    def prefix_aware(cls, *, prefix_length: int = 4096, concurrency_threshold: int) -> Self:
        """Return routing of requests that begin alike to one instance, whose prefix cache then has them.

        A length should cover what prompts share and a little of what tells them apart.

        Args:
            prefix_length: Bytes of the request body that decide, 1,024 to 65,536.
            concurrency_threshold: Requests in flight on an instance above which the next go elsewhere, 1 to
                1,024.
        """
        return cls(
            strategy="PREFIX_AWARE",
            prefix_length=prefix_length,
            concurrency_threshold=concurrency_threshold,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduling:
    """Where copies of a component are placed. Made by `spread` and `binpack`.

    CloudFormation takes no placement without a balance of zones, which gives way where there is no capacity
    ("AWS::SageMaker::InferenceComponent InferenceComponentSchedulingConfig").

    Args:
        placement: "SPREAD" or "BINPACK", within each zone.
        zone_imbalance: Copies by which two zones may differ, 0 to 100.

    Raises:
        TokenmillError: If a value is out of its range.
    """

    placement: str
    zone_imbalance: int

    def __post_init__(self) -> None:
        as_whole(self, "zone_imbalance")
        if self.placement not in PLACEMENTS:
            raise TokenmillError(f"placement is {self.placement!r}; allowed are {', '.join(PLACEMENTS)}")
        if not 0 <= self.zone_imbalance <= LARGEST_IMBALANCE:
            raise TokenmillError(
                f"zone_imbalance is {self.zone_imbalance}; it must be 0 to {LARGEST_IMBALANCE}"
            )

    @classmethod
    def spread(cls, *, zone_imbalance: int = 0) -> Self:
        """Return placement evenly over zones and instances, for resilience.

        Args:
            zone_imbalance: Copies by which two zones may differ.
        """
        return cls(placement="SPREAD", zone_imbalance=zone_imbalance)

    @classmethod
    def binpack(cls, *, zone_imbalance: int = LARGEST_IMBALANCE) -> Self:
        """Return placement on as few instances as possible, for cost.

        Args:
            zone_imbalance: Copies by which two zones may differ; balanced zones hold more instances.
        """
        return cls(placement="BINPACK", zone_imbalance=zone_imbalance)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceScaling:
    """How instances come and go below an endpoint of components.

    Args:
        scale_in: "IDLE_RELEASE" (instances without copies go) or "CONSOLIDATION" (copies move together, so
            that more instances can go); SageMaker's own default otherwise.
        largest_step: Instances that a consolidation may end at a time, 1 to 100; 1 otherwise.
        cooldown_minutes: Wait after the last change before a consolidation, in minutes, 5 to 1,440; 20
            otherwise.
        provision_timeout_seconds: How long SageMaker looks for capacity, over all pools, in seconds, 300 to
            3,600; SageMaker's own default otherwise.

    Raises:
        TokenmillError: If a value is out of its range, or goes with another strategy.
    """

    scale_in: str | None = None
    largest_step: int | None = None
    cooldown_minutes: int | None = None
    provision_timeout_seconds: int | None = None

    def __post_init__(self) -> None:
        as_whole_or_none(self, "largest_step", "cooldown_minutes", "provision_timeout_seconds")
        if self.scale_in is not None and self.scale_in not in SCALE_IN_STRATEGIES:
            raise TokenmillError(
                f"scale_in is {self.scale_in!r}; allowed are {', '.join(SCALE_IN_STRATEGIES)}"
            )
        for name, least, most in (
            ("largest_step", 1, 100),
            ("cooldown_minutes", 5, 1440),
            ("provision_timeout_seconds", 300, 3600),
        ):
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise TokenmillError(f"{name} is {value}; it must be {least:,} to {most:,}")
        for name in ("largest_step", "cooldown_minutes"):
            if getattr(self, name) is not None and self.scale_in != "CONSOLIDATION":
                raise TokenmillError(
                    f"{name} is {getattr(self, name)}, which belongs to a consolidation; give "
                    "scale_in='CONSOLIDATION', or leave it out"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The instances below an endpoint.

    Args:
        pools: Up to five instance types by priority, all with accelerators of one vendor and one host image;
            the serving's own type alone otherwise.
        reservation: ARN of the ML capacity reservation that instances start in and nowhere else.
        routing: To which instance a request goes.
        scheduling: Where copies of components are placed; SageMaker's own default otherwise.
        data_cache: Whether instances keep image and weights for the next copy of a component.
        volume_gib: Size of the storage volume, in GiB, 1 to 512; SageMaker's own default otherwise. Types
            with local NVMe storage have no such volume.
        instances: How instances come and go.

    Raises:
        TokenmillError: If a value is out of its range, two pools share type or priority, or a reservation is
            given for several types.
    """

    pools: tuple[InstancePool, ...] = ()
    reservation: str | None = None
    routing: Routing = field(default_factory=Routing)
    scheduling: Scheduling | None = None
    data_cache: bool = True
    volume_gib: int | None = None
    instances: InstanceScaling = field(default_factory=InstanceScaling)

    def __post_init__(self) -> None:
        if not isinstance(self.pools, list | tuple) or any(
            not isinstance(pool, InstancePool) for pool in self.pools
        ):
            raise TokenmillError(
                f"pools is {self.pools!r:.80}; give a tuple of InstancePool(instance_type=..., priority=...)"
            )
        object.__setattr__(self, "pools", tuple(self.pools))
        of_kind(self, "data_cache", bool)
        as_whole_or_none(self, "volume_gib")
        if len(self.pools) > LARGEST_PRIORITY:
            raise TokenmillError(f"pools has {len(self.pools)} instance types; SageMaker takes 1 to 5")
        _refuse_twice("priority", [str(pool.priority) for pool in self.pools])
        _refuse_twice("instance type", [pool.instance_type for pool in self.pools])
        if self.volume_gib is not None and not 1 <= self.volume_gib <= 512:
            raise TokenmillError(f"volume_gib is {self.volume_gib}; it must be 1 to 512")
        if self.reservation is not None and len(self.pools) > 1:
            raise TokenmillError(
                f"a reservation is given with {len(self.pools)} pools, but a reservation is of one instance "
                "type and nothing is started outside of it; leave one of the two out"
            )

    def servings(self, serving: Serving) -> tuple[Serving, ...]:
        """Return how a copy is cut on each type, the first choice first.

        Args:
            serving: What the endpoint serves.

        Raises:
            TokenmillError: If a copy does not fit a pool's type.
        """
        if not self.pools:
            return (serving,)
        cut = {
            pool.instance_type: pool.serving
            if pool.serving is not None and pool.serving.model == serving.model
            else serving
            if pool.instance_type == serving.instance_type
            else replace(serving, instance_type=pool.instance_type, unlisted=None)
            for pool in self.ordered_pools
        }
        return tuple(cut.values())

    @property
    def ordered_pools(self) -> tuple[InstancePool, ...]:
        """The pools, the first choice first."""
        return tuple(sorted(self.pools, key=lambda pool: pool.priority))


def _refuse_twice(what: str, values: list[str]) -> None:
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise TokenmillError(f"two pools have {what} {twice}; give every pool its own")
