"""The tensors of a decoder, made of small pieces: embeddings, feed-forward parts, experts, norms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenmill.core.architectures import Architecture, Experts, Switch
    from tokenmill.core.model_fields import Fields

Indices = tuple[int, ...]
ONCE = (0,)
"""Stands for the layers of a tensor that a model has once."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """Tensors of one shape that stand in the same place of their layers.

    Args:
        module: Name below the layer, such as "self_attn.q_proj".
        part: "embedding", "attention", "dense", "experts", "shared", "router" or "small" (vectors).
        outputs: Rows, in elements.
        inputs: Columns; 1 for vectors.
        layers: The layers that have it.
        copies: How many a layer has.
        active: Of these, how many one token passes through.
    """

    module: str
    part: str
    outputs: int
    inputs: int
    layers: Indices
    copies: int = 1
    active: int = 1

    @property
    def size(self) -> int:
        """Elements of one copy."""
        return self.outputs * self.inputs

    @property
    def parameters(self) -> int:
        """Elements of all copies."""
        return self.size * self.copies * len(self.layers)

    @property
    def active_parameters(self) -> int:
        """Elements that one token passes through."""
        return self.size * self.active * len(self.layers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The sizes that a decoder has, in elements.

    Args:
        layers: Decoder layers.
        reused: Last layers that reuse keys and values of others.
        hidden: Width of the residual stream.
        width: Width of a dense feed-forward part; 0 where no layer has one.
        heads: Query heads.
        kv_heads: Key and value heads.
        head_dim: Width of a query or key of one head.
        value_dim: Width of a value of one head.
        experts: Routed experts a layer.
        experts_per_token: Of these, how many one token passes through.
        expert_width: Width of one expert.
    """

    layers: int
    reused: int
    hidden: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    experts: int
    experts_per_token: int
    expert_width: int


def on(switch: Switch, fields: Fields) -> bool:
    """Return whether a switch of a family is on in a config.

    Args:
        switch: True, false, or the name of a field.
        fields: The config.
    """
    return fields.flag(switch) if isinstance(switch, str) else switch


def vector(module: str, size: int, layers: Indices) -> Tensor:
    """Return vectors that each layer has.

    Args:
        module: Name below the layer.
        size: Their elements.
        layers: The layers.
    """
    return Tensor(module, "small", size, 1, layers)


def matrix(module: str, part: str, outputs: int, inputs: int, layers: Indices) -> Tensor:
    """Return a weight matrix that each layer has once.

    Args:
        module: Name below the layer.
        part: What happens to it: see Tensor.
        outputs: Rows, in elements.
        inputs: Columns, in elements.
        layers: The layers.
    """
    return Tensor(module, part, outputs, inputs, layers)


def embeddings(architecture: Architecture, fields: Fields, shape: Shape, *, tied: bool) -> list[Tensor]:
    """Return the tensors outside the layers.

    Args:
        architecture: The family.
        fields: The config.
        shape: Its sizes.
        tied: Whether the output projection reuses the input embedding.
    """
    vocabulary, hidden = fields.number("vocab_size"), shape.hidden
    width = fields.number(architecture.embedding_width or "", default=hidden)
    found = [matrix("embed_tokens", "embedding", vocabulary, width, ONCE)]
    if not tied:
        found.append(matrix("lm_head", "embedding", vocabulary, width, ONCE))
    if width != hidden:
        found += [matrix(name, "embedding", hidden, width, ONCE) for name in ("project_in", "project_out")]
    if architecture.positions is not None:
        rows = fields.number("max_position_embeddings", "n_positions") + architecture.positions
        found.append(matrix("embed_positions", "embedding", rows, hidden, ONCE))
    if on(architecture.head_bias, fields):
        found.append(vector("lm_head.bias", vocabulary, ONCE))
    norms = int(on(architecture.final_norm, fields)) + int(architecture.embedding_norm)
    found.append(vector("norm", norms * architecture.norm_size * hidden, ONCE))
    return found + _layer_inputs(architecture, fields, shape)


