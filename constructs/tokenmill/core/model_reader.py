"""From a Hugging Face config.json to a ModelSpec: sizes are checked, then counted tensor by tensor."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tokenmill.core.architectures_attention import decoder
from tokenmill.core.architectures_layers import VARIANTS, Layers, read_layers
from tokenmill.core.architectures_registry import ARCHITECTURES
from tokenmill.core.architectures_tensors import Shape, Tensor
from tokenmill.core.errors import TokenmillError
from tokenmill.core.model_fields import LARGEST_LAYERS, Fields, shown
from tokenmill.core.model_formats import DTYPE_BYTES, WeightFormat, read_format
from tokenmill.core.model_spec import ModelSpec, Projection

if TYPE_CHECKING:
    from tokenmill.core.architectures import Architecture, Experts

LARGEST_PARAMETERS = 10**15
TEXT_CONFIGS = ("text_config", "llm_config", "language_config")
OUTER_FIELDS = ("tie_word_embeddings", "torch_dtype", "dtype", "quantization_config")

LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
HIDDEN = ("hidden_size", "n_embd", "d_model", "n_embed")
HEADS = ("num_attention_heads", "n_head", "n_heads")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv")
WIDTH = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size")
CONTEXT = ("max_position_embeddings", "n_positions", "seq_length", "max_seq_len")
VOCABULARY = ("vocab_size",)
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
PER_TOKEN = ("num_experts_per_tok", "experts_per_token", "top_k_experts", "num_experts_per_token")
"""Names that families give to one thing; the first is what messages call it where it is missing."""


def read_model(config: object, where: str, model_id: str) -> ModelSpec:
    """Return the model that a parsed config.json describes.

    Args:
        config: The parsed document.
        where: What is being read, for messages.
        model_id: Name on the Hugging Face Hub.

    Raises:
        TokenmillError: Not an object, the architecture is unknown, or a field is missing, of the wrong kind,
            absurd or at odds with another.
    """
    if not isinstance(config, Mapping):
        raise TokenmillError(f"{where} must hold a JSON object, got {shown(config)}")
    named = find_class(config, where)
    architecture = ARCHITECTURES[named]
    fields = _text_fields(architecture, config, where)
    architecture, shape, layers = _shape(architecture, fields)
    tied = fields.flag("tie_word_embeddings", architecture.tied)
    tensors, groups = decoder(architecture, fields, shape, layers, tied=tied)
    dtype, weights = read_format(fields, sparse=bool(layers.sparse))
    count = _Count(tensors, where)
    return ModelSpec(
        id=model_id,
        architecture=architecture.name,
        layers=layers.count,
        hidden_size=shape.hidden,
        intermediate_size=shape.expert_width or shape.width,
        attention_heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        vocab_size=fields.number(*VOCABULARY),
        max_context_tokens=fields.number(*CONTEXT),
        tied_embeddings=tied,
        dtype=dtype,
        quantization=weights.name,
        parameters=count.total,
        active_parameters=count.active,
        embedding_parameters=count.part("embedding"),
        experts=shape.experts if layers.sparse else 0,
        experts_per_token=shape.experts_per_token if layers.sparse else 0,
        weight_bytes=_bytes(tensors, dtype, weights, active=False),
        active_weight_bytes=_bytes(tensors, dtype, weights, active=True),
        moe_layers=len(layers.sparse),
        expert_width=shape.expert_width if layers.sparse else 0,
        expert_parameters=count.part("experts"),
        active_expert_parameters=count.active_part("experts"),
        shared_expert_parameters=count.part("shared"),
        attention=groups,
        projections=_projections(tensors),
        model_class="" if named == architecture.name else named,
    )


def find_class(config: Mapping[str, Any], where: str) -> str:
    """Return the class that a config names and that is counted.

    Args:
        config: The parsed document.
        where: What is being read, for messages.

    Raises:
        TokenmillError: No name, or one that is not counted; the message names the field and the nearest.
    """
    names = config.get("architectures")
    found = names if isinstance(names, list) else []
    for name in found:
        if isinstance(name, str) and name in ARCHITECTURES:
            return name
    given = found[0] if found else names if names is not None else config.get("model_type")
    if given is None:
        raise TokenmillError(f"missing field architectures in {where}; it names the model's class")
    if not isinstance(given, str) or isinstance(names, str):
        raise TokenmillError(f"architectures in {where} must be a list of class names, got {shown(given)}")
    near = difflib.get_close_matches(given[:100], ARCHITECTURES, n=3, cutoff=0.4)
    near_text = f"nearest: {', '.join(near)}" if near else f"{len(ARCHITECTURES)} are known, none like it"
    raise TokenmillError(
        f"unknown architecture {shown(given)} in field architectures of {where}; {near_text}"
    )


def _text_fields(architecture: Architecture, config: Mapping[str, Any], where: str) -> Fields:
    outer = Fields(config, where, {})
    for name in TEXT_CONFIGS:
        inner = outer.object(name)
        if inner is not None:
            above = {key: config[key] for key in OUTER_FIELDS if config.get(key) is not None}
            return Fields({**above, **_present(inner.config)}, f"{name} of {where}", architecture.defaults)
    return Fields(config, where, architecture.defaults)


def _present(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if value is not None}


def _shape(architecture: Architecture, fields: Fields) -> tuple[Architecture, Shape, Layers]:
    fields.rename(architecture.fields)
    if architecture.variant:
        architecture = VARIANTS[architecture.variant](architecture, fields)
    experts = _experts(architecture, fields)
    fields.require(_required(architecture, experts))
    hidden, heads = fields.number(*HIDDEN), fields.number(*HEADS)
    count = fields.number(*LAYERS, most=LARGEST_LAYERS)
    layers = read_layers(architecture, experts, fields, count)
    latent = architecture.attention == "latent"
    head_dim = _latent_dim(fields) if latent else _head_dim(fields, hidden, heads)
    factor = architecture.width_factor
    reused = architecture.reused
    shape = Shape(
        layers=count,
        reused=fields.number(reused, default=0, least=0, most=count - 1) if reused else 0,
        hidden=hidden,
        width=fields.number(*WIDTH, default=(factor or 0) * hidden) if layers.dense else 0,
        heads=heads,
        kv_heads=1 if latent else _kv_heads(fields, heads),
        head_dim=head_dim,
        value_dim=fields.number("v_head_dim") if latent else head_dim,
        experts=fields.number(*EXPERTS) if experts else 0,
        experts_per_token=fields.number(*PER_TOKEN) if experts else 0,
        expert_width=fields.number(experts.width) if experts else 0,
    )
    if layers.dense and not shape.width:
        raise TokenmillError(f"missing field {fields.name(*WIDTH)} in {fields.where}")
    if shape.experts_per_token > shape.experts:
        raise TokenmillError(
            f"{fields.name(*PER_TOKEN)} in {fields.where} must be at most the {shape.experts} experts, "
            f"got {shape.experts_per_token}"
        )
    return architecture, shape, layers


def _experts(architecture: Architecture, fields: Fields) -> Experts | None:
    experts = architecture.experts
    if experts is None or not experts.when:
        return experts
    value = fields.get(experts.when)
    present = value if isinstance(value, bool) else fields.number(experts.when, default=0, least=0) > 0
    return experts if present else None


def _required(architecture: Architecture, experts: Experts | None) -> list[tuple[str, ...]]:
    names = [LAYERS, HIDDEN, HEADS, CONTEXT, VOCABULARY]
    if experts:
        names += [EXPERTS, (experts.width,), PER_TOKEN]
    elif architecture.width_factor is None and architecture.layers != "blocks":
        names.append(WIDTH)
    if architecture.attention == "latent":
        names += [("kv_lora_rank",), ("qk_nope_head_dim",), ("qk_rope_head_dim",), ("v_head_dim",)]
    return sorted(names)


def _latent_dim(fields: Fields) -> int:
    return fields.number("qk_nope_head_dim") + fields.number("qk_rope_head_dim")


def _kv_heads(fields: Fields, heads: int) -> int:
    kv_heads = fields.number(*KV_HEADS, default=heads)
    if heads % kv_heads:
        raise TokenmillError(
            f"{fields.name(*KV_HEADS)} in {fields.where} must divide the {heads} query heads, got {kv_heads}"
        )
    return kv_heads


def _head_dim(fields: Fields, hidden: int, heads: int) -> int:
    given = fields.get("head_dim")
    if given is None and hidden % heads:
        raise TokenmillError(
            f"{fields.name(*HEADS)} in {fields.where} must divide hidden_size {hidden} where head_dim is "
            f"absent, got {heads}"
        )
    return fields.number("head_dim", default=hidden // heads)


class _Count:
    """Parameters by what happens to them."""

    def __init__(self, tensors: list[Tensor], where: str) -> None:
        self.tensors = tensors
        self.total = sum(tensor.parameters for tensor in tensors)
        self.active = sum(tensor.active_parameters for tensor in tensors)
        if self.total > LARGEST_PARAMETERS:
            raise TokenmillError(
                f"{where} describes {shown(self.total)} parameters, more than {LARGEST_PARAMETERS:.0e}; "
                "check hidden_size, intermediate_size, vocab_size and the number of layers and experts"
            )

    def part(self, name: str) -> int:
        return sum(tensor.parameters for tensor in self.tensors if tensor.part == name)

    def active_part(self, name: str) -> int:
        return sum(tensor.active_parameters for tensor in self.tensors if tensor.part == name)


def _bytes(tensors: list[Tensor], dtype: str, weights: WeightFormat, *, active: bool) -> int:
    plain, total = DTYPE_BYTES[dtype], 0.0
    for tensor in tensors:
        elements = tensor.size * (tensor.active if active else tensor.copies)
        total += elements * weights.bytes_over(tensor.part, tensor.module, tensor.layers, plain)
    return round(total)


def _projections(tensors: list[Tensor]) -> tuple[Projection, ...]:
    return tuple(
        Projection(
            name=tensor.module.rpartition(".")[2],
            part=tensor.part,
            inputs=tensor.inputs,
            outputs=tensor.outputs,
            copies=tensor.copies * len(tensor.layers),
            active=tensor.active * len(tensor.layers),
        )
        for tensor in tensors
        if tensor.part not in ("embedding", "small") and tensor.layers
    )
