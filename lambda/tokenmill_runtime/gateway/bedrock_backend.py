"""Models of Amazon Bedrock, by Converse and ConverseStream (AWS pages of the same names)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime.aws import bedrock_runtime
from tokenmill_runtime.clock import SYSTEM_CLOCK
from tokenmill_runtime.gateway.aws_errors import broken, is_gone, model_error, turned_away
from tokenmill_runtime.gateway.bedrock_routes import Routes
from tokenmill_runtime.gateway.connection import connection_errors, let_go
from tokenmill_runtime.gateway.converse_request import converse_arguments
from tokenmill_runtime.gateway.errors import CONTENT_FILTER, content_filtered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tokenmill_runtime.gateway.backend import Document, ModelCall
    from tokenmill_runtime.gateway.bedrock_routes import Route

_FINISH_REASONS: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": CONTENT_FILTER,
    "content_filtered": CONTENT_FILTER,
}


class BedrockBackend:
    """Calls the Bedrock model named in the model's configuration, or the one that stands in for it."""

    single_token_chunks: Final = False

    def __init__(self, routes: Routes | None = None) -> None:
        self._routes = routes or Routes(SYSTEM_CLOCK)

    def complete(self, call: ModelCall) -> Document:
        """One blocking Converse."""
        asking = _Asking(self._routes, call, streamed=False)
        response = asking.ask(bedrock_runtime().converse)
        blocks = response["output"]["message"]["content"]
        message = {"role": "assistant", "content": "".join(block.get("text", "") for block in blocks)}
        thoughts = (block.get("reasoningContent", {}).get("reasoningText", {}) for block in blocks)
        if thought := "".join(part.get("text", "") for part in thoughts):
            message["reasoning_content"] = thought
        reason = _finish_reason(response["stopReason"], call.model.name)
        if reason == CONTENT_FILTER and _is_blocked_input(call, message["content"]):
            raise content_filtered(message["content"])
        choice = {"index": 0, "message": message, "finish_reason": reason}
        document = {"choices": [choice], "usage": _usage(response["usage"])}
        return {**document, **_served_by(response, asking.served_by)}

    def stream(self, call: ModelCall) -> BedrockStream:
        """Begin a ConverseStream."""
        asking = _Asking(self._routes, call, streamed=True)
        return BedrockStream(asking, asking.ask(bedrock_runtime().converse_stream)["stream"])


class _Asking:
    """Asks one model after the other until one has room."""

    def __init__(self, routes: Routes, call: ModelCall, *, streamed: bool) -> None:
        self.call = call
        self._routes = routes
        self._streamed = streamed
        self._left = routes.of(call.model)
        self._wanted = next((route.id for route in self._left if not route.overflow), None)
        self._asked: Route | None = None

    @property
    def served_by(self) -> str | None:
        """The model that answers, where it is not the first choice."""
        return None if self._asked is None or self._asked.id == self._wanted else self._asked.id

    def ask(self, operation: Callable[..., Any]) -> Any:
        """The first answer; raises GatewayError with the last one's refusal."""
        while True:
            route = self._left.pop(0)
            if route.overflow:
                self.call.overflowed()
            self._asked = route
            try:
                return operation(**converse_arguments(self.call, route.id, streamed=self._streamed))
            except connection_errors() as error:
                if not self.may_go_on(error):
                    raise model_error(error, self.call.model.name) from error

    def may_go_on(self, error: Exception) -> bool:
        """Whether the failure leaves another model to ask."""
        if is_gone(error):
            self._routes.forget(self.call.model)
        return bool(self._left) and turned_away(error)


