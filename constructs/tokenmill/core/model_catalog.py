"""The config.json files that ship with the library, and how a reference to a model becomes a file."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path

from tokenmill.core.errors import TokenmillError


def _folder() -> Path:
    return Path(str(resources.files("tokenmill.core").joinpath("data", "models")))


def model_ids() -> tuple[str, ...]:
    """Return the names of the models whose config.json ships with the library."""
    return tuple(sorted(path.stem.replace("__", "/", 1) for path in _folder().glob("*.json")))


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
    shipped = _folder() / f"{reference.replace('/', '__', 1)}.json"
    if reference in model_ids():
        return shipped
    near = difflib.get_close_matches(reference, model_ids(), n=3, cutoff=0.3) or model_ids()
    raise TokenmillError(
        f"model {reference!r} is neither a file nor in the catalog; nearest in the catalog: "
        f"{', '.join(near)}; or give the path of its config.json, named organisation__model.json"
    )
