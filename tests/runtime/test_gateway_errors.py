"""Every failure is an OpenAI error object with its status, in the caller's terms, and never a traceback."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest

from support_runtime import CLAUDE, HELLO, QWEN, FakeAws, Gateway, chat, post

if TYPE_CHECKING:
    from collections.abc import Callable


def test_without_a_principal_nothing_is_served(gateway: Gateway) -> None:
    """Only the front can authenticate, so no header of a caller opens the gateway."""
    for path in ("/v1/models", f"/v1/models/{QWEN}"):
        response = httpx.get(f"{gateway.url}{path}", headers={"tokenmill.principal": "me"})
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "invalid_api_key"
    response = httpx.post(f"{gateway.url}/v1/chat/completions", json=chat())
    assert response.status_code == 401


BAD_BODIES: list[tuple[object, str | None, str]] = [
    (b"", None, "the body must be JSON"),
    (b"{", None, "the body must be JSON"),
    (b"\xff\xfe\xfa", None, "the body must be JSON"),
    (b"[" * 100_000, None, "nested too deeply"),
    (b"[1, 2]", None, r"must be a JSON object, got \[1, 2\]"),
    (b'{"model": NaN}', None, "NaN is not a JSON number"),
    ({"messages": HELLO}, "model", "model must be a text, got null"),
    (chat(model=7), "model", "model must be a text, got 7"),
    ({"model": QWEN}, "messages", "messages must be a list with at least one message, got null"),
    (chat(messages=[]), "messages", r"got \[\]"),
    (chat(messages="x" * 99), "messages", r'got "xxx.*\.\.\.'),
    (chat(messages=["hi"]), "messages[0]", r"messages\[0\] must be an object"),
    (chat(messages=[{"content": "x"}]), "messages[0].role", "system, developer, user, assistant, got null"),
    (chat(messages=[{"role": ["user"], "content": "x"}]), "messages[0].role", r'got \["user"\]'),
    (chat(messages=[{"role": "tool", "content": "x"}]), "messages[0].role", 'got "tool"'),
    (
        chat(messages=[{"role": "user", "content": 3}]),
        "messages[0].content",
        "a text or a list of text parts",
    ),
    (
        chat(messages=[{"role": "user", "content": []}]),
        "messages[0].content",
        "a text or a list of text parts",
    ),
    (chat(messages=[{"role": "user"}]), "messages[0].content", "got null"),
    (chat(messages=[{"role": "user", "content": ["x"]}]), "messages[0].content[0]", "must be of type text"),
    (
        chat(messages=[{"role": "user", "content": [{"type": "image_url"}]}]),
        "messages[0].content[0]",
        '"image_url" is not supported',
    ),
    (
        chat(messages=[{"role": "assistant", "content": "x", "tool_calls": [1]}]),
        "messages[0].tool_calls",
        "not supported; messages are text only",
    ),
    (chat(messages=[*HELLO, {"role": "assistant", "content": "x"}]), "messages[1].role", 'must be "user"'),
    (
        b'{"model": "claude", "messages": [{"role": "user", "content": "\\ud800"}]}',
        "messages[0].content",
        "surrogate",
    ),
    (chat(max_tokens=0), "max_tokens", "a whole number from 1 to 40, got 0"),
    (chat(max_tokens=True), "max_tokens", "got true"),
    (chat(max_tokens=1.5), "max_tokens", "got 1.5"),
    (chat(max_completion_tokens=41), "max_completion_tokens", "from 1 to 40, got 41"),
    (chat(max_completion_tokens=4, max_tokens=5), "max_tokens", "give one of them"),
    (chat(n=2), "n", "n=2 is not supported; use 1"),
    (chat(n=True), "n", "n=true is not supported; use 1"),
    (chat(store=True), "store", "use false"),
    (chat(tools=[{"type": "function"}]), "tools", f"tools is not supported; the model {QWEN} takes"),
    (chat(tool_choice="auto"), "tool_choice", 'tool_choice="auto" is not supported; use "none"'),
    (chat(**{"x" * 100_000: 1}), '"' + "x" * 56 + "...", r"^.{57}\.\.\. is not supported"),
    (
        b'{"model": "claude", "messages": [{"role": "user", "content": "a"}], "\\ud800": 1}',
        "\ud800",
        "not sup",
    ),
    (
        chat(model=CLAUDE, messages=[{"role": "user", "content": " \n"}]),
        "messages[0].content",
        r'must not be blank, got " \\n"',
    ),
    (chat(model=CLAUDE, seed=1), "seed", "the model claude takes stop, temperature, top_p"),
    (chat(temperature=2.1), "temperature", "a number from 0 to 2, got 2.1"),
    (chat(top_p="1"), "top_p", 'got "1"'),
    (chat(presence_penalty=True), "presence_penalty", "got true"),
    (chat(stop=["a"] * 5), "stop", "at most 4 texts"),
    (chat(stop=[""]), "stop", r'got \[""\]'),
    (chat(stop={}), "stop", "got {}"),
    (chat(stream="yes"), "stream", 'must be true or false, got "yes"'),
    (chat(stream_options={"include_usage": True}), "stream_options", "needs stream=true"),
    (chat(stream=True, stream_options=[1]), "stream_options", "must be an object"),
    (
        chat(stream=True, stream_options={"include_usage": 1}),
        "stream_options.include_usage",
        "must be true or false, got 1",
    ),
    (chat(metadata=[]), "metadata", "an object with text values"),
    (chat(metadata={"a": 1}), "metadata", "an object with text values"),
    (chat(metadata={"conversation_id": "a#b"}), "metadata.conversation_id", "1 to 128 letters"),
    (chat(metadata={"conversation_id": ""}), "metadata.conversation_id", "1 to 128 letters"),
]


@pytest.mark.parametrize(("body", "param", "message"), BAD_BODIES)
def test_a_bad_body_is_refused_by_name(
    gateway: Gateway, aws: FakeAws, body: object, param: str | None, message: str
) -> None:
    """Status 400, the parameter, its value and what is allowed; the model is never asked."""
    status, error = post(gateway, body)
    assert (status, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert re.search(message, error["message"]), error["message"]
    assert aws.requests == []


def test_parameters_without_effect_are_taken(gateway: Gateway, aws: FakeAws) -> None:
    """What only OpenAI's own service uses must not stop a client that sends it."""
    aws.model = lambda to: to.whole()
    body = chat(
        user="u",
        metadata={"team": "a"},
        n=1,
        store=False,
        tools=[],
        tool_choice="none",
        modalities=["text"],
        service_tier="auto",
        seed=None,
        safety_identifier="s",
    )
    response = httpx.post(
        f"{gateway.url}/v1/chat/completions", json=body, headers={"authorization": "Bearer a"}
    )
    assert response.status_code == 200
    assert set(aws.requests[0].body) == {"messages", "stream", "stream_options", "max_tokens"}


