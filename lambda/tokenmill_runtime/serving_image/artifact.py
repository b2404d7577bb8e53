"""Compiled graphs beside the weights: left by a compile job, put in place before a copy serves."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime.compiled_artifact import COMPILED_FOLDER, MANIFEST, SCHEMA

if TYPE_CHECKING:
    from pathlib import Path

CACHE_FOLDER: Final = "vllm-cache"
PIECE: Final = 1024**2
# "VLLM_NEURON_DISABLE_WARMUP_COMPILE: treat a local cache miss as a fatal error" (AWS Neuron documentation:
# "Compilation Cache", "Consumer Workflow: Pre-compiled Only").
NO_COMPILING: Final = "VLLM_NEURON_DISABLE_WARMUP_COMPILE"


class BadArtifact(Exception):
    """The compiled artifact is not the one that was asked for, or not whole."""


def bring_weights(source: Path, target: Path) -> None:
    """Put a job's weights where an endpoint has them, so that both run the same command.

    Links where the file system allows it: weights of 140 GB are not copied for nothing. Raises BadArtifact
    where there are none.
    """
    if not source.is_dir() or not any(source.iterdir()):
        raise BadArtifact(f"{source} holds no weights; the job needs a channel called model")
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, place)
        except OSError:
            shutil.copyfile(path, place)


def leave(cache_root: Path, model_folder: Path, *, key: str, seconds: float) -> dict[str, Any]:
    """Copy what the server compiled next to the weights and write the manifest last.

    Raises BadArtifact when the server compiled nothing.
    """
    folder = model_folder / COMPILED_FOLDER
    if folder.exists():
        raise BadArtifact(f"{folder} is there already; the weights must not bring a compiled artifact along")
    shutil.copytree(cache_root, folder / CACHE_FOLDER, ignore=shutil.ignore_patterns("*.lock", "*.tmp"))
    files = [_file(path, folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    if not files:
        raise BadArtifact(
            f"the server became healthy but left nothing in {cache_root}; "
            "it does not keep what it compiles there"
        )
    manifest = {"schema": SCHEMA, "key": key, "seconds": round(seconds, 1), "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return manifest


def seed(model_folder: Path, cache_root: Path, *, key: str) -> bool:
    """Put a compiled artifact where the server looks for it; False where none is there and none asked for.

    The model's folder may be read-only, and the server locks files of its cache, so it gets a copy. Raises
    BadArtifact when the artifact is missing, another one than asked for, or not whole.
    """
    folder = model_folder / COMPILED_FOLDER
    if not (folder / MANIFEST).is_file():
        if key:
            raise BadArtifact(f"{folder} holds no compiled artifact, but {key[:16]} is to be served")
        return False
    manifest = _read(folder / MANIFEST)
    if key and manifest["key"] != key:
        raise BadArtifact(f"the compiled artifact is {manifest['key'][:16]}, but {key[:16]} is to be served")
    for entry in manifest["files"]:
        path = folder / entry["path"]
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            raise BadArtifact(f"{path} is missing or not {entry['bytes']} bytes long; compile again")
    shutil.copytree(folder / CACHE_FOLDER, cache_root, dirs_exist_ok=True)
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["schema"] != SCHEMA:
            raise BadArtifact(f"{path} has schema {manifest['schema']!r}; this image reads {SCHEMA}")
        return {"key": str(manifest["key"]), "files": list(manifest["files"])}
    except (ValueError, KeyError, TypeError) as error:
        raise BadArtifact(f"{path} is no manifest of a compiled artifact; compile again") from error


def _file(path: Path, folder: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(PIECE):
            digest.update(piece)
    return {
        "path": path.relative_to(folder).as_posix(),
        "bytes": path.stat().st_size,
        "sha256": digest.hexdigest(),
    }
