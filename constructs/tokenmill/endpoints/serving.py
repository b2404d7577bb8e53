"""What one copy of a model is and needs: the value that an endpoint is built from."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from tokenmill.core._option_rendering import option_environment
from tokenmill.core.engine_options import EngineOptions
from tokenmill.core.errors import TokenmillError
from tokenmill.core.images import host_images, image, image_of, startable_image
from tokenmill.core.instances import instance_type
from tokenmill.core.model_catalog import known_model
from tokenmill.core.workload import Parallelism
from tokenmill.endpoints.serving_checks import (
    engine_problems,
    image_problems,
    model_problems,
    number_problems,
    shape_problems,
    token_problems,
)
from tokenmill.endpoints.serving_fields import field_problems
from tokenmill.planner.engines import environment, expert_degree

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill.core.engine_timing import EngineTiming
    from tokenmill.core.images import CatalogImage
    from tokenmill.core.instances import InstanceType, UnlistedInstance
    from tokenmill.core.model_spec import ModelSpec
    from tokenmill.core.plan import Plan


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
        spec: Size and shape of the model, which the split and the memory are checked against; that of the
            model catalog otherwise, and no such check for a model that the catalog does not know.
        options: How the engine runs.
        unlisted: What the instance type is, where the catalog does not know it or knows it wrongly; it is
            warned of.

    Raises:
        TokenmillError: If the shape does not fit the instance type, the image does not run on its accelerator
            or its host, the image has no such option, or the model cannot be cut so or does not fit.
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
    spec: ModelSpec | None = None
    options: EngineOptions = field(default_factory=EngineOptions)
    unlisted: UnlistedInstance | None = None

    def __post_init__(self) -> None:
        problems = token_problems(self) or field_problems(self) or number_problems(self) or self._problems()
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
            spec=plan.model,
            options=EngineOptions(quantization=chosen.quantization),
        )

    @property
    def instance(self) -> InstanceType:
        """The instance type, as the catalog or the caller has it."""
        if self.unlisted is not None:
            return self.unlisted.named(self.instance_type)
        return instance_type(self.instance_type)

    @property
    def serving_image(self) -> CatalogImage:
        """The image, given or the catalog's, with its status on the chip; one built from it if need be."""
        chip = self.instance.accelerator.name
        return startable_image(self.image or image_of(chip), chip)

    @property
    def needs_built_image(self) -> bool:
        """Whether the image must first be built into a registry of the account."""
        return self.serving_image.in_own_registry

    @property
    def warnings(self) -> tuple[tuple[str, str], ...]:
        """What a reader of the synthesis must know: an id and a sentence each."""
        found, said = self.serving_image, []
        if self.unlisted is not None:
            said.append(
                (
                    "tokenmill:UnlistedInstance",
                    f"{self.instance_type} is taken as {self.unlisted.chips} x {self.unlisted.accelerator} "
                    f"with {self.unlisted.host_memory_gib} GiB, as given in place of the catalog; nothing "
                    "checks that",
                )
            )
        if found.status == "experimental":
            said.append(
                (
                    "tokenmill:ImageExperimental",
                    f"image {found.key} on {self.instance_type} is experimental: {found.status_reason}",
                )
            )
        if found.host_ami not in host_images():
            said.append(
                (
                    "tokenmill:UnlistedHostImage",
                    f"host image {found.host_ami} is not in the catalog, so its driver is not checked "
                    f"against what image {found.key} needs: {found.driver_needed}",
                )
            )
        return tuple(said)

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

    def container_environment(self) -> dict[str, str]:
        """Return the container's environment by the image's own names, and what the caller adds."""
        image = self.serving_image
        derived = image.environment(
            model=self.model,
            max_sequences=self.max_sequences,
            context_tokens=self.context_tokens,
            tensor_parallel=self.tensor_parallel,
        )
        split = Parallelism(
            tensor=self.tensor_parallel, pipeline=self.pipeline_parallel, expert=self._expert_degree(image)
        )
        told = environment(image, split, self.options.quantization)
        return {**derived, **told, **option_environment(self.options, image), **self.environment}

    def _expert_degree(self, image: CatalogImage) -> int:
        if self.spec is None:
            return 1
        return expert_degree(self.spec, image, self.tensor_parallel) or 1

    def _problems(self) -> list[str]:
        problems = [*shape_problems(self), *image_problems(self)]
        if problems:
            return problems
        problems, shape = engine_problems(self), self.spec or known_model(self.model)
        return problems if shape is None else problems + model_problems(self, shape)
