"""What one copy of a split holds, and how many sequences fit: the planner's questions to the memory model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tokenmill.core.instances import GIB
from tokenmill.core.plan import Memory
from tokenmill.planner.memory import (
    BOUNDLESS,
    RankMemory,
    cache_bytes_per_core,
    fullest_rank,
    largest_batch,
)

if TYPE_CHECKING:
    from tokenmill.core.images import CatalogImage
    from tokenmill.core.instances import Accelerator
    from tokenmill.core.model_spec import ModelSpec
    from tokenmill.core.workload import Parallelism
    from tokenmill.planner.feasibility import Problem


def sequence_tokens(problem: Problem, image: CatalogImage) -> int:
    """Return the tokens that memory is kept for with each sequence: a compiled length, or a mean request.

    Args:
        problem: What is asked.
        image: The serving image.
    """
    return problem.context_tokens if image.static_batch else problem.typical_tokens


def held(
    model: ModelSpec, accelerator: Accelerator, parallelism: Parallelism, *, sequences: int, tokens: int
) -> RankMemory:
    """Return what the fullest core of one copy holds.

    Args:
        model: The model, with its weights in the format that is served.
        accelerator: The chip.
        parallelism: How the copy is split.
        sequences: Sequences that run together.
        tokens: Tokens of each.
    """
    return fullest_rank(model, accelerator, parallelism, sequences=sequences, context_tokens=tokens)


def most_sequences(
    model: ModelSpec, accelerator: Accelerator, parallelism: Parallelism, *, tokens: int, limit: int
) -> int:
    """Return how many sequences fit, at most a limit.

    Args:
        model: The model, with its weights in the format that is served.
        accelerator: The chip.
        parallelism: How the copy is split.
        tokens: Tokens of each.
        limit: More than this are not asked for.
    """
    if held(model, accelerator, parallelism, sequences=limit, tokens=tokens).fits:
        return limit
    return min(limit, largest_batch(model, accelerator, parallelism, context_tokens=tokens))


def tokens_in(model: ModelSpec, parallelism: Parallelism, room: float) -> int:
    """Return the tokens whose keys and values fit into some memory of the fullest core.

    Args:
        model: The model.
        parallelism: How the copy is split.
        room: The memory, in bytes.
    """
    each = cache_bytes_per_core(model, parallelism, 1) - cache_bytes_per_core(model, parallelism, 0)
    return math.floor(room / each) if each else BOUNDLESS


def memory_of(rank: RankMemory, image: CatalogImage) -> Memory:
    """Return a core's memory as a plan shows it; a paged server fills what is left with its cache.

    Args:
        rank: What the fullest core holds.
        image: The serving image.
    """
    cache = rank.kv_cache if image.static_batch else rank.available - rank.weights - rank.overhead
    return Memory(
        weights_gib=round(rank.weights / GIB, 3),
        kv_cache_gib=round(cache / GIB, 3),
        overhead_gib=round(rank.overhead / GIB, 3),
        available_gib=round(rank.available / GIB, 3),
    )
