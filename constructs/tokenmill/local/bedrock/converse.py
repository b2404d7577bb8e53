"""One Converse call from its admission to its account: quota, guardrail, model, tokens, metrics.

Source: Amazon Bedrock API Reference, "Converse", "ConverseStream" (members and events of an answer),
"TokenUsage"; Amazon Bedrock User Guide, "Monitor the performance of Amazon Bedrock" (metrics), "Prompt
caching".
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.eventstream import EventStreamBuffer

from tokenmill.local.bedrock.capacity import DEFAULT_OUTPUT_TOKENS
from tokenmill.local.bedrock.guarded import INTERVENED, Guarded
from tokenmill.local.bedrock.prompt_tokens import InputUsage, PromptCache, counted
from tokenmill.local.event_stream import encode_event, encode_message
from tokenmill.local.json_text import json_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tokenmill.local.aws_requests import Params, Scope
    from tokenmill.local.bedrock.capacity import Capacity, Reservation
    from tokenmill.local.bedrock.guarded import GuardedStream
    from tokenmill.local.bedrock.guardrails import Guardrails
    from tokenmill.local.bedrock.routing import Route

    Record = Callable[[Scope, str, float, str, dict[str, str]], None]
    Burndown = Callable[[str], float]

_ECHOED = ("performanceConfig", "serviceTier")


@dataclass(slots=True, kw_only=True)
class Desk:
    """What every call needs.

    Args:
        capacity: Tokens a minute.
        guardrails: The guardrails.
        cache: The prefixes that models keep.
        burndown: Quota tokens that one output token of a model counts as.
        record: Takes a metric of `AWS/Bedrock`: scope, name, value, unit, dimensions.
        clock: Seconds on a clock that never goes back.
    """

    capacity: Capacity
    guardrails: Guardrails
    cache: PromptCache
    burndown: Burndown
    record: Record
    clock: Callable[[], float] = time.monotonic


@dataclass(slots=True)
class Call:
    """One call.

    Args:
        desk: What every call needs.
        scope: Who calls.
        route: Who answers; its request is what the model gets.
    """

    desk: Desk
    scope: Scope
    route: Route
    guarded: Guarded | None = None
    _began: float = 0.0
    _first: float | None = None
    _reservation: Reservation | None = None
    _input: InputUsage = field(default_factory=lambda: InputUsage(fresh=0))

    def admit(self) -> str | None:
        """Let the call in; return the message that a guardrail answers in the model's place.

        Raises:
            AwsError: It is throttled, or names a guardrail that does not exist.
        """
        request, desk = self.route.request, self.desk
        self._began = desk.clock()
        self.guarded = Guarded.of(desk.guardrails, self.scope, request)
        blocked = self.guarded.check_input(request) if self.guarded is not None else None
        if blocked is not None:
            return blocked
        tokens = counted(request)
        most = int((request.get("inferenceConfig") or {}).get("maxTokens") or DEFAULT_OUTPUT_TOKENS)
        if self.route.units:
            self._reservation = desk.capacity.provisioned(
                self.scope, self.route.asked, self.route.model, self.route.units, tokens.tokens + most
            )
        else:
            self._reservation = desk.capacity.on_demand(self.scope, self.route.asked, tokens.tokens + most)
        self._input = desk.cache.use(self.scope, self.route.model, tokens)
        return None

    def give_back(self) -> None:
        """Give back what the call reserved: the model did not answer."""
        if self._reservation is not None:
            self.desk.capacity.settle(self._reservation, 0)
            self._reservation = None

    def answer(self, document: Params) -> Params:
        """Return the answer of Converse, guarded, with the tokens as they are billed.

        Args:
            document: The model server's answer.
        """
        made = {**document, "usage": self.usage(document["usage"])}
        if self.guarded is not None:
            blocks = document["output"]["message"]["content"]
            text, intervened = self.guarded.check_output("".join(block.get("text", "") for block in blocks))
            if intervened:
                made["output"] = _message(text)
                made["stopReason"] = INTERVENED
        self.settle(made["usage"])
        return made | self.additions()

    def blocked_answer(self, message: str) -> Params:
        """Return the answer of a call whose input a guardrail blocked: no model was asked.

        Args:
            message: What the guardrail says.
        """
        none = {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}
        answer: Params = {
            "output": _message(message),
            "stopReason": INTERVENED,
            "usage": none,
            "metrics": {"latencyMs": self._elapsed()},
        }
        return answer | self.additions()

    def blocked_stream(self, message: str) -> bytes:
        """Return the events of a call whose input a guardrail blocked.

        Args:
            message: What the guardrail says.
        """
        answer = self.blocked_answer(message)
        ending: Params = {name: answer[name] for name in ("usage", "metrics", "trace") if name in answer}
        return (
            _event("messageStart", {"role": "assistant"})
            + _delta(message)
            + _event("contentBlockStop", {"contentBlockIndex": 0})
            + _event("messageStop", {"stopReason": INTERVENED})
            + _event("metadata", ending)
        )

    def usage(self, counted_by_model: Params) -> Params:
        """Return the tokens of an answer, with what the prompt cache read and wrote.

        Args:
            counted_by_model: What the model server counted.
        """
        read, write = self._input.read, self._input.write
        usage: Params = dict(counted_by_model)
        usage["inputTokens"] = self._input.fresh
        if not read and not write:
            # A real model server behind ours has a tokenizer; it knows better.
            usage["inputTokens"] = max(self._input.fresh, counted_by_model["inputTokens"])
        usage["totalTokens"] = usage["inputTokens"] + read + write + usage["outputTokens"]
        if self._input.written is not None:
            usage |= {"cacheReadInputTokens": read, "cacheWriteInputTokens": write}
            if self._input.written:
                order = sorted(self._input.written.items(), key=lambda entry: entry[0] != "1h")
                usage["cacheDetails"] = [{"ttl": ttl, "inputTokens": tokens} for ttl, tokens in order]
        return usage

    def additions(self) -> Params:
        """Return the members of an answer beside the model's own."""
        added: Params = {name: self.route.request[name] for name in _ECHOED if name in self.route.request}
        trace: Params = {}
        if self.guarded is not None and (told := self.guarded.trace()) is not None:
            trace["guardrail"] = told
        if self.route.routed is not None:
            trace["promptRouter"] = {"invokedModelId": self.route.routed}
        return added | ({"trace": trace} if trace else {})

    def first_token(self) -> None:
        """Remember when the first token of a stream was there."""
        if self._first is None:
            self._first = self.desk.clock()

    def settle(self, usage: Params) -> None:
        """Count an answered call.

        Args:
            usage: Its tokens.
        """
        output, write = usage["outputTokens"], self._input.write
        plain = usage["inputTokens"] + write
        quota = plain + output * self.desk.burndown(self.route.model)
        if self._reservation is not None:
            self.desk.capacity.settle(self._reservation, plain + output if self.route.units else round(quota))
            self._reservation = None
        self.tell("Invocations", 1, "Count")
        self.tell("InvocationLatency", self._elapsed(), "Milliseconds")
        self.tell("InputTokenCount", usage["inputTokens"], "Count")
        self.tell("OutputTokenCount", output, "Count")
        self.tell("EstimatedTPMQuotaUsage", quota, "Count")
        if self._input.written is not None:
            self.tell("CacheReadInputTokens", self._input.read, "Count")
            self.tell("CacheWriteInputTokens", write, "Count")
        if self._first is not None:
            self.tell("TimeToFirstToken", round((self._first - self._began) * 1000), "Milliseconds")

    def tell(self, name: str, value: float, unit: str) -> None:
        """Record a metric of the call's model.

        Args:
            name: The metric.
            value: Its value.
            unit: Its unit.
        """
        self.desk.record(self.scope, name, value, unit, {"ModelId": self.route.asked})

    def _elapsed(self) -> int:
        return round((self.desk.clock() - self._began) * 1000)


