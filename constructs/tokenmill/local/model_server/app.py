"""The model server's routes: OpenAI, SageMaker's container contract, Bedrock Converse, Prometheus."""

from __future__ import annotations

import json
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tokenmill.local.event_stream import CONTENT_TYPE, encode_exception
from tokenmill.local.json_text import json_text
from tokenmill.local.model_server.engine import Copies
from tokenmill.local.model_server.metrics import EngineMetrics
from tokenmill.local.model_server.requests import Chat, RequestError, from_converse, from_openai
from tokenmill.local.model_server.responses import (
    DONE,
    Completion,
    Usage,
    converse_delta,
    converse_document,
    converse_end,
    converse_start,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx
    from starlette.requests import Request

    from tokenmill.local.model_server.engine import Clock, Timing
    from tokenmill.local.model_server.upstream import Upstream


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """What one model server stands in for."""

    model: str
    timing: Timing
    context_tokens: int
    copies: int = 1
    planned: bool = False


class ModelServer:
    """The handlers of one model server.

    Args:
        settings: Model, timing and copies.
        upstream: A real server behind this one; none answers from the built-in engine.
        clock: What the engines sleep by.
    """

    def __init__(
        self, settings: ModelSettings, *, upstream: Upstream | None = None, clock: Clock | None = None
    ) -> None:
        self.settings = settings
        self.upstream = upstream
        self.metrics = EngineMetrics()
        self.copies = Copies(settings.timing, metrics=self.metrics, clock=clock)

    def application(self) -> Starlette:
        """Return the ASGI application."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            self.copies.resize(self.settings.copies)
            yield
            self.copies.close()
            if self.upstream is not None:
                await self.upstream.close()

        return Starlette(
            lifespan=lifespan,
            exception_handlers={RequestError: _refused},
            routes=[
                Route("/ping", self.ping),
                Route("/v1/models", self.models),
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/invocations", self.chat, methods=["POST"]),
                Route("/model/{model}/converse", self.converse, methods=["POST"]),
                Route("/model/{model}/converse-stream", self.converse_stream, methods=["POST"]),
                Route("/metrics", self.prometheus),
                Route("/_tokenmill/copies", self.resize, methods=["PUT"]),
            ],
        )

    async def ping(self, _: Request) -> Response:
        """Answer SageMaker's health check, and say whether a server behind us answers."""
        if self.upstream is not None:
            await self.upstream.check()
        return PlainTextResponse("")

    async def models(self, _: Request) -> Response:
        """List the one model."""
        entry = {"id": self.settings.model, "object": "model", "created": 0, "owned_by": "tokenmill"}
        return _document({"object": "list", "data": [entry]})

    async def prometheus(self, _: Request) -> Response:
        """Give the metrics under vLLM's names."""
        text = self.metrics.render(self.settings.model, self.copies.engines)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def resize(self, request: Request) -> Response:
        """Set how many copies take requests."""
        copies = (await _body(request)).get("copies")
        if not isinstance(copies, int) or copies < 0:
            raise RequestError(f"copies must be a whole number from 0, got {copies!r}")
        self.copies.resize(copies)
        return _document({"copies": copies})

    async def chat(self, request: Request) -> Response:
        """Answer a chat completion, in one piece or as server-sent events."""
        body = await _body(request)
        chat = from_openai(body)
        if self.upstream is not None:
            return await self._relay(self.upstream, body, stream=chat.stream)
        pieces, reason = self._pieces(chat)
        tokens = self._tokens(chat, pieces)
        usage = Usage(input_tokens=chat.input_tokens, output_tokens=len(pieces))
        adapter = request.headers.get("x-amzn-sagemaker-adapter-identifier")
        completion = Completion(adapter or body.get("model") or self.settings.model)
        if chat.stream:
            events = _sse(completion, tokens, reason, usage, include_usage=chat.include_usage)
            return StreamingResponse(events, media_type="text/event-stream")
        text = "".join([piece async for piece in tokens])
        return _document(completion.whole(text, reason, usage))

    async def converse(self, request: Request) -> Response:
        """Answer Bedrock Converse."""
        began = time.monotonic()
        chat, openai = from_converse(await _body(request))
        if self.upstream is not None:
            answer = await self.upstream.whole(openai)
            choice, counted = answer["choices"][0], answer.get("usage") or {}
            usage = Usage(
                input_tokens=counted.get("prompt_tokens", 0),
                output_tokens=counted.get("completion_tokens", 0),
            )
            text, reason = choice["message"]["content"] or "", choice["finish_reason"]
        else:
            pieces, reason = self._pieces(chat)
            usage = Usage(input_tokens=chat.input_tokens, output_tokens=len(pieces))
            text = "".join([piece async for piece in self._tokens(chat, pieces)])
        latency = round((time.monotonic() - began) * 1000)
        return _document(converse_document(text, reason, usage, latency))

    async def converse_stream(self, request: Request) -> Response:
        """Answer Bedrock ConverseStream."""
        chat, openai = from_converse(await _body(request))
        if self.upstream is not None:
            body = {**openai, "stream": True, "stream_options": {"include_usage": True}}
            events = _converse_relay(self.upstream, await self.upstream.open(body))
        else:
            pieces, reason = self._pieces(chat)
            usage = Usage(input_tokens=chat.input_tokens, output_tokens=len(pieces))
            events = _converse_events(self._tokens(chat, pieces), reason, usage)
        return StreamingResponse(events, media_type=CONTENT_TYPE)

    def _pieces(self, chat: Chat) -> tuple[list[str], str]:
        settings = self.settings
        return chat.output_pieces(settings.model, settings.context_tokens, planned=settings.planned)

    def _tokens(self, chat: Chat, pieces: list[str]) -> AsyncIterator[str]:
        if not self.copies.engines:
            raise RequestError(f"{self.settings.model} has 0 copies; scale it out first", status=503)
        engine = self.copies.least_outstanding()
        if not engine.fits(chat.input_tokens + len(pieces)):
            raise RequestError(
                f"the request needs {chat.input_tokens + len(pieces)} tokens of KV cache, "
                f"one copy has {engine.timing.kv_capacity_tokens}; send less or lower max_tokens"
            )

        async def timed() -> AsyncIterator[str]:
            async for number in engine.generate(input_tokens=chat.input_tokens, output_tokens=len(pieces)):
                yield pieces[number]

        return timed()

    async def _relay(self, upstream: Upstream, body: dict[str, Any], *, stream: bool) -> Response:
        chunks = upstream.chunks(await upstream.open(body))
        if stream:
            return StreamingResponse(_errors_as_events(chunks), media_type="text/event-stream")
        return Response(b"".join([chunk async for chunk in chunks]), media_type="application/json")


def _document(members: dict[str, Any], *, status: int = 200) -> Response:
    return Response(json_text(members), status_code=status, media_type="application/json")


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except ValueError as error:
        raise RequestError(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise RequestError("the body must be a JSON object")
    return body


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)  # registered for this class only
    return _document(error.openai_document(), status=error.status)


async def _errors_as_events(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Pass events on; an error after the first byte becomes the error event that OpenAI clients raise."""
    try:
        async for event in events:
            yield event
    except RequestError as error:
        yield b"data: " + json.dumps(error.openai_document()).encode() + b"\n\n"


async def _sse(
    completion: Completion, tokens: AsyncIterator[str], reason: str, usage: Usage, *, include_usage: bool
) -> AsyncIterator[bytes]:
    yield completion.chunk({"role": "assistant", "content": ""})
    async for piece in tokens:
        yield completion.chunk({"content": piece})
    yield completion.chunk({}, finish_reason=reason)
    if include_usage:
        yield completion.usage_chunk(usage)
    yield DONE


async def _converse_events(tokens: AsyncIterator[str], reason: str, usage: Usage) -> AsyncIterator[bytes]:
    began = time.monotonic()
    yield converse_start()
    async for piece in tokens:
        yield converse_delta(piece)
    yield converse_end(reason, usage, round((time.monotonic() - began) * 1000))


async def _converse_relay(upstream: Upstream, response: httpx.Response) -> AsyncIterator[bytes]:
    began = time.monotonic()
    reason, counted = "stop", dict[str, int]()
    yield converse_start()
    try:
        async for document in upstream.events(response):
            counted = document.get("usage") or counted
            for choice in document.get("choices") or []:
                reason = choice.get("finish_reason") or reason
                if text := (choice.get("delta") or {}).get("content"):
                    yield converse_delta(text)
    except RequestError as error:
        yield encode_exception("modelStreamErrorException", str(error))
        return
    usage = Usage(
        input_tokens=counted.get("prompt_tokens", 0), output_tokens=counted.get("completion_tokens", 0)
    )
    yield converse_end(reason, usage, round((time.monotonic() - began) * 1000))
