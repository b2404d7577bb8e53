"""Models known without a config.json of the user's: files that ship, and shapes of measured models."""

from __future__ import annotations

import csv
import difflib
import functools
import json
from importlib import resources
from pathlib import Path
from typing import Any

from tokenmill.core.errors import TokenmillError
from tokenmill.core.model_spec import ModelSpec

SHAPES = "model_shapes.csv"
NUMBERS = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "intermediate": "intermediate_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "vocab": "vocab_size",
    "context": "max_position_embeddings",
}
"""Columns of model_shapes.csv and the fields of a config.json that they hold."""


def _data() -> Path:
    return Path(str(resources.files("tokenmill.core").joinpath("data")))


def model_ids() -> tuple[str, ...]:
    """Return the names of the models whose config.json ships with the library."""
    return tuple(sorted(path.stem.replace("__", "/", 1) for path in (_data() / "models").glob("*.json")))


def model_file(reference: str, base: Path) -> Path:
    """Return the config.json that a reference names.

    Args:
        reference: A path, relative to base or absolute, or the name of a model in the catalog.
        base: Folder that relative paths start from.

    Raises:
        TokenmillError: Neither a file nor in the catalog; the message names the nearest models.
    """
    path = base / reference
    if path.exists():
        return path
    shipped = _data() / "models" / f"{reference.replace('/', '__', 1)}.json"
    if reference in model_ids():
        return shipped
    near = difflib.get_close_matches(reference, model_ids(), n=3, cutoff=0.3) or model_ids()
    raise TokenmillError(
        f"model {reference!r} is neither a file nor in the catalog; nearest in the catalog: "
        f"{', '.join(near)}; or give the path of its config.json, named organisation__model.json"
    )


def known_models() -> tuple[str, ...]:
    """Return the names on the Hugging Face Hub of every model known by config.json or by shape."""
    return tuple(sorted({*model_ids(), *(row["hf_id"] for row in _shapes())}))


@functools.cache
def known_model(name: str) -> ModelSpec | None:
    """Return a model that is known without a file of the user's; None for an unknown one.

    The config.json that ships comes first, then the shape in core/data/model_shapes.csv (each row names its
    source); both are counted tensor by tensor.

    Args:
        name: Name on the Hugging Face Hub, or the short name that measurements use; case does not matter.
    """
    found = _names().get(name.casefold())
    if isinstance(found, Path):
        return ModelSpec.from_hf_config(found)
    if found is None:
        return None
    return ModelSpec.from_hf_config(shape_config(found), model_id=found["hf_id"])


def shape_config(row: dict[str, str]) -> dict[str, Any]:
    """Return the fields of a config.json that a row of model_shapes.csv stands for.

    Args:
        row: Texts by column; empty for an absent field.
    """
    config: dict[str, Any] = {"architectures": [row["architecture"]], "torch_dtype": row["dtype"]}
    config |= {field: int(row[column]) for column, field in NUMBERS.items() if row[column]}
    if row["tied"]:
        config["tie_word_embeddings"] = row["tied"] == "true"
    config.update(json.loads(row["other"] or "{}"))
    return config


@functools.cache
def _shapes() -> tuple[dict[str, str], ...]:
    with (_data() / SHAPES).open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


@functools.cache
def _names() -> dict[str, Path | dict[str, str]]:
    names: dict[str, Path | dict[str, str]] = {}
    for row in _shapes():
        for name in (row["model"], row["hf_id"], *row["also"].split()):
            names.setdefault(name.casefold(), row)
    for model in model_ids():
        path = _data() / "models" / f"{model.replace('/', '__', 1)}.json"
        names[model.casefold()] = path
        names[model.rpartition("/")[2].casefold()] = path
    return names
