"""Which copies fit on which instances: a copy's accelerators lie on one instance.

Source: Amazon SageMaker API Reference, "InferenceComponentComputeResourceRequirements"
(NumberOfAcceleratorDevicesRequired is "the number of accelerators to allocate to run a model").
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Iterable


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


def instances_needed(copies: Iterable[tuple[float, int]], accelerators: int) -> int | None:
    """Return how many instances hold the copies, packed first-fit decreasing; nothing when one fits on none.

    Args:
        copies: For each component the devices of one copy and the number of copies.
        accelerators: Devices of one instance.
    """
    sizes = sorted((size for size, count in copies for _ in range(count)), reverse=True)
    if sizes and sizes[0] > accelerators:
        return None
    free: list[float] = []
    for size in sizes:
        for index, room in enumerate(free):
            if room >= size:
                free[index] -= size
                break
        else:
            free.append(accelerators - size)
    return len(free)
