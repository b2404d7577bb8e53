"""How a layer remembers the past: the tensors of each kind of attention, and what one sequence keeps."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tokenmill.core.architectures_layers import WINDOWS, Layers
from tokenmill.core.architectures_tensors import (
    Indices,
    Shape,
    Tensor,
    dense,
    embeddings,
    matrix,
    on,
    sparse,
    vector,
)
from tokenmill.core.errors import TokenmillError
from tokenmill.core.model_spec import AttentionGroup

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.core.architectures import Architecture
    from tokenmill.core.model_fields import Fields

Mixer = tuple[list[Tensor], list[AttentionGroup]]
FLOAT32_BYTES = 4


def decoder(
    architecture: Architecture, fields: Fields, shape: Shape, layers: Layers, *, tied: bool
) -> tuple[list[Tensor], tuple[AttentionGroup, ...]]:
    """Return every tensor of a decoder, and what its layers remember.

    Args:
        architecture: The family.
        fields: The config.
        shape: Its sizes.
        layers: What stands in each layer.
        tied: Whether the output projection reuses the input embedding.
    """
    tensors = embeddings(architecture, fields, shape, tied=tied)
    groups: list[AttentionGroup] = []
    for kind, indices in layers.mixers.items():
        mixer = MIXERS[architecture.linear if kind == "linear" else architecture.attention]
        found, kept = mixer(architecture, fields, shape, kind, indices)
        tensors += found
        groups += kept
    if layers.dense:
        tensors += dense(architecture, fields, shape, layers.dense)
    if layers.sparse and architecture.experts is not None:
        tensors += sparse(architecture, architecture.experts, fields, shape, layers.sparse)
    norms = architecture.norms * architecture.norm_size * shape.hidden
    return [*tensors, vector("norms", norms, tuple(range(layers.count)))], tuple(groups)


def _of_kind(architecture: Architecture, fields: Fields, shape: Shape, kind: str) -> Shape:
    names = architecture.kinds.get(kind, {})
    sizes = {part: fields.number(name, default=getattr(shape, part)) for part, name in names.items()}
    if not sizes:
        return shape
    sizes.setdefault("value_dim", sizes.get("head_dim", shape.value_dim))
    if shape.heads % sizes.get("kv_heads", 1):
        raise TokenmillError(
            f"{names['kv_heads']} in {fields.where} must divide the {shape.heads} query heads, "
            f"got {sizes['kv_heads']}"
        )
    return replace(shape, **sizes)


def _heads(architecture: Architecture, fields: Fields, shape: Shape, kind: str, layers: Indices) -> Mixer:
    """Multi-head, grouped-query and multi-query attention."""
    shape = _of_kind(architecture, fields, shape, kind)
    own = tuple(at for at in layers if at < shape.layers - shape.reused)
    query, key, value = (
        shape.heads * shape.head_dim,
        shape.kv_heads * shape.head_dim,
        shape.kv_heads * shape.value_dim,
    )
    wide = 2 * query if architecture.gated_query else query
    tensors = [matrix("self_attn.q_proj", "attention", wide, shape.hidden, layers)]
    tensors.append(matrix("self_attn.k_proj", "attention", key, shape.hidden, own))
    one = kind == "full" and architecture.shared_values != "" and fields.flag(architecture.shared_values)
    if not one:
        tensors.append(matrix("self_attn.v_proj", "attention", value, shape.hidden, own))
    if on(architecture.qkv_bias, fields):
        tensors += [vector(f"{tensor.module}.bias", tensor.outputs, tensor.layers) for tensor in tensors]
    tensors.append(
        matrix("self_attn.o_proj", "attention", shape.hidden, shape.heads * shape.value_dim, layers)
    )
    if on(architecture.out_bias, fields):
        tensors.append(vector("self_attn.o_proj.bias", shape.hidden, layers))
    if architecture.output_gate:
        tensors.append(matrix("self_attn.gate_proj", "attention", query, shape.hidden, layers))
    if kind in architecture.sinks:
        tensors.append(vector("self_attn.sinks", shape.heads, layers))
    tensors += _query_key_norms(architecture, fields, shape, layers, own)
    window = fields.number(WINDOWS[kind]) if kind in WINDOWS else None
    index = _indexer(architecture, fields, shape.hidden, shape.hidden, layers) if kind == "indexed" else []
    group = AttentionGroup(
        kind="full" if window is None else "sliding",
        layers=len(own),
        kv_heads=shape.kv_heads,
        key_dim=shape.head_dim,
        value_dim=shape.value_dim,
        window=window,
        index_dim=fields.number("index_head_dim") if index else 0,
    )
    return tensors + index, [group] if own else []


def _query_key_norms(
    architecture: Architecture, fields: Fields, shape: Shape, layers: Indices, own: Indices
) -> list[Tensor]:
    if not architecture.qk_norm or not on(architecture.qk_norm_if or True, fields):
        return []
    sizes = {
        "head": (shape.head_dim, shape.head_dim),
        "biased": (2 * shape.head_dim, 2 * shape.head_dim),
        "width": (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim),
    }[architecture.qk_norm]
    return [vector("self_attn.q_norm", sizes[0], layers), vector("self_attn.k_norm", sizes[1], own)]


def _latent(architecture: Architecture, fields: Fields, shape: Shape, kind: str, layers: Indices) -> Mixer:
    """Multi-head latent attention: keys and values of all heads come from one cached vector."""
    rank, rotary = fields.number("kv_lora_rank"), fields.number("qk_rope_head_dim")
    plain, value = fields.number("qk_nope_head_dim"), shape.value_dim
    query, low = shape.heads * (plain + rotary), fields.number("q_lora_rank", default=0)
    rows = (
        [("q_a_proj", low, shape.hidden), ("q_b_proj", query, low)]
        if low
        else [("q_proj", query, shape.hidden)]
    )
    rows += [
        ("kv_a_proj_with_mqa", rank + rotary, shape.hidden),
        ("kv_b_proj", shape.heads * (plain + value), rank),
        ("o_proj", shape.hidden, shape.heads * value),
    ]
    tensors = [matrix(f"self_attn.{name}", "attention", high, wide, layers) for name, high, wide in rows]
    bias = (low + rank + rotary + shape.hidden) if on(architecture.qkv_bias, fields) else 0
    tensors.append(vector("self_attn.vectors", bias + low + rank, layers))
    index = _indexer(architecture, fields, low, shape.hidden, layers) if kind == "indexed" else []
    group = AttentionGroup(
        kind="latent",
        layers=len(layers),
        kv_heads=1,
        key_dim=rank + rotary,
        value_dim=0,
        window=None,
        index_dim=fields.number("index_head_dim") if index else 0,
    )
    return tensors + index, [group]


def _indexer(
    architecture: Architecture, fields: Fields, low: int, hidden: int, layers: Indices
) -> list[Tensor]:
    heads, size = fields.number("index_n_heads"), fields.number("index_head_dim")
    tensors = [
        matrix("self_attn.indexer.wq_b", "attention", heads * size, low or hidden, layers),
        matrix("self_attn.indexer.wk", "attention", size, hidden, layers),
        vector("self_attn.indexer.norm", 2 * size, layers),
    ]
    if architecture.attention == "latent":
        tensors.append(matrix("self_attn.indexer.weights_proj", "attention", heads, hidden, layers))
    return tensors


def _state_bytes(fields: Fields) -> int | None:
    name = fields.text("mamba_ssm_dtype") or fields.text("mamba_ssm_cache_dtype")
    return FLOAT32_BYTES if name == "float32" else None


def _delta(architecture: Architecture, fields: Fields, shape: Shape, kind: str, layers: Indices) -> Mixer:
    """Gated DeltaNet."""
    heads, key = (
        fields.number("linear_num_key_heads", default=16),
        fields.number("linear_key_head_dim", default=128),
    )
    values, size = (
        fields.number("linear_num_value_heads", default=32),
        fields.number("linear_value_head_dim", default=128),
    )
    kernel = fields.number("linear_conv_kernel_dim", default=4)
    wide, out = 2 * heads * key + values * size, values * size
    rows = [("in_proj_qkv", wide), ("in_proj_z", out), ("in_proj_b", values), ("in_proj_a", values)]
    tensors = [matrix(f"linear_attn.{name}", "attention", high, shape.hidden, layers) for name, high in rows]
    tensors.append(matrix("linear_attn.out_proj", "attention", shape.hidden, out, layers))
    tensors.append(vector("linear_attn.vectors", wide * kernel + 2 * values + size, layers))
    return tensors, [_state(fields, layers, values, key, size, wide * (kernel - 1))]


def _lightning(architecture: Architecture, fields: Fields, shape: Shape, kind: str, layers: Indices) -> Mixer:
    """Lightning attention (MiniMax-01)."""
    width = shape.heads * shape.head_dim
    tensors = [
        matrix("self_attn.qkv_proj", "attention", 3 * width, shape.hidden, layers),
        matrix("self_attn.output_gate", "attention", width, shape.hidden, layers),
        matrix("self_attn.out_proj", "attention", shape.hidden, width, layers),
        vector("self_attn.norm", width, layers),
    ]
    return tensors, [_state(fields, layers, shape.heads, shape.head_dim, shape.head_dim, 0)]


def _mamba(architecture: Architecture, fields: Fields, shape: Shape, kind: str, layers: Indices) -> Mixer:
    """Mamba 2."""
    heads, size = (
        fields.number("mamba_num_heads", "mamba_n_heads"),
        fields.number("mamba_head_dim", "mamba_d_head"),
    )
    groups, state = (
        fields.number("n_groups", "mamba_n_groups"),
        fields.number("ssm_state_size", "mamba_d_state"),
    )
    kernel, inner = fields.number("conv_kernel", "mamba_d_conv"), heads * size
    wide = inner + 2 * groups * state
    tensors = [
        matrix("mixer.in_proj", "attention", inner + wide + heads, shape.hidden, layers),
        matrix("mixer.out_proj", "attention", shape.hidden, inner, layers),
        vector("mixer.vectors", wide * kernel + 3 * heads + inner, layers),
    ]
    if fields.flag("use_conv_bias") or fields.flag("mamba_conv_bias"):
        tensors.append(vector("mixer.conv1d.bias", wide, layers))
    if fields.flag("use_bias") or fields.flag("mamba_proj_bias"):
        tensors.append(vector("mixer.bias", inner + wide + heads + shape.hidden, layers))
    return tensors, [_state(fields, layers, heads, state, size, wide * (kernel - 1))]


def _state(fields: Fields, layers: Indices, heads: int, key: int, value: int, tail: int) -> AttentionGroup:
    return AttentionGroup(
        kind="linear",
        layers=len(layers),
        kv_heads=heads,
        key_dim=key,
        value_dim=value,
        window=None,
        tail_elements=tail,
        state_bytes=_state_bytes(fields),
    )


MIXERS: dict[str, Callable[[Architecture, Fields, Shape, str, Indices], Mixer]] = {
    "heads": _heads,
    "latent": _latent,
    "delta": _delta,
    "lightning": _lightning,
    "mamba": _mamba,
}
