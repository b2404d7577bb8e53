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
from tokenmill.core.model_spec import ModelSpec, read_config

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
        TokenmillError: Neither a file nor a known model (the message names the nearest), or a model that is
            known by its shape alone.
    """
    path = base / reference
    if path.exists():
        return path
    found = _entry(reference)
    if isinstance(found, Path):
        return found
    raise TokenmillError(
        f"model {reference!r} is known by its shape alone; give the path of its config.json, "
        "named organisation__model.json"
    )


def find_model(reference: str, base: Path) -> tuple[ModelSpec, dict[str, Any]]:
    """Return the model that a reference names, and the config that it was read from.

    Args:
        reference: A path of a config.json, relative to base or absolute, or the name of a known model.
        base: Folder that relative paths start from.

    Raises:
        TokenmillError: Neither a file nor a known model (the message names the nearest), or no config that
            can be read.
    """
    path = base / reference
    found = path if path.exists() else _entry(reference)
    if isinstance(found, Path):
        return ModelSpec.from_hf_config(found), read_config(found)
    config = shape_config(found)
    return ModelSpec.from_hf_config(config, model_id=found["hf_id"]), config


def check_reference(reference: str, base: Path) -> None:
    """Check that a reference names a file or a known model, without reading it.

    Args:
        reference: A path of a config.json, relative to base or absolute, or the name of a known model.
        base: Folder that relative paths start from.

    Raises:
        TokenmillError: It names a folder, or neither a file nor a known model.
    """
    path = base / reference
    if path.is_dir():
        raise TokenmillError(f"{reference!r} is a folder; name the config.json in it")
    if not path.exists():
        _entry(reference)


def _entry(reference: str) -> Path | dict[str, str]:
    found = _names().get(reference.casefold())
    if found is None:
        close = difflib.get_close_matches(reference.casefold()[:200], _names(), n=6, cutoff=0.6)
        near = list(dict.fromkeys(_hub_name(_names()[name]) for name in close))[:3]
        hint = (
            f"nearest in the catalog: {', '.join(near)}"
            if near
            else f"the catalog has {', '.join(known_models())}"
        )
        raise TokenmillError(
            f"model {reference[:200]!r} is neither a file nor in the catalog; {hint}; "
            "or give the path of its config.json, named organisation__model.json"
        )
    return found


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


def _hub_name(entry: Path | dict[str, str]) -> str:
    return entry.stem.replace("__", "/", 1) if isinstance(entry, Path) else entry["hf_id"]


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
