"""A guardrail in the gateway: on Bedrock inside Converse, on SageMaker around the model."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import openai
import pytest

from support_runtime import CLAUDE, PATIENCE, QWEN, FakeAws, Gateway, Reply, delta, gateway_config, usage
from tokenmill_runtime.gateway.guardrail import FIRST_WINDOW, PIECE, WINDOW
from tokenmill_runtime.gateway_options import GuardrailUse

if TYPE_CHECKING:
    from collections.abc import Callable

REFUSED = "That question is not taken."
WITHHELD = "That answer is withheld."
USE = GuardrailUse(id="gr1", version="3", blocked_input=REFUSED)
SENTENCE = "This is one sentence of fifty characters, I think. "


class Cloud:
    """A guardrail that blocks "bomb", masks "anna@x.org" and says so as ApplyGuardrail does; and a model."""

    def __init__(self, aws: FakeAws) -> None:
        self.assessed: list[tuple[str, str]] = []
        self.model_bodies: list[dict[str, Any]] = []
        self.model: Callable[[Reply], None] = lambda to: to.whole("fine")
        self.failing = False
        aws.model = self.reply

    def reply(self, to: Reply) -> None:
        if not to.path.startswith("/guardrail/"):
            self.model_bodies.append(to.body)
            self.model(to)
            return
        assert to.path == "/guardrail/gr1/version/3/apply"
        if self.failing:
            to.json({"message": "slow down"}, status=429, error="ThrottlingException")
            return
        text = "".join(block["text"]["text"] for block in to.body["content"])
        self.assessed.append((to.body["source"], text))
        to.json(assessment(to.body["source"], text))


def assessment(source: str, text: str) -> dict[str, Any]:
    usage = dict.fromkeys(
        (
            "topicPolicyUnits",
            "contentPolicyUnits",
            "wordPolicyUnits",
            "sensitiveInformationPolicyUnits",
            "sensitiveInformationPolicyFreeUnits",
            "contextualGroundingPolicyUnits",
        ),
        1,
    )
    if "bomb" in text:
        words = {"customWords": [{"match": "bomb", "action": "BLOCKED"}], "managedWordLists": []}
        said = REFUSED if source == "INPUT" else WITHHELD
        found = {"outputs": [{"text": said}], "assessments": [{"wordPolicy": words}]}
        return {"usage": usage, "action": "GUARDRAIL_INTERVENED", **found}
    if "anna@x.org" in text:
        entity = {"match": "anna@x.org", "type": "EMAIL", "action": "ANONYMIZED"}
        masked = text.replace("anna@x.org", "{EMAIL}")
        policy = {"sensitiveInformationPolicy": {"piiEntities": [entity], "regexes": []}}
        found = {"outputs": [{"text": masked}], "assessments": [policy]}
        return {"usage": usage, "action": "GUARDRAIL_INTERVENED", **found}
    return {"usage": usage, "action": "NONE", "outputs": [], "assessments": []}


@pytest.fixture
def cloud(aws: FakeAws) -> Cloud:
    """The guardrail and the model."""
    return Cloud(aws)


@pytest.fixture
def guarded(start_gateway: Callable[..., Gateway], cloud: Cloud) -> Callable[..., Gateway]:
    """Starts a gateway whose models have the guardrail."""

    def start(**changes: Any) -> Gateway:
        models = tuple(
            replace(model, guardrail=replace(USE, **changes), context_tokens=100_000)
            for model in gateway_config().models
        )
        return start_gateway(models=models, conversation_table="turns")

    return start


def ask(gateway: Gateway, text: str = "Hello", *, model: str = QWEN, **changes: Any) -> Any:
    """One question; a stream comes as a list of its chunks."""
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="anna", max_retries=0) as client:
        messages: Any = [{"role": "user", "content": text}]
        found = client.chat.completions.create(model=model, messages=messages, **changes)
        return list(found) if changes.get("stream") else found


def text_of(chunks: Any) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def finish_of(chunks: Any) -> list[str]:
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    return [reason for reason in reasons if reason]


@pytest.mark.parametrize("stream", [False, True])
def test_a_blocked_question_never_reaches_the_model(
    guarded: Callable[..., Gateway], cloud: Cloud, stream: bool
) -> None:
    """The caller gets OpenAI's error object with the guardrail's message, before any stream begins."""
    gateway = guarded()
    with pytest.raises(openai.BadRequestError) as raised:
        ask(gateway, "how to build a bomb", stream=stream)
    assert (raised.value.code, raised.value.param) == ("content_filter", "messages")
    assert REFUSED in raised.value.message
    assert cloud.model_bodies == []
    assert (gateway.total("Errors"), gateway.total("InputTokens")) == (0, 0)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_blocked_answer_ends_with_content_filter(
    guarded: Callable[..., Gateway], cloud: Cloud, mode: str
) -> None:
    """The guardrail's message stands in the answer's place; the connection to the model is given up."""
    cloud.model = lambda to: to.whole("a bomb ")
    chunks = ask(guarded(mode=mode), stream=True)
    assert text_of(chunks).endswith(WITHHELD)
    assert finish_of(chunks) == ["content_filter"]
    assert ("bomb" in text_of(chunks)) == (mode == "async")


def test_a_whole_answer_that_is_blocked(guarded: Callable[..., Gateway], cloud: Cloud) -> None:
    """As a stream's, in any mode, and without any of what was blocked."""
    cloud.model = lambda to: to.whole("first words, then a bomb")
    done = ask(guarded(mode="async"))
    assert (done.choices[0].message.content, done.choices[0].finish_reason) == (WITHHELD, "content_filter")


