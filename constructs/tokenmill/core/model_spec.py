"""A model's size and shape, read from the config.json that its publisher ships."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError
from tokenmill.core.model_formats import DTYPE_BYTES as DTYPE_BYTES
from tokenmill.core.model_formats import QUANTIZED_BYTES, quantized_parts

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionGroup:
    """Layers that remember the past in the same way.

    Args:
        kind: "full", "sliding" (a window, or a chunk of one), "latent" (multi-head latent attention: one
            vector for all heads) or "linear" (DeltaNet, lightning attention, Mamba: a constant state).
        layers: How many layers.
        kv_heads: Key and value heads; 1 for "latent"; heads of the state for "linear".
        key_dim: Elements of a key of one head; of the latent vector for "latent"; of one side of the state
            matrix for "linear".
        value_dim: Elements of a value of one head; 0 where keys and values are one vector; of the other side
            of the state matrix for "linear".
        window: Tokens that a "sliding" layer keeps; None for the others.
        index_dim: Elements of the key that a sparse attention's indexer keeps beside each token; 0 without.
        tail_elements: Elements of the short convolution's memory of a "linear" layer.
        state_bytes: Bytes of one element of a "linear" layer's state; None where it has the model's type.
    """

    kind: str
    layers: int
    kv_heads: int
    key_dim: int
    value_dim: int
    window: int | None
    index_dim: int = 0
    tail_elements: int = 0
    state_bytes: int | None = None

    @property
    def elements_per_token(self) -> int:
        """Elements that one token adds over the layers of the group; 0 for a constant state."""
        if self.kind == "linear":
            return 0
        return self.layers * (self.kv_heads * (self.key_dim + self.value_dim) + self.index_dim)

    def kept_bytes(self, tokens: int, element_bytes: int) -> int:
        """Return the bytes that one sequence keeps in the group.

        Args:
            tokens: Length of the sequence.
            element_bytes: Bytes of one element of the cache.
        """
        if self.kind == "linear":
            state = self.kv_heads * self.key_dim * self.value_dim * (self.state_bytes or element_bytes)
            return self.layers * (state + self.tail_elements * element_bytes)
        kept = tokens if self.window is None else min(tokens, self.window)
        return self.elements_per_token * kept * element_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """Weight matrices of one shape that stand in the same place of their layers.

    Args:
        name: Last part of the module's name, such as "q_proj".
        part: "attention", "dense", "experts", "shared" or "router".
        inputs: Columns, in elements.
        outputs: Rows, in elements.
        copies: Matrices over all layers and experts.
        active: Of these, how many one token passes through.
    """

    name: str
    part: str
    inputs: int
    outputs: int
    copies: int
    active: int

    @property
    def parameters(self) -> int:
        """Parameters of all copies."""
        return self.inputs * self.outputs * self.copies

    @property
    def active_parameters(self) -> int:
        """Parameters that one token passes through."""
        return self.inputs * self.outputs * self.active


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """What the planner must know of a model.

    Args:
        id: Name on the Hugging Face Hub, such as "Qwen/Qwen3-8B".
        architecture: Class that it is counted and timed as, such as "Qwen3ForCausalLM".
        layers: Decoder layers.
        hidden_size: Width of the residual stream, in elements.
        intermediate_size: Width of a dense feed-forward layer (or of one expert), in elements.
        attention_heads: Query heads.
        kv_heads: Key and value heads; 1 where all heads share one latent vector.
        head_dim: Width of one query head, in elements.
        vocab_size: Entries of the vocabulary.
        max_context_tokens: Longest sequence the model was made for, in tokens.
        tied_embeddings: Whether the output projection reuses the input embedding.
        dtype: Element type of activations and KV cache, such as "bfloat16".
        quantization: Weight format where it differs: "fp8", "int8", "int4", "mxfp4" or "nvfp4"; empty for
            plain weights.
        parameters: All parameters of the text decoder (vision and audio towers and the layers that predict
            more than one token are left out).
        active_parameters: Parameters that one token passes through.
        embedding_parameters: Input embedding, learned positions and output projection.
        experts: Routed experts a layer; 0 for a dense model.
        experts_per_token: Routed experts that one token passes through.
        weight_bytes: Bytes of all weights as stored.
        active_weight_bytes: Bytes of the weights that one token passes through.
        moe_layers: Layers that have experts.
        expert_width: Width of one routed expert, in elements; 0 for a dense model.
        expert_parameters: Parameters of all routed experts, without the router.
        active_expert_parameters: Parameters of the routed experts that one token passes through.
        shared_expert_parameters: Parameters of the experts that every token passes through.
        attention: What each kind of layer keeps of the past.
        projections: The weight matrices of the layers, by place and shape.
        model_class: Class that the config names where that is an alias of `architecture`, such as
            "Phi3ForCausalLM" of "MistralForCausalLM"; empty where both are one.
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
    moe_layers: int
    expert_width: int
    expert_parameters: int
    active_expert_parameters: int
    shared_expert_parameters: int
    attention: tuple[AttentionGroup, ...]
    projections: tuple[Projection, ...]
    model_class: str = ""

    @property
    def served_class(self) -> str:
        """Class that a server must know: the one that the config names."""
        return self.model_class or self.architecture

    @property
    def dtype_bytes(self) -> int:
        """Bytes of one element of activations and KV cache."""
        return DTYPE_BYTES[self.dtype]

    @property
    def attention_width(self) -> int:
        """Width of all query heads, in elements."""
        return self.attention_heads * self.head_dim

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes that one more token adds over all layers while no window is full, without replication."""
        return sum(group.elements_per_token for group in self.attention) * self.dtype_bytes

    @property
    def embedding_bytes(self) -> int:
        """Bytes of the input embedding and the output projection."""
        return self.embedding_parameters * self.dtype_bytes

    def kv_bytes(self, tokens: int) -> int:
        """Return the cache of one sequence, in bytes, without replication: windows cap it, states stay.

        Args:
            tokens: Length of the sequence.
        """
        return sum(group.kept_bytes(tokens, self.dtype_bytes) for group in self.attention)

    def with_quantization(self, quantization: str) -> ModelSpec:
        """Return the same model with its weights in another format; activations and KV cache stay.

        The layers' matrices are converted, routers, norms and embeddings are not; MXFP4 converts only the
        experts of a mixture (gpt-oss config.json, quantization_config.modules_to_not_convert).

        Args:
            quantization: "fp8", "int8", "int4", "mxfp4" or "nvfp4"; empty for plain weights.

        Raises:
            TokenmillError: Unknown format.
        """
        if quantization and quantization not in QUANTIZED_BYTES:
            raise TokenmillError(
                f"unknown quantization {quantization!r}; use {', '.join(QUANTIZED_BYTES)} or none"
            )
        total, active = self.parameters * self.dtype_bytes, self.active_parameters * self.dtype_bytes
        if quantization:
            saved = self.dtype_bytes - QUANTIZED_BYTES[quantization]
            parts = quantized_parts(quantization, sparse=self.experts > 0)
            chosen = [item for item in self.projections if item.part in parts]
            total -= round(saved * sum(item.parameters for item in chosen))
            active -= round(saved * sum(item.active_parameters for item in chosen))
        return replace(self, quantization=quantization, weight_bytes=total, active_weight_bytes=active)

    @classmethod
    def from_hf_config(cls, source: Path | Mapping[str, Any], *, model_id: str | None = None) -> ModelSpec:
        """Return the model that a Hugging Face config.json describes.

        Args:
            source: The file, named `organisation__model.json` unless model_id is given, or its content.
            model_id: Name on the Hugging Face Hub.

        Raises:
            TokenmillError: The file is missing or not JSON, the architecture is unknown, or a field is
                missing, of the wrong kind, absurd or at odds with another; the message names file and field.
        """
        # the reader builds ModelSpec and so imports this module
        from tokenmill.core.model_reader import read_model

        if isinstance(source, Path):
            return read_model(read_config(source), str(source), model_id or _id_of_file(source))
        if model_id is None:
            raise TokenmillError("model_id must be given when the config is not read from a file")
        return read_model(source, f"config of {model_id}", model_id)


def read_config(path: Path) -> dict[str, Any]:
    """Return the parsed config.json.

    Args:
        path: The file.

    Raises:
        TokenmillError: The file is missing, not text, not JSON, or not an object.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
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
    except (RecursionError, ValueError):
        # json gives up on thousands of nested brackets, and on numbers of more than 4,300 digits
        raise TokenmillError(
            f"model file {path} is nested too deep or holds a number of thousands of digits; "
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
