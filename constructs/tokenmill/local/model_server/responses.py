"""The answers' wire forms: OpenAI objects and chunks, Bedrock Converse documents and events."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from tokenmill.local.event_stream import encode_event
from tokenmill.local.json_text import json_text

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens that a request was counted with."""

    input_tokens: int
    output_tokens: int

    def openai(self) -> dict[str, Any]:
        """Return the OpenAI usage object."""
        return {
            "prompt_tokens": self.input_tokens,
            "completion_tokens": self.output_tokens,
            "total_tokens": self.input_tokens + self.output_tokens,
            "prompt_tokens_details": {"cached_tokens": 0},
        }

    def converse(self) -> dict[str, int]:
        """Return Converse's usage."""
        return {
            "inputTokens": self.input_tokens,
            "outputTokens": self.output_tokens,
            "totalTokens": self.input_tokens + self.output_tokens,
        }


class Completion:
    """The OpenAI documents of one answer.

    Args:
        model: Model's name in the answer.
    """

    def __init__(self, model: str) -> None:
        self._common = {"id": f"chatcmpl-{uuid4().hex}", "created": int(time.time()), "model": model}

    def whole(self, text: str, finish_reason: str, usage: Usage) -> dict[str, Any]:
        """Return the answer in one piece.

        Args:
            text: The answer.
            finish_reason: `stop` or `length`.
            usage: Tokens counted.
        """
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": finish_reason}
        return {
            **self._common,
            "object": "chat.completion",
            "choices": [choice],
            "usage": usage.openai(),
        }

    def chunk(self, delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        """Return one server-sent event.

        Args:
            delta: What is added to the message.
            finish_reason: Why the answer ends, on its last chunk.
        """
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return self._event({"choices": [choice]})

    def usage_chunk(self, usage: Usage) -> bytes:
        """Return the chunk that carries the usage.

        Args:
            usage: Tokens counted.
        """
        return self._event({"choices": [], "usage": usage.openai()})

    def _event(self, members: dict[str, Any]) -> bytes:
        document = {**self._common, "object": "chat.completion.chunk", **members}
        return b"data: " + json_text(document) + b"\n\n"


DONE = b"data: [DONE]\n\n"


def converse_document(text: str, finish_reason: str, usage: Usage, latency_ms: int) -> dict[str, Any]:
    """Return the answer of Converse.

    Args:
        text: The answer.
        finish_reason: `stop` or `length`, as OpenAI says it.
        usage: Tokens counted.
        latency_ms: Time from request to answer.
    """
    return {
        "output": {"message": {"role": "assistant", "content": [{"text": text}]}},
        "stopReason": _STOP_REASONS.get(finish_reason, "end_turn"),
        "usage": usage.converse(),
        "metrics": {"latencyMs": latency_ms},
    }


def converse_start() -> bytes:
    """Return the event that opens a ConverseStream answer."""
    return _converse_event("messageStart", {"role": "assistant"})


def converse_delta(text: str) -> bytes:
    """Return the event that carries one piece of text.

    Args:
        text: The piece.
    """
    return _converse_event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}})


def converse_end(finish_reason: str, usage: Usage, latency_ms: int) -> bytes:
    """Return the events that close a ConverseStream answer.

    Args:
        finish_reason: `stop` or `length`, as OpenAI says it.
        usage: Tokens counted.
        latency_ms: Time from request to answer.
    """
    reason = _STOP_REASONS.get(finish_reason, "end_turn")
    return (
        _converse_event("contentBlockStop", {"contentBlockIndex": 0})
        + _converse_event("messageStop", {"stopReason": reason})
        + _converse_event("metadata", {"usage": usage.converse(), "metrics": {"latencyMs": latency_ms}})
    )


def _converse_event(name: str, members: dict[str, Any]) -> bytes:
    return encode_event(name, json_text(members))