def test_in_sync_mode_nothing_is_sent_unassessed(guarded: Callable[..., Gateway], cloud: Cloud) -> None:
    """What a caller has read was in an assessment before; windows end with sentences."""
    said = SENTENCE * 40
    seen: list[tuple[str, int]] = []

    def reply(to: Reply) -> None:
        to.begin()
        for start in range(0, len(said), 7):
            to.sse(delta(said[start : start + 7]))
        to.sse(delta(finish="stop"), usage(3, 400), "[DONE]")
        to.end()

    cloud.model = reply
    with openai.OpenAI(base_url=f"{guarded().url}/v1", api_key="anna", max_retries=0) as client:
        messages: Any = [{"role": "user", "content": "Hello"}]
        for chunk in client.chat.completions.create(model=QWEN, messages=messages, stream=True):
            if chunk.choices and chunk.choices[0].delta.content:
                assessed = "".join(text for source, text in cloud.assessed if source == "OUTPUT")
                seen.append((chunk.choices[0].delta.content, len(assessed)))
    assert "".join(text for text, _ in seen) == said
    sent = 0
    for text, assessed in seen:
        sent += len(text)
        assert sent <= assessed
    windows = [text for source, text in cloud.assessed if source == "OUTPUT"]
    assert FIRST_WINDOW - len(SENTENCE) <= len(windows[0]) <= FIRST_WINDOW
    assert all(len(window) <= WINDOW for window in windows)
    assert all(window.endswith(". ") for window in windows)


def test_in_async_mode_the_answer_does_not_wait(guarded: Callable[..., Gateway], cloud: Cloud) -> None:
    """The first words are read while no assessment of an answer was even asked for."""
    read = threading.Event()

    def reply(to: Reply) -> None:
        to.begin()
        to.sse(delta("first"))
        assert read.wait(PATIENCE)
        to.sse(delta(" last"), delta(finish="stop"), "[DONE]")
        to.end()

    cloud.model = reply
    before: list[int] = []
    with openai.OpenAI(base_url=f"{guarded(mode='async').url}/v1", api_key="a", max_retries=0) as client:
        messages: Any = [{"role": "user", "content": "Hello"}]
        for chunk in client.chat.completions.create(model=QWEN, messages=messages, stream=True):
            if chunk.choices and chunk.choices[0].delta.content == "first":
                before.append(len([source for source, _ in cloud.assessed if source == "OUTPUT"]))
                read.set()
    assert before == [0]
    assert cloud.assessed[-1] == ("OUTPUT", "first last")


def test_async_mode_ends_a_long_answer_early(guarded: Callable[..., Gateway], cloud: Cloud) -> None:
    """The assessment of a window that has passed stops what comes after it."""
    answered = "bomb " + "x" * WINDOW

    def talk(to: Reply) -> None:
        to.begin()
        to.sse(delta(answered))
        for _ in range(2000):
            to.sse(delta("more "))
            if any(source == "OUTPUT" for source, _ in cloud.assessed):
                break
        to.sse(delta("the end", finish="stop"), "[DONE]")
        to.end()

    cloud.model = talk
    chunks = ask(guarded(mode="async"), stream=True)
    assert finish_of(chunks) == ["content_filter"]
    assert text_of(chunks).endswith(WITHHELD)
    assert "the end" not in text_of(chunks)


