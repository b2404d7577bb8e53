"""How large a LoRA adapter is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenmill.core.errors import TokenmillError
from tokenmill.core.model_formats import DTYPE_BYTES

if TYPE_CHECKING:
    from collections.abc import Collection

    from tokenmill.core.model_spec import ModelSpec

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
LARGEST_RANK = 4096


def lora_parameters(model: ModelSpec, *, rank: int, targets: Collection[str] = ATTENTION) -> int:
    """Return the parameters of one adapter: rank x (inputs + outputs) for each matrix it changes.

    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (arXiv 2106.09685), section 4.1. Matrices
    that a checkpoint holds as one (qkv_proj, gate_up_proj) count as their parts. With MLP targets of a
    mixture every expert has its own adapter.

    Args:
        model: The model.
        rank: Rank of the adapter.
        targets: Names of the projections it changes, such as "q_proj".

    Raises:
        TokenmillError: A rank out of bounds, no target, or one that the model does not have.
    """
    if type(rank) is not int or not 1 <= rank <= LARGEST_RANK:
        raise TokenmillError(f"rank must be a whole number from 1 to {LARGEST_RANK}, got {rank!r}")
    known = sorted({item.name for item in model.projections if item.part != "router"})
    unknown = sorted(set(targets) - set(known))
    if unknown or not targets:
        named = f"does not have {', '.join(unknown)}" if unknown else "needs at least one target"
        raise TokenmillError(f"{model.id} {named}; lora targets are {', '.join(known)}")
    chosen = [item for item in model.projections if item.name in targets and item.part != "router"]
    return rank * sum((item.inputs + item.outputs) * item.copies for item in chosen)


def lora_bytes(
    model: ModelSpec, *, rank: int, targets: Collection[str] = ATTENTION, dtype: str | None = None
) -> int:
    """Return the bytes of one adapter.

    Args:
        model: The model.
        rank: Rank of the adapter.
        targets: Names of the projections it changes.
        dtype: Element type of the adapter; that of the model where none is given.

    Raises:
        TokenmillError: As `lora_parameters`, or an unknown type.
    """
    if dtype is not None and dtype not in DTYPE_BYTES:
        raise TokenmillError(f"dtype {dtype!r} is not one of {', '.join(DTYPE_BYTES)}")
    return lora_parameters(model, rank=rank, targets=targets) * DTYPE_BYTES[dtype or model.dtype]
