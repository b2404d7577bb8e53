"""Models of Amazon Bedrock, by Converse and ConverseStream (AWS pages of the same names)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime.aws import bedrock_runtime
from tokenmill_runtime.gateway.aws_errors import broken, model_error
from tokenmill_runtime.gateway.connection import connection_errors, let_go

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tokenmill_runtime.gateway.backend import Document, ModelCall
    from tokenmill_runtime.gateway.chat_request import Message

_INFERENCE_CONFIG: Final = {"temperature": "temperature", "top_p": "topP", "stop": "stopSequences"}
_FINISH_REASONS: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}


class BedrockBackend:
    """Calls the Bedrock model named in the model's configuration."""

    single_token_chunks: Final = False

    def complete(self, call: ModelCall) -> Document:
        """One blocking Converse."""
        try:
            response = bedrock_runtime().converse(**_arguments(call))
        except connection_errors() as error:
            raise model_error(error, call.model.name) from error
        blocks = response["output"]["message"]["content"]
        message = {"role": "assistant", "content": "".join(block.get("text", "") for block in blocks)}
        thoughts = (block.get("reasoningContent", {}).get("reasoningText", {}) for block in blocks)
        if thought := "".join(part.get("text", "") for part in thoughts):
            message["reasoning_content"] = thought
        reason = _finish_reason(response["stopReason"], call.model.name)
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return {"choices": [choice], "usage": _usage(response["usage"])}

    def stream(self, call: ModelCall) -> BedrockStream:
        """Begin a ConverseStream."""
        try:
            response = bedrock_runtime().converse_stream(**_arguments(call))
        except connection_errors() as error:
            raise model_error(error, call.model.name) from error
        return BedrockStream(response["stream"], call.model.name)


class BedrockStream:
    """ConverseStream's events as chunks of OpenAI's form."""

    def __init__(self, events: Any, model: str) -> None:
        self._events = events
        self._model = model

    def __iter__(self) -> Iterator[Document]:
        finished = False
        try:
            for event in self._events:
                finished = finished or "messageStop" in event
                chunk = _chunk(event, self._model)
                if chunk is not None:
                    yield chunk
        except connection_errors() as error:
            raise model_error(error, self._model) from error
        if not finished:
            raise broken(self._model, "the stream ended without a stop reason")

    def cancel(self) -> None:
        """Stop reading, from any thread, and let go of the connection."""
        let_go(self._events)


def _chunk(event: Mapping[str, Any], model: str) -> Document | None:
    if "messageStart" in event:
        return _delta({"role": "assistant", "content": ""})
    if "contentBlockDelta" in event:
        delta = event["contentBlockDelta"]["delta"]
        if "text" in delta:
            return _delta({"content": delta["text"]})
        if "text" in delta.get("reasoningContent", {}):
            return _delta({"reasoning_content": delta["reasoningContent"]["text"]})
    if "messageStop" in event:
        return _delta({}, _finish_reason(event["messageStop"]["stopReason"], model))
    if "metadata" in event:
        return {"choices": [], "usage": _usage(event["metadata"]["usage"])}
    return None


def _delta(delta: Mapping[str, str], finish_reason: str | None = None) -> Document:
    return {"choices": [{"index": 0, "delta": dict(delta), "finish_reason": finish_reason}]}


def _finish_reason(stop_reason: str, model: str) -> str:
    if stop_reason not in _FINISH_REASONS:
        raise broken(model, f"the stop reason {stop_reason} has no counterpart for a request without tools")
    return _FINISH_REASONS[stop_reason]


def _usage(usage: Mapping[str, Any]) -> Document:
    """Bedrock counts cached input tokens apart (AWS page "TokenUsage"); OpenAI counts them in."""
    cached = usage.get("cacheReadInputTokens", 0)
    prompt = usage["inputTokens"] + cached + usage.get("cacheWriteInputTokens", 0)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": usage["outputTokens"],
        "total_tokens": prompt + usage["outputTokens"],
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def _arguments(call: ModelCall) -> dict[str, Any]:
    limit = call.max_tokens if call.max_tokens is not None else call.model.max_output_tokens
    config: dict[str, Any] = {"maxTokens": limit}
    config.update({_INFERENCE_CONFIG[name]: value for name, value in call.options.items()})
    arguments = {
        "modelId": call.model.bedrock_model_id,
        "messages": _alternating(call.messages),
        "inferenceConfig": config,
    }
    system = [{"text": message.content} for message in call.messages if message.role == "system"]
    return {**arguments, "system": system} if system else arguments


def _alternating(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages of the same role in a row become one: Converse wants the roles to take turns."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "system":
            continue
        if turns and turns[-1]["role"] == message.role:
            turns[-1]["content"].append({"text": message.content})
        else:
            turns.append({"role": message.role, "content": [{"text": message.content}]})
    return turns
