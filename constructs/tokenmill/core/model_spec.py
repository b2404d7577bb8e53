"""A model's size and shape, read from the config.json that its publisher ships."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenmill.core.architectures import ARCHITECTURES, Architecture, ParameterCount, Shape, count_parameters
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Mapping

DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
FP8_BYTES = 1 + 4 / (128 * 128)
MXFP4_BYTES = (4 + 8 / 32) / 8

REQUIRED = (
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "vocab_size",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """What the planner must know of a model.

    Args:
        id: Name on the Hugging Face Hub, such as "Qwen/Qwen3-8B".
        architecture: Class name, such as "Qwen3ForCausalLM".
        layers: Decoder layers.
        hidden_size: Width of the residual stream, in elements.
        intermediate_size: Width of a dense feed-forward layer (or of one expert), in elements.
        attention_heads: Query heads.
        kv_heads: Key and value heads.
        head_dim: Width of one head, in elements.
        vocab_size: Entries of the vocabulary.
        max_context_tokens: Longest sequence the model was made for, in tokens.
        tied_embeddings: Whether the output projection reuses the input embedding.
        dtype: Element type of activations and KV cache, such as "bfloat16".
        quantization: Weight format where it differs: "fp8" or "mxfp4"; empty for plain weights.
        parameters: All parameters.
        active_parameters: Parameters that one token passes through.
        embedding_parameters: Input embedding and output projection.
        experts: Experts a layer; 0 for a dense model.
        experts_per_token: Experts that one token passes through.
        weight_bytes: Bytes of all weights as stored.
        active_weight_bytes: Bytes of the weights that one token passes through.
    """

    id: str
    architecture: str
    layers: int
    hidden_size: int
    intermediate_size: int
    attention_heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    max_context_tokens: int
    tied_embeddings: bool
    dtype: str
    quantization: str
    parameters: int
    active_parameters: int
    embedding_parameters: int
    experts: int
    experts_per_token: int
    weight_bytes: int
    active_weight_bytes: int

    @property
    def dtype_bytes(self) -> int:
        """Bytes of one element of activations and KV cache."""
        return DTYPE_BYTES[self.dtype]

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values that one token adds over all layers, without replication."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.dtype_bytes

    @property
    def embedding_bytes(self) -> int:
        """Bytes of the input embedding and the output projection."""
        return self.embedding_parameters * self.dtype_bytes

    @classmethod
    def from_hf_config(cls, source: Path | Mapping[str, Any], *, model_id: str | None = None) -> ModelSpec:
        """Return the model that a Hugging Face config.json describes.

        Args:
            source: The file, named `organisation__model.json` unless model_id is given, or its content.
            model_id: Name on the Hugging Face Hub.

        Raises:
            TokenmillError: The file is missing or not JSON, the architecture is unknown, or a field is
                missing or of the wrong kind; the message names file and field.
        """
        if isinstance(source, Path):
            return _read(cls, read_config(source), str(source), model_id or _id_of_file(source))
        if model_id is None:
            raise TokenmillError("model_id must be given when the config is not read from a file")
        return _read(cls, source, f"config of {model_id}", model_id)


def read_config(path: Path) -> dict[str, Any]:
    """Return the parsed config.json.

    Args:
        path: The file.

    Raises:
        TokenmillError: The file is missing, not text, not JSON, or not an object.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TokenmillError(f"model file {path} does not exist") from None
    except IsADirectoryError:
        raise TokenmillError(f"model file {path} is a folder; name the config.json in it") from None
    except UnicodeDecodeError:
        raise TokenmillError(f"model file {path} is not text; give a Hugging Face config.json") from None
    except json.JSONDecodeError as error:
        raise TokenmillError(
            f"model file {path} is not JSON (line {error.lineno} column {error.colno}: {error.msg.lower()}); "
            "give a Hugging Face config.json"
        ) from None
    if not isinstance(document, dict):
        raise TokenmillError(f"model file {path} must hold a JSON object, got {type(document).__name__}")
    return document


def _id_of_file(path: Path) -> str:
    if "__" not in path.stem:
        raise TokenmillError(
            f"cannot tell the model's name on the hugging face hub from {path}; "
            "name the file organisation__model.json, such as Qwen__Qwen3-8B.json"
        )
    return path.stem.replace("__", "/", 1)


