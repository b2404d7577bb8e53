"""Models on SageMaker endpoints, whose containers speak OpenAI's chat completions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NoReturn

from tokenmill_runtime.aws import sagemaker_runtime
from tokenmill_runtime.gateway.assembling import TEXTS, whole_answer
from tokenmill_runtime.gateway.aws_errors import broken, error_message, model_error
from tokenmill_runtime.gateway.connection import connection_errors, let_go
from tokenmill_runtime.gateway.sse import DONE, SseDecoder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenmill_runtime.gateway.backend import Document, ModelCall


class SageMakerBackend:
    """Calls the component that the model's configuration names, or the only variant of its endpoint."""

    single_token_chunks: Final = True

    def complete(self, call: ModelCall) -> Document:
        """The whole answer, put together from a stream.

        SageMaker ends InvokeEndpoint after 60 seconds and a stream after 8 minutes (AWS page "Model Hosting
        FAQs").
        """
        return whole_answer(self.stream(call), call.model.name)

    def stream(self, call: ModelCall) -> SageMakerStream:
        """Begin a streaming invocation."""
        try:
            response = sagemaker_runtime().invoke_endpoint_with_response_stream(**_arguments(call))
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
            checked = _checked(chunk, self._model)
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


def _arguments(call: ModelCall) -> dict[str, Any]:
    """The invocation. The body names no model: the container serves one, under a name that may be a path."""
    body: dict[str, Any] = {
        **call.options,
        "messages": [{"role": message.role, "content": message.content} for message in call.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if call.max_tokens is not None:
        body["max_tokens"] = call.max_tokens
    # Naming a component on an endpoint of one variant is refused, and so is naming none where there are some.
    named = {} if call.model.component is None else {"InferenceComponentName": call.model.component}
    return {
        "EndpointName": call.model.endpoint,
        **named,
        "ContentType": "application/json",
        "Accept": "text/event-stream",
        "Body": json.dumps(body).encode(),
    }


def _json(content: str, model: str) -> Document:
    try:
        document = json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise broken(model, f"the model's answer is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise broken(model, f"the model's answer is not a JSON object but a {type(document).__name__}")
    return document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _checked(chunk: Document, model: str) -> Document:
    """The chunk, when its choices have the form that the gateway reads."""
    choices, usage = chunk.get("choices") or [], chunk.get("usage")
    if not isinstance(choices, list) or not all(_is_choice(choice) for choice in choices):
        # Without what stands there: it may be a part of an answer, which does not belong in the log.
        raise broken(model, "choices of another form than a list of objects with a delta of text")
    return {**chunk, "choices": choices, "usage": usage if isinstance(usage, dict) else None}


def _is_choice(choice: object) -> bool:
    if not isinstance(choice, dict) or not isinstance(choice.get("index"), int | None):
        return False
    delta, logprobs = choice.get("delta"), choice.get("logprobs") or {}
    return (
        isinstance(delta, dict)
        and all(isinstance(delta.get(name), str | None) for name in TEXTS)
        and isinstance(logprobs, dict)
        and isinstance(logprobs.get("content"), list | None)
    )
