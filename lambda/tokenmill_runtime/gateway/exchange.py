"""One question and its answer: stored turns, metrics and the model's stream, so tied that none is lost."""

from __future__ import annotations

import math
import traceback
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio

from tokenmill_runtime.gateway.aws_errors import timed_out
from tokenmill_runtime.gateway.backend import END, ModelCall
from tokenmill_runtime.gateway.chat_request import estimate_tokens
from tokenmill_runtime.gateway.errors import (
    CONTENT_FILTER,
    CONTEXT_LENGTH_EXCEEDED,
    GatewayError,
    server_error,
)
from tokenmill_runtime.gateway.guardrail import GuardedBackend
from tokenmill_runtime.gateway.log import log_line
from tokenmill_runtime.gateway.memory import Memory
from tokenmill_runtime.gateway.metering import Usage
from tokenmill_runtime.gateway.sse import DONE, encode_event

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Mapping

    from tokenmill_runtime.conversations import Conversations
    from tokenmill_runtime.gateway.backend import Backend, Document, ModelStream, T, Threads
    from tokenmill_runtime.gateway.chat_request import ChatRequest
    from tokenmill_runtime.gateway.metering import Meter, Meters

# Seconds kept back from the function's deadline to store what there is of an answer and to say so.
DEADLINE_RESERVE: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What every exchange of a gateway shares."""

    backends: Mapping[str, Backend]
    conversations: Conversations | None
    meters: Meters
    threads: Threads


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, under which request id, and until when (epoch seconds) this process may answer."""

    principal: str
    request_id: str
    deadline: float | None = None


