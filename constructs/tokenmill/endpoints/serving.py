"""What one copy of a model is and needs: the value that an endpoint is built from."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from tokenmill.core.errors import TokenmillError
from tokenmill.core.images import image, serving_image
from tokenmill.core.instances import instance_type
from tokenmill.core.workload import AS_PUBLISHED, Parallelism
from tokenmill.planner.engines import abilities, environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill.core.engine_timing import EngineTiming
    from tokenmill.core.images import CatalogImage
    from tokenmill.core.instances import InstanceType
    from tokenmill.core.plan import Plan
    from tokenmill.core.workload import Capacity

# "InferenceComponentRollingUpdatePolicy": a batch is 5 to 50 percent of the copies.
SMALLEST_BATCH_PERCENT = 5
LARGEST_BATCH_PERCENT = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """One model on one instance type, cut into copies.

    Args:
        model: Name on the Hugging Face Hub, such as "Qwen/Qwen3-8B".
        instance_type: SageMaker's name of the instance type, such as "ml.inf2.8xlarge".
        tensor_parallel: Accelerator cores (or GPUs) that share every layer of a copy.
        pipeline_parallel: Groups of layers, each on so many cores, one after another.
        max_sequences: Requests that a copy decodes together.
        context_tokens: Prompt plus answer of one request, in tokens.
        host_memory_mib: Host memory that a copy needs, in MiB; its share of the host otherwise.
        image: The serving image; the catalog's for the instance type otherwise.
        environment: Further variables for the container; they win over the derived ones.
        engine: Timing of a copy, for the local cloud; a documented default there otherwise.
        plan_hash: The plan that this comes from, for the template's metadata.

    Raises:
        TokenmillError: If the shape does not fit the instance type, or the image does not run on its
            accelerator.
    """

    model: str
    instance_type: str
    tensor_parallel: int
    max_sequences: int
    context_tokens: int
    pipeline_parallel: int = 1
    host_memory_mib: int | None = None
    image: CatalogImage | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    engine: EngineTiming | None = None
    plan_hash: str | None = None

    def __post_init__(self) -> None:
        problems = [*self._shape_problems(), *self._image_problems()]
        if problems:
            raise TokenmillError("\n".join(problems))

    @classmethod
    def from_plan(cls, plan: Plan) -> Self:
        """Return what a plan's chosen candidate serves.

        Args:
            plan: A plan with at least one candidate.

        Raises:
            NoPlanError: If no candidate met the goals.
        """
        chosen = plan.chosen
        return cls(
            model=plan.model.id,
            instance_type=chosen.instance_type,
            tensor_parallel=chosen.parallelism.tensor,
            pipeline_parallel=chosen.parallelism.pipeline,
            max_sequences=chosen.max_sequences,
            context_tokens=chosen.context_tokens,
            host_memory_mib=chosen.host_memory_mib,
            image=image(chosen.image),
            environment=chosen.environment,
            engine=chosen.engine,
            plan_hash=plan.hash,
        )

    @property
    def instance(self) -> InstanceType:
        """The instance type's row of the catalog."""
        return instance_type(self.instance_type)

    @property
    def serving_image(self) -> CatalogImage:
        """The image, given or the catalog's."""
        return self.image or serving_image(self.instance)

    @property
    def cores(self) -> int:
        """Accelerator cores (or GPUs) of a copy."""
        return self.tensor_parallel * self.pipeline_parallel

    @property
    def chips(self) -> int:
        """Whole accelerator chips of a copy, which is what `NumberOfAcceleratorDevicesRequired` counts."""
        return math.ceil(self.cores / self.instance.accelerator.cores_per_chip)

    @property
    def copies_per_instance(self) -> int:
        """Copies that one instance holds, by chips and by host memory."""
        by_chips = self.instance.chips // self.chips
        if self.host_memory_mib is None:
            return by_chips
        return min(by_chips, self.instance.host_room_mib // self.host_memory_mib)

    @property
    def reserved_memory_mib(self) -> int:
        """Host memory that a copy reserves, in MiB: what it needs, or else an equal share."""
        if self.host_memory_mib is not None:
            return self.host_memory_mib
        return self.instance.host_room_mib // self.copies_per_instance

    def instances_for(self, copies: int) -> int:
        """Return how many instances hold some copies.

        Args:
            copies: How many copies run.
        """
        return math.ceil(copies / self.copies_per_instance)

    def max_instances(self, capacity: Capacity) -> int:
        """Return the most instances: for all copies, and for the batch of a rolling update beside them.

        Args:
            capacity: Fewest and most copies.
        """
        percent = rolling_batch_percent(capacity)
        batch = 0 if percent is None else math.ceil(capacity.maximum * percent / 100)
        return self.instances_for(capacity.maximum + batch)

    def container_environment(self) -> dict[str, str]:
        """Return the container's environment by the image's own names, and what the caller adds."""
        derived = self.serving_image.environment(
            model=self.model,
            max_sequences=self.max_sequences,
            context_tokens=self.context_tokens,
            tensor_parallel=self.tensor_parallel,
        )
        stages = Parallelism(tensor=self.tensor_parallel, pipeline=self.pipeline_parallel)
        return {**derived, **environment(self.serving_image, stages, AS_PUBLISHED), **self.environment}

    def _shape_problems(self) -> list[str]:
        instance, tensor = self.instance, self.tensor_parallel
        per_chip = instance.accelerator.cores_per_chip
        problems = [
            f"{name} is {value}; it must be 1 or more"
            for name, value in (
                ("tensor_parallel", tensor),
                ("pipeline_parallel", self.pipeline_parallel),
                ("max_sequences", self.max_sequences),
                ("context_tokens", self.context_tokens),
                ("host_memory_mib", self.host_memory_mib),
            )
            if value is not None and value < 1
        ]
        if problems:
            return problems
        if tensor % per_chip:
            problems.append(
                f"tensor_parallel is {tensor}, which leaves cores of a chip idle; {instance.name} has "
                f"{per_chip} cores a chip and a copy takes whole chips, so give a multiple of {per_chip}"
            )
        elif self.cores > instance.cores:
            stages = (
                f" times pipeline_parallel {self.pipeline_parallel}" if self.pipeline_parallel > 1 else ""
            )
            problems.append(
                f"tensor_parallel is {tensor}{stages}, but {instance.name} has {instance.cores} cores; "
                f"give {instance.cores} or less, or a larger instance type"
            )
        elif self.host_memory_mib is not None and self.host_memory_mib > instance.host_room_mib:
            problems.append(
                f"host_memory_mib is {self.host_memory_mib}, but {instance.name} has "
                f"{instance.host_room_mib} MiB for copies; give a larger instance type"
            )
        return problems

    def _image_problems(self) -> list[str]:
        found, accelerator = self.serving_image, self.instance.accelerator.name
        if accelerator not in found.accelerators:
            return [
                f"image {found.key!r} runs on {', '.join(found.accelerators)}, but {self.instance_type} has "
                f"{accelerator}; leave image out, or give an instance type that it runs on"
            ]
        if not found.servable:
            return [f"image {found.key!r} cannot be served by an endpoint as it is: {found.status_reason}"]
        if self.pipeline_parallel > 1 and not abilities(found).pipeline:
            return [
                f"pipeline_parallel is {self.pipeline_parallel}, but image {found.key!r} has no option for "
                "stages; give 1, or a type whose image has"
            ]
        return []


def rolling_batch_percent(capacity: Capacity) -> int | None:
    """Return the batch of a rolling update, in percent of the copies, or None where one copy cannot roll.

    One copy at the fewest: small enough to keep most of the service, and never under 5 or over 50 percent
    ("InferenceComponentRollingUpdatePolicy", Amazon SageMaker API Reference).

    Args:
        capacity: Fewest and most copies.
    """
    if capacity.minimum < 2:
        return None
    return min(LARGEST_BATCH_PERCENT, max(SMALLEST_BATCH_PERCENT, math.ceil(100 / capacity.minimum)))
