"""The gateway in front of a SageMaker component, over real HTTP, as the unmodified openai client sees it."""

from __future__ import annotations

import json
import socket
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest

from support_runtime import PATIENCE, QWEN, FakeAws, Gateway, Reply, Ticks, delta, gateway_config, usage

if TYPE_CHECKING:
    from collections.abc import Callable

HELLO: list[Any] = [{"role": "user", "content": "Hello there"}]


def answer(*texts: str) -> Callable[[Reply], None]:
    def reply(to: Reply) -> None:
        to.begin()
        to.sse(*(delta(text) for text in texts), delta(finish="stop"), usage(3, len(texts)), "[DONE]")
        to.end()

    return reply


def test_each_token_arrives_before_the_model_makes_the_next(aws: FakeAws, client: openai.OpenAI) -> None:
    """The model waits until the client has seen a token: a gateway that gathers would never finish."""
    seen = [threading.Event() for _ in range(3)]

    def reply(to: Reply) -> None:
        to.begin()
        for number, event in enumerate(seen):
            to.sse(delta(f"{number} "))
            assert event.wait(PATIENCE)
        to.sse(delta(finish="stop"), "[DONE]")
        to.end()

    aws.model = reply
    texts = []
    with client.chat.completions.create(model=QWEN, messages=HELLO, stream=True) as stream:
        for chunk in stream:
            assert chunk.usage is None
            assert chunk.model == QWEN
            assert chunk.object == "chat.completion.chunk"
            if chunk.choices[0].delta.content:
                texts.append(chunk.choices[0].delta.content)
                seen[len(texts) - 1].set()
    assert texts == ["0 ", "1 ", "2 "]


def test_an_endpoint_of_one_variant_is_called_without_a_component(
    aws: FakeAws, start_gateway: Callable[..., Gateway]
) -> None:
    """Naming a component there is refused by the service."""
    aws.model = answer("hi")
    model = replace(gateway_config().models[0], component=None)
    with openai.OpenAI(base_url=f"{start_gateway(models=(model,)).url}/v1", api_key="anna") as client:
        client.chat.completions.create(model=QWEN, messages=HELLO)
    (request,) = aws.requests
    assert request.path == "/endpoints/ep/invocations-response-stream"
    assert "X-Amzn-SageMaker-Inference-Component" not in request.headers


