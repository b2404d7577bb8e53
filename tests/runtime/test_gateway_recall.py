"""What the model gets of a stored conversation when clients try again, or when its own count differs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import openai
import pytest

from support_runtime import CLAUDE, QWEN, FakeAws, Reply, delta, gateway_config
from tokenmill_runtime.gateway_options import GuardrailUse

if TYPE_CHECKING:
    from collections.abc import Callable

    from support_runtime import Gateway


def ask(client: openai.OpenAI, *texts: str, **more: Any) -> str:
    """Send texts that begin with the user's and end with it, and read the answer."""
    messages: list[Any] = [
        {"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(texts)
    ]
    with client.chat.completions.create(
        model=QWEN, messages=messages, stream=True, metadata={"conversation_id": "c"}, **more
    ) as stream:
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def answer(to: Reply) -> None:
    to.begin()
    to.sse(delta("yes"), delta(finish="stop"), "[DONE]")
    to.end()


def refuse(to: Reply) -> None:
    text = "This model's maximum context length is 100 tokens"
    to.json(
        {"Message": "no", "OriginalStatusCode": 400, "OriginalMessage": text}, status=424, error="ModelError"
    )


def sent(aws: FakeAws) -> list[list[str]]:
    """The contents of every request that the model got."""
    return [[message["content"] for message in request.body["messages"]] for request in aws.requests]


@pytest.mark.parametrize("texts", [("a", "b", "c"), ("x" * 240,)], ids=["imported", "long"])
def test_trying_again_stores_nothing_twice(
    aws: FakeAws, client: openai.OpenAI, texts: tuple[str, ...]
) -> None:
    """Also several messages at once, and a question that leaves no room for another of its size."""
    aws.model = lambda to: to.hang_up()
    for _ in range(2):
        with pytest.raises(openai.InternalServerError):
            ask(client, *texts)
    aws.model = answer
    ask(client, *texts)
    assert [content for _, content, _ in aws.turns()] == [*texts, "yes"]
    assert sent(aws)[-1] == list(texts)


def test_a_conversation_that_the_model_counts_longer_goes_on(
    aws: FakeAws, client: openai.OpenAI, gateway: Gateway
) -> None:
    """A refusal for its length comes before any work, so the older half of the turns is left out."""
    aws.model = answer
    for text in ("a", "b", "c"):
        ask(client, text)
    aws.requests.clear()
    aws.model = lambda to: answer(to) if len(to.body["messages"]) < 4 else refuse(to)
    assert ask(client, "d") == "yes"
    assert sent(aws) == [["a", "yes", "b", "yes", "c", "yes", "d"], ["c", "yes", "d"]]
    assert gateway.total("Requests") == 4, "one request, however often the model was asked"


def test_new_messages_are_never_left_out(aws: FakeAws, client: openai.OpenAI) -> None:
    """When they alone are too long, the caller is told."""
    aws.model = answer
    ask(client, "a")
    aws.requests.clear()
    aws.model = refuse
    with pytest.raises(openai.BadRequestError) as raised:
        ask(client, "b")
    assert raised.value.code == "context_length_exceeded"
    assert sent(aws) == [["a", "yes", "b"], ["b"]]


def test_other_scripts_are_measured_in_bytes(aws: FakeAws, client: openai.OpenAI) -> None:
    """A Chinese character has about three quarters of a token, so a hundred of them do not fit twice."""
    aws.model = answer
    ask(client, "\u4f60" * 60)
    ask(client, "\u597d" * 60)
    assert [len(texts) for texts in sent(aws)] == [1, 1]


@pytest.mark.parametrize("stream", [True, False])
def test_half_a_character_costs_no_turn(aws: FakeAws, client: openai.OpenAI, stream: bool) -> None:
    """A pair in two chunks is joined; a half alone becomes the replacement character in the table."""

    def halves(to: Reply) -> None:
        to.begin()
        to.sse(delta("\ud83d"), delta("\ude00\ud800"), delta(finish="stop"), "[DONE]")
        to.end()

    aws.model = halves
    messages: list[Any] = [{"role": "user", "content": "a"}]
    metadata = {"conversation_id": "c"}
    if stream:
        list(client.chat.completions.create(model=QWEN, messages=messages, stream=True, metadata=metadata))
    else:
        client.chat.completions.create(model=QWEN, messages=messages, metadata=metadata)
    assert aws.turns()[-1] == ("assistant", "\U0001f600\ufffd", False)


def test_a_blocked_answer_whose_stream_breaks_is_not_stored_either(
    aws: FakeAws, start_gateway: Callable[..., Gateway]
) -> None:
    """What a guardrail took away would come back as history, and be blocked again with the next question."""
    guardrail = GuardrailUse(id="gr1", version="3")
    models = tuple(replace(model, guardrail=guardrail) for model in gateway_config().models)

    def reply(to: Reply) -> None:
        to.begin()
        to.event("messageStart", {"role": "assistant"})
        to.event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "how to build"}})
        to.event("messageStop", {"stopReason": "guardrail_intervened"})
        to.failure("modelStreamErrorException", {"message": "broken"})
        to.end()

    aws.model = reply
    gateway = start_gateway(models=models, conversation_table="turns")
    with (
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="anna", max_retries=0) as client,
        pytest.raises(openai.APIError),
    ):
        list(
            client.chat.completions.create(
                model=CLAUDE,
                messages=[{"role": "user", "content": "hello"}],
                stream=True,
                metadata={"conversation_id": "c"},
            )
        )
    gateway.close()
    assert aws.turns() == [("user", "hello", False)]
