"""What each core of a copy holds, for any split of a model over cores, and the most that fits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenmill.core.errors import TokenmillError
from tokenmill.planner.memory_terms import (
    CODE_BYTES_PER_LAYER,
    COLLECTIVES_BYTES,
    FIRST_CORE_CODE,
    FIRST_CORE_COLLECTIVES,
    FIRST_CORE_OTHER,
    FIRST_CORE_RINGS,
    MICROCODE_BYTES,
    OTHER_BYTES,
    RING_BYTES_PER_LAYER,
    Split,
    cache_bytes_per_core,
    embedding_weights,
    gpu_scratch_bytes,
    layer_weights,
    neuron_scratch_bytes,
    usable_bytes_per_core,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.core.instances import Accelerator
    from tokenmill.core.model_spec import ModelSpec
    from tokenmill.core.workload import Parallelism

LARGEST_BATCH = 1 << 16
"""No server runs more sequences at a time; a model whose state is small would otherwise never be full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankMemory:
    """What one core holds, in bytes.

    Args:
        rank: Number of the core in its copy.
        weights: Its share of the weights, with what it holds whole.
        kv_cache: Keys and values of its heads, with copied ones, or other state of the sequences.
        scratch: Activations and other working space; on a GPU with everything below.
        collectives: Buffers of the messages between cores.
        dma_rings: Descriptors of transfers.
        program: Compiled graphs and microcode.
        other: Constants and what the runtime notes.
        available: Memory of the core that a server may fill.
    """

    rank: int
    weights: float
    kv_cache: float
    scratch: float
    collectives: float
    dma_rings: float
    program: float
    other: float
    available: float

    @property
    def overhead(self) -> float:
        """Everything besides weights and cache, in bytes."""
        return self.scratch + self.collectives + self.dma_rings + self.program + self.other

    @property
    def total(self) -> float:
        """Everything, in bytes."""
        return self.weights + self.kv_cache + self.overhead

    @property
    def fits(self) -> bool:
        """Whether the core holds it all."""
        return self.total <= self.available


class _Load:
    """The sequences on a split; what all cores share is computed once."""

    def __init__(self, split: Split, sequences: int, context_tokens: int, prefill_sequences: int) -> None:
        self.split = split
        # a replica runs its part of the batch
        held = math.ceil(sequences / split.parallelism.data)
        prompts = min(held, prefill_sequences)
        if split.layout == "paged":
            self.scratch = gpu_scratch_bytes(split)
        else:
            self.scratch = neuron_scratch_bytes(split, prompts=prompts, context_tokens=context_tokens)
        self.layers = layer_weights(split)
        self.cache = cache_bytes_per_core(split.model, split.parallelism, context_tokens) * held
        self.available = usable_bytes_per_core(split.accelerator)

    def rank(self, rank: int) -> RankMemory:
        """Return what one core holds."""
        split = self.split
        weights = self.layers + embedding_weights(split, rank)
        collectives = rings = program = other = 0.0
        if split.layout != "paged":
            first = split.layout == "optimum" and split.first(rank)
            graphs = split.stage_layers * split.accelerator.cores_in_logical
            microcode = MICROCODE_BYTES * split.accelerator.cores_in_logical
            collectives = COLLECTIVES_BYTES + (FIRST_CORE_COLLECTIVES if first else 0)
            rings = RING_BYTES_PER_LAYER * graphs + (FIRST_CORE_RINGS if first else 0)
            program = microcode + CODE_BYTES_PER_LAYER * graphs + (FIRST_CORE_CODE if first else 0)
            other = OTHER_BYTES + (FIRST_CORE_OTHER if first else 0)
        return RankMemory(
            rank=rank,
            weights=weights,
            kv_cache=self.cache,
            scratch=self.scratch,
            collectives=collectives,
            dma_rings=rings,
            program=program,
            other=other,
            available=self.available,
        )


