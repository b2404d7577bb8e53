"""A compiled model's key: the same question has the same key, and any other one another."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from tokenmill.core.compiled_artifact import CompiledArtifact
from tokenmill.core.errors import TokenmillError
from tokenmill_runtime.compiled_artifact import artifact_key, described, manifest_key

ARTIFACT = CompiledArtifact(
    image_digest="sha256:" + "d" * 64,
    model="Qwen/Qwen3-8B",
    revision="a" * 40,
    accelerator="Trainium2",
    tensor_parallel=4,
    max_sequences=8,
    context_tokens=8192,
    buckets=(512, 8192),
    flags={"SM_VLLM_BLOCK_SIZE": "128", "SM_VLLM_ASYNC": ""},
)
CHANGES = {
    "image_digest": "sha256:" + "e" * 64,
    "model": "Qwen/Qwen3-14B",
    "revision": "b" * 40,
    "accelerator": "Trainium3",
    "tensor_parallel": 8,
    "pipeline_parallel": 2,
    "max_sequences": 16,
    "context_tokens": 4096,
    "buckets": (8192,),
    "dtype": "float16",
    "quantization": "fp8",
    "flags": {"SM_VLLM_BLOCK_SIZE": "32"},
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_field_changes_the_key(name: str) -> None:
    """What shapes the compiled graphs, or may, is part of the question."""
    other = replace(ARTIFACT, **{name: CHANGES[name]})
    assert other.key != ARTIFACT.key
    assert ARTIFACT.difference(other) != ()


def test_the_key_is_the_hash_of_canonical_json() -> None:
    """Another program in another language comes to the same key."""
    text = json.dumps(ARTIFACT.to_json(), sort_keys=True, separators=(",", ":"))
    assert ARTIFACT.key == hashlib.sha256(text.encode()).hexdigest()
    assert ARTIFACT.key == artifact_key(ARTIFACT.to_json())


def test_order_and_form_do_not_change_the_key() -> None:
    """Flags in another order, buckets as a list, a document that went through JSON."""
    flags = dict(reversed(ARTIFACT.flags.items()))
    assert replace(ARTIFACT, flags=flags, buckets=[512, 8192]) == ARTIFACT
    again = CompiledArtifact.from_json(json.loads(json.dumps(ARTIFACT.to_json())))
    assert (again, again.key, hash(again)) == (ARTIFACT, ARTIFACT.key, hash(ARTIFACT))


def test_a_difference_is_said_in_plain_words() -> None:
    """One clause a difference, with what was built first."""
    asked = replace(
        ARTIFACT, max_sequences=16, buckets=(), flags={"SM_VLLM_BLOCK_SIZE": "32", "SM_VLLM_NEW": "1"}
    )
    assert ARTIFACT.difference(asked) == (
        "max_sequences 8 was built, 16 is asked for",
        "prompt buckets 512, 8192 was built, the image's own is asked for",
        "SM_VLLM_ASYNC on was built, unset is asked for",
        "SM_VLLM_BLOCK_SIZE 128 was built, 32 is asked for",
        "SM_VLLM_NEW unset was built, 1 is asked for",
    )
    assert ARTIFACT.difference(ARTIFACT) == ()


def test_another_image_asks_the_same_question_anew() -> None:
    """Only the digest changes."""
    other = ARTIFACT.with_image("sha256:" + "e" * 64)
    (clause,) = ARTIFACT.difference(other)
    assert clause.startswith("image sha256:ddd")


def test_an_artifact_is_described_for_messages() -> None:
    """Model, revision, shape and image, each short."""
    assert described(ARTIFACT.to_json()) == (
        "Qwen/Qwen3-8B at aaaaaaaaaaaa, tensor_parallel 4, max_sequences 8, context_tokens 8192, "
        "image sha256:dddddddddddd"
    )
    assert manifest_key("compiled/", "k") == "compiled/k/manifest.json"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_digest": "0.24.0"}, "image_digest is '0.24.0'; it must be sha256:"),
        ({"revision": "main"}, "revision is 'main'; it must be a commit"),
        ({"tensor_parallel": 0}, "tensor_parallel must be above 0"),
        ({"max_sequences": 1.5}, "max_sequences must be a whole number"),
    ],
)
def test_fails_for_what_may_change_its_meaning(changes: dict[str, object], words: str) -> None:
    """A tag or a branch names another thing tomorrow."""
    with pytest.raises(TokenmillError, match=words):
        replace(ARTIFACT, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": 2}, "schema is 2; this version reads 1"),
        ({"colour": "red"}, "missing are none, unknown are colour"),
        ({"dtype": None}, "missing are dtype"),
    ],
)
def test_fails_for_a_document_of_another_form(changes: dict[str, object], words: str) -> None:
    """A manifest of another version is never taken for this one's."""
    document = {**ARTIFACT.to_json(), **changes}
    if words == "missing are dtype":
        del document["dtype"]
    with pytest.raises(TokenmillError, match=words):
        CompiledArtifact.from_json(document)