def _architecture(config: Mapping[str, Any], where: str) -> Architecture:
    names = config.get("architectures") or [config.get("model_type")]
    name = names[0] if isinstance(names, list) else names
    if name not in ARCHITECTURES:
        raise TokenmillError(f"unknown architecture {name!r} in {where}; known: {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]


def _read(cls: type[ModelSpec], config: Mapping[str, Any], where: str, model_id: str) -> ModelSpec:
    architecture = _architecture(config, where)
    fields = _Fields(config, where)
    fields.require(*REQUIRED)
    if architecture.experts_field:
        fields.require(architecture.experts_field, architecture.expert_width_field, "num_experts_per_tok")
    fields.raise_missing()
    shape = _shape(architecture, fields)
    count = count_parameters(architecture, shape)
    dtype, quantization = _formats(config, where)
    return cls(
        id=model_id,
        architecture=architecture.name,
        layers=shape.layers,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.expert_width or shape.intermediate_size,
        attention_heads=shape.attention_heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        vocab_size=shape.vocab_size,
        max_context_tokens=fields.number("max_position_embeddings"),
        tied_embeddings=shape.tied_embeddings,
        dtype=dtype,
        quantization=quantization,
        parameters=count.total,
        active_parameters=count.active,
        embedding_parameters=count.embedding,
        experts=shape.experts,
        experts_per_token=shape.experts_per_token,
        weight_bytes=_weight_bytes(count, count.experts, dtype, quantization),
        active_weight_bytes=_weight_bytes(count, count.active_experts, dtype, quantization),
    )


def _shape(architecture: Architecture, fields: _Fields) -> Shape:
    layers = fields.number("num_hidden_layers")
    heads = fields.number("num_attention_heads")
    hidden = fields.number("hidden_size")
    sparse = architecture.experts_field is not None
    return Shape(
        layers=layers,
        hidden_size=hidden,
        intermediate_size=fields.number("intermediate_size"),
        attention_heads=heads,
        kv_heads=fields.number("num_key_value_heads", heads),
        head_dim=fields.number("head_dim", hidden // heads),
        vocab_size=fields.number("vocab_size"),
        tied_embeddings=fields.flag("tie_word_embeddings"),
        attention_bias=fields.flag("attention_bias"),
        mlp_bias=fields.flag("mlp_bias"),
        experts=fields.number(architecture.experts_field) if architecture.experts_field else 0,
        experts_per_token=fields.number("num_experts_per_tok") if sparse else 0,
        expert_width=fields.number(architecture.expert_width_field) if sparse else 0,
        dense_layers=_dense_layers(layers, fields) if sparse else layers,
    )


def _dense_layers(layers: int, fields: _Fields) -> int:
    step = fields.number("decoder_sparse_step", 1)
    dense_only = fields.config.get("mlp_only_layers") or []
    return sum(1 for layer in range(layers) if layer in dense_only or (layer + 1) % step)


def _formats(config: Mapping[str, Any], where: str) -> tuple[str, str]:
    quantization = config.get("quantization_config")
    method = quantization.get("quant_method") if isinstance(quantization, dict) else ""
    if method not in ("", "fp8", "mxfp4"):
        raise TokenmillError(
            f"quant_method {method!r} in {where} is not supported; use fp8, mxfp4 or plain weights"
        )
    dtype = config.get("torch_dtype") or config.get("dtype") or ("bfloat16" if method else None)
    if dtype is None:
        raise TokenmillError(f"missing field torch_dtype in {where}")
    if dtype not in DTYPE_BYTES:
        raise TokenmillError(f"torch_dtype {dtype!r} in {where} is not one of {', '.join(DTYPE_BYTES)}")
    return dtype, method


def _weight_bytes(count: ParameterCount, experts: int, dtype: str, quantization: str) -> int:
    plain = DTYPE_BYTES[dtype]
    # FP8 checkpoints convert every projection of the layers, MXFP4 ones only the experts' (gpt-oss
    # config.json, quantization_config.modules_to_not_convert).
    projection: float = FP8_BYTES if quantization == "fp8" else plain
    expert: float = {"fp8": FP8_BYTES, "mxfp4": MXFP4_BYTES}.get(quantization, plain)
    kept = (count.embedding + count.small) * plain
    return round(kept + (count.attention + count.dense) * projection + experts * expert)


class _Fields:
    """Reads numbers and flags of a config and remembers every missing name."""

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        self.config = config
        self.where = where
        self.missing: list[str] = []

    def require(self, *names: str) -> None:
        self.missing += [name for name in names if self.config.get(name) is None]

    def raise_missing(self) -> None:
        if self.missing:
            noun = "field" if len(self.missing) == 1 else "fields"
            raise TokenmillError(f"missing {noun} {', '.join(self.missing)} in {self.where}")

    def number(self, name: str, default: int | None = None) -> int:
        value = self.config.get(name)
        if value is None and default is not None:
            return default
        if type(value) is not int or value < 1:
            raise TokenmillError(f"{name} in {self.where} must be a whole number above 0, got {value!r}")
        return value

    def flag(self, name: str) -> bool:
        value = self.config.get(name, False)
        if type(value) is not bool:
            raise TokenmillError(f"{name} in {self.where} must be true or false, got {value!r}")
        return value
