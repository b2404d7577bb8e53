"""LoRA adapters: what one is, how large it is, and what room for some takes beside a model."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tokenmill.core._checks import as_texts, as_whole, text
from tokenmill.core.errors import TokenmillError
from tokenmill.core.model_formats import DTYPE_BYTES

if TYPE_CHECKING:
    from collections.abc import Collection

    from tokenmill.core.model_spec import ModelSpec
    from tokenmill.core.workload import Parallelism

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
ROW_CUT = ("o_proj", "down_proj")
"""Projections that are cut along their inputs; the others are cut along their outputs."""
LARGEST_RANK = 4096
SERVED_RANK = 512
"""Largest rank that vLLM serves (vllm-project/vllm: vllm/config/lora.py, MaxLoRARanks)."""
ADAPTER_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
LONGEST_NAME = 40
"""Characters; the name of its inference component, of at most 63, also tells the stack."""
ARTIFACT = re.compile(r"s3://[^/*?]+/[^*?$]+\.tar\.gz")
LONGEST_ARTIFACT = 1024
"""Botocore: Url, of which "this path must point to a single gzip compressed tar archive (.tar.gz suffix)"
(Amazon SageMaker API Reference: "InferenceComponentContainerSpecification")."""
CONFIG_FILE = "adapter_config.json"


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


def slot_bytes_per_core(model: ModelSpec, *, slots: int, rank: int, parallelism: Parallelism) -> int:
    """Return what room for adapters takes of one core, in bytes, whatever adapters are loaded.

    vLLM keeps room for every projection of the model and for its output, at the largest rank. Of a projection
    that is cut along its outputs each core holds the first matrix whole, of one that is cut along its inputs
    the second (vllm-project/vllm: vllm/lora/layers/base_linear.py, logits_processor.py).

    Args:
        model: The model.
        slots: Adapters that there is room for.
        rank: Largest rank.
        parallelism: How a copy is split.
    """
    elements = float(model.hidden_size + model.vocab_size)
    for item in model.projections:
        if item.part == "router":
            continue
        row = item.name in ROW_CUT
        whole, cut = (item.outputs, item.inputs) if row else (item.inputs, item.outputs)
        elements += (whole + cut / parallelism.tensor) * item.copies / parallelism.pipeline
    return round(slots * rank * elements * model.dtype_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A LoRA adapter and where its weights are.

    Args:
        name: Short name, in letters, digits and hyphens, of at most 40 characters.
        base_model: Model that it was trained on, by its name on the Hugging Face Hub.
        rank: Its rank, 1 to 512.
        artifact: S3 URI of its gzip-compressed tar archive, which ends in .tar.gz; adapter_config.json and
            the weights stand at its top.
        target_modules: Names of the projections that it changes, such as "q_proj".

    Raises:
        TokenmillError: A field is empty, out of its range or of another form.
    """

    name: str
    base_model: str
    rank: int
    artifact: str
    target_modules: tuple[str, ...] = ATTENTION

    def __post_init__(self) -> None:
        as_whole(self, "rank")
        as_texts(self, "target_modules")
        for field in ("name", "base_model", "artifact"):
            if not isinstance(getattr(self, field), str):
                text(field, getattr(self, field))
        if not ADAPTER_NAME.fullmatch(self.name) or len(self.name) > LONGEST_NAME:
            raise TokenmillError(
                f"name must be at most {LONGEST_NAME} letters, digits and hyphens between them, got "
                f"{self.name!r}"
            )
        if not self.base_model.strip():
            raise TokenmillError("base_model is empty; give the model that the adapter was trained on")
        if not 1 <= self.rank <= SERVED_RANK:
            raise TokenmillError(
                f"rank of adapter {self.name} is {self.rank}, but vLLM serves 1 to {SERVED_RANK}; train it "
                "with a smaller one"
            )
        if not self.target_modules:
            raise TokenmillError(
                f"adapter {self.name} changes nothing; give target_modules, such as 'q_proj'"
            )
        if not ARTIFACT.fullmatch(self.artifact) or len(self.artifact) > LONGEST_ARTIFACT:
            raise TokenmillError(
                f"artifact of adapter {self.name} must be an S3 URI of one archive without *, ? or $, such "
                f"as 's3://bucket/adapters/support.tar.gz', got {self.artifact!r}; pack the adapter's folder "
                "with: tar -czf support.tar.gz -C FOLDER ."
            )

    @classmethod
    def from_folder(cls, folder: Path | str, *, artifact: str, name: str | None = None) -> Self:
        """Return the adapter that PEFT saved in a folder.

        Args:
            folder: The folder with adapter_config.json.
            artifact: S3 URI of its gzip-compressed tar archive.
            name: Short name; the folder's otherwise.

        Raises:
            TokenmillError: The file is missing, not JSON, not that of a LoRA adapter, or lacks a field.
        """
        path = Path(folder) / CONFIG_FILE
        config = _config(path)
        if config.get("peft_type") != "LORA":
            raise TokenmillError(f"{path} has peft_type {config.get('peft_type')!r}; only LORA can be served")
        for unserved in ("use_dora", "modules_to_save"):
            # vllm-project/vllm: vllm/lora/peft_helper.py
            if config.get(unserved):
                raise TokenmillError(
                    f"{path} has {unserved}, which vLLM does not serve in an adapter; train without it, or "
                    "merge the adapter into the model's weights"
                )
        targets = config.get("target_modules")
        if not isinstance(targets, list) or not all(isinstance(item, str) for item in targets):
            raise TokenmillError(
                f"{path} has target_modules {targets!r:.80}; name the projections as a list, such as "
                '["q_proj", "v_proj"]'
            )
        return cls(
            name=name or Path(folder).resolve().name,
            base_model=str(config.get("base_model_name_or_path") or ""),
            rank=_largest_rank(config, path),
            artifact=artifact,
            target_modules=tuple(targets),
        )


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise TokenmillError(f"{path} does not exist; name the folder that PEFT's save_pretrained wrote")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise TokenmillError(
            f"{path} holds no JSON object; name the folder that PEFT's save_pretrained wrote"
        )
    return document


def _largest_rank(config: dict[str, Any], path: Path) -> int:
    pattern = config.get("rank_pattern") or {}
    ranks = [config.get("r"), *(pattern.values() if isinstance(pattern, dict) else (pattern,))]
    wrong = [rank for rank in ranks if type(rank) is not int]
    if wrong:
        raise TokenmillError(f"{path} has a rank of {wrong[0]!r}; r and rank_pattern must hold whole numbers")
    return max(rank for rank in ranks if type(rank) is int)