class StreamedAnswer:
    """A model server's event stream on its way to the caller: guarded, with the tokens as they are billed.

    Args:
        call: The call.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._buffer = EventStreamBuffer()
        self._guard: GuardedStream | None = call.guarded.stream() if call.guarded is not None else None
        self.ended = False

    def take(self, data: bytes) -> Iterator[bytes]:
        """Yield what may be sent on, now that further bytes are there.

        Args:
            data: The bytes.
        """
        self._buffer.add_data(data)
        for message in self._messages():
            headers = {name: str(value) for name, value in message.headers.items()}
            if headers.get(":message-type") != "event":
                yield encode_message(headers, message.payload)
                continue
            document = json.loads(message.payload)
            yield from self._event(headers[":event-type"], document)

    def _messages(self) -> Iterator[Any]:
        yield from self._buffer

    def _event(self, kind: str, document: dict[str, Any]) -> Iterator[bytes]:
        if kind == "contentBlockDelta":
            self._call.first_token()
            text = document["delta"].get("text", "")
            if self._guard is None:
                yield _event(kind, document)
            elif not self._guard.blocked and (sent := self._guard.take(text)):
                yield _delta(sent)
        elif kind == "contentBlockStop":
            if self._guard is not None and not self._guard.blocked and (sent := self._guard.finish()):
                yield _delta(sent)
            yield _event(kind, document)
        elif kind == "messageStop" and self._guard is not None and self._guard.intervened:
            yield _event(kind, {**document, "stopReason": INTERVENED})
        elif kind == "metadata":
            usage = self._call.usage(document["usage"])
            self._call.settle(usage)
            self.ended = True
            yield _event(kind, {**document, "usage": usage, **self._call.additions()})
        else:
            yield _event(kind, document)


def _message(text: str) -> Params:
    return {"message": {"role": "assistant", "content": [{"text": text}]}}


def _delta(text: str) -> bytes:
    return _event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}})


def _event(name: str, members: Params) -> bytes:
    return encode_event(name, json_text(members))
