"""The decoder families that the planner counts: what differs between them, in a few lines each.

Facts are those of the classes of Hugging Face transformers 5.23 (`configuration_*.py`, `modeling_*.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Switch = bool | str
"""Always, never, or the name of the field that decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A feed-forward layer of experts.

    Args:
        layers: Which layers have experts: a key of `architectures_layers.SPARSE_RULES`.
        when: Field that says whether there are any (a flag, or their number); empty for always.
        width: Field that holds the width of one expert.
        shared: Field that holds the number of shared experts.
        shared_width: Field that holds the width of the shared experts; empty for that of a routed one.
        shared_default: Shared experts where no field says how many.
        shared_gate: Whether a vector of hidden_size weighs the shared expert.
        router_bias: Whether the router carries a bias for each expert (a correction bias counts, too).
        router_scale: Whether the router carries a scale for each element and each expert (Gemma 4).
        expert_bias: Whether expert projections carry biases.
        extra_norms: Norms of hidden_size that a layer has because of its experts.
        beside_dense: Whether a dense feed-forward part stands beside the experts.
        latent: Field that holds the width that tokens have inside routed experts (Nemotron 3).
    """

    layers: str = "all"
    when: str = ""
    width: str = "moe_intermediate_size"
    shared: str = ""
    shared_width: str = ""
    shared_default: int = 0
    shared_gate: bool = False
    router_bias: bool = False
    router_scale: bool = False
    expert_bias: bool = False
    extra_norms: int = 0
    beside_dense: bool = False
    latent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What differs between decoder families when their tensors are counted.

    Args:
        name: Class name in `architectures` of a Hugging Face config.json.
        aliases: Other class names with the same tensors.
        attention: "heads", or "latent" for multi-head latent attention.
        linear: What "linear" layers are: "delta" (gated DeltaNet), "lightning" or "mamba"; empty without.
        layers: How layers differ in what they remember: a key of `architectures_layers.LAYER_RULES`.
        kinds: For a kind of layer, the fields that hold its own kv_heads, head_dim or value_dim.
        qkv_bias: Whether query, key and value projections carry a bias.
        out_bias: Whether the output projection carries a bias.
        qk_norm: "head" (two vectors of head_dim), "biased" (the same with biases), "width" (a vector of all
            query heads and one of all key heads), or empty.
        qk_norm_if: Field that must be true for qk_norm; empty for always.
        gated_query: Whether the query projection is twice as wide, for an output gate (Qwen3-Next).
        output_gate: Whether a projection of its own gates the output (AFMoE).
        sinks: Kinds of layers with one learned sink a head.
        shared_values: Field that makes "full" layers use keys as values (Gemma 4).
        norms: Norms of hidden_size in a layer.
        norm_size: Vectors of hidden_size in one norm: 1 (RMSNorm), 2 (LayerNorm with bias), 0 (no weights).
        gated: Whether the feed-forward part has a gate projection.
        mlp_bias: Whether dense projections carry biases.
        width_factor: Width of the feed-forward part over hidden_size where the config does not say.
        tied: Whether embeddings are tied where the config does not say.
        head_bias: Whether the output projection of the vocabulary carries a bias.
        positions: Rows beyond the context length in a table of learned positions; None without a table.
        embedding_norm: Whether the embedding is followed by a norm.
        experts: The experts; None for a dense model.
        fields: For a name that this package asks for, the name this family uses.
        defaults: Values of the configuration class for fields that published files leave out.
        embedding_width: Field that holds the width of the embedding where it is projected (OPT).
        final_norm: Whether the layers are followed by a norm.
        layer_inputs: Field that holds the width of a second embedding for each layer (Gemma 4).
        reused: Field that holds how many last layers reuse keys and values of others (Gemma 4).
        variant: A key of `architectures_layers.VARIANTS`, for what depends on a config; empty for none.
    """

    name: str
    aliases: tuple[str, ...] = ()
    attention: str = "heads"
    linear: str = ""
    layers: str = "full"
    kinds: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    qkv_bias: Switch = False
    out_bias: Switch = False
    qk_norm: str = ""
    qk_norm_if: str = ""
    gated_query: bool = False
    output_gate: bool = False
    sinks: tuple[str, ...] = ()
    shared_values: str = ""
    norms: int = 2
    norm_size: int = 1
    gated: bool = True
    mlp_bias: Switch = False
    width_factor: int | None = None
    tied: bool = False
    head_bias: Switch = False
    positions: int | None = None
    embedding_norm: bool = False
    experts: Experts | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    embedding_width: str = ""
    final_norm: Switch = True
    layer_inputs: str = ""
    reused: str = ""
    variant: str = ""


def biased(switch: Switch = "attention_bias") -> dict[str, Any]:
    """Return the options of a family whose four attention projections have biases.

    Args:
        switch: Always, or the field that decides.
    """
    return {"qkv_bias": switch, "out_bias": switch}


def plain(switch: Switch = True) -> dict[str, Any]:
    """Return the options of a family from before gates: LayerNorm with bias, two projections, biases.

    Args:
        switch: Whether projections have biases, or the field that decides.
    """
    return {"norm_size": 2, "gated": False, "mlp_bias": switch}
