"""Which layers of a decoder remember how, which have experts, and what of a family depends on its config."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tokenmill.core.errors import TokenmillError
from tokenmill.core.model_fields import Fields, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.core.architectures import Architecture, Experts

Kinds = list[str]
LAYER_TYPES = {
    "full_attention": "full",
    "attention": "full",
    "sliding_attention": "sliding",
    "chunked_attention": "chunked",
    "linear_attention": "linear",
    "indexed_attention": "indexed",
    "deepseek_sparse_attention": "indexed",
    "minimax_m3_sparse": "indexed",
    "mamba": "linear",
    "mlp": "mlp",
    "moe": "moe",
}
"""Names in `layer_types` (Hugging Face transformers 5.23, configuration_utils.py) and what they mean here."""
PATTERN = {"M": "linear", "*": "full", "-": "mlp", "E": "moe"}
"""Letters of `hybrid_override_pattern` (Hugging Face transformers 5.23, configuration_nemotron_h.py)."""
WINDOWS = {"sliding": "sliding_window", "chunked": "attention_chunk_size"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """Indices of layers by what stands in them.

    Args:
        mixers: For each kind of layer that remembers the past, its indices.
        dense: Layers with a dense feed-forward part.
        sparse: Layers with experts.
        count: All layers.
    """

    mixers: dict[str, tuple[int, ...]]
    dense: tuple[int, ...]
    sparse: tuple[int, ...]
    count: int


def read_layers(architecture: Architecture, experts: Experts | None, fields: Fields, count: int) -> Layers:
    """Return what stands in each layer.

    Args:
        architecture: The family.
        experts: The experts, where the config has any.
        fields: The config.
        count: Decoder layers.

    Raises:
        TokenmillError: A list does not have one entry a layer, or names an unknown kind.
    """
    kinds = _named(fields, count) or LAYER_RULES[architecture.layers](fields, count)
    unlimited = {kind for kind, name in WINDOWS.items() if fields.get(name) is None}
    found: dict[str, list[int]] = {}
    for index, kind in enumerate(kinds):
        found.setdefault("full" if kind in unlimited else kind, []).append(index)
    mixers = {kind: tuple(indices) for kind, indices in found.items()}
    moe, mlp = mixers.pop("moe", ()), mixers.pop("mlp", ())
    everything = tuple(range(count))
    if architecture.layers == "blocks":
        if moe and experts is None:
            raise TokenmillError(f"missing field n_routed_experts in {fields.where}; its layers have experts")
        return Layers(mixers=mixers, dense=mlp, sparse=moe, count=count)
    if moe or mlp or ("linear" in mixers and not architecture.linear):
        raise TokenmillError(
            f"layer_types in {fields.where} holds layers that {architecture.name} does not have: "
            f"{', '.join(sorted(set(kinds) & {'moe', 'mlp', 'linear'}))}"
        )
    chosen = SPARSE_RULES[experts.layers](fields, count) if experts else set()
    beside = experts is not None and experts.beside_dense
    return Layers(
        mixers=mixers,
        dense=tuple(index for index in everything if beside or index not in chosen),
        sparse=tuple(index for index in everything if index in chosen),
        count=count,
    )


def _named(fields: Fields, count: int) -> Kinds | None:
    names = fields.items("layer_types", count)
    if names is None:
        names = fields.items("layers_block_type", count)
    if names is None:
        return None
    return [_kind(name, "layer_types", LAYER_TYPES, fields) for name in names]


def _kind(name: object, field: str, known: dict[str, str], fields: Fields) -> str:
    kind = known.get(name) if isinstance(name, str) else None
    if kind is None:
        raise TokenmillError(f"{field} in {fields.where} holds {shown(name)}; known: {', '.join(known)}")
    return kind


def _choices(fields: Fields, name: str, count: int, kinds: tuple[str, str]) -> Kinds | None:
    entries = fields.items(name, count)
    if entries is None:
        return None
    return [kinds[fields.checked(f"an entry of {name}", _digit(entry), least=0, most=1)] for entry in entries]


def _digit(entry: object) -> object:
    return int(entry) if isinstance(entry, bool) else entry


def _full(fields: Fields, count: int) -> Kinds:
    return ["full"] * count


def _window(fields: Fields, count: int) -> Kinds:
    return ["sliding"] * count


def _qwen(fields: Fields, count: int) -> Kinds:
    if not fields.flag("use_sliding_window"):
        return ["full"] * count
    first = fields.number("max_window_layers", default=28, least=0)
    return ["sliding" if index >= first else "full" for index in range(count)]


def _every(every: int, other: str, count: int) -> Kinds:
    return [other if (index + 1) % every else "full" for index in range(count)]


def _alternate(fields: Fields, count: int) -> Kinds:
    return _every(2, "sliding", count)


def _pattern(fields: Fields, count: int) -> Kinds:
    return _every(fields.number("sliding_window_pattern", default=4), "sliding", count)


def _chunked(fields: Fields, count: int) -> Kinds:
    if fields.get("no_rope_layers"):
        return _choices(fields, "no_rope_layers", count, ("full", "chunked")) or []
    return _every(fields.number("no_rope_layer_interval", default=4), "chunked", count)


def _interval(fields: Fields, count: int) -> Kinds:
    return _every(fields.number("full_attention_interval", default=4), "linear", count)


def _hybrid(fields: Fields, count: int) -> Kinds:
    return _choices(fields, "hybrid_layer_pattern", count, ("full", "sliding")) or ["full"] * count


def _lightning(fields: Fields, count: int) -> Kinds:
    return _choices(fields, "attn_type_list", count, ("linear", "full")) or _every(2, "linear", count)


def _sparse_attention(fields: Fields, count: int) -> Kinds:
    return _choices(fields, "sparse_attention_freq", count, ("full", "indexed")) or ["full"] * count


def _indexed(fields: Fields, count: int) -> Kinds:
    types = fields.items("indexer_types", count)
    if types is not None:
        return [_kind(kind, "indexer_types", {"full": "indexed", "shared": "full"}, fields) for kind in types]
    every, offset = (
        fields.number("index_topk_freq", default=1),
        fields.number("index_skip_topk_offset", default=2),
    )
    return ["full" if max(index - offset + 1, 0) % every else "indexed" for index in range(count)]


def _blocks(fields: Fields, count: int) -> Kinds:
    pattern = fields.text("hybrid_override_pattern")
    if len(pattern) != count:
        raise TokenmillError(
            f"hybrid_override_pattern in {fields.where} must have one letter for each of {count} layers, "
            f"got {len(pattern)}"
        )
    return [_kind(letter, "hybrid_override_pattern", PATTERN, fields) for letter in pattern]


LAYER_RULES: dict[str, Callable[[Fields, int], Kinds]] = {
    "full": _full,
    "window": _window,
    "qwen": _qwen,
    "alternate": _alternate,
    "pattern": _pattern,
    "chunked": _chunked,
    "interval": _interval,
    "hybrid": _hybrid,
    "lightning": _lightning,
    "sparse_attention": _sparse_attention,
    "indexed": _indexed,
    "blocks": _blocks,
}


def _all(fields: Fields, count: int) -> set[int]:
    return set(range(count))


def _step(fields: Fields, count: int) -> set[int]:
    step = fields.number("decoder_sparse_step", default=1)
    dense = _indices(fields, "mlp_only_layers") or set()
    return {index for index in range(count) if index not in dense and (index + 1) % step == 0}


def _indices(fields: Fields, name: str) -> set[int] | None:
    entries = fields.items(name)
    return (
        None
        if entries is None
        else {fields.checked(f"an entry of {name}", each, least=0) for each in entries}
    )


def _first(fields: Fields, count: int) -> set[int]:
    types = fields.items("mlp_layer_types", count)
    if types is not None:
        known = {"dense": "", "sparse": "sparse"}
        return {at for at, kind in enumerate(types) if _kind(kind, "mlp_layer_types", known, fields)}
    if isinstance(fields.get("moe_layer_freq"), list):
        chosen = _choices(fields, "moe_layer_freq", count, ("", "sparse")) or []
        return {index for index, kind in enumerate(chosen) if kind}
    every, first = (
        fields.number("moe_layer_freq", default=1),
        fields.number("first_k_dense_replace", default=0, least=0),
    )
    return {index for index in range(first, count) if index % every == 0}


def _interleave(fields: Fields, count: int) -> set[int]:
    named = _indices(fields, "moe_layers")
    if named is not None:
        return named
    step = fields.number("interleave_moe_layer_step", default=1)
    return set(range(step - 1, count, step))


SPARSE_RULES: dict[str, Callable[[Fields, int], set[int]]] = {
    "all": _all,
    "step": _step,
    "first": _first,
    "interleave": _interleave,
}


def _falcon(architecture: Architecture, fields: Fields) -> Architecture:
    new, parallel = fields.flag("new_decoder_architecture"), fields.flag("parallel_attn")
    if not new:
        _multi_query(architecture, fields)
    single = not new or fields.get("num_ln_in_parallel_attn") == 1
    return replace(architecture, norms=1 if parallel and single else 2)


def _multi_query(architecture: Architecture, fields: Fields) -> Architecture:
    heads = fields.get("num_attention_heads", "n_head")
    fields.override(num_key_value_heads=1 if fields.flag("multi_query") else heads)
    return architecture


def _gemma4(architecture: Architecture, fields: Fields) -> Architecture:
    if fields.flag(architecture.shared_values):
        return architecture
    return replace(architecture, kinds={"full": {"head_dim": "global_head_dim"}})


def _minimax_m3(architecture: Architecture, fields: Fields) -> Architecture:
    inner = fields.object("sparse_attention_config")
    if inner is not None:
        fields.override(
            sparse_attention_freq=inner.items("sparse_attention_freq"),
            index_head_dim=inner.get("sparse_index_dim"),
            index_n_heads=inner.get("sparse_num_index_heads"),
        )
    return architecture


def _nemotron_h(architecture: Architecture, fields: Fields) -> Architecture:
    if fields.get("num_hidden_layers") is None:
        kinds = fields.items("layers_block_type") or fields.text("hybrid_override_pattern")
        fields.override(num_hidden_layers=len(kinds) or None)
    return architecture


VARIANTS: dict[str, Callable[[Architecture, Fields], Architecture]] = {
    "falcon": _falcon,
    "multi_query": _multi_query,
    "gemma4": _gemma4,
    "minimax_m3": _minimax_m3,
    "nemotron_h": _nemotron_h,
}
