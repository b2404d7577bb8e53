"""A guardrail around a model that Bedrock does not serve: questions and answers by ApplyGuardrail.

Behaviour: AWS page "Configure streaming response behavior to filter content": in sync mode text is held until
it was assessed; in async mode it is sent at once, assessed beside that, never masked, and ended when an
assessment says so. A text unit, which is what an assessment costs, has up to 1,000 characters.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime.aws import bedrock_runtime
from tokenmill_runtime.gateway.assembling import TEXTS, whole_answer
from tokenmill_runtime.gateway.connection import connection_errors
from tokenmill_runtime.gateway.errors import CONTENT_FILTER, content_filtered, server_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future

    from tokenmill_runtime.gateway.backend import Backend, Document, ModelCall, ModelStream
    from tokenmill_runtime.gateway_options import GuardrailUse

# A caller should not wait a whole text unit for the first words; later windows cost what they hold.
FIRST_WINDOW: Final = 250
WINDOW: Final = 1000
# Below the quota "text units per ApplyGuardrail request" of an account that never asked for more (25).
PIECE: Final = 20_000
_ENDS: Final = ("\n", ". ", "! ", "? ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What a guardrail says of a text: blocked, and what stands for it or is left of it."""

    blocked: bool
    text: str


def assess(use: GuardrailUse, source: str, text: str) -> Assessment:
    """Ask the guardrail about a text of "INPUT" or "OUTPUT"; raises GatewayError when it does not answer.

    A text that is longer than a request may be is asked about in pieces.
    """
    said = []
    while text:
        length = len(text) if len(text) <= PIECE else _cut(text[:PIECE])
        assessment = _assess_piece(use, source, text[:length])
        if assessment.blocked:
            return assessment
        said.append(assessment.text)
        text = text[length:]
    return Assessment(blocked=False, text="".join(said))


def _assess_piece(use: GuardrailUse, source: str, text: str) -> Assessment:
    try:
        answer: Any = bedrock_runtime().apply_guardrail(
            guardrailIdentifier=use.id,
            guardrailVersion=use.version,
            source="INPUT" if source == "INPUT" else "OUTPUT",
            content=[{"text": {"text": text}}],
        )
    except connection_errors() as error:
        raise server_error(
            "the guardrail did not answer, and nothing is said without it; try again later",
            status=503,
            code="guardrail_unavailable",
            detail=f"{type(error).__name__}: {error}",
        ) from error
    if answer["action"] != "GUARDRAIL_INTERVENED":
        return Assessment(blocked=False, text=text)
    left = "".join(output.get("text", "") for output in answer["outputs"])
    return Assessment(blocked=_has_blocked(answer["assessments"]), text=left)


def _has_blocked(node: object) -> bool:
    """Whether any policy blocked, and did not only mask."""
    if isinstance(node, dict):
        return node.get("action") == "BLOCKED" or any(map(_has_blocked, node.values()))
    return isinstance(node, list) and any(map(_has_blocked, node))


class GuardedBackend:
    """A back end behind a guardrail."""

    def __init__(self, backend: Backend, use: GuardrailUse) -> None:
        self._backend = backend
        self._use = use

    @property
    def single_token_chunks(self) -> bool:
        """Windows of text have many tokens."""
        return self._use.mode == "async" and self._backend.single_token_chunks

    def complete(self, call: ModelCall) -> Document:
        """The whole answer, assessed in pieces as long as a request may be."""
        stream = SyncStream(self._backend.stream(self._checked(call)), self._use, windows=(PIECE, PIECE))
        return whole_answer(stream, call.model.name)

    def stream(self, call: ModelCall) -> ModelStream:
        """Begin an answer; raises GatewayError (400) for a question that is blocked."""
        inner = self._backend.stream(self._checked(call))
        return AsyncStream(inner, self._use) if self._use.mode == "async" else SyncStream(inner, self._use)

    def _checked(self, call: ModelCall) -> ModelCall:
        """The call with its messages as the guardrail lets them through."""
        whole = "\n".join(message.content for message in call.messages)
        found = assess(self._use, "INPUT", whole)
        if found.blocked:
            raise content_filtered(found.text)
        if found.text == whole:
            return call
        # Something was masked, and only message by message can be told what.
        checked = [(message, assess(self._use, "INPUT", message.content)) for message in call.messages]
        for _, assessment in checked:
            if assessment.blocked:
                raise content_filtered(assessment.text)
        return replace(call, messages=tuple(replace(message, content=left.text) for message, left in checked))


