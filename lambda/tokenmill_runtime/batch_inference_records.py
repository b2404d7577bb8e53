"""Records of a batch inference: what a body must be, what Bedrock is sent, and what the caller gets back.

Amazon Bedrock user guide: a batch job takes a Converse request without the model ("Format and upload your
batch inference data"), and neither tools nor structured output ("Process multiple prompts with batch
inference").
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime.batch_objects import InputRefused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tokenmill_runtime.batch_inference_run import Settings
    from tokenmill_runtime.batch_run import Record

# English text has about four bytes a token; a budget needs no better, the bill is made of what was counted.
BYTES_PER_TOKEN: Final = 4
ROLES: Final = ("system", "user", "assistant")
OPTIONS: Final = {"temperature": "temperature", "top_p": "topP"}
# What a chat completion's request may say besides; it changes no answer here.
IGNORED: Final = frozenset({"metadata", "model", "stream", "user"})
LIMITS: Final = ("max_completion_tokens", "max_tokens")
KNOWN: Final = frozenset({"messages", "stop", *OPTIONS, *LIMITS}) | IGNORED
CONVERSE: Final = frozenset(
    {"additionalModelRequestFields", "additionalModelResponseFieldPaths", "inferenceConfig", "messages",
     "requestMetadata", "system"}
)  # fmt: skip
FINISH_REASONS: Final = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
USAGE: Final = {
    "input": "inputTokens",
    "output": "outputTokens",
    "cache_read": "cacheReadInputTokens",
    "cache_write": "cacheWriteInputTokens",
}


def model_input(record: Record, settings: Settings, *, line_number: int | None = None) -> dict[str, Any]:
    """The Converse request of a record.

    Raises InputRefused naming the line and what batch inference does not take.
    """
    where = f"line {line_number or record.index + 1}"
    body = json.loads(record.body)
    if "modelInput" in body:
        raise InputRefused(
            f"{where} is a record of a Bedrock job; give the request in its modelInput as the line, or "
            '{"custom_id": "<text>", "body": <the request>}'
        )
    made = _from_chat(body, where) if settings.form == "chat" else _converse(body, where)
    config = made.setdefault("inferenceConfig", {})
    config.setdefault("maxTokens", settings.max_tokens)
    return made


def estimated_tokens(record: Record, request: Mapping[str, Any]) -> int:
    """About how many tokens a record takes, with the longest answer that it allows."""
    return len(record.body) // BYTES_PER_TOKEN + int(request["inferenceConfig"]["maxTokens"])


def response(answer: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """What the caller gets: Converse's answer, or a chat completion made of it."""
    if settings.form != "chat":
        return dict(answer)
    blocks = answer["output"]["message"]["content"]
    used = usage(answer)
    prompt = used["input"] + used["cache_read"] + used["cache_write"]
    message = {"role": "assistant", "content": "".join(block.get("text", "") for block in blocks)}
    reason = FINISH_REASONS.get(answer["stopReason"], "stop")
    return {
        "object": "chat.completion",
        "model": settings.model,
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": used["output"],
            "total_tokens": prompt + used["output"],
            "prompt_tokens_details": {"cached_tokens": used["cache_read"]},
        },
    }


def usage(answer: Mapping[str, Any]) -> dict[str, int]:
    """The tokens that an answer took, by what they are priced as ("TokenUsage", Amazon Bedrock Runtime)."""
    counted = answer.get("usage") or {}
    return {name: int(counted.get(member) or 0) for name, member in USAGE.items()}


def _from_chat(body: Mapping[str, Any], where: str) -> dict[str, Any]:
    unknown = sorted(set(body) - KNOWN)
    if unknown:
        raise InputRefused(
            f"{where} has {', '.join(unknown)}; batch inference takes {', '.join(sorted(KNOWN - IGNORED))}, "
            "and neither tools nor structured output"
        )
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InputRefused(f"{where} has no messages; give a chat completion's request")
    system, turns = _turns(messages, where)
    if not turns:
        raise InputRefused(f"{where} has no message of the user")
    made: dict[str, Any] = {"messages": turns, "inferenceConfig": _config(body, where)}
    return {**made, "system": system} if system else made


def _turns(messages: Sequence[Any], where: str) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    """System texts, and turns in which the roles alternate as Converse wants them to."""
    system: list[dict[str, str]] = []
    turns: list[dict[str, Any]] = []
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ROLES:
            raise InputRefused(f"{where} has a message of role {role!r}; allowed are {', '.join(ROLES)}")
        content = _content(message.get("content"), where)
        if role == "system":
            system += content
        elif turns and turns[-1]["role"] == role:
            turns[-1]["content"] += content
        else:
            turns.append({"role": role, "content": content})
    return system, turns


def _content(content: object, where: str) -> list[dict[str, str]]:
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    texts = [
        part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        for part in (parts if isinstance(parts, list) else [None])
    ]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise InputRefused(f"{where} has a message whose content is not text: {content!r:.80}")
    return [{"text": str(text)} for text in texts]


def _config(body: Mapping[str, Any], where: str) -> dict[str, Any]:
    config: dict[str, Any] = {name: body[key] for key, name in OPTIONS.items() if body.get(key) is not None}
    for key in LIMITS:
        limit = body.get(key)
        if limit is not None:
            if type(limit) is not int or limit < 1:
                raise InputRefused(f"{where} has {key} {limit!r}; it must be a whole number above 0")
            config["maxTokens"] = limit
            break
    stop = body.get("stop")
    if stop is not None:
        config["stopSequences"] = [stop] if isinstance(stop, str) else stop
    return config


def _converse(body: dict[str, Any], where: str) -> dict[str, Any]:
    unknown = sorted(set(body) - CONVERSE)
    if unknown:
        raise InputRefused(
            f"{where} has {', '.join(unknown)}; batch inference takes {', '.join(sorted(CONVERSE))}, and "
            "neither tools nor structured output"
        )
    if not isinstance(body.get("messages"), list) or not body["messages"]:
        raise InputRefused(f"{where} has no messages; give a Converse request")
    config = body.get("inferenceConfig", {})
    limit = config.get("maxTokens", 1) if isinstance(config, dict) else None
    if type(limit) is not int or limit < 1:
        raise InputRefused(f"{where} has inferenceConfig {config!r:.80}; maxTokens must be 1 or more")
    return body
