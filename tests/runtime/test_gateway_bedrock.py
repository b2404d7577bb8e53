"""The gateway in front of Bedrock: Converse and ConverseStream in OpenAI's form, over real HTTP."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from support_runtime import CLAUDE, FakeAws, Gateway, Reply

HELLO: list[Any] = [{"role": "user", "content": "Hello there"}]
USAGE = {
    "inputTokens": 5,
    "outputTokens": 3,
    "totalTokens": 20,
    "cacheReadInputTokens": 10,
    "cacheWriteInputTokens": 2,
}


def said(to: Reply, *texts: str) -> None:
    to.begin()
    to.event("messageStart", {"role": "assistant"})
    for text in texts:
        to.event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}})


def test_a_streamed_answer(aws: FakeAws, client: openai.OpenAI, gateway: Gateway) -> None:
    """Text, thoughts, finish reason and usage with the cached tokens counted in."""

    def reply(to: Reply) -> None:
        said(to, "Hi ")
        thought = {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "hm"}}}
        to.event("contentBlockDelta", thought)
        signature = {"contentBlockIndex": 0, "delta": {"reasoningContent": {"signature": "s"}}}
        to.event("contentBlockDelta", signature)
        to.event("contentBlockStop", {"contentBlockIndex": 0})
        to.event("messageStop", {"stopReason": "max_tokens"})
        to.event("metadata", {"usage": USAGE, "metrics": {"latencyMs": 1}})
        to.end()

    aws.model = reply
    options: Any = {"include_usage": True}
    with client.chat.completions.create(
        model=CLAUDE, messages=HELLO, stream=True, stream_options=options
    ) as stream:
        chunks = list(stream)
    assert [c.choices[0].delta.content for c in chunks[:-1]] == ["", "Hi ", None, None]
    assert (chunks[2].choices[0].delta.model_extra or {})["reasoning_content"] == "hm"
    assert chunks[3].choices[0].finish_reason == "length"
    usage = chunks[-1].usage
    assert usage is not None and usage.prompt_tokens_details is not None
    counts = (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
    assert (*counts, usage.prompt_tokens_details.cached_tokens) == (17, 3, 20, 10)
    assert aws.requests[0].path == "/model/anthropic.c/converse-stream"
    assert gateway.total("CachedInputTokens") == 10
    assert {line["Target"] for line in gateway.metrics()} == {"anthropic.c"}


def test_the_request_in_converse_s_form(aws: FakeAws, client: openai.OpenAI) -> None:
    """System apart, roles taking turns, limit and options under Converse's names."""

    def reply(to: Reply) -> None:
        thought = {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}}
        message = {"role": "assistant", "content": [thought, {"text": "Hi"}, {"text": "!"}]}
        answer = {"output": {"message": message}, "stopReason": "end_turn", "usage": USAGE}
        to.json({**answer, "metrics": {"latencyMs": 1}})

    aws.model = reply
    messages: list[Any] = [
        {"role": "system", "content": "short"},
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "d"},
    ]
    done = client.chat.completions.create(
        model=CLAUDE, messages=messages, temperature=0.5, top_p=0.9, stop=["x"], max_tokens=9
    )
    assert aws.requests[0].body == {
        "system": [{"text": "short"}],
        "messages": [
            {"role": "user", "content": [{"text": "a"}, {"text": "b"}]},
            {"role": "assistant", "content": [{"text": "c"}]},
            {"role": "user", "content": [{"text": "d"}]},
        ],
        "inferenceConfig": {"maxTokens": 9, "temperature": 0.5, "topP": 0.9, "stopSequences": ["x"]},
    }
    assert (done.choices[0].message.content, done.choices[0].finish_reason) == ("Hi!", "stop")
    assert (done.choices[0].message.model_extra or {})["reasoning_content"] == "hm"
    assert done.usage is not None and done.usage.prompt_tokens == 17


def test_an_answer_without_thoughts_has_none(aws: FakeAws, client: openai.OpenAI) -> None:
    """The field is not there, as with every other model that does not reason."""
    message = {"role": "assistant", "content": [{"text": "Hi"}]}
    answer = {"output": {"message": message}, "stopReason": "end_turn", "usage": USAGE}
    aws.model = lambda to: to.json({**answer, "metrics": {"latencyMs": 1}})
    done = client.chat.completions.create(model=CLAUDE, messages=HELLO)
    assert "reasoning_content" not in (done.choices[0].message.model_extra or {})


