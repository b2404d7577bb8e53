"""The ways to split one copy over an instance's cores, and what rules each out before it is timed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenmill.core.instances import GIB
from tokenmill.core.plan import Rejection
from tokenmill.core.workload import AS_PUBLISHED, Parallelism
from tokenmill.planner.engines import FP8_BLOCK, abilities, expert_degree
from tokenmill.planner.feasibility import degrees
from tokenmill.planner.room import held, sequence_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenmill.core.images import CatalogImage
    from tokenmill.core.instances import Accelerator, InstanceType
    from tokenmill.core.model_spec import ModelSpec
    from tokenmill.planner.feasibility import Problem

PIPELINES = (2, 4, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One way to run a copy.

    Args:
        parallelism: How it is split.
        quantization: "as-published", or the format that the server converts the weights to.
        model: The model with its weights in that format.
    """

    parallelism: Parallelism
    quantization: str
    model: ModelSpec

    @property
    def name(self) -> str:
        """What tells it from the other splits of an instance type."""
        said = f"tensor parallel {self.parallelism.tensor}"
        if self.parallelism.pipeline > 1:
            said += f" x pipeline {self.parallelism.pipeline}"
        return said if self.quantization == AS_PUBLISHED else f"{said} in {self.quantization}"

    def rejection(self, instance: InstanceType, code: str, reason: str, miss: float = 0.0) -> Rejection:
        """Return why this split is not taken on an instance type.

        Args:
            instance: The instance type.
            code: Short word for the reason.
            reason: One sentence with the numbers.
            miss: How many times over its goal it came.
        """
        return Rejection(
            instance_type=instance.name,
            tensor_parallel=self.parallelism.tensor,
            pipeline_parallel=self.parallelism.pipeline,
            quantization="" if self.quantization == AS_PUBLISHED else self.quantization,
            code=code,
            reason=reason,
            miss=round(miss, 3),
        )


def tensor_splits(
    problem: Problem, instance: InstanceType, image: CatalogImage
) -> Iterator[Split | Rejection]:
    """Yield every tensor-parallel split in every weight format that may be served, or why a format may not.

    Args:
        problem: What is asked.
        instance: The instance type.
        image: Its serving image.
    """
    asked = (
        AS_PUBLISHED if name == problem.model.quantization else name for name in problem.limits.quantizations
    )
    for quantization in dict.fromkeys(asked):
        refused = format_rejection(problem.model, instance, image, quantization)
        if refused:
            yield refused
            continue
        converted = quantization != AS_PUBLISHED
        model = problem.model.with_quantization(quantization) if converted else problem.model
        for tensor in degrees(instance):
            expert = expert_degree(model, image, tensor)
            split = Split(
                parallelism=Parallelism(tensor=tensor, expert=expert or 1),
                quantization=quantization,
                model=model,
            )
            if expert is None:
                yield split.rejection(instance, "experts", uncut_experts(model, tensor))
            else:
                yield split


def pipeline_splits(problem: Problem, instance: InstanceType, image: CatalogImage) -> Iterator[Split]:
    """Yield the splits with pipeline stages, which are preferred only where they cost less.

    A stage works while the others wait for it, so cores in a pipeline never answer one request faster than
    the same cores in a tensor-parallel group; they help where heads do not divide or nothing fits.
    vLLM cannot combine them with speculative decoding (vLLM documentation: "Speculative Decoding").

    Args:
        problem: What is asked.
        instance: The instance type.
        image: A serving image.
    """
    if not abilities(image).pipeline or problem.workload.speculative:
        return
    for found in tensor_splits(problem, instance, image):
        if isinstance(found, Rejection):
            continue
        tensor = found.parallelism.tensor
        for pipeline in PIPELINES:
            if tensor * pipeline <= instance.cores and found.model.layers >= pipeline:
                parallelism = Parallelism(tensor=tensor, pipeline=pipeline, expert=found.parallelism.expert)
                yield Split(parallelism=parallelism, quantization=found.quantization, model=found.model)


