"""Reading and checking the body of a chat completion request.

The names and bounds are those of OpenAI's API reference, "Create chat completion".
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NoReturn

from tokenmill_runtime.gateway.errors import GatewayError, context_length_exceeded, invalid_request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tokenmill_runtime.gateway_config import GatewayConfig, GatewayModel
    from tokenmill_runtime.gateway_options import PromptUse

# Bytes and not characters: texts in other scripts have about as many tokens as UTF-8 bytes suggest.
BYTES_PER_TOKEN: Final = 4
# Estimates this far above the context are refused unasked; nearer ones are left to the model's own count.
_SURELY_TOO_LONG: Final = 2
_ROLES: Final = ("system", "developer", "user", "assistant")
_CONVERSATION_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)

# Read here, or without any effect on an answer.
_READ: Final = frozenset(
    {"model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens"}
)
_WITHOUT_EFFECT: Final = frozenset({"metadata", "user", "safety_identifier", "prompt_cache_key"})
# What OpenAI's service does when these are left out, which is all that a back end without them can do.
_ONLY_VALUE: Final[Mapping[str, object]] = {
    "n": 1,
    "store": False,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "logprobs": False,
    "response_format": {"type": "text"},
    "modalities": ["text"],
    "tool_choice": "none",
    "service_tier": "auto",
}
_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}
# What each back end takes beyond the messages; the engines' own parameters pass through and are checked
# there.
OPTIONS: Final[Mapping[str, frozenset[str]]] = {
    "bedrock": frozenset({"temperature", "top_p", "stop"}),
    "sagemaker": frozenset(
        {
            *_RANGES,
            "stop",
            "seed",
            "logit_bias",
            "logprobs",
            "top_logprobs",
            "response_format",
            "reasoning_effort",
            "top_k",
            "min_p",
            "min_tokens",
            "repetition_penalty",
            "stop_token_ids",
            "ignore_eos",
            "chat_template_kwargs",
            "structured_outputs",
        }
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of text; ``developer`` has become ``system``, the role that chat templates know."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A checked request; ``max_tokens`` is None when the caller set no limit."""

    model: GatewayModel
    messages: tuple[Message, ...]
    stream: bool = False
    include_usage: bool = False
    max_tokens: int | None = None
    conversation_id: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def tokens_of(text: str) -> int:
    """Tokens of a text, at four bytes a token: the model's own count corrects it afterwards."""
    return math.ceil(len(text.encode(errors="surrogatepass")) / BYTES_PER_TOKEN)


def estimate_tokens(messages: Sequence[Message]) -> int:
    """Tokens of these messages together, at least one."""
    return max(1, tokens_of("".join(message.content for message in messages)))


def parse_chat_request(body: bytes, config: GatewayConfig) -> ChatRequest:
    """Read a request body.

    Raises GatewayError (400 or 404) naming the parameter, its value, what is allowed and the way out.
    """
    document = _json_object(body)
    model = _model(document.get("model"), config)
    options = _options(document, model)
    stream = _boolean(document, "stream", "stream")
    messages = _messages(document.get("messages"))
    if model.backend == "bedrock":
        _refuse_blank(messages)
    if model.bedrock is not None and model.bedrock.prompt is not None:
        _refuse_beside_prompt(document, messages, model.bedrock.prompt)
    tokens = estimate_tokens(messages)
    if tokens > _SURELY_TOO_LONG * model.context_tokens:
        raise context_length_exceeded(model.context_tokens, f"the messages have about {tokens}")
    return ChatRequest(
        model=model,
        messages=messages,
        stream=stream,
        include_usage=_include_usage(document.get("stream_options"), stream),
        max_tokens=_max_tokens(document, model),
        conversation_id=_conversation_id(document.get("metadata"), config),
        options=options,
    )


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        problem = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise invalid_request(f"the body must be JSON: {problem}", code="invalid_json") from error
    if not isinstance(document, dict):
        raise invalid_request(f"the body must be a JSON object, got {_short(document)}", code="invalid_json")
    return document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _model(name: object, config: GatewayConfig) -> GatewayModel:
    if not isinstance(name, str) or not name:
        raise invalid_request(f"model must be a text, got {_short(name)}", param="model")
    return find_model(name, config)


def find_model(name: str, config: GatewayConfig) -> GatewayModel:
    """The model of this name; raises GatewayError (404) naming those there are."""
    for model in config.models:
        if model.name == name:
            return model
    known = ", ".join(model.name for model in config.models)
    message = f"the model {_short(name)} does not exist; this gateway serves {known}"
    raise invalid_request(message, param="model", code="model_not_found", status=404)


def _messages(value: object) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise invalid_request(
            f"messages must be a list with at least one message, got {_short(value)}", param="messages"
        )
    messages = tuple(_message(item, f"messages[{number}]") for number, item in enumerate(value))
    if messages[-1].role != "user":
        last = f"messages[{len(messages) - 1}].role"
        raise invalid_request(f'{last} must be "user", got "{messages[-1].role}"', param=last)
    return messages


def _refuse_blank(messages: Sequence[Message]) -> None:
    """Converse takes no blank text, and a stored one would make its conversation fail from then on."""
    for number, message in enumerate(messages):
        if not message.content.strip():
            where = f"messages[{number}].content"
            raise invalid_request(f"{where} must not be blank, got {_short(message.content)}", param=where)