def _layer_inputs(architecture: Architecture, fields: Fields, shape: Shape) -> list[Tensor]:
    count, hidden = shape.layers, shape.hidden
    width = fields.number(architecture.layer_inputs, least=0) if architecture.layer_inputs else 0
    if not width:
        return []
    rows, layers = fields.number("vocab_size_per_layer_input"), tuple(range(count))
    return [
        matrix("embed_tokens_per_layer", "embedding", rows, count * width, ONCE),
        matrix("per_layer_model_projection", "dense", count * width, hidden, ONCE),
        vector("per_layer_projection_norm", width, ONCE),
        matrix("per_layer_input_gate", "dense", width, hidden, layers),
        matrix("per_layer_projection", "dense", hidden, width, layers),
        vector("post_per_layer_input_norm", hidden, layers),
    ]


def feed_forward(
    module: str,
    part: str,
    gated: bool,
    sizes: tuple[int, int],
    layers: Indices,
    copies: tuple[int, int] = (1, 1),
) -> list[Tensor]:
    """Return the projections of a feed-forward part or of experts.

    Args:
        module: Name below the layer.
        part: "dense", "experts" or "shared".
        gated: Whether it has a gate projection.
        sizes: Width of what goes in and comes out, and width between.
        layers: The layers.
        copies: How many a layer has, and how many of these one token passes through.
    """
    outer, inner = sizes
    rows = [("gate_proj", inner, outer)] if gated else []
    rows += [("up_proj", inner, outer), ("down_proj", outer, inner)]
    return [Tensor(f"{module}.{name}", part, high, wide, layers, *copies) for name, high, wide in rows]


def dense(architecture: Architecture, fields: Fields, shape: Shape, layers: Indices) -> list[Tensor]:
    """Return the dense feed-forward parts.

    Args:
        architecture: The family.
        fields: The config.
        shape: Its sizes.
        layers: The layers that have one.
    """
    first = shape.layers - shape.reused
    wide = tuple(at for at in layers if at >= first) if fields.flag("use_double_wide_mlp") else ()
    groups = ((shape.width, tuple(at for at in layers if at not in wide)), (2 * shape.width, wide))
    found: list[Tensor] = []
    for width, indices in groups:
        if indices:
            found += feed_forward("mlp", "dense", architecture.gated, (shape.hidden, width), indices)
    if on(architecture.mlp_bias, fields):
        found += [vector(f"{tensor.module}.bias", tensor.outputs, tensor.layers) for tensor in found]
    return found


def sparse(
    architecture: Architecture, experts: Experts, fields: Fields, shape: Shape, layers: Indices
) -> list[Tensor]:
    """Return router, routed and shared experts.

    Args:
        architecture: The family.
        experts: How it has experts.
        fields: The config.
        shape: Its sizes.
        layers: The layers that have experts.
    """
    hidden, count, gated = shape.hidden, shape.experts, architecture.gated
    latent = fields.number(experts.latent, default=hidden) if experts.latent else hidden
    sizes, copies = (latent, shape.expert_width), (count, shape.experts_per_token)
    # beside a dense part the experts are no part of it (Gemma 4), else they stand in its place
    inside = "" if experts.beside_dense else "mlp."
    found = feed_forward(f"{inside}experts", "experts", gated, sizes, layers, copies)
    small = hidden * experts.extra_norms
    if experts.expert_bias:
        size = sum(tensor.outputs for tensor in found)
        found.append(Tensor(f"{inside}experts.bias", "small", size, 1, layers, *copies))
    if experts.router_bias:
        small += count
    if experts.router_scale:
        small += hidden + count
    if latent != hidden:
        found.append(matrix(f"{inside}fc1_latent_proj", "shared", latent, hidden, layers))
        found.append(matrix(f"{inside}fc2_latent_proj", "shared", hidden, latent, layers))
    width = _shared_width(experts, fields, shape)
    if width:
        found += feed_forward(f"{inside}shared_experts", "shared", gated, (hidden, width), layers)
        small += hidden if experts.shared_gate else 0
    found.append(matrix(f"{inside}gate", "router", count, hidden, layers))
    return [*found, vector(f"{inside}vectors", small, layers)]


def _shared_width(experts: Experts, fields: Fields, shape: Shape) -> int:
    if experts.shared_width:
        return fields.number(experts.shared_width, default=0, least=0)
    count = experts.shared_default
    if experts.shared:
        count = fields.number(experts.shared, default=count, least=0)
    return count * shape.expert_width
