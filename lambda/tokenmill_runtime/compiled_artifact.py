"""What a compiled model was compiled for, its key, and how two of them differ in plain words.

A document is one flat mapping: the image that compiled, the model's pinned revision, and everything that
shapes the compiled graphs. Its key is the SHA-256 of its canonical JSON, so that the same question always has
the same answer and another one never finds it.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA: Final = 1
PREFIX: Final = "compiled/"
MANIFEST: Final = "manifest.json"
# "$VLLM_CACHE_ROOT/neuron/compile_cache" and what vLLM keeps beside it go here, next to the weights.
COMPILED_FOLDER: Final = "tokenmill-compiled"
RUN_COMMAND: Final = "tokenmill jobs run compile"

# Field -> what a person calls it; the order is that of a sentence about a difference.
FIELDS: Final = {
    "image_digest": "image",
    "model": "model",
    "revision": "revision",
    "accelerator": "accelerator",
    "tensor_parallel": "tensor_parallel",
    "pipeline_parallel": "pipeline_parallel",
    "max_sequences": "max_sequences",
    "context_tokens": "context_tokens",
    "buckets": "prompt buckets",
    "dtype": "dtype",
    "quantization": "quantization",
    "flags": "server flags",
}


def canonical(document: Mapping[str, Any]) -> str:
    """The one JSON text of a document: keys in order, no spaces, nothing but ASCII.

    Raises ValueError naming a field that is missing or unknown.
    """
    missing = [name for name in (*FIELDS, "schema") if name not in document]
    unknown = sorted(set(document) - set(FIELDS) - {"schema"})
    if missing or unknown:
        raise ValueError(
            f"an artifact document has the fields schema, {', '.join(FIELDS)}; "
            f"missing are {', '.join(missing) or 'none'}, unknown are {', '.join(unknown) or 'none'}"
        )
    if document["schema"] != SCHEMA:
        raise ValueError(f"schema is {document['schema']!r}; this version reads {SCHEMA}")
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)


def artifact_key(document: Mapping[str, Any]) -> str:
    """The 64 hexadecimal digits that name the artifact of a document."""
    return hashlib.sha256(canonical(document).encode("ascii")).hexdigest()


def manifest_key(prefix: str, key: str) -> str:
    """Where the manifest of an artifact lies in its bucket."""
    return f"{prefix}{key}/{MANIFEST}"


def differences(built: Mapping[str, Any], asked: Mapping[str, Any]) -> tuple[str, ...]:
    """One clause a field in which what was built is not what is asked for."""
    found = []
    for name, word in FIELDS.items():
        if name == "flags":
            found += _flag_differences(built[name], asked[name])
        elif built[name] != asked[name]:
            found.append(f"{word} {_text(built[name])} was built, {_text(asked[name])} is asked for")
    return tuple(found)


def _flag_differences(built: Mapping[str, str], asked: Mapping[str, str]) -> list[str]:
    return [
        f"{name} {_text(built.get(name))} was built, {_text(asked.get(name))} is asked for"
        for name in sorted({*built, *asked})
        if built.get(name) != asked.get(name)
    ]


def _text(value: object) -> str:
    if value is None:
        return "unset"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "the image's own"
    return str(value) or "on"


def described(document: Mapping[str, Any]) -> str:
    """An artifact in a few words, for messages."""
    return (
        f"{document['model']} at {str(document['revision'])[:12]}, tensor_parallel "
        f"{document['tensor_parallel']}, max_sequences {document['max_sequences']}, context_tokens "
        f"{document['context_tokens']}, image {str(document['image_digest'])[:19]}"
    )