class BedrockStream:
    """ConverseStream's events as chunks of OpenAI's form."""

    def __init__(self, asking: _Asking, events: Any) -> None:
        self._asking = asking
        self._call = asking.call
        self._events = events
        self._cancelled = False

    def __iter__(self) -> Iterator[Document]:
        chunks = self._chunks()
        guardrail = self._call.model.guardrail
        if guardrail is None or guardrail.blocked_input is None:
            return chunks
        return _without_blocked_input(chunks, self._call)

    def cancel(self) -> None:
        """Stop reading, from any thread, and let go of the connection."""
        self._cancelled = True
        let_go(self._events)

    def _chunks(self) -> Iterator[Document]:
        finished = False
        for event in self._all_events():
            finished = finished or "messageStop" in event
            chunk = _chunk(event, self._call.model.name, self._asking.served_by)
            if chunk is not None:
                yield chunk
        if not finished:
            raise broken(self._call.model.name, "the stream ended without a stop reason")

    def _all_events(self) -> Iterator[Mapping[str, Any]]:
        """The events of the first model that has room: a stream may be turned away in its first event."""
        while True:
            begun = False
            try:
                for event in self._events:
                    begun = True
                    yield event
                return
            except connection_errors() as error:
                if begun or self._cancelled or not self._asking.may_go_on(error):
                    raise model_error(error, self._call.model.name) from error
            self._events.close()
            self._events = self._asking.ask(bedrock_runtime().converse_stream)["stream"]
            if self._cancelled:
                let_go(self._events)


def _without_blocked_input(chunks: Iterator[Document], call: ModelCall) -> Iterator[Document]:
    """The chunks, held while they may be the message for a blocked question, which is an error instead.

    The guardrail says only at the end of its message that it stands for an answer.
    """
    held: list[Document] = []
    said = ""
    holding = True
    for chunk in chunks:
        if not holding:
            yield chunk
            continue
        held.append(chunk)
        choice = chunk["choices"][0] if chunk["choices"] else {"delta": {}}
        said += choice["delta"].get("content") or ""
        if choice.get("finish_reason") == CONTENT_FILTER and _is_blocked_input(call, said):
            raise content_filtered(said)
        thinks = "reasoning_content" in choice["delta"]
        if choice.get("finish_reason") is None and not thinks and _may_become_blocked_input(call, said):
            continue
        holding = False
        yield from held
    if holding:
        yield from held


def _is_blocked_input(call: ModelCall, text: str) -> bool:
    guardrail = call.model.guardrail
    return guardrail is not None and guardrail.blocked_input == text


def _may_become_blocked_input(call: ModelCall, text: str) -> bool:
    guardrail = call.model.guardrail
    return guardrail is not None and (guardrail.blocked_input or "").startswith(text)


def _chunk(event: Mapping[str, Any], model: str, served_by: str | None) -> Document | None:
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
        metadata = event["metadata"]
        return {"choices": [], "usage": _usage(metadata["usage"]), **_served_by(metadata, served_by)}
    return None


def _delta(delta: Mapping[str, str], finish_reason: str | None = None) -> Document:
    return {"choices": [{"index": 0, "delta": dict(delta), "finish_reason": finish_reason}]}


def _served_by(answer: Mapping[str, Any], asked: str | None) -> Document:
    """The model that a prompt router chose, or else the one that stood in."""
    chosen = answer.get("trace", {}).get("promptRouter", {}).get("invokedModelId") or asked
    return {} if chosen is None else {"served_by": chosen}


def _finish_reason(stop_reason: str, model: str) -> str:
    if stop_reason not in _FINISH_REASONS:
        raise broken(model, f"the stop reason {stop_reason} has no counterpart for a request without tools")
    return _FINISH_REASONS[stop_reason]


def _usage(usage: Mapping[str, Any]) -> Document:
    """Bedrock counts cached input tokens apart (AWS page "TokenUsage"); OpenAI counts them in."""
    cached, written = usage.get("cacheReadInputTokens", 0), usage.get("cacheWriteInputTokens", 0)
    prompt = usage["inputTokens"] + cached + written
    details = {"cached_tokens": cached} | ({"cache_write_tokens": written} if written else {})
    return {
        "prompt_tokens": prompt,
        "completion_tokens": usage["outputTokens"],
        "total_tokens": prompt + usage["outputTokens"],
        "prompt_tokens_details": details,
    }