class Exchange:
    """Answers one request: `complete` for a whole answer; `begin`, `events` and `close` for a stream."""

    def __init__(self, services: Services, chat: ChatRequest, caller: Caller) -> None:
        self._services = services
        self._chat = chat
        self._caller = caller
        self._backend = _backend(services, chat)
        self._memory = Memory(
            services.conversations, chat, principal=caller.principal, request_id=caller.request_id
        )
        self._meter: Meter | None = None
        self._stream: ModelStream | None = None
        self._chunks: Iterator[Document] = iter(())
        self._next_chunk: Any = END
        self._answer: list[str] = []
        self._usage: Document | None = None
        self._served_by: str | None = None
        self._filtered = False
        self._outcome = "client_gone"
        self._status = 200
        self._closed = False
        self._arrived = services.meters.clock.monotonic()
        self._head = {
            "id": f"chatcmpl-{caller.request_id}",
            "created": int(services.meters.clock.wall()),
            "model": chat.model.name,
        }

    async def complete(self) -> Document:
        """The whole answer; raises GatewayError."""
        try:
            document = await self._ask(self._backend.complete)
            self._usage = document.get("usage")
            self._note(document)
            message = document["choices"][0]["message"]
            answer = message.get("content") or ""
            self._count(answer + _thought(message), single_token=False)
            await self._run(partial(self._remember, answer))
            self._outcome = "complete"
        except Exception as error:
            raise self._failed(error) from error
        finally:
            self._finish()
        usage = self._usage or self._counted()
        return {**self._head, "object": "chat.completion", "choices": document["choices"], "usage": usage}

    async def begin(self) -> None:
        """Ask the model and wait for its first chunk: a failure until then still has its HTTP status."""
        try:
            self._stream = await self._ask(self._backend.stream)
            self._chunks = iter(self._stream)
            await self._advance()
        except Exception as error:
            failure = self._failed(error)
            await self.close()
            raise failure from error

    async def events(self) -> AsyncGenerator[bytes]:
        """The answer as server-sent events; a failure becomes an error event, with no ``[DONE]`` after it."""
        try:
            while self._next_chunk is not END:
                document = self._take(self._next_chunk)
                if document is not None:
                    yield encode_event(document)
                await self._advance()
            # The turn is stored before the end is announced: whoever saw [DONE] finds it in the conversation.
            await self._run(partial(self._remember, "".join(self._answer)))
            self._outcome = "complete"
            await self.close()
            if self._chat.include_usage:
                yield encode_event(self._chunk([], usage=self._usage or self._counted()))
            yield encode_event(DONE)
        except Exception as error:  # noqa: BLE001 - logged, and the caller gets it as an event: the status is out
            failure = self._failed(error)
            await self.close()
            yield encode_event(failure.document())

    async def close(self) -> None:
        """End the exchange however far it came, and store what the model said; repeating is harmless."""
        if self._closed:
            return
        self._closed = True
        with anyio.CancelScope(shield=True):
            try:
                if self._outcome != "complete":
                    await self._give_up()
            finally:
                self._finish()

    def seconds_to_send(self) -> float:
        """How long the answer may take to leave: past the exchange's own deadline, which sends an error."""
        return self._seconds_left(DEADLINE_RESERVE / 2)

    async def _ask(self, ask: Callable[[ModelCall], T]) -> T:
        """Put the question to the model, again with fewer earlier turns while it counts too many tokens.

        Such a refusal comes before any prefill, so asking again costs the model nothing.
        """
        await self._run(self._memory.recall)
        self._meter = self._services.meters.start(
            self._chat.model,
            input_tokens=estimate_tokens(self._memory.messages),
            request_id=self._caller.request_id,
            arrived=self._arrived,
            max_tokens=self._call().max_tokens,
        )
        while True:
            try:
                return await self._run(partial(ask, self._call()))
            except GatewayError as error:
                if error.code != CONTEXT_LENGTH_EXCEEDED or not self._memory.shorten():
                    raise

    def _call(self) -> ModelCall:
        messages = self._memory.messages
        limit = self._chat.max_tokens or _default_limit(self._chat, estimate_tokens(messages))
        return ModelCall(
            model=self._chat.model,
            messages=messages,
            max_tokens=limit,
            options=self._chat.options,
            overflowed=self._overflowed,
        )

    def _overflowed(self) -> None:
        if self._meter is not None:
            self._meter.overflow()

    async def _advance(self) -> None:
        self._next_chunk = await self._run(partial(next, self._chunks, END))

    async def _run(self, function: Callable[[], T]) -> T:
        """Run a blocking call, no longer than the deadline allows; raises GatewayError past it."""
        try:
            with anyio.fail_after(self._seconds_left(DEADLINE_RESERVE)):
                return await self._services.threads.run(function)
        except TimeoutError as error:
            raise timed_out(self._chat.model.name, "the function's own time is over") from error

    def _seconds_left(self, reserve: float) -> float:
        deadline = self._caller.deadline
        return (
            math.inf
            if deadline is None
            else max(0.0, deadline - self._services.meters.clock.wall() - reserve)
        )

    def _take(self, chunk: Document) -> Document | None:
        """Count a chunk and give the one to send, None for those that only carry usage."""
        self._usage = chunk.get("usage") or self._usage
        self._note(chunk)
        choices = chunk.get("choices")
        if not choices:
            return None
        delta = choices[0].get("delta") or {}
        text = delta.get("content") or ""
        self._answer.append(text)
        self._count(text + _thought(delta), single_token=self._backend.single_token_chunks)
        return self._chunk(choices)

    def _note(self, said: Document) -> None:
        """Keep which model answered, and whether what it said was taken away."""
        self._served_by = said.get("served_by") or self._served_by
        reasons = [choice.get("finish_reason") for choice in said.get("choices") or ()]
        self._filtered = self._filtered or CONTENT_FILTER in reasons

    def _remember(self, answer: str, *, interrupted: bool = False) -> None:
        """Store the answer; one that a guardrail stopped is none, and its question is left out from now."""
        if not (self._filtered and self._chat.model.guardrail is not None):
            self._memory.remember(answer, interrupted=interrupted)

    def _count(self, text: str, *, single_token: bool) -> None:
        if text and self._meter is not None:
            self._meter.text(text, single_token=single_token)

    def _chunk(self, choices: list[Any], usage: Document | None = None) -> Document:
        chunk = {**self._head, "object": "chat.completion.chunk", "choices": choices}
        return {**chunk, "usage": usage} if self._chat.include_usage else chunk

    def _counted(self) -> Document:
        """Our own count, for a model that gives none."""
        usage = self._meter.usage if self._meter else Usage(input_tokens=0)
        total = usage.input_tokens + usage.output_tokens
        counts = {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens}
        return {**counts, "total_tokens": total}

    async def _give_up(self) -> None:
        if self._stream is not None:
            await self._services.threads.run(self._stream.cancel)
        try:
            await self._services.threads.run(partial(self._remember, "".join(self._answer), interrupted=True))
        except GatewayError as error:
            self._log("error", "interrupted turn not stored", code=error.code, detail=error.detail)

    def _failed(self, error: Exception) -> GatewayError:
        """Note a failure; what is not one that the gateway foresaw is a defect of its own."""
        failure = error if isinstance(error, GatewayError) else internal_error(error)
        self._outcome, self._status = failure.code, failure.status
        if failure.detail:
            self._log("error", "request failed", code=failure.code, detail=failure.detail)
        return failure

    def _finish(self) -> None:
        meter, usage, ttft = self._meter, None, None
        if meter is not None:
            refused = self._status == 400 and not meter.usage.output_tokens
            meter.correct(Usage(input_tokens=0) if refused else Usage.from_openai(self._usage))
            failed = self._status >= 500 or self._status == 429
            meter.finish(failed=failed, streamed=self._outcome == "complete" and self._chat.stream)
            usage, ttft = meter.usage, meter.first_token_ms if self._chat.stream else None
        self._log(
            "info",
            "chat",
            model=self._chat.model.name,
            stream=self._chat.stream,
            conversation=self._chat.conversation_id is not None,
            outcome=self._outcome,
            status=self._status,
            served_by=self._served_by,
            filtered=self._filtered or None,
            input_tokens=usage and usage.input_tokens,
            output_tokens=usage and usage.output_tokens,
            ttft_ms=ttft and round(ttft, 1),
            duration_ms=meter and round(meter.duration_ms, 1),
        )

    def _log(self, level: Any, message: str, **fields: object) -> None:
        who = {"request_id": self._caller.request_id, "principal": self._caller.principal}
        self._services.meters.emit(log_line(level, message, **who, **fields))


def _backend(services: Services, chat: ChatRequest) -> Backend:
    """The model's back end; a guardrail of Bedrock stands in Converse itself, and beside any other."""
    backend = services.backends[chat.model.backend]
    guardrail = chat.model.guardrail
    return (
        backend
        if guardrail is None or chat.model.backend == "bedrock"
        else GuardedBackend(backend, guardrail)
    )


def internal_error(error: Exception) -> GatewayError:
    """An error object for a defect of the gateway; where it is goes to the log."""
    detail = "".join(traceback.format_exception(error))
    return server_error(
        "the gateway failed; tell its owner the request id", status=500, code="internal_error", detail=detail
    )


def _thought(said: Mapping[str, Any]) -> str:
    """A model's reasoning, under either of the names that engines give it."""
    return said.get("reasoning_content") or said.get("reasoning") or ""


def _default_limit(chat: ChatRequest, input_tokens: int) -> int | None:
    """The model's output limit where it surely fits; else None: the engine uses what the context leaves."""
    model = chat.model
    return (
        model.max_output_tokens
        if input_tokens * 1.25 + model.max_output_tokens <= model.context_tokens
        else None
    )
