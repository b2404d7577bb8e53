"""How many parameters a decoder has, tensor by tensor, for the architectures the planner knows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What differs between decoder families when their tensors are counted.

    Args:
        name: Class name in `architectures` of a Hugging Face config.json.
        qkv_bias: Whether query, key and value projections always carry a bias.
        qk_norm: Whether queries and keys are normalised per head (two vectors of head_dim a layer).
        experts_field: Field that holds the number of experts; None for a dense model.
        expert_width_field: Field that holds the width of one expert.
        router_bias: Whether the router carries a bias.
        expert_bias: Whether expert projections carry biases.
        attention_sinks: Whether each layer has one learned sink a head.
        mlp_bias: Whether the `mlp_bias` field adds biases to the dense projections.
    """

    name: str
    qkv_bias: bool = False
    qk_norm: bool = False
    experts_field: str | None = None
    expert_width_field: str = "intermediate_size"
    router_bias: bool = False
    expert_bias: bool = False
    attention_sinks: bool = False
    mlp_bias: bool = False


ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        Architecture(name="LlamaForCausalLM", mlp_bias=True),
        Architecture(name="MistralForCausalLM"),
        Architecture(name="MixtralForCausalLM", experts_field="num_local_experts"),
        Architecture(name="Qwen2ForCausalLM", qkv_bias=True),
        Architecture(name="Qwen3ForCausalLM", qk_norm=True),
        Architecture(
            name="Qwen3MoeForCausalLM",
            qk_norm=True,
            experts_field="num_experts",
            expert_width_field="moe_intermediate_size",
        ),
        Architecture(
            name="GptOssForCausalLM",
            experts_field="num_local_experts",
            router_bias=True,
            expert_bias=True,
            attention_sinks=True,
        ),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The numbers of a config.json that the count needs; sizes are in elements."""

    layers: int
    hidden_size: int
    intermediate_size: int
    attention_heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    tied_embeddings: bool
    attention_bias: bool
    mlp_bias: bool
    experts: int
    experts_per_token: int
    expert_width: int
    dense_layers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterCount:
    """Parameters by what happens to them: shared by cores, kept whole, quantized, or touched by few tokens.

    Args:
        embedding: Input embedding and, unless tied, the output projection.
        attention: Attention projections of all layers.
        dense: Feed-forward projections of dense layers.
        experts: Projections of all experts of all layers.
        active_experts: Projections of the experts that one token passes through.
        small: Norms, biases, routers and sinks.
    """

    embedding: int
    attention: int
    dense: int
    experts: int
    active_experts: int
    small: int

    @property
    def total(self) -> int:
        """All parameters."""
        return self.embedding + self.attention + self.dense + self.experts + self.small

    @property
    def active(self) -> int:
        """Parameters that one token passes through."""
        return self.total - self.experts + self.active_experts


def count_parameters(architecture: Architecture, shape: Shape) -> ParameterCount:
    """Return how many parameters a decoder has.

    The tensors are those of the model's class in Hugging Face transformers.

    Args:
        architecture: The family.
        shape: Its sizes.
    """
    hidden, heads = shape.hidden_size, shape.attention_heads
    query, key = heads * shape.head_dim, shape.kv_heads * shape.head_dim
    attention = shape.layers * (2 * hidden * query + 2 * hidden * key)
    sparse_layers = shape.layers - shape.dense_layers
    expert = 3 * hidden * shape.expert_width
    experts = sparse_layers * shape.experts * expert
    active = sparse_layers * shape.experts_per_token * expert
    embedding = shape.vocab_size * hidden * (1 if shape.tied_embeddings else 2)
    return ParameterCount(
        embedding=embedding,
        attention=attention,
        dense=shape.dense_layers * 3 * hidden * shape.intermediate_size,
        experts=experts,
        active_experts=active,
        small=_small(architecture, shape, query, key, sparse_layers),
    )


def _small(architecture: Architecture, shape: Shape, query: int, key: int, sparse_layers: int) -> int:
    hidden = shape.hidden_size
    layer = 2 * hidden
    if architecture.qk_norm:
        layer += 2 * shape.head_dim
    if architecture.qkv_bias or shape.attention_bias:
        layer += query + 2 * key
    if shape.attention_bias:
        layer += hidden
    if architecture.attention_sinks:
        layer += shape.attention_heads
    dense = 2 * shape.intermediate_size + hidden if shape.mlp_bias and architecture.mlp_bias else 0
    sparse = hidden * shape.experts
    if architecture.router_bias:
        sparse += shape.experts
    if architecture.expert_bias:
        sparse += shape.experts * (2 * shape.expert_width + hidden)
    return shape.layers * layer + shape.dense_layers * dense + sparse_layers * sparse + hidden
