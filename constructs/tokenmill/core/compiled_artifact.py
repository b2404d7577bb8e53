"""The identity of a compiled model: which image compiled which weights for which shape."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from tokenmill.core._checks import as_whole, positive
from tokenmill.core.errors import TokenmillError
from tokenmill_runtime import compiled_artifact as runtime

if TYPE_CHECKING:
    from collections.abc import Mapping

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
REVISION = re.compile(r"[0-9a-f]{40}")
UNKNOWN_DIGEST = "sha256:" + "0" * 64
"""Stands for the image where only the deployment knows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledArtifact:
    """What a compiled model was compiled for; equal values have equal keys.

    vLLM-Neuron's own cache key is made of the graph, the shapes, the compiler's version and arguments and the
    platform (AWS Neuron documentation: "Compilation Cache", "Cache Key"). This one is made of what decides
    those and is known before anything runs.

    Args:
        image_digest: Digest of the image that compiles and serves, as "sha256:" and 64 hexadecimal digits.
        model: Name of the model.
        revision: Commit of its weights, as 40 hexadecimal digits.
        accelerator: Name of the chip, such as "Trainium2".
        tensor_parallel: Cores that share every layer.
        pipeline_parallel: Groups of layers.
        max_sequences: Sequences that are decoded together.
        context_tokens: Prompt plus answer of one sequence, in tokens.
        buckets: Prompt lengths that are compiled, in tokens; empty for the server's own.
        dtype: Element type that is computed in; "auto" for the checkpoint's.
        quantization: "as-published", or the format that plain weights are converted to.
        flags: The server's further settings by variable, such as {"SM_VLLM_BLOCK_SIZE": "128"}.

    Raises:
        TokenmillError: A digest or revision of another form, or a number below 1.
    """

    image_digest: str
    model: str
    revision: str
    accelerator: str
    tensor_parallel: int
    max_sequences: int
    context_tokens: int
    pipeline_parallel: int = 1
    buckets: tuple[int, ...] = ()
    dtype: str = "auto"
    quantization: str = "as-published"
    flags: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not DIGEST.fullmatch(self.image_digest):
            raise TokenmillError(
                f"image_digest is {self.image_digest!r}; it must be sha256: and 64 hexadecimal digits, "
                "not a tag, which may name another image tomorrow"
            )
        if not REVISION.fullmatch(self.revision):
            raise TokenmillError(
                f"revision is {self.revision!r}; it must be a commit of 40 hexadecimal digits, not a branch, "
                "which may name other weights tomorrow"
            )
        numbers = ("tensor_parallel", "pipeline_parallel", "max_sequences", "context_tokens")
        as_whole(self, *numbers)
        positive(**{name: getattr(self, name) for name in numbers})
        object.__setattr__(self, "buckets", tuple(self.buckets))
        object.__setattr__(self, "flags", dict(sorted(self.flags.items())))

    @property
    def key(self) -> str:
        """The 64 hexadecimal digits under which the artifact lies."""
        return runtime.artifact_key(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return the document that the manifest holds."""
        return {"schema": runtime.SCHEMA, **asdict(self), "buckets": list(self.buckets)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Return the value of a manifest's document.

        Args:
            document: What `to_json` returned.

        Raises:
            TokenmillError: A field is missing, unknown or wrong.
        """
        try:
            runtime.canonical(document)
        except ValueError as error:
            raise TokenmillError(str(error)) from error
        fields = {name: value for name, value in document.items() if name != "schema"}
        return cls(**{**fields, "buckets": tuple(fields["buckets"])})

    def with_image(self, digest: str) -> Self:
        """Return the same question asked of another image.

        Args:
            digest: The image's digest.
        """
        return replace(self, image_digest=digest)

    def difference(self, asked: CompiledArtifact) -> tuple[str, ...]:
        """Return one clause for each thing in which this artifact is not what is asked for.

        Args:
            asked: What an endpoint wants to serve.
        """
        return runtime.differences(self.to_json(), asked.to_json())