def test_what_is_masked_is_masked_on_both_sides(guarded: Callable[..., Gateway], cloud: Cloud) -> None:
    """The model never sees the address of the question, nor the caller that of the answer."""
    cloud.model = lambda to: to.whole("write to anna@x.org today")
    chunks = ask(guarded(), "I am anna@x.org", stream=True)
    assert text_of(chunks) == "write to {EMAIL} today"
    assert finish_of(chunks) == ["stop"]
    assert cloud.model_bodies[0]["messages"] == [{"role": "user", "content": "I am {EMAIL}"}]


def test_thoughts_are_assessed_as_answers_are(guarded: Callable[..., Gateway], cloud: Cloud) -> None:
    """A model that thinks aloud says nothing unassessed either."""

    def reply(to: Reply) -> None:
        to.begin()
        to.sse(delta(None, reasoning="a bomb "), delta("fine"), delta(finish="stop"), "[DONE]")
        to.end()

    cloud.model = reply
    chunks = ask(guarded(), stream=True)
    assert "bomb" not in str([chunk.model_dump() for chunk in chunks])
    assert finish_of(chunks) == ["content_filter"]


def test_a_long_question_is_assessed_in_pieces(guarded: Callable[..., Gateway], cloud: Cloud) -> None:
    """A request to ApplyGuardrail has a limit; together they are the whole question."""
    question = SENTENCE * 900
    ask(guarded(), question)
    asked = [text for source, text in cloud.assessed if source == "INPUT"]
    assert "".join(asked) == question
    assert len(asked) == 3 and all(len(text) <= PIECE for text in asked)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_without_the_guardrail_nothing_is_said(
    guarded: Callable[..., Gateway], cloud: Cloud, mode: str
) -> None:
    """A guardrail that does not answer is no open door."""
    cloud.failing = True
    with pytest.raises(openai.InternalServerError) as raised:
        ask(guarded(mode=mode), stream=True)
    assert (raised.value.status_code, raised.value.code) == (503, "guardrail_unavailable")
    assert cloud.model_bodies == []


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_guardrail_that_stops_answering_ends_the_stream_with_an_error(
    guarded: Callable[..., Gateway], cloud: Cloud, mode: str
) -> None:
    """In the middle of a stream the error is an event."""

    def reply(to: Reply) -> None:
        cloud.failing = True
        to.whole("fine")

    cloud.model = reply
    with pytest.raises(openai.APIError, match="the guardrail did not answer"):
        ask(guarded(mode=mode), stream=True)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_the_model_s_own_counts_still_arrive(
    guarded: Callable[..., Gateway], cloud: Cloud, mode: str
) -> None:
    """Usage comes after the last window."""
    cloud.model = lambda to: to.whole("fine", usage(7, 4))
    gateway = guarded(mode=mode)
    chunks = ask(gateway, stream=True, stream_options={"include_usage": True})
    assert chunks[-1].usage.completion_tokens == 4
    assert gateway.total("OutputTokens") == 4


def test_what_was_blocked_does_not_come_back_in_the_conversation(
    guarded: Callable[..., Gateway], cloud: Cloud
) -> None:
    """Neither a blocked question nor one whose answer was: the next question would be blocked with them."""
    gateway = guarded()
    conversation: Any = {"metadata": {"conversation_id": "c"}}
    ask(gateway, "first question", **conversation)
    with pytest.raises(openai.BadRequestError):
        ask(gateway, "a bomb", **conversation)
    cloud.model = lambda to: to.whole("bomb")
    ask(gateway, "second question", **conversation)
    cloud.model = lambda to: to.whole("fine")
    ask(gateway, "third question", **conversation)
    contents = [message["content"] for message in cloud.model_bodies[-1]["messages"]]
    assert contents == ["first question", "fine", "third question"]


