"""What is wrong with a serving value: one sentence a problem, before anything is made of it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from tokenmill.core._checks import is_token
from tokenmill.core._option_rendering import bucket_problems, option_problems
from tokenmill.core.images import host_images, image_catalog
from tokenmill.core.instances import GIB
from tokenmill.core.lora import ROW_CUT, slot_bytes_per_core
from tokenmill.core.workload import AS_PUBLISHED, Parallelism
from tokenmill.planner.engines import abilities, expert_degree, staged_image
from tokenmill.planner.feasibility import degrees, unserved_class, unserved_weights
from tokenmill.planner.memory import host_memory_mib
from tokenmill.planner.room import held
from tokenmill.planner.splits import format_rejection, torn_group, uncut_experts, uneven_heads

if TYPE_CHECKING:
    from tokenmill.core.engine_options import EngineOptions
    from tokenmill.core.images import CatalogImage
    from tokenmill.core.instances import Accelerator
    from tokenmill.core.model_spec import ModelSpec
    from tokenmill.endpoints.serving import Serving

VOCABULARY_GRAIN = 64
"""vLLM pads the vocabulary to a multiple of it before it cuts it (vllm-project/vllm:
vllm/model_executor/layers/vocab_parallel_embedding.py)."""
MOST_VARIABLES = 100
LONGEST_VALUE = 1024
"""Variables of a container and characters of a value (botocore: EnvironmentMap, EnvironmentValue)."""


def token_problems(serving: Serving) -> list[str]:
    """Return a sentence for each field that holds a value which only a deployment knows.

    Args:
        serving: What is served.
    """
    fields = (
        "model",
        "instance_type",
        "tensor_parallel",
        "pipeline_parallel",
        "max_sequences",
        "context_tokens",
        "host_memory_mib",
    )
    return [
        f"{name} is a value that only the deployment knows, but the split is checked at synthesis; give it "
        "as a plain value, such as from the CDK context"
        for name in fields
        if is_token(getattr(serving, name))
    ]


def number_problems(serving: Serving) -> list[str]:
    """Return a sentence for each number that cannot be.

    Args:
        serving: What is served.
    """
    names = ("tensor_parallel", "pipeline_parallel", "max_sequences", "context_tokens", "host_memory_mib")
    given = ((name, getattr(serving, name)) for name in names)
    return [
        f"{name} is {value}; it must be 1 or more" for name, value in given if value is not None and value < 1
    ]


def shape_problems(serving: Serving) -> list[str]:
    """Return a sentence for each way in which the split does not fit the instance type.

    Args:
        serving: What is served.
    """
    instance, tensor = serving.instance, serving.tensor_parallel
    per_chip = instance.accelerator.cores_per_chip
    if tensor % per_chip:
        return [
            f"tensor_parallel is {tensor}, which leaves cores of a chip idle; {instance.name} has "
            f"{per_chip} cores a chip and a copy takes whole chips, so give a multiple of {per_chip}"
        ]
    if serving.cores > instance.cores:
        stages = (
            f" times pipeline_parallel {serving.pipeline_parallel}" if serving.pipeline_parallel > 1 else ""
        )
        return [
            f"tensor_parallel is {tensor}{stages}, but {instance.name} has {instance.cores} cores; "
            f"give {instance.cores} or less, or a larger instance type"
        ]
    if serving.host_memory_mib is not None and serving.host_memory_mib > instance.host_room_mib:
        return [
            f"host_memory_mib is {serving.host_memory_mib}, but {instance.name} has "
            f"{instance.host_room_mib} MiB for copies; give a larger instance type"
        ]
    torn = torn_group(instance.accelerator, tensor)
    return [f"tensor_parallel is {tensor}, but {torn}"] if torn else []


def image_problems(serving: Serving) -> list[str]:
    """Return a sentence for each way in which image, chip and host image do not go together.

    Args:
        serving: What is served.
    """
    found, chip = serving.serving_image, serving.instance.accelerator
    if chip.name not in found.accelerators and all(item.accelerator != chip.name for item in found.pairings):
        return [
            f"image {found.key!r} runs on {', '.join(found.accelerators)}, but {serving.instance_type} has "
            f"{chip.name}; leave image out, or give an instance type that it runs on"
        ]
    if found.status == "refused":
        serving_it = [
            item.key
            for item in image_catalog().values()
            if chip.name in item.accelerators and item.on(chip.name).servable
        ]
        way = f"give {' or '.join(serving_it)}" if serving_it else "give another instance type"
        return [f"image {found.key!r} does not serve on {chip.name}: {found.status_reason}; {way}"]
    if not found.servable:
        return [f"image {found.key!r} cannot be served by an endpoint as it is: {found.status_reason}"]
    problems = _driver_problems(found, chip)
    if serving.pipeline_parallel > 1 and not abilities(found).pipeline:
        problems.append(
            f"pipeline_parallel is {serving.pipeline_parallel}, but image {found.key!r} has no option for "
            f"stages; give 1, or {_staged(found, chip)}"
        )
    return problems


def _staged(image: CatalogImage, chip: Accelerator) -> str:
    found = staged_image(image, chip.name)
    return "a type whose image has" if found is None else f"image=image({found.key!r})"


def _driver_problems(image: CatalogImage, chip: Accelerator) -> list[str]:
    host = host_images().get(image.host_ami)
    if host is None:
        return []
    fitting = [
        item.name
        for item in host_images().values()
        if item.kind == chip.kind and _major(item.cuda) >= _major(image.cuda)
    ]
    way = f"give {' or '.join(fitting)}" if fitting else "give an image for an older driver"
    if host.kind != chip.kind:
        return [f"host image {host.name} has the driver {host.driver}, but the chip is {chip.name}; {way}"]
    if _major(host.cuda) < _major(image.cuda):
        return [
            f"image {image.key!r} is built for CUDA {image.cuda}, but host image {host.name} has "
            f"{host.driver} with CUDA {host.cuda}; {way}"
        ]
    return []


def _major(version: str) -> int:
    return int(version.partition(".")[0] or 0)


def engine_problems(serving: Serving) -> list[str]:
    """Return a sentence for each engine option that image and split cannot have.

    Args:
        serving: What is served.
    """
    options, image = serving.options, serving.serving_image
    problems = option_problems(options, image)
    problems += bucket_problems(options, image, serving.context_tokens)
    if options.speculative and serving.pipeline_parallel > 1:
        # vLLM documentation: "Speculative Decoding"
        problems.append(
            f"speculative is given, but it does not go with pipeline_parallel {serving.pipeline_parallel}; "
            "give 1, or leave speculative out"
        )
    variables = serving.container_environment()
    if len(variables) > MOST_VARIABLES:
        problems.append(
            f"the container gets {len(variables)} variables, but SageMaker takes {MOST_VARIABLES}; give "
            "fewer in environment"
        )
    problems += [
        f"variable {name} has {len(value)} characters, but SageMaker takes {LONGEST_VALUE}; shorten it"
        for name, value in variables.items()
        if not is_token(value) and len(value) > LONGEST_VALUE
    ]
    return problems


def model_problems(serving: Serving, published: ModelSpec) -> list[str]:
    """Return a sentence for each way in which the model does not fit the image, the split or the chip.

    Args:
        serving: What is served.
        published: Size and shape of the model as published.
    """
    refused = _unconverted(serving, published)
    if refused:
        return [refused]
    spec = running(published, serving.options)
    image, chip = serving.serving_image, serving.instance.accelerator
    problems = [
        text
        for text in (
            unserved_class(spec, image),
            unserved_weights(spec, chip, image),
            _cut_problem(serving, spec),
        )
        if text
    ]
    if spec.layers < serving.pipeline_parallel:
        problems.append(
            f"pipeline_parallel is {serving.pipeline_parallel}, but {spec.id} has {spec.layers} layers; give "
            f"{spec.layers} or less"
        )
    if serving.context_tokens > spec.max_context_tokens:
        problems.append(
            f"context_tokens is {serving.context_tokens}, but {spec.id} was made for "
            f"{spec.max_context_tokens}; lower it"
        )
    # a plan weighed the memory when it was made, with the catalogs that it names
    if not problems and serving.plan_hash is None:
        problems = [*_memory_problems(serving, spec), *_host_problems(serving, spec)]
    return problems


def running(published: ModelSpec, options: EngineOptions) -> ModelSpec:
    """Return a model as it runs: in another element type, or with its weights converted.

    Args:
        published: The model as published.
        options: How the engine runs.
    """
    spec = published if options.dtype is None else replace(published, dtype=options.dtype)
    if options.quantization != AS_PUBLISHED:
        return spec.with_quantization(options.quantization)
    return published if spec == published else spec.with_quantization(published.quantization)


def _unconverted(serving: Serving, published: ModelSpec) -> str:
    quantization, image = serving.options.quantization, serving.serving_image
    if quantization not in abilities(image).conversions:
        return ""
    refused = format_rejection(published, serving.instance, image, quantization)
    return refused.reason if refused else ""


def _cut_problem(serving: Serving, spec: ModelSpec) -> str:
    tensor, image = serving.tensor_parallel, serving.serving_image
    uneven = uneven_heads(spec, tensor)
    if not uneven and image.server != "optimum-neuron":
        # optimum-neuron pads what does not divide (huggingface/optimum-neuron@v0.4.5: modeling_llama.py)
        uneven = _uneven_widths(spec, tensor)
    if not uneven and expert_degree(spec, image, tensor) is None:
        uneven = uncut_experts(spec, tensor)
    if not uneven:
        return ""
    fitting = [degree for degree in degrees(serving.instance) if _divides(serving, spec, degree)]
    way = (
        f"give tensor_parallel {' or '.join(map(str, fitting))}" if fitting else "give another instance type"
    )
    return f"{spec.id} cannot be cut: {uneven}; {way}"


def _divides(serving: Serving, spec: ModelSpec, tensor: int) -> bool:
    image = serving.serving_image
    padded = image.server == "optimum-neuron"
    return (
        not uneven_heads(spec, tensor)
        and (padded or not _uneven_widths(spec, tensor))
        and expert_degree(spec, image, tensor) is not None
        and not torn_group(serving.instance.accelerator, tensor)
    )


def _uneven_widths(spec: ModelSpec, tensor: int) -> str:
    padded = math.ceil(spec.vocab_size / VOCABULARY_GRAIN) * VOCABULARY_GRAIN
    if padded % tensor:
        return f"tensor parallel {tensor} does not divide the vocabulary of {padded} (with padding)"
    widths = {
        item.outputs
        for item in spec.projections
        if item.part in ("dense", "shared") and item.name not in ROW_CUT
    }
    odd = sorted(width for width in widths if width % tensor)
    if odd:
        return f"tensor parallel {tensor} does not divide layers that are {odd[0]} wide"
    return ""


def _memory_problems(serving: Serving, spec: ModelSpec) -> list[str]:
    image = serving.serving_image
    # a compiled batch is paid in full; a paged server starts when one longest sequence fits
    sequences = serving.max_sequences if image.static_batch else 1
    needed, available, text = _core_memory(serving, spec, serving.tensor_parallel, sequences)
    if needed <= available:
        return []
    larger = [
        degree
        for degree in degrees(serving.instance)
        if degree > serving.tensor_parallel
        and degree * serving.pipeline_parallel <= serving.instance.cores
        and _divides(serving, spec, degree)
    ]
    fitting = [
        degree
        for degree in larger
        for more, room, _ in [_core_memory(serving, spec, degree, sequences)]
        if more <= room
    ]
    ways = [f"give tensor_parallel {fitting[0]}"] if fitting else ["give an instance type with more memory"]
    if serving.max_sequences > 1 and image.static_batch:
        ways.append("fewer max_sequences")
    if serving.options.lora:
        ways.append("fewer or smaller lora slots")
    ways.append("a shorter context_tokens")
    return [f"{spec.id} does not fit: {text}; {', or '.join(ways)}"]


def _core_memory(serving: Serving, spec: ModelSpec, tensor: int, sequences: int) -> tuple[float, float, str]:
    split = Parallelism(tensor=tensor, pipeline=serving.pipeline_parallel)
    rank = held(spec, serving.instance.accelerator, split, sequences=sequences, tokens=serving.context_tokens)
    lora = serving.options.lora
    slots = (
        slot_bytes_per_core(spec, slots=lora.max_adapters, rank=lora.max_rank, parallelism=split)
        if lora
        else 0
    )
    shown = f", {slots / GIB:.1f} lora slots" if slots else ""
    count = "one sequence" if sequences == 1 else f"{sequences} sequences"
    text = (
        f"one core of {tensor} needs {(rank.total + slots) / GIB:.1f} GiB ({rank.weights / GIB:.1f} weights, "
        f"{rank.kv_cache / GIB:.1f} for {count} of {serving.context_tokens:,} tokens, "
        f"{rank.overhead / GIB:.1f} program{shown}) and has {rank.available / GIB:.1f}"
    )
    return rank.total + slots, rank.available, text


def _host_problems(serving: Serving, spec: ModelSpec) -> list[str]:
    instance = serving.instance
    if serving.host_memory_mib is not None:
        return []
    needed, room = host_memory_mib(spec, serving.serving_image), instance.host_room_mib
    share = room * serving.chips // instance.chips
    if needed <= share:
        return []
    if needed > room:
        return [
            f"loading {spec.id} takes {needed} MiB of host memory, but {instance.name} has {room} MiB for "
            "copies; give a larger instance type, or host_memory_mib for a checkpoint that is sharded already"
        ]
    return [
        f"loading {spec.id} takes {needed} MiB of host memory, but the share of {serving.chips} of "
        f"{instance.chips} chips of {instance.name} is {share} MiB; give host_memory_mib={needed}, which "
        f"leaves {min(room // needed, instance.chips // serving.chips)} copies an instance"
    ]