def _refuse_beside_prompt(
    document: Mapping[str, Any], messages: Sequence[Message], prompt: PromptUse
) -> None:
    """Converse takes no system text and no inference parameters beside a managed prompt with its own."""
    for name in ("max_completion_tokens", "max_tokens"):
        if document.get(name) is not None:
            raise _unsupported(name, "the model has a managed prompt, which sets it; leave it out")
    for number, message in enumerate(messages):
        if message.role == "system":
            where = f"messages[{number}].role"
            raise _unsupported(f"{where}={message.role}", "the model has a managed prompt", param=where)
    if prompt.question is not None and len(messages) > 1:
        raise _unsupported(f"messages of {len(messages)}", "send one user message", param="messages")
    metadata = document.get("metadata")
    if prompt.question is not None and isinstance(metadata, dict) and "conversation_id" in metadata:
        where = "metadata.conversation_id"
        raise _unsupported(where, "the model's managed prompt takes one question", param=where)


def _message(value: object, where: str) -> Message:
    if not isinstance(value, dict):
        raise invalid_request(f"{where} must be an object, got {_short(value)}", param=where)
    role = value.get("role")
    if role not in _ROLES:
        allowed = ", ".join(_ROLES)
        message = f"{where}.role must be one of {allowed}, got {_short(role)}"
        raise invalid_request(message, param=f"{where}.role")
    for name in ("tool_calls", "function_call", "audio"):
        if value.get(name):
            raise _unsupported(f"{where}.{name}", "messages are text only")
    content = _content(value.get("content"), f"{where}.content")
    return Message(role="system" if role == "developer" else role, content=content)


def _content(value: object, where: str) -> str:
    if isinstance(value, list) and value:
        return "".join(_part(part, f"{where}[{number}]") for number, part in enumerate(value))
    if not isinstance(value, str):
        raise invalid_request(
            f"{where} must be a text or a list of text parts, got {_short(value)}", param=where
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise invalid_request(
            f"{where} has half a surrogate pair, which is no character", param=where
        ) from error
    return value


def _part(value: object, where: str) -> str:
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(value, dict) or kind != "text":
        raise _unsupported(
            f"{where} of type {_short(kind)}", "content parts must be of type text", param=where
        )
    return _content(value.get("text") or "", f"{where}.text")


def _unsupported(what: str, allowed: str, *, param: str | None = None) -> GatewayError:
    return invalid_request(
        f"{what} is not supported; {allowed}", param=param or what, code="unsupported_parameter"
    )


def _options(document: Mapping[str, Any], model: GatewayModel) -> dict[str, Any]:
    prompted = model.bedrock is not None and model.bedrock.prompt is not None
    taken = frozenset() if prompted else OPTIONS[model.backend]
    options = {}
    for name, value in document.items():
        if name in _READ or name in _WITHOUT_EFFECT or value is None or value == []:
            continue
        if name in _ONLY_VALUE and name not in taken:
            if value != _ONLY_VALUE[name] or isinstance(value, bool) != isinstance(_ONLY_VALUE[name], bool):
                raise _unsupported(f"{name}={_short(value)}", f"use {_short(_ONLY_VALUE[name])}", param=name)
            continue
        if name not in taken:
            allowed = (
                f"the model {model.name} takes {', '.join(sorted(taken)) or 'none beside its managed prompt'}"
            )
            raise _unsupported(name if len(name) <= 60 else _short(name), allowed)
        options[name] = _option(name, value)
    return options


def _option(name: str, value: Any) -> Any:
    if name in _RANGES:
        low, high = _RANGES[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            message = f"{name} must be a number from {low} to {high}, got {_short(value)}"
            raise invalid_request(message, param=name)
    if name == "stop":
        return _stop(value)
    return value


def _stop(value: object) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if (
        not isinstance(texts, list)
        or len(texts) > 4
        or not all(isinstance(text, str) and text for text in texts)
    ):
        raise invalid_request(
            f"stop must be a text or a list of at most 4 texts, got {_short(value)}", param="stop"
        )
    return texts


def _boolean(document: Mapping[str, Any], name: str, where: str) -> bool:
    value = document.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise invalid_request(f"{where} must be true or false, got {_short(value)}", param=where)


def _include_usage(value: object, stream: bool) -> bool:
    if value is None:
        return False
    if not stream:
        raise invalid_request(
            "stream_options needs stream=true; leave it out or stream", param="stream_options"
        )
    if not isinstance(value, dict):
        raise invalid_request(
            f"stream_options must be an object, got {_short(value)}", param="stream_options"
        )
    return _boolean(value, "include_usage", "stream_options.include_usage")


def _max_tokens(document: Mapping[str, Any], model: GatewayModel) -> int | None:
    found = {
        name: document[name]
        for name in ("max_completion_tokens", "max_tokens")
        if document.get(name) is not None
    }
    for name, value in found.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or not 1 <= value <= model.max_output_tokens:
            allowed = f"a whole number from 1 to {model.max_output_tokens}"
            raise invalid_request(f"{name} must be {allowed}, got {_short(value)}", param=name)
    if len(set(found.values())) > 1:
        raise invalid_request(
            "max_tokens is the old name of max_completion_tokens; give one of them", param="max_tokens"
        )
    return next(iter(found.values()), None)


def _conversation_id(metadata: object, config: GatewayConfig) -> str | None:
    if metadata is None:
        return None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise invalid_request(
            f"metadata must be an object with text values, got {_short(metadata)}", param="metadata"
        )
    conversation = metadata.get("conversation_id")
    if conversation is None:
        return None
    where = "metadata.conversation_id"
    if not _CONVERSATION_ID.fullmatch(conversation):
        allowed = "1 to 128 letters, digits, dots, colons, hyphens or underscores"
        raise invalid_request(f"{where} must be {allowed}, got {_short(conversation)}", param=where)
    if config.conversation_table is None:
        message = (
            f"{where} needs a conversation table, and this gateway has none; send the whole conversation"
        )
        raise invalid_request(message, param=where, code="conversations_not_enabled")
    return str(conversation)