def test_an_unknown_model_is_a_404(client: openai.OpenAI) -> None:
    """The client's own NotFoundError, with the models that there are."""
    with pytest.raises(openai.NotFoundError, match="gpt-5.*does not exist") as raised:
        client.chat.completions.create(model="gpt-5", messages=HELLO, stream=True)
    assert raised.value.code == "model_not_found"


def test_too_many_tokens_are_refused_before_the_model(client: openai.OpenAI, aws: FakeAws) -> None:
    """Four bytes a token are twice the model's context of 100; nearer ones are left to its own count."""
    long: list[Any] = [{"role": "user", "content": "x" * 801}]
    with pytest.raises(openai.BadRequestError, match="context is 100 tokens, but .* about 201") as raised:
        client.chat.completions.create(model=QWEN, messages=long)
    assert (raised.value.code, raised.value.param) == ("context_length_exceeded", "messages")
    assert aws.requests == []


def test_a_body_over_the_limit_is_a_413(start_gateway: Callable[..., Gateway]) -> None:
    """The limit of the configuration, in bytes."""
    gateway = start_gateway(max_body_bytes=200)
    status, error = post(gateway, b" " * 201)
    assert (status, error["code"]) == (413, "body_too_long")
    assert "at most 200 bytes" in error["message"]
    assert post(gateway, b" " * 200)[0] == 400


def test_conversations_need_a_table(start_gateway: Callable[..., Gateway]) -> None:
    """A gateway without one says so instead of forgetting."""
    status, error = post(start_gateway(), chat(metadata={"conversation_id": "c"}))
    assert (status, error["code"]) == (400, "conversations_not_enabled")


def test_unknown_routes_and_methods_have_error_objects(gateway: Gateway) -> None:
    """With what there is instead."""
    for method, path, status in (("GET", "/v1/embeddings", 404), ("GET", "/v1/chat/completions", 405)):
        response = httpx.request(method, f"{gateway.url}{path}", headers={"authorization": "Bearer a"})
        assert response.status_code == status
        assert "POST /v1/chat/completions" in response.json()["error"]["message"]