def format_rejection(
    model: ModelSpec, instance: InstanceType, image: CatalogImage, quantization: str
) -> Rejection | None:
    """Return why a weight format cannot be served on an instance type, or None.

    Args:
        model: The model as published.
        instance: The instance type.
        image: Its serving image.
        quantization: "as-published", or a format to convert to.
    """
    if quantization == AS_PUBLISHED:
        return None
    chip = instance.accelerator
    if model.quantization:
        reason = f"{model.id} is published in {model.quantization} and is not converted to {quantization}"
    elif quantization not in abilities(image).conversions:
        known = ", ".join(abilities(image).conversions) or "none"
        reason = (
            f"image {image.key} does not convert weights to {quantization} while loading (formats it does: "
            f"{known}); give a checkpoint in {quantization}"
        )
    elif quantization not in chip.quantizations:
        known = ", ".join(chip.quantizations) or "plain weights only"
        reason = f"{chip.name} does not compute with {quantization} weights; it computes with {known}"
    else:
        return None
    return Rejection(
        instance_type=instance.name, code="quantization", reason=reason, quantization=quantization
    )


def refusal(problem: Problem, accelerator: Accelerator, image: CatalogImage, split: Split) -> tuple[str, str]:
    """Return the code and the reason why a split cannot be tried on a chip; both empty where it can.

    Args:
        problem: What is asked.
        accelerator: The chip.
        image: Its serving image.
        split: The split.
    """
    for find in (_topology, _heads, _memory):
        code, reason = find(problem, accelerator, image, split)
        if code:
            return code, reason
    return "", ""


def uncut_experts(model: ModelSpec, tensor: int) -> str:
    """Return why the experts of a mixture cannot be spread over some cores.

    Args:
        model: The model.
        tensor: Cores that share each layer.
    """
    grain = f" in blocks of {FP8_BLOCK}" if model.quantization == "fp8" else ""
    return (
        f"{tensor} cores can neither cut experts {model.expert_width} wide evenly{grain} nor share "
        f"{model.experts} whole ones"
    )


def _topology(
    problem: Problem, accelerator: Accelerator, image: CatalogImage, split: Split
) -> tuple[str, str]:
    reason = torn_group(accelerator, split.parallelism.tensor)
    return ("topology", reason) if reason else ("", "")


def torn_group(accelerator: Accelerator, tensor: int) -> str:
    """Return why some cores of a chip cannot work together; empty where they can.

    Args:
        accelerator: The chip.
        tensor: Cores that share each layer.
    """
    groups = accelerator.core_groups
    if not groups or tensor in groups:
        return ""
    allowed = ", ".join(str(group) for group in groups)
    return f"{tensor} cores of {accelerator.name} cannot work together; allowed: {allowed}"


def _heads(problem: Problem, accelerator: Accelerator, image: CatalogImage, split: Split) -> tuple[str, str]:
    reason = uneven_heads(split.model, split.parallelism.tensor)
    return ("heads", reason) if reason else ("", "")


def uneven_heads(model: ModelSpec, tensor: int) -> str:
    """Return why the heads of a model cannot be spread over some cores; empty where they can.

    Args:
        model: The model.
        tensor: Cores that share each layer.
    """
    if model.attention_heads % tensor:
        return f"tensor parallel {tensor} does not divide {model.attention_heads} attention heads"
    if model.kv_heads % tensor and tensor % model.kv_heads:
        return f"{model.kv_heads} key-value heads cannot be spread evenly over {tensor} cores"
    return ""


def _memory(problem: Problem, accelerator: Accelerator, image: CatalogImage, split: Split) -> tuple[str, str]:
    tokens = sequence_tokens(problem, image)
    one = held(split.model, accelerator, split.parallelism, sequences=1, tokens=tokens)
    if one.fits:
        return "", ""
    return "memory", (
        f"one core needs {one.total / GIB:.1f} GiB ({one.weights / GIB:.1f} weights, "
        f"{one.kv_cache / GIB:.1f} for one sequence of {tokens:,} tokens, {one.overhead / GIB:.1f} program) "
        f"and has {one.available / GIB:.1f}"
    )
