"""Requests of the OpenAI chat API and of Bedrock Converse, read into one form and refused with a reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenmill.local.model_server.text import answer, count_tokens, fill

if TYPE_CHECKING:
    from collections.abc import Mapping

ROLES = ("system", "developer", "user", "assistant", "tool")


class RequestError(ValueError):
    """A request that the server refuses.

    Args:
        message: What is wrong, with the value and what is allowed.
        status: HTTP status.
    """

    def __init__(self, message: str, *, status: int = 400) -> None:
        self.status = status
        super().__init__(message)

    def openai_document(self) -> dict[str, Any]:
        """Return the OpenAI error object."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": str(self), "type": kind, "param": None, "code": self.status}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """One chat request, whichever API it came by."""

    texts: tuple[str, ...]
    max_tokens: int | None
    stream: bool = False
    include_usage: bool = False
    ignore_eos: bool = False

    @property
    def input_tokens(self) -> int:
        """Tokens of the prompt."""
        return count_tokens(self.texts)

    def output_pieces(self, model: str, context_tokens: int, *, planned: bool) -> tuple[list[str], str]:
        """Return the pieces of the answer and why it ends (`stop` or `length`).

        Args:
            model: Model that the server stands in for.
            context_tokens: Longest prompt and answer together.
            planned: Whether the timing is a plan's; else it is the default one.

        Raises:
            RequestError: The prompt and the answer do not fit into the context.
        """
        room = context_tokens - self.input_tokens
        if room < 1 or (self.max_tokens or 0) > room:
            asked = f" and max_tokens={self.max_tokens}" if self.max_tokens else ""
            raise RequestError(
                f"the prompt has {self.input_tokens} tokens{asked}, but the context holds {context_tokens}; "
                "send less or lower max_tokens"
            )
        text = answer(model, self.texts, self.input_tokens, planned=planned)
        limit = min(room, self.max_tokens or room)
        if self.ignore_eos:
            return fill(text, limit), "length"
        return text[:limit], "stop" if len(text) <= limit else "length"


def _text_of(part: Mapping[str, Any]) -> str | None:
    text = part.get("text")
    return text if isinstance(text, str) else None


def _openai_text(content: object, where: str) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [_text_of(part) for part in content if isinstance(part, dict) and part.get("type") == "text"]
        if len(parts) == len(content) and None not in parts:
            return "".join(part for part in parts if part is not None)
    raise RequestError(f"{where}.content must be text or a list of text parts")


def _positive(value: object, name: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise RequestError(f"{name} must be a whole number from 1, got {value!r}")
    return value


def from_openai(body: object) -> Chat:
    """Read a chat completion request.

    Args:
        body: The parsed JSON body.

    Raises:
        RequestError: It is not one.
    """
    if not isinstance(body, dict):
        raise RequestError("the body must be a JSON object")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestError("messages must be a list with at least one message")
    texts = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise RequestError(f"{where}.role must be one of {', '.join(ROLES)}")
        texts.append(_openai_text(message.get("content") or "", where))
    options = body.get("stream_options") or {}
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    return Chat(
        texts=tuple(texts),
        max_tokens=_positive(limit, "max_tokens"),
        stream=bool(body.get("stream")),
        include_usage=bool(options.get("include_usage")),
        ignore_eos=bool(body.get("ignore_eos")),
    )


def _converse_text(blocks: object, where: str) -> str:
    if not isinstance(blocks, list) or not blocks:
        raise RequestError(f"{where} must be a list with at least one content block")
    texts = [_text_of(block) for block in blocks if isinstance(block, dict)]
    if len(texts) != len(blocks) or None in texts:
        raise RequestError(f"{where} holds a content block that is not text; only text is served locally")
    return "".join(text for text in texts if text is not None)


def from_converse(body: object) -> tuple[Chat, dict[str, Any]]:
    """Read a Bedrock Converse request, also as the OpenAI request that a real server behind us gets.

    Args:
        body: The parsed JSON body.

    Raises:
        RequestError: It is not one.
    """
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list) or not body["messages"]:
        raise RequestError("messages must be a list with at least one message")
    messages: list[dict[str, str]] = []
    for index, block in enumerate(body.get("system") or []):
        messages.append({"role": "system", "content": _converse_text([block], f"system[{index}]")})
    for index, message in enumerate(body["messages"]):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ("user", "assistant"):
            raise RequestError(f"messages[{index}].role must be user or assistant, got {role!r}")
        content = _converse_text(message.get("content"), f"messages[{index}].content")
        messages.append({"role": role, "content": content})
    config: Mapping[str, Any] = body.get("inferenceConfig") or {}
    limit = _positive(config.get("maxTokens"), "inferenceConfig.maxTokens")
    openai: dict[str, Any] = {"messages": messages}
    for source, name in (("maxTokens", "max_tokens"), ("temperature", "temperature"), ("topP", "top_p")):
        if source in config:
            openai[name] = config[source]
    if config.get("stopSequences"):
        openai["stop"] = config["stopSequences"]
    return Chat(texts=tuple(message["content"] for message in messages), max_tokens=limit), openai
