"""Whether one copy of a model fits, and how many sequences fit with it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tokenmill.core.instances import GIB
from tokenmill.core.plan import Memory
from tokenmill.core.workload import Parallelism
from tokenmill.planner.memory_terms import (
    FLASH_TOKENS,
    Split,
    cache_bytes_per_core,
    embedding_weights,
    layer_weights,
    usable_bytes_per_core,
)
from tokenmill.planner.parallel_memory import (
    RankMemory,
    fullest_rank,
    largest_batch,
    largest_context,
    memory_per_rank,
)

if TYPE_CHECKING:
    from tokenmill.core.images import CatalogImage
    from tokenmill.core.instances import Accelerator
    from tokenmill.core.model_spec import ModelSpec

__all__ = [
    "BOUNDLESS",
    "RankMemory",
    "cache_bytes_per_core",
    "fullest_rank",
    "host_memory_mib",
    "kv_bytes_per_token_per_core",
    "kv_room_tokens",
    "largest_batch",
    "largest_context",
    "memory_of_copy",
    "memory_per_rank",
    "overhead_bytes_per_core",
    "usable_bytes_per_core",
    "weight_bytes_per_core",
]

NEURON_OVERHEAD_BYTES = (1024 + 472 + 392 + 319 + 8) * 1024**2
"""Scratch space, collectives, DMA rings, program and the rest of the fullest core: 2,215 MB measured for
Llama-3.1-8B at tensor parallel 8, batch 32, 4,096 tokens (huggingface/optimum-neuron@6373c379:
benchmark/vllm/memory_capacity_analysis.md)."""
GPU_OVERHEAD_BYTES = 1.5 * GIB
"""What an 8-billion-parameter model takes besides weights and cache, about: an allowance, not measured."""
HOST_BASE_MIB = 8 * 1024
"""Operating system, server and runtime: an allowance, not a measurement."""
HOST_SHARD_MIB = 5 * 1024
"""One checkpoint shard of at most 5 GB (Hugging Face transformers: `save_pretrained`, max_shard_size)."""
MIB = 1024**2
BOUNDLESS = 1 << 40
"""Tokens that fit where one more token takes no memory."""


def weight_bytes_per_core(model: ModelSpec, accelerator: Accelerator, tensor: int) -> float:
    """Return the weights on the fullest core, in bytes.

    On Inferentia2 and Trainium1 the first core also holds the embeddings whole (huggingface/optimum-neuron@
    6373c379: benchmark/vllm/memory_capacity_analysis.md: 3,767 MB on rank 0, 1,948 MB on the others).

    Args:
        model: The model.
        accelerator: The chip.
        tensor: Cores that share each layer.
    """
    split = Split(model, accelerator, Parallelism(tensor=tensor))
    return layer_weights(split) + embedding_weights(split, 0)


def kv_bytes_per_token_per_core(model: ModelSpec, tensor: int) -> float:
    """Return what one more token adds on one core while no window is full, in bytes.

    Heads are copied where cores outnumber them; what all heads share is on every core.

    Args:
        model: The model.
        tensor: Cores that share each layer.
    """
    split = Parallelism(tensor=tensor)
    return cache_bytes_per_core(model, split, 1) - cache_bytes_per_core(model, split, 0)


def overhead_bytes_per_core(
    accelerator: Accelerator,
    model: ModelSpec | None = None,
    tensor: int = 1,
    *,
    context_tokens: int = FLASH_TOKENS,
) -> float:
    """Return what the program itself takes of the fullest core, in bytes.

    Args:
        accelerator: The chip.
        model: The model; None takes what Llama-3.1-8B takes.
        tensor: Cores that share each layer.
        context_tokens: Longest sequence, which a static server prefills at once.
    """
    if model is None:
        return NEURON_OVERHEAD_BYTES if accelerator.kind == "neuron" else GPU_OVERHEAD_BYTES
    return fullest_rank(
        model, accelerator, Parallelism(tensor=tensor), sequences=1, context_tokens=context_tokens
    ).overhead


def kv_room_tokens(
    model: ModelSpec, accelerator: Accelerator, tensor: int, *, context_tokens: int = FLASH_TOKENS
) -> int:
    """Return the tokens whose keys and values fit beside the weights; negative where the weights do not fit.

    Args:
        model: The model.
        accelerator: The chip.
        tensor: Cores that share each layer.
        context_tokens: Longest sequence, which a static server prefills at once.
    """
    room = (
        usable_bytes_per_core(accelerator)
        - overhead_bytes_per_core(accelerator, model, tensor, context_tokens=context_tokens)
        - weight_bytes_per_core(model, accelerator, tensor)
    )
    each = kv_bytes_per_token_per_core(model, tensor)
    if each:
        return math.floor(room / each)
    return BOUNDLESS if room >= 0 else -1


def memory_of_copy(model: ModelSpec, accelerator: Accelerator, tensor: int, kv_tokens: int) -> Memory:
    """Return what the fullest core of one copy holds.

    Args:
        model: The model.
        accelerator: The chip.
        tensor: Cores that share each layer.
        kv_tokens: Tokens in the KV cache, over all sequences.
    """
    return Memory(
        weights_gib=round(weight_bytes_per_core(model, accelerator, tensor) / GIB, 3),
        kv_cache_gib=round(kv_bytes_per_token_per_core(model, tensor) * kv_tokens / GIB, 3),
        overhead_gib=round(overhead_bytes_per_core(accelerator, model, tensor) / GIB, 3),
        available_gib=round(usable_bytes_per_core(accelerator) / GIB, 3),
    )


def host_memory_mib(
    model: ModelSpec, image: CatalogImage, *, stored: ModelSpec | None = None, sharded: bool = False
) -> int:
    """Return the host memory that loading and running one copy takes, in MiB.

    Neuron shards the whole checkpoint in host memory, and holds both where it is stored in another format:
    a model of 12 GB that fits the chip runs out of a 16 GB host, and without that step takes 1.4 GB
    (aws-neuron/neuronx-distributed-inference@4bcdc54: contrib/models/Trinity/README.md); DeepSeek-V3, stored
    in FP8 and run in bfloat16, took about 2 TB (same repository: contrib/models/DeepSeek-V3/README.md). A GPU
    server maps one shard of the checkpoint at a time.

    Args:
        model: The model as it runs.
        image: The serving image.
        stored: The model as its checkpoint stores it, where that is another format.
        sharded: Whether the checkpoint was sharded before, so that each core reads its own part.
    """
    whole = math.ceil(model.weight_bytes / MIB)
    if not image.static_batch or sharded:
        return HOST_BASE_MIB + min(HOST_SHARD_MIB, whole)
    if stored is not None and stored.quantization != model.quantization:
        whole += math.ceil(stored.weight_bytes / MIB)
    return HOST_BASE_MIB + whole