class SyncStream:
    """An answer of which nothing is sent before it was assessed."""

    def __init__(
        self, inner: ModelStream, use: GuardrailUse, *, windows: tuple[int, int] = (FIRST_WINDOW, WINDOW)
    ) -> None:
        self._inner = inner
        self._use = use
        self._window, self._later = windows
        self._kind = TEXTS[0]
        self._held = ""

    def __iter__(self) -> Iterator[Document]:
        for chunk in self._inner:
            for out in self._let_through(chunk):
                yield out
                if _finish(out) == CONTENT_FILTER:
                    self.cancel()
                    return

    def cancel(self) -> None:
        """Stop reading, from any thread, and let go of the connection."""
        self._inner.cancel()

    def _let_through(self, chunk: Document) -> Iterator[Document]:
        if not chunk.get("choices"):
            yield chunk
            return
        choice = chunk["choices"][0]
        delta = choice["delta"]
        for kind in TEXTS:
            if not delta.get(kind):
                continue
            if kind != self._kind:
                yield from self._release(len(self._held))
                self._kind = kind
            self._held += delta[kind]
        if len(self._held) >= self._window:
            yield from self._release(_cut(self._held))
            self._window = self._later
        if choice.get("finish_reason") is not None:
            yield from self._release(len(self._held))
            yield _chunk({}, choice["finish_reason"])
        elif delta.get("role"):
            yield _chunk({"role": delta["role"], "content": ""})

    def _release(self, length: int) -> Iterator[Document]:
        text, self._held = self._held[:length], self._held[length:]
        if not text:
            return
        assessment = assess(self._use, "OUTPUT", text)
        if assessment.blocked:
            self._held = ""
            yield from _stopped(assessment.text)
        elif assessment.text:
            yield _chunk({self._kind: assessment.text})


class AsyncStream:
    """An answer that is sent as it comes and ends when an assessment beside it says so."""

    def __init__(self, inner: ModelStream, use: GuardrailUse) -> None:
        self._inner = inner
        self._use = use
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._asked: list[Future[Assessment]] = []
        self._text = ""

    def __iter__(self) -> Iterator[Document]:
        try:
            yield from self._beside_assessments()
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _beside_assessments(self) -> Iterator[Document]:
        for chunk in self._inner:
            choices = chunk.get("choices") or []
            self._text += "".join(choices[0]["delta"].get(kind) or "" for kind in TEXTS) if choices else ""
            last = _finish(chunk) is not None
            if self._text and (last or len(self._text) >= WINDOW):
                self._asked.append(self._pool.submit(assess, self._use, "OUTPUT", self._text))
                self._text = ""
            blocked = _first_blocked([asked for asked in self._asked if last or asked.done()])
            if blocked is not None:
                yield from _stopped(blocked.text)
                self.cancel()
                return
            yield chunk

    def cancel(self) -> None:
        """Stop reading, from any thread, and let go of the connection."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._inner.cancel()


def _first_blocked(asked: Sequence[Future[Assessment]]) -> Assessment | None:
    return next((found for found in (future.result() for future in asked) if found.blocked), None)


def _cut(text: str) -> int:
    """Where a window may end: after a sentence or a word, so that a name or a number is not cut in two."""
    ends = [found + len(end) for end in _ENDS if (found := text.rfind(end)) >= 0]
    return max(ends, default=0) or text.rfind(" ") + 1 or len(text)


def _stopped(message: str) -> Iterator[Document]:
    yield _chunk({"content": message})
    yield _chunk({}, CONTENT_FILTER)


def _chunk(delta: dict[str, str], finish_reason: str | None = None) -> Document:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def _finish(chunk: Document) -> str | None:
    choices = chunk.get("choices")
    reason: str | None = choices[0].get("finish_reason") if choices else None
    return reason
