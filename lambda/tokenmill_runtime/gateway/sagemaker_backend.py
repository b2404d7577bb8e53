"""Models in SageMaker inference components, whose containers speak OpenAI's chat completions."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, NoReturn

from tokenmill_runtime.aws import sagemaker_runtime
from tokenmill_runtime.gateway.aws_errors import broken, error_message, model_error
from tokenmill_runtime.gateway.connection import connection_errors, let_go
from tokenmill_runtime.gateway.sse import DONE, SseDecoder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenmill_runtime.gateway.backend import Document, ModelCall

_TEXTS: Final = ("content", "reasoning", "reasoning_content")


class SageMakerBackend:
    """Calls the component named in the model's configuration."""

    single_token_chunks: Final = True

    def complete(self, call: ModelCall) -> Document:
        """One blocking invocation.

        SageMaker ends it after 60 seconds (AWS page "InvokeEndpoint"), so long answers need streaming.
        """
        try:
            response = sagemaker_runtime().invoke_endpoint(**_arguments(call, stream=False))
            with closing(response["Body"]) as body:
                content = body.read()
        except connection_errors() as error:
            raise model_error(error, call.model.name) from error
        document = _json(content, call.model.name)
        message = error_message(document)
        if message is not None or not document.get("choices"):
            raise broken(call.model.name, message or "an answer without choices")
        return _checked(document, "message", call.model.name)

    def stream(self, call: ModelCall) -> SageMakerStream:
        """Begin a streaming invocation."""
        try:
            response = sagemaker_runtime().invoke_endpoint_with_response_stream(
                **_arguments(call, stream=True)
            )
        except connection_errors() as error:
            raise model_error(error, call.model.name) from error
        return SageMakerStream(response["Body"], call.model.name)


class SageMakerStream:
    """The container's server-sent events, taken out of SageMaker's event stream.

    A PayloadPart is any piece of the container's bytes (AWS page "InvokeEndpointWithResponseStream"), so
    events and characters are put together again here.
    """

    def __init__(self, events: Any, model: str) -> None:
        self._events = events
        self._model = model

    def __iter__(self) -> Iterator[Document]:
        finished = False
        for data in self._data():
            if data == DONE:
                finished = True
                continue
            chunk = _json(data, self._model)
            message = error_message(chunk)
            if message is not None:
                raise broken(self._model, message)
            checked = _checked(chunk, "delta", self._model)
            finished = finished or any(choice.get("finish_reason") for choice in checked["choices"])
            yield checked
        if not finished:
            raise broken(self._model, "the stream ended without a finish reason")

    def cancel(self) -> None:
        """Stop reading, from any thread, and let go of the connection."""
        let_go(self._events)

    def _data(self) -> Iterator[str]:
        decoder = SseDecoder()
        try:
            for event in self._events:
                yield from decoder.feed(event.get("PayloadPart", {}).get("Bytes", b""))
        except UnicodeDecodeError as error:
            raise broken(self._model, f"the model's bytes are not UTF-8: {error}") from error
        except connection_errors() as error:
            raise model_error(error, self._model) from error
        if decoder.unfinished:
            # An event that only lacks its last line break, as some servers end their stream.
            yield from decoder.feed(b"\n\n")


def _arguments(call: ModelCall, *, stream: bool) -> dict[str, Any]:
    """The invocation. The body names no model: the container serves one, under a name that may be a path."""
    body: dict[str, Any] = {
        **call.options,
        "messages": [{"role": message.role, "content": message.content} for message in call.messages],
        "stream": stream,
    }
    if stream:
        body["stream_options"] = {"include_usage": True}
    if call.max_tokens is not None:
        body["max_tokens"] = call.max_tokens
    return {
        "EndpointName": call.model.endpoint,
        "InferenceComponentName": call.model.component,
        "ContentType": "application/json",
        "Accept": "text/event-stream" if stream else "application/json",
        "Body": json.dumps(body).encode(),
    }


def _json(content: bytes | str, model: str) -> Document:
    try:
        document = json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise broken(model, f"the model's answer is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise broken(model, f"the model's answer is not a JSON object but a {type(document).__name__}")
    return document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _checked(document: Document, part: str, model: str) -> Document:
    """The document, when its choices have the form that the gateway reads, each with this part."""
    choices, usage = document.get("choices") or [], document.get("usage")
    if not isinstance(choices, list) or not all(_is_choice(choice, part) for choice in choices):
        # Without what stands there: it may be a part of an answer, which does not belong in the log.
        raise broken(model, f"choices of another form than a list of objects with a {part} of text")
    return {**document, "choices": choices, "usage": usage if isinstance(usage, dict) else None}


def _is_choice(choice: object, part: str) -> bool:
    said = choice.get(part) if isinstance(choice, dict) else None
    return isinstance(said, dict) and all(isinstance(said.get(name), str | None) for name in _TEXTS)
