"""InvokeModel's bodies, which every provider has of its own, as Converse requests and back.

Sources: Amazon Bedrock User Guide, "Inference request parameters and response fields for foundation models":
"Anthropic Claude Messages API", "Amazon Nova" (Amazon Nova User Guide, "Complete request schema"), "Meta
Llama models"; "Import a customized model" (imported models take OpenAI's chat completions).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tokenmill.local.aws_requests import AwsError, Params

if TYPE_CHECKING:
    from collections.abc import Callable

# Members of a part that say how to treat it; Converse has places of its own for them.
_NOT_CONTENT = ("cache_control", "cachePoint", "guardContent")
_CLAUDE_STOPS = {"end_turn": "end_turn", "max_tokens": "max_tokens", "guardrail_intervened": "end_turn"}


class Dialect(NamedTuple):
    """How one provider's models are asked through InvokeModel.

    Args:
        read: Native body in, Converse request out.
        write: Converse answer and model in, native body out.
    """

    read: Callable[[Params], Params]
    write: Callable[[Params, str], Params]


def dialect_of(model: str, *, imported: bool) -> Dialect:
    """Return the dialect of a model.

    Args:
        model: Its id.
        imported: Whether it is an imported model.

    Raises:
        AwsError: The local cloud does not know the provider's bodies.
    """
    if imported:
        return Dialect(_read_openai, _write_openai)
    for prefix, dialect in _DIALECTS.items():
        if model.startswith(prefix):
            return dialect
    raise AwsError(
        "ValidationException",
        f"the local cloud does not know InvokeModel's bodies of {model}, only of {', '.join(_DIALECTS)} and "
        "of imported models; use Converse",
    )


def _need(body: Params, *names: str) -> None:
    missing = [name for name in names if name not in body]
    if missing:
        noun = "key" if len(missing) == 1 else "keys"
        raise AwsError(
            "ValidationException",
            f"Malformed input request: required {noun} [{', '.join(missing)}] not found",
        )


def _blocks(content: Any) -> list[Params]:
    if isinstance(content, str):
        return [{"text": content}]
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise AwsError(
            "ValidationException", "Malformed input request: content must be text or a list of parts"
        )
    made: list[Params] = []
    for part in content:
        other = {name: value for name, value in part.items() if name not in _NOT_CONTENT}
        if isinstance(part.get("text"), str):
            made.append({"text": part["text"]})
        elif other:
            made.append(other)
        if "cache_control" in part or "cachePoint" in part:
            made.append({"cachePoint": {"type": "default"}})
    return made


def _messages(body: Params) -> list[Params]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise AwsError("ValidationException", "Malformed input request: messages must be a list of messages")
    return messages


def _config(body: Any, names: dict[str, str]) -> Params:
    if not isinstance(body, dict):
        raise AwsError("ValidationException", "Malformed input request: inferenceConfig must be an object")
    for name in names:
        if names[name] == "maxTokens" and type(body.get(name, 1)) is not int:
            raise AwsError("ValidationException", f"Malformed input request: {name} must be a whole number")
    config = {told: body[name] for name, told in names.items() if name in body}
    return {"inferenceConfig": config} if config else {}


def _read_claude(body: Params) -> Params:
    _need(body, "anthropic_version", "max_tokens", "messages")
    messages = [{"role": m.get("role"), "content": _blocks(m.get("content"))} for m in _messages(body)]
    request: Params = {"messages": messages}
    if body.get("system"):
        request["system"] = _blocks(body["system"])
    names = {"max_tokens": "maxTokens", "temperature": "temperature", "top_p": "topP"}
    return request | _config(body, names | {"stop_sequences": "stopSequences"})


def _write_claude(answer: Params, model: str) -> Params:
    usage = answer["usage"]
    counts = {"input_tokens": usage["inputTokens"], "output_tokens": usage["outputTokens"]}
    for told, name in (("cacheReadInputTokens", "read"), ("cacheWriteInputTokens", "creation")):
        counts[f"cache_{name}_input_tokens"] = usage.get(told, 0)
    return {
        "id": "msg_bdrk_local",
        "type": "message",
        "role": "assistant",
        "model": model.partition(".")[2],
        "content": [{"type": "text", "text": _text(answer)}],
        "stop_reason": _CLAUDE_STOPS.get(answer["stopReason"], answer["stopReason"]),
        "stop_sequence": None,
        "usage": counts,
    }


def _read_nova(body: Params) -> Params:
    _need(body, "messages")
    messages = [{"role": m.get("role"), "content": _blocks(m.get("content"))} for m in _messages(body)]
    request: Params = {"messages": messages}
    if body.get("system"):
        request["system"] = _blocks(body["system"])
    names = {"maxTokens": "maxTokens", "max_new_tokens": "maxTokens", "temperature": "temperature"}
    return request | _config(body.get("inferenceConfig") or {}, names | {"topP": "topP", "top_p": "topP"})


def _write_nova(answer: Params, model: str) -> Params:
    return {name: answer[name] for name in ("output", "stopReason", "usage")}


def _read_llama(body: Params) -> Params:
    _need(body, "prompt")
    request: Params = {"messages": [{"role": "user", "content": _blocks(body["prompt"])}]}
    return request | _config(
        body, {"max_gen_len": "maxTokens", "temperature": "temperature", "top_p": "topP"}
    )


def _write_llama(answer: Params, model: str) -> Params:
    return {
        "generation": _text(answer),
        "prompt_token_count": answer["usage"]["inputTokens"],
        "generation_token_count": answer["usage"]["outputTokens"],
        "stop_reason": "length" if answer["stopReason"] == "max_tokens" else "stop",
    }


def _read_openai(body: Params) -> Params:
    _need(body, "messages")
    messages: list[Params] = []
    system: list[Params] = []
    for message in _messages(body):
        blocks = _blocks(message.get("content"))
        if message.get("role") in ("system", "developer"):
            system += blocks
        else:
            messages.append({"role": message.get("role"), "content": blocks})
    request: Params = {"messages": messages, **({"system": system} if system else {})}
    names = {"max_completion_tokens": "maxTokens", "max_tokens": "maxTokens", "temperature": "temperature"}
    return request | _config(body, names | {"top_p": "topP"})


def _write_openai(answer: Params, model: str) -> Params:
    usage = answer["usage"]
    reason = "length" if answer["stopReason"] == "max_tokens" else "stop"
    message = {"role": "assistant", "content": _text(answer)}
    return {
        "object": "chat.completion",
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {
            "prompt_tokens": usage["inputTokens"],
            "completion_tokens": usage["outputTokens"],
            "total_tokens": usage["totalTokens"],
        },
    }


def _text(answer: Params) -> str:
    return "".join(block.get("text", "") for block in answer["output"]["message"]["content"])


_DIALECTS = {
    "anthropic.": Dialect(_read_claude, _write_claude),
    "amazon.nova": Dialect(_read_nova, _write_nova),
    "meta.llama": Dialect(_read_llama, _write_llama),
    "openai.": Dialect(_read_openai, _write_openai),
}
