"""A streamed answer as one document, for callers who do not stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tokenmill_runtime.gateway.aws_errors import broken

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokenmill_runtime.gateway.backend import Document, ModelStream

# Names of the texts that a chunk may carry: the answer, and what engines call the model's thoughts.
TEXTS = ("content", "reasoning", "reasoning_content")


@dataclass(slots=True)
class _Choice:
    """What the chunks said of one choice so far."""

    texts: dict[str, list[str]] = field(default_factory=lambda: {"content": []})
    finish_reason: str | None = None
    logprobs: list[Any] | None = None

    def add(self, part: Document) -> None:
        for name in TEXTS:
            if text := part["delta"].get(name):
                self.texts.setdefault(name, []).append(text)
        self.finish_reason = part.get("finish_reason") or self.finish_reason
        tokens = (part.get("logprobs") or {}).get("content")
        if tokens is not None:
            self.logprobs = self.logprobs or []
            self.logprobs.extend(tokens)

    def document(self, index: int) -> Document:
        message = {"role": "assistant", **{name: "".join(texts) for name, texts in self.texts.items()}}
        choice = {"index": index, "message": message, "finish_reason": self.finish_reason}
        return choice if self.logprobs is None else {**choice, "logprobs": {"content": self.logprobs}}


def whole_answer(stream: ModelStream, model: str) -> Document:
    """A model's whole answer; raises GatewayError (502) where it has no choices."""
    try:
        document = assemble(stream)
    finally:
        stream.cancel()
    if not document["choices"]:
        raise broken(model, "an answer without choices")
    return document


def assemble(chunks: Iterable[Document]) -> Document:
    """A chat completion's choices and usage from its chunks (OpenAI's "chat completion chunk object").

    Each chunk has a list ``choices`` of objects with a ``delta``; one without choices may carry the usage.
    """
    choices: dict[int, _Choice] = {}
    usage: Document | None = None
    for chunk in chunks:
        usage = chunk.get("usage") or usage
        for part in chunk["choices"]:
            choices.setdefault(part.get("index") or 0, _Choice()).add(part)
    return {"choices": [choice.document(index) for index, choice in sorted(choices.items())], "usage": usage}
