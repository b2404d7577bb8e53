"""Which instances a variant gets, and which copies fit on them: a copy's accelerators lie on one instance.

Sources: Amazon SageMaker API Reference, "InferenceComponentComputeResourceRequirements"
(NumberOfAcceleratorDevicesRequired is "the number of accelerators to allocate to run a model"),
"InstancePool" (instances of the lowest Priority value first, of the next when those are not to be had);
Amazon SageMaker AI developer guide, "Deploy to multiple instance types with instance pools".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the copies of one component take.

    Args:
        name: The component.
        sizes: Accelerator devices of one copy by instance type; under None, of every type.
        copies: How many copies.
    """

    name: str
    sizes: Mapping[str | None, float]
    copies: int

    def size_on(self, instance_type: str) -> float | None:
        """Return the devices of one copy on an instance type; nothing when it cannot be there.

        Args:
            instance_type: SageMaker's name.
        """
        return self.sizes.get(instance_type, self.sizes.get(None))


@cache
def accelerators_of(instance_type: str) -> int | None:
    """Return an instance's accelerator devices; nothing when the catalog does not know the type.

    Args:
        instance_type: SageMaker's name, such as `ml.inf2.8xlarge`.
    """
    from tokenmill.core.instances import instance_type as find

    try:
        return find(instance_type).chips
    except TokenmillError:
        return None


def fleet_of(
    count: int, types: Sequence[str], held: Mapping[str, int], unavailable: Collection[str]
) -> dict[str, int] | None:
    """Return a fleet's instances by type; nothing when there is no capacity for one of them.

    Args:
        count: How many instances.
        types: Types that it may have, the preferred one first.
        held: Instances that are there already; preferred types stay when it shrinks.
        unavailable: Types that cannot be launched.
    """
    fleet: dict[str, int] = {}
    missing = count
    for name in types:
        kept = min(held.get(name, 0), missing)
        if kept:
            fleet[name] = kept
            missing -= kept
    if missing:
        available = next((name for name in types if name not in unavailable), None)
        if available is None:
            return None
        fleet[available] = fleet.get(available, 0) + missing
    return {name: fleet[name] for name in types if name in fleet}


def place(loads: Iterable[Load], fleet: Mapping[str, int]) -> dict[str, dict[str, int]] | None:
    """Return each component's copies by instance type; nothing when some do not fit.

    Args:
        loads: The components, which are packed first-fit decreasing.
        fleet: Instances by type, the preferred type first.
    """
    room = [(name, [float(accelerators_of(name) or math.inf)]) for name, n in fleet.items() for _ in range(n)]
    placed: dict[str, dict[str, int]] = {}
    for load in sorted(loads, key=lambda load: max(load.sizes.values(), default=0.0), reverse=True):
        counts = placed.setdefault(load.name, {})
        for _ in range(load.copies):
            where = _first_fit(load, room)
            if where is None:
                return None
            counts[where] = counts.get(where, 0) + 1
    return placed


def _first_fit(load: Load, room: list[tuple[str, list[float]]]) -> str | None:
    for name, free in room:
        size = load.size_on(name)
        if size is not None and size <= free[0]:
            free[0] -= size
            return name
    return None