def memory_per_rank(
    model: ModelSpec,
    accelerator: Accelerator,
    parallelism: Parallelism,
    *,
    sequences: int,
    context_tokens: int,
    prefill_sequences: int = 1,
) -> tuple[RankMemory, ...]:
    """Return what each core of one copy holds.

    Args:
        model: The model.
        accelerator: The chip.
        parallelism: How the copy is split.
        sequences: Sequences that the copy holds at a time.
        context_tokens: Prompt plus answer of each, in tokens.
        prefill_sequences: Prompts that one prefill handles: 1 in a server that batches continuously, as the
            serving images do; the whole batch where NxD Inference runs a static one (ctx_batch_size is
            batch_size unless told otherwise, aws-neuron/neuronx-distributed-inference@4bcdc54:
            models/config.py).

    Raises:
        TokenmillError: Sequences, tokens or prompts are below 1, or the expert degree neither divides nor
            multiplies the tensor degree or asks for more cores than there are.
    """
    _check(parallelism, sequences, context_tokens, prefill_sequences)
    split = Split(model, accelerator, parallelism)
    load = _Load(split, sequences, context_tokens, prefill_sequences)
    return tuple(load.rank(rank) for rank in range(parallelism.cores))


def fullest_rank(
    model: ModelSpec,
    accelerator: Accelerator,
    parallelism: Parallelism,
    *,
    sequences: int,
    context_tokens: int,
    prefill_sequences: int = 1,
) -> RankMemory:
    """Return what the fullest core of one copy holds; only cores that can differ are looked at.

    Args:
        model: The model.
        accelerator: The chip.
        parallelism: How the copy is split.
        sequences: Sequences that the copy holds at a time.
        context_tokens: Prompt plus answer of each, in tokens.
        prefill_sequences: As for memory_per_rank.

    Raises:
        TokenmillError: As for memory_per_rank.
    """
    _check(parallelism, sequences, context_tokens, prefill_sequences)
    load = _Load(Split(model, accelerator, parallelism), sequences, context_tokens, prefill_sequences)
    last = (parallelism.pipeline - 1) * parallelism.tensor
    return max((load.rank(rank) for rank in {0, last}), key=lambda item: item.total)


def largest_batch(
    model: ModelSpec, accelerator: Accelerator, parallelism: Parallelism, *, context_tokens: int
) -> int:
    """Return the most sequences of a length that fit; 0 where not even one does.

    Args:
        model: The model.
        accelerator: The chip.
        parallelism: How the copy is split.
        context_tokens: Prompt plus answer of each, in tokens.

    Raises:
        TokenmillError: As for memory_per_rank.
    """

    def fits(sequences: int) -> bool:
        return fullest_rank(
            model, accelerator, parallelism, sequences=sequences, context_tokens=context_tokens
        ).fits

    return _largest(fits, LARGEST_BATCH)


def largest_context(
    model: ModelSpec, accelerator: Accelerator, parallelism: Parallelism, *, sequences: int
) -> int:
    """Return the longest context that fits, at most what the model was made for; 0 where not one token does.

    Args:
        model: The model.
        accelerator: The chip.
        parallelism: How the copy is split.
        sequences: Sequences that the copy holds at a time.

    Raises:
        TokenmillError: As for memory_per_rank.
    """

    def fits(tokens: int) -> bool:
        return fullest_rank(model, accelerator, parallelism, sequences=sequences, context_tokens=tokens).fits

    return _largest(fits, model.max_context_tokens)


def _largest(fits: Callable[[int], bool], most: int) -> int:
    low, high = 0, 1
    while high <= most and fits(high):
        low, high = high, high * 2
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _check(parallelism: Parallelism, sequences: int, context_tokens: int, prefill_sequences: int) -> None:
    given = {
        "sequences": sequences,
        "context_tokens": context_tokens,
        "prefill_sequences": prefill_sequences,
    }
    for name, value in given.items():
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TokenmillError(f"{name} must be a whole number, got {value!r}")
        if value < 1:
            raise TokenmillError(f"{name} must be 1 or more, got {value!r}")
    small, large = sorted((parallelism.expert, parallelism.tensor))
    if large % small or parallelism.expert > parallelism.tensor * parallelism.data:
        raise TokenmillError(
            f"expert parallelism {parallelism.expert} must divide or multiply tensor parallelism "
            f"{parallelism.tensor}, within {parallelism.tensor * parallelism.data} cores of a stage"
        )
