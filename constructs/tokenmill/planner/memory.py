"""Whether one copy of a model fits, and how many sequences fit with it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tokenmill.core.instances import GIB
from tokenmill.core.plan import Memory
from tokenmill.planner.terms import kv_heads_per_core

if TYPE_CHECKING:
    from tokenmill.core.images import ServingImage
    from tokenmill.core.instances import Accelerator
    from tokenmill.core.model_spec import ModelSpec

NEURON_OVERHEAD_BYTES = (1024 + 472 + 392 + 319 + 8) * 1024**2
"""Scratch space, collectives, DMA rings, program and the rest of the fullest core: 2,215 MB measured for
Llama-3.1-8B at tensor parallel 8, batch 32, 4,096 tokens (huggingface/optimum-neuron@6373c379:
benchmark/vllm/memory_capacity_analysis.md)."""
GPU_MEMORY_SHARE = 0.9
"""vLLM takes 90 % of a GPU's memory unless told otherwise (vLLM documentation: "gpu_memory_utilization")."""
GPU_OVERHEAD_BYTES = 1.5 * GIB
"""CUDA context, graphs and activations of one GPU: an allowance, not a measurement."""
HOST_BASE_MIB = 8 * 1024
"""Operating system, server and runtime: an allowance, not a measurement."""
HOST_SHARD_MIB = 5 * 1024
"""One checkpoint shard of at most 5 GB (Hugging Face transformers: `save_pretrained`, max_shard_size)."""
MIB = 1024**2


def weight_bytes_per_core(model: ModelSpec, accelerator: Accelerator, tensor: int) -> float:
    """Return the weights on the fullest core, in bytes.

    On Neuron the first core also holds the embeddings whole (huggingface/optimum-neuron@6373c379:
    benchmark/vllm/memory_capacity_analysis.md: 3,767 MB on rank 0, 1,948 MB on the others).

    Args:
        model: The model.
        accelerator: The chip.
        tensor: Cores that share each layer.
    """
    if accelerator.kind == "neuron":
        return (model.weight_bytes - model.embedding_bytes) / tensor + model.embedding_bytes
    return model.weight_bytes / tensor


def kv_bytes_per_token_per_core(model: ModelSpec, tensor: int) -> float:
    """Return keys and values of one token on one core, in bytes; heads are copied where cores outnumber them.

    Args:
        model: The model.
        tensor: Cores that share each layer.
    """
    heads = kv_heads_per_core(model.kv_heads, tensor)
    return 2 * model.layers * heads * model.head_dim * model.dtype_bytes


def usable_bytes_per_core(accelerator: Accelerator) -> float:
    """Return the memory of a core that the server may fill, in bytes.

    Args:
        accelerator: The chip.
    """
    share = 1.0 if accelerator.kind == "neuron" else GPU_MEMORY_SHARE
    return accelerator.memory_bytes_per_core * share


def overhead_bytes_per_core(accelerator: Accelerator) -> float:
    """Return what the program itself takes of a core, in bytes.

    Args:
        accelerator: The chip.
    """
    return NEURON_OVERHEAD_BYTES if accelerator.kind == "neuron" else GPU_OVERHEAD_BYTES


def kv_room_tokens(model: ModelSpec, accelerator: Accelerator, tensor: int) -> int:
    """Return the tokens whose keys and values fit beside the weights; negative where the weights do not fit.

    Args:
        model: The model.
        accelerator: The chip.
        tensor: Cores that share each layer.
    """
    room = (
        usable_bytes_per_core(accelerator)
        - overhead_bytes_per_core(accelerator)
        - weight_bytes_per_core(model, accelerator, tensor)
    )
    return math.floor(room / kv_bytes_per_token_per_core(model, tensor))


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
        overhead_gib=round(overhead_bytes_per_core(accelerator) / GIB, 3),
        available_gib=round(usable_bytes_per_core(accelerator) / GIB, 3),
    )


def host_memory_mib(model: ModelSpec, image: ServingImage) -> int:
    """Return the host memory that loading and running one copy takes, in MiB.

    Neuron shards the whole checkpoint in host memory (aws-neuron/neuronx-distributed-inference@4bcdc54:
    contrib/models/Trinity/README.md: a model whose weights fit the chip runs out of a 16 GB host while
    sharding); a GPU server maps one shard at a time.

    Args:
        model: The model.
        image: The serving image.
    """
    if image.static_batch:
        return HOST_BASE_MIB + math.ceil(model.weight_bytes / MIB)
    return HOST_BASE_MIB + min(HOST_SHARD_MIB, math.ceil(model.weight_bytes / MIB))