def test_the_component_gets_the_request_without_a_model_name(aws: FakeAws, client: openai.OpenAI) -> None:
    """Messages, limit and options go to the named component; usage is always asked for."""
    aws.model = answer("hi")
    messages: list[Any] = [
        {"role": "developer", "content": "short"},
        {"role": "user", "content": [{"type": "text", "text": "Hello "}, {"type": "text", "text": "there"}]},
    ]
    with client.chat.completions.create(
        model=QWEN, messages=messages, stream=True, temperature=0.5, stop="x", extra_body={"top_k": 3}
    ) as stream:
        list(stream)
    request: Any = aws.requests[0]
    assert request.path == "/endpoints/ep/invocations-response-stream"
    assert request.headers["X-Amzn-SageMaker-Inference-Component"] == "comp"
    assert request.body == {
        "messages": [{"role": "system", "content": "short"}, {"role": "user", "content": "Hello there"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "stop": ["x"],
        "top_k": 3,
        "max_tokens": 40,
    }


def test_usage_comes_last_when_it_is_asked_for(aws: FakeAws, client: openai.OpenAI) -> None:
    """`include_usage` adds one chunk without choices before the end."""
    aws.model = answer("a", "b")
    options: Any = {"include_usage": True}
    with client.chat.completions.create(
        model=QWEN, messages=HELLO, stream=True, stream_options=options
    ) as stream:
        chunks = list(stream)
    assert [chunk.usage is not None for chunk in chunks] == [False, False, False, True]
    assert chunks[-1].choices == []
    last = chunks[-1].usage
    assert last is not None and (last.prompt_tokens, last.completion_tokens) == (3, 2)


def test_usage_is_counted_when_the_model_gives_none(aws: FakeAws, client: openai.OpenAI) -> None:
    """A model without usage: four bytes a token in, one chunk a token out."""

    def reply(to: Reply) -> None:
        to.begin()
        to.sse(delta("a"), delta(reasoning="b"), delta(reasoning_content="c"), delta("d", finish="length"))
        to.end()

    aws.model = reply
    options: Any = {"include_usage": True}
    with client.chat.completions.create(
        model=QWEN, messages=HELLO, stream=True, stream_options=options
    ) as stream:
        last = list(stream)[-1].usage
    assert last is not None and (last.prompt_tokens, last.completion_tokens, last.total_tokens) == (3, 4, 7)


def test_the_stream_is_server_sent_events_with_a_done(aws: FakeAws, gateway: Gateway) -> None:
    """Raw form: one JSON event a chunk, `[DONE]` last, no buffering by caches."""
    aws.model = answer("é")
    response = httpx.post(
        f"{gateway.url}/v1/chat/completions",
        json={"model": QWEN, "messages": HELLO, "stream": True},
        headers={"authorization": "Bearer anna"},
    )
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    assert len(response.headers["x-request-id"]) == 32
    events = response.text.strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    first = json.loads(events[0].removeprefix("data: "))
    assert first["choices"][0]["delta"]["content"] == "é"
    assert first["id"] == f"chatcmpl-{response.headers['x-request-id']}"
    assert "usage" not in first


def test_events_and_characters_may_be_cut_anywhere(aws: FakeAws, client: openai.OpenAI) -> None:
    """PayloadParts of one byte each, with comments, CRLF and data over lines, give the same answer."""
    lines = (
        ": a comment\r\n\r\n"
        + "event: message\r\ndata:"
        + json.dumps(delta("héé€😀"), ensure_ascii=False)
        + "\r\n\r\n"
        + 'data: {"choices":\ndata: [{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]'
    )

    def reply(to: Reply) -> None:
        to.begin()
        for byte in lines.encode():
            to.part(bytes([byte]))
        to.end()

    aws.model = reply
    with client.chat.completions.create(model=QWEN, messages=HELLO, stream=True) as stream:
        texts = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(texts) == "héé€😀"


def test_a_whole_answer_without_streaming(aws: FakeAws, client: openai.OpenAI, gateway: Gateway) -> None:
    """The model streams, for which SageMaker gives more time; the caller gets one completion."""
    aws.model = lambda to: to.whole("Hi there")
    done = client.chat.completions.create(model=QWEN, messages=HELLO)
    assert done.object == "chat.completion"
    (choice,) = done.choices
    assert (choice.message.role, choice.message.content) == ("assistant", "Hi there")
    assert choice.finish_reason == "stop"
    assert done.model == QWEN
    assert done.id.startswith("chatcmpl-") and done._request_id == done.id.removeprefix("chatcmpl-")
    (request,) = aws.requests
    assert request.path == "/endpoints/ep/invocations-response-stream"
    assert (request.body["stream"], request.body["stream_options"]) == (True, {"include_usage": True})
    assert gateway.total("Errors") == 0


def test_a_whole_answer_has_the_model_s_usage(aws: FakeAws, client: openai.OpenAI, gateway: Gateway) -> None:
    """From the chunk that ends the model's stream; it is what is metered too."""
    aws.model = lambda to: to.whole("12345678", usage(5, 4, cached=3))
    done = client.chat.completions.create(model=QWEN, messages=HELLO)
    assert done.usage is not None and done.usage.prompt_tokens_details is not None
    assert (done.usage.prompt_tokens, done.usage.completion_tokens, done.usage.total_tokens) == (5, 4, 9)
    assert done.usage.prompt_tokens_details.cached_tokens == 3
    totals = [gateway.total(name) for name in ("InputTokens", "CachedInputTokens", "OutputTokens")]
    assert totals == [5, 3, 4]


def test_whole_answers_share_a_connection(aws: FakeAws, client: openai.OpenAI) -> None:
    """A stream that was read to its end costs no new connection to SageMaker."""
    aws.model = lambda to: to.whole()
    for _ in range(3):
        client.chat.completions.create(model=QWEN, messages=HELLO)
    assert (len(aws.requests), len(aws.connections)) == (3, 1)


def test_a_whole_answer_without_usage_is_counted(aws: FakeAws, client: openai.OpenAI) -> None:
    """OpenAI's form has usage, so an answer without gets the gateway's count."""
    aws.model = lambda to: to.whole("12345678")
    done = client.chat.completions.create(model=QWEN, messages=HELLO)
    assert done.usage is not None and (done.usage.prompt_tokens, done.usage.completion_tokens) == (3, 2)


def test_no_limit_is_sent_when_the_output_limit_may_not_fit(aws: FakeAws, client: openai.OpenAI) -> None:
    """With a long prompt the engine itself fills what the context leaves."""
    aws.model = answer("hi")
    long: list[Any] = [{"role": "user", "content": "x" * 300}]
    with client.chat.completions.create(model=QWEN, messages=long, stream=True) as stream:
        list(stream)
    with client.chat.completions.create(
        model=QWEN, messages=long, stream=True, max_completion_tokens=7
    ) as stream:
        list(stream)
    assert "max_tokens" not in aws.requests[0].body
    assert aws.requests[1].body["max_tokens"] == 7


def test_models_are_listed_and_found_by_name(client: openai.OpenAI) -> None:
    """Names with a slash too, which the client encodes."""
    assert [model.id for model in client.models.list()] == [QWEN, "claude"]
    assert client.models.retrieve(QWEN).id == QWEN
    with pytest.raises(openai.NotFoundError, match="gpt-9.*serves Qwen/Qwen3-8B, claude"):
        client.models.retrieve("gpt-9")


def test_health_needs_no_key_and_tells_nothing(gateway: Gateway) -> None:
    """Load balancers ask without a key."""
    for path in ("/health", "/ping"):
        response = httpx.get(f"{gateway.url}{path}")
        assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_a_client_that_leaves_ends_the_model_s_stream(aws: FakeAws, gateway: Gateway) -> None:
    """The connection to the model is closed while the model is silent, and the request is logged as such."""
    closed = threading.Event()

    def reply(to: Reply) -> None:
        to.begin()
        to.sse(delta("one"))
        if to.caller_hung_up():
            closed.set()

    aws.model = reply
    body = json.dumps({"model": QWEN, "messages": HELLO, "stream": True}).encode()
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as caller:
        head = f"Host: x\r\nAuthorization: Bearer anna\r\nContent-Length: {len(body)}\r\n\r\n"
        caller.sendall(f"POST /v1/chat/completions HTTP/1.1\r\n{head}".encode() + body)
        with caller.makefile("rb") as lines:
            assert any(b"one" in line for line in lines)
            caller.shutdown(socket.SHUT_RDWR)
    assert closed.wait(PATIENCE)
    gateway.close()
    assert gateway.logged()[-1]["outcome"] == "client_gone"
    assert gateway.total("Errors") == 0
    assert gateway.total("Requests") == 1


def test_the_log_names_the_request_and_never_its_content(
    aws: FakeAws, client: openai.OpenAI, gateway: Gateway, ticks: Ticks
) -> None:
    """One line a request: who, which model, how many tokens, how long."""
    aws.model = answer("secret", "words")
    with client.chat.completions.create(model=QWEN, messages=HELLO, stream=True) as stream:
        list(stream)
    (line,) = gateway.logged()
    assert line.pop("request_id")
    assert line == {
        "level": "info",
        "message": "chat",
        "principal": "anna",
        "model": QWEN,
        "stream": True,
        "conversation": False,
        "outcome": "complete",
        "status": 200,
        "input_tokens": 3,
        "output_tokens": 2,
        "ttft_ms": 0.0,
        "duration_ms": 0.0,
    }
    assert "secret" not in json.dumps(gateway.lines) and "Hello" not in json.dumps(gateway.lines)
