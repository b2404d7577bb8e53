"""What the server in each image can do beyond tensor parallelism, and how it is told to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tokenmill.core.images import image_catalog

if TYPE_CHECKING:
    from tokenmill.core.images import CatalogImage
    from tokenmill.core.model_spec import ModelSpec
    from tokenmill.core.workload import Parallelism, Workload

SMALLEST_BUCKET = 128
FP8_BLOCK = 128
"""Rows and columns of one FP8 scale (DeepSeek-V3 config.json: weight_block_size)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What a server can do.

    Args:
        pipeline: Variable that sets the pipeline degree; empty where it has none.
        expert: Variable that spreads whole experts over the cores; empty where it cannot.
        conversions: Weight formats that it converts plain weights to while loading, with their variables.
        prefix_cache: Whether prompts that begin alike share their prefill.
        speculative: Whether it decodes speculatively.
        many_buckets: Whether it compiles more than one prompt length.
    """

    pipeline: str
    expert: str
    conversions: dict[str, dict[str, str]] = field(hash=False)
    prefix_cache: bool
    speculative: bool
    many_buckets: bool


# Experts and formats: deepjavalibrary/djl-serving, "LMI environment variable instruction" and "vLLM Engine
# User Guide" (engine arguments pass through as OPTION_ names; runtime quantization: fp8). Its vLLM handler
# refuses every pipeline degree but 1 (deepjavalibrary/djl-serving@d21927c: vllm_rb_properties.py).
# vLLM caches prefixes unless told otherwise (vLLM documentation: "Automatic Prefix Caching").
LMI = Abilities(
    pipeline="",
    expert="OPTION_ENABLE_EXPERT_PARALLEL",
    conversions={"fp8": {"OPTION_QUANTIZE": "fp8"}},
    prefix_cache=True,
    speculative=True,
    many_buckets=False,
)
# aws/deep-learning-containers, docs/vllm/configuration.md: an SM_VLLM_ variable is a flag of vLLM's server.
VLLM = Abilities(
    pipeline="SM_VLLM_PIPELINE_PARALLEL_SIZE",
    expert="SM_VLLM_ENABLE_EXPERT_PARALLEL",
    conversions={"fp8": {"SM_VLLM_QUANTIZATION": "fp8"}},
    prefix_cache=True,
    speculative=True,
    many_buckets=False,
)
# huggingface/optimum-neuron v0.4.5: optimum/commands/neuron/serve.py has batch, length, tensor degree and
# dtype; decoder_builders.py compiles one prompt length, the whole context.
OPTIMUM_NEURON = Abilities(
    pipeline="", expert="", conversions={}, prefix_cache=False, speculative=False, many_buckets=False
)
# AWS Neuron documentation, vLLM Neuron plugin, "Additional Configuration Options": prompts are padded to
# powers of two from 128; "Speculative Decoding (EAGLE3) in the vLLM Neuron Framework". Its prefix cache is
# not planned with: no page says what a cached prefix saves there.
NEURON_VLLM = Abilities(
    pipeline="", expert="", conversions={}, prefix_cache=False, speculative=True, many_buckets=True
)
BY_SERVER = {"lmi": LMI, "vllm": VLLM, "optimum-neuron": OPTIMUM_NEURON, "vllm-neuron": NEURON_VLLM}


def abilities(image: CatalogImage) -> Abilities:
    """Return what the server in an image can do.

    Args:
        image: The serving image.
    """
    return BY_SERVER[image.server]


def staged_image(image: CatalogImage, accelerator: str, region: str | None = None) -> CatalogImage | None:
    """Return the image that runs pipeline stages on a chip: the given one, another of the catalog, or None.

    Args:
        image: The serving image.
        accelerator: Name of the chip.
        region: AWS region that must have it; None does not check.
    """
    for found in (image, *image_catalog().values()):
        paired = found.on(accelerator)
        serves = accelerator in found.accelerators and paired.servable
        if abilities(found).pipeline and serves and (region is None or region in found.registry_accounts):
            return paired
    return None


def served_workload(workload: Workload, image: CatalogImage) -> tuple[Workload, tuple[str, ...]]:
    """Return the workload as a server meets it, and a note on each input that it cannot make use of.

    Args:
        workload: The workload that was asked for.
        image: The serving image.
    """
    able, notes = abilities(image), []
    if workload.prefix_cache_share and not able.prefix_cache:
        workload = replace(workload, prefix_cache_share=0.0)
        notes.append(f"prefix_cache_share does not count: image {image.key} shares no prefills")
    if workload.speculative and not able.speculative:
        workload = replace(workload, speculative=None)
        notes.append(f"speculative decoding does not count: image {image.key} has no option for it")
    elif workload.speculative:
        notes.append(
            f"times hold with speculative decoding of {workload.speculative.tokens} tokens, which the "
            "container must be told in its environment"
        )
    return workload, tuple(notes)


def environment(image: CatalogImage, parallelism: Parallelism, quantization: str) -> dict[str, str]:
    """Return the variables that a split needs beyond the tensor degree.

    Args:
        image: The serving image.
        parallelism: How a copy is split.
        quantization: "as-published", or the format that the weights are converted to.
    """
    able = abilities(image)
    variables = {}
    if parallelism.pipeline > 1:
        variables[able.pipeline] = str(parallelism.pipeline)
    if parallelism.expert > 1:
        variables[able.expert] = "true"
    variables |= able.conversions.get(quantization, {})
    return variables


def expert_degree(model: ModelSpec, image: CatalogImage, tensor: int) -> int | None:
    """Return over how many cores whole experts are spread: 1 where each can be cut, None where neither works.

    An expert is cut evenly, and with FP8 weights along its blocks of scales (vllm-project/vllm#17569 and
    #25292: "is not divisible by weight quantization block_n = 128").

    Args:
        model: The model.
        image: The serving image.
        tensor: Cores that share each layer.
    """
    if not model.experts or tensor == 1:
        return 1
    grain = tensor * (FP8_BLOCK if model.quantization == "fp8" else 1)
    if model.expert_width % grain == 0:
        return 1
    return tensor if abilities(image).expert and model.experts % tensor == 0 else None


def prompt_buckets(image: CatalogImage, context_tokens: int) -> tuple[int, ...]:
    """Return the prompt lengths that a server compiles: all powers of two, or the whole context alone.

    Args:
        image: The serving image.
        context_tokens: Longest sequence, in tokens.
    """
    if not image.static_batch:
        return ()
    if not abilities(image).many_buckets:
        return (context_tokens,)
    buckets = []
    size = SMALLEST_BUCKET
    while size < context_tokens:
        buckets.append(size)
        size *= 2
    return (*buckets, context_tokens)