def test_without_a_limit_the_model_s_own_is_sent(aws: FakeAws, client: openai.OpenAI) -> None:
    """Bedrock would otherwise allow its model's maximum; a system part is sent only when there is one."""
    aws.model = lambda to: to.json({"message": "no"}, status=500, error="InternalServerException")
    long: list[Any] = [{"role": "user", "content": "x" * 300}]
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model=CLAUDE, messages=long)
    assert aws.requests[0].body["inferenceConfig"] == {"maxTokens": 40}
    assert "system" not in aws.requests[0].body


FAILURES = [
    (429, "ThrottlingException", openai.RateLimitError, "rate_limit_exceeded"),
    (408, "ModelTimeoutException", openai.InternalServerError, "model_timeout"),
    (404, "ResourceNotFoundException", openai.InternalServerError, "model_unavailable"),
    (503, "ServiceUnavailableException", openai.InternalServerError, "model_unavailable"),
    (424, "ModelErrorException", openai.InternalServerError, "model_error"),
    (403, "AccessDeniedException", openai.InternalServerError, "model_access_denied"),
    (400, "ValidationException", openai.BadRequestError, "context_length_exceeded"),
]


@pytest.mark.parametrize(("status", "kind", "raised", "code"), FAILURES)
def test_a_failure_before_the_first_token(
    aws: FakeAws,
    client: openai.OpenAI,
    status: int,
    kind: str,
    raised: type[openai.APIStatusError],
    code: str,
) -> None:
    """The client's own exception for each of Converse's errors."""
    text = "Input is too long for requested model."
    aws.model = lambda to: to.json({"message": text}, status=status, error=kind)
    with pytest.raises(raised) as found:
        client.chat.completions.create(model=CLAUDE, messages=HELLO, stream=True)
    assert found.value.code == code
    assert len(aws.requests) == 1


MID_STREAM = {
    "modelStreamErrorException": ("model_error", {"message": "x", "originalStatusCode": 500}),
    "throttlingException": ("rate_limit_exceeded", {"message": "x"}),
    "serviceUnavailableException": ("model_unavailable", {"message": "x"}),
    "internalServerException": ("model_error", {"message": "x"}),
    "validationException": ("invalid_value", {"message": "x"}),
}


@pytest.mark.parametrize("kind", MID_STREAM)
def test_a_failure_inside_the_stream_raises_in_the_client(
    aws: FakeAws, client: openai.OpenAI, kind: str
) -> None:
    """The tokens so far, then APIError."""
    code, document = MID_STREAM[kind]

    def reply(to: Reply) -> None:
        said(to, "Hi")
        to.failure(kind, document)
        to.end()

    aws.model = reply
    texts = []
    with (
        pytest.raises(openai.APIError) as raised,
        client.chat.completions.create(model=CLAUDE, messages=HELLO, stream=True) as stream,
    ):
        for chunk in stream:
            texts.append(chunk.choices[0].delta.content)
    assert texts == ["", "Hi"]
    assert raised.value.code == code


@pytest.mark.parametrize("stop_reason", [None, "tool_use"])
def test_a_stream_without_a_proper_end_is_not_finished(
    aws: FakeAws, client: openai.OpenAI, stop_reason: str | None
) -> None:
    """Neither a stream that just stops nor one that asks for a tool which nobody offered."""

    def reply(to: Reply) -> None:
        said(to, "Hi")
        if stop_reason:
            to.event("messageStop", {"stopReason": stop_reason})
        to.end()

    aws.model = reply
    with (
        pytest.raises(openai.APIError, match="failed before its answer was finished"),
        client.chat.completions.create(model=CLAUDE, messages=HELLO, stream=True) as stream,
    ):
        list(stream)


def test_a_client_that_leaves_ends_the_stream(aws: FakeAws, gateway: Gateway, client: openai.OpenAI) -> None:
    """Bedrock bills what it generates, so a stream that nobody reads is closed."""
    left = []

    def reply(to: Reply) -> None:
        said(to, "Hi")
        left.append(to.caller_hung_up())

    aws.model = reply
    with client.chat.completions.create(model=CLAUDE, messages=HELLO, stream=True) as stream:
        next(iter(stream))
    gateway.close()
    aws.close()
    assert left == [True]