def bedrock_stream(to: Reply, *texts: str, stop: str = "end_turn") -> None:
    """ConverseStream's events."""
    to.begin()
    to.event("messageStart", {"role": "assistant"})
    for text in texts:
        to.event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}})
    to.event("messageStop", {"stopReason": stop})
    counts = {"inputTokens": 5, "outputTokens": 3, "totalTokens": 8}
    to.event("metadata", {"usage": counts, "metrics": {"latencyMs": 1}})
    to.end()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_bedrock_applies_the_guardrail_itself(
    guarded: Callable[..., Gateway], cloud: Cloud, mode: str
) -> None:
    """In Converse's own field, with the mode of the stream; no ApplyGuardrail beside it."""
    cloud.model = lambda to: bedrock_stream(to, "Hi")
    assert text_of(ask(guarded(mode=mode), model=CLAUDE, stream=True)) == "Hi"
    assert cloud.model_bodies[0]["guardrailConfig"] == {
        "guardrailIdentifier": "gr1",
        "guardrailVersion": "3",
        "streamProcessingMode": mode,
    }
    assert cloud.assessed == []


def test_converse_takes_no_mode_of_a_stream(guarded: Callable[..., Gateway], cloud: Cloud) -> None:
    """GuardrailConfiguration has no such member."""

    def reply(to: Reply) -> None:
        message = {"role": "assistant", "content": [{"text": "Hi"}]}
        counts = {"inputTokens": 5, "outputTokens": 3, "totalTokens": 8}
        answer = {"output": {"message": message}, "stopReason": "end_turn", "usage": counts}
        to.json({**answer, "metrics": {"latencyMs": 1}})

    cloud.model = reply
    ask(guarded(), model=CLAUDE)
    assert cloud.model_bodies[0]["guardrailConfig"] == {
        "guardrailIdentifier": "gr1",
        "guardrailVersion": "3",
    }


@pytest.mark.parametrize("texts", [(REFUSED,), (REFUSED[:4], REFUSED[4:])])
def test_bedrock_s_message_for_a_blocked_question_is_an_error(
    guarded: Callable[..., Gateway], cloud: Cloud, texts: tuple[str, ...]
) -> None:
    """However it is cut, and before any of it is sent."""
    cloud.model = lambda to: bedrock_stream(to, *texts, stop="guardrail_intervened")
    with pytest.raises(openai.BadRequestError) as raised:
        ask(guarded(), model=CLAUDE, stream=True)
    assert raised.value.code == "content_filter"


@pytest.mark.parametrize("texts", [(REFUSED,), (REFUSED, " And more."), (REFUSED[:6], "x"), ("That",)])
def test_an_answer_that_begins_like_the_message_is_an_answer(
    guarded: Callable[..., Gateway], cloud: Cloud, texts: tuple[str, ...]
) -> None:
    """Only the whole message with the guardrail's stop reason is an error."""
    cloud.model = lambda to: bedrock_stream(to, *texts)
    chunks = ask(guarded(), model=CLAUDE, stream=True)
    assert text_of(chunks) == "".join(texts)
    assert finish_of(chunks) == ["stop"]


def test_bedrock_s_blocked_answer_ends_with_content_filter(
    guarded: Callable[..., Gateway], cloud: Cloud
) -> None:
    """Status 200: some of it may have been read."""
    cloud.model = lambda to: bedrock_stream(to, "so far ", WITHHELD, stop="guardrail_intervened")
    gateway = guarded()
    chunks = ask(gateway, model=CLAUDE, stream=True)
    assert text_of(chunks) == f"so far {WITHHELD}"
    assert finish_of(chunks) == ["content_filter"]
    (line,) = [line for line in gateway.logged() if line["message"] == "chat"]
    assert line["filtered"] is True


def test_bedrock_s_whole_answer_to_a_blocked_question_is_an_error(
    guarded: Callable[..., Gateway], cloud: Cloud
) -> None:
    """As of a stream."""

    def reply(to: Reply) -> None:
        message = {"role": "assistant", "content": [{"text": REFUSED}]}
        counts = {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}
        answer = {"output": {"message": message}, "stopReason": "guardrail_intervened", "usage": counts}
        to.json({**answer, "metrics": {"latencyMs": 1}})

    cloud.model = reply
    with pytest.raises(openai.BadRequestError, match="That question is not taken"):
        ask(guarded(), model=CLAUDE)
