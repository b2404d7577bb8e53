"""Defects of the gateway itself: an error object for the caller, the place in the log, nothing left open."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import openai
import pytest
from starlette.testclient import TestClient

from support_runtime import PATIENCE, QWEN, Gateway, Ticks, delta, gateway_config
from tokenmill_runtime.gateway.app import application, create_app
from tokenmill_runtime.gateway.connection import let_go

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from support_runtime import FakeAws
    from tokenmill_runtime.gateway.backend import Document, ModelCall

HELLO: list[Any] = [{"role": "user", "content": "Hello there"}]

SCOPE: dict[str, Any] = {
    "type": "http",
    "method": "POST",
    "path": "/v1/chat/completions",
    "headers": [],
    "query_string": b"",
    "tokenmill.principal": "a",
}


class Defective:
    """A back end with a defect after some chunks; it notes when it is let go."""

    single_token_chunks = True

    def __init__(self, *chunks: Document, at_once: bool = False) -> None:
        self.chunks = chunks
        self.at_once = at_once
        self.cancelled = 0

    def complete(self, call: ModelCall) -> Document:
        raise ZeroDivisionError("a defect")

    def stream(self, call: ModelCall) -> Defective:
        if self.at_once:
            raise ZeroDivisionError("a defect")
        return self

    def __iter__(self) -> Iterator[Document]:
        yield from self.chunks
        raise ZeroDivisionError("a defect")

    def cancel(self) -> None:
        self.cancelled += 1


@pytest.fixture
def ticks() -> Ticks:
    """A clock that stands still."""
    return Ticks()


def post(gateway: Gateway, *, stream: bool) -> httpx.Response:
    body = {"model": QWEN, "messages": HELLO, "stream": stream}
    headers = {"authorization": "Bearer anna"}
    return httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers)


@pytest.mark.parametrize("stream", [True, False])
def test_a_defect_before_the_first_byte_is_a_500(ticks: Ticks, stream: bool) -> None:
    """Named by its request id; the traceback is in the log and not in the answer."""
    gateway = Gateway(gateway_config(), ticks, backends={"sagemaker": Defective(at_once=True)})
    try:
        response = post(gateway, stream=stream)
    finally:
        gateway.close()
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert "ZeroDivisionError" not in response.text
    failed = gateway.logged()[0]
    assert "ZeroDivisionError: a defect" in failed["detail"]
    assert failed["request_id"] == response.headers["x-request-id"]
    assert gateway.total("Errors") == 1


def test_a_defect_in_the_middle_is_an_error_event(ticks: Ticks) -> None:
    """And the model's connection is let go, once."""
    backend = Defective(delta("a"), delta("b"))
    gateway = Gateway(gateway_config(), ticks, backends={"sagemaker": backend})
    try:
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="a", max_retries=0) as client:
            with pytest.raises(openai.APIError, match="the gateway failed"):
                list(client.chat.completions.create(model=QWEN, messages=HELLO, stream=True))
    finally:
        gateway.close()
    assert backend.cancelled == 1
    assert [line["message"] for line in gateway.logged()] == ["request failed", "chat"]


def test_a_defect_outside_an_exchange_is_a_500_too(ticks: Ticks) -> None:
    """The last boundary: nothing else than error objects leaves the gateway."""
    lines: list[str] = []
    limitless: Any = replace(gateway_config(), max_body_bytes=None)  # type: ignore[arg-type]  # the defect
    app = create_app(limitless, clock=ticks.clock(), emit=lines.append, backends={})

    async def front(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "tokenmill.principal": "a", "tokenmill.request_id": "r-1"}, receive, send)

    response = TestClient(front).post("/v1/chat/completions", json={})
    assert (response.status_code, response.headers["x-request-id"]) == (500, "r-1")
    assert response.json()["error"]["code"] == "internal_error"
    assert "TypeError" in json.loads(lines[0])["detail"]


def test_a_caller_who_leaves_while_sending_the_body_is_no_defect(ticks: Ticks) -> None:
    """Nobody reads the answer; the log has no traceback of it."""
    lines: list[str] = []
    app = create_app(gateway_config(), clock=ticks.clock(), emit=lines.append)
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    anyio.run(app, SCOPE, receive, send)
    assert sent[0]["status"] == 400
    assert lines == []


def outcome_of_a_stream(
    backend: Defective, ticks: Ticks, send: Callable[[Any], Awaitable[None]], **scope: Any
) -> object:
    """What the log says of a streamed request whose answer goes to ``send``."""
    lines: list[str] = []
    app = create_app(
        gateway_config(), clock=ticks.clock(), emit=lines.append, backends={"sagemaker": backend}
    )
    body = json.dumps({"model": QWEN, "messages": HELLO, "stream": True}).encode()
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Any:
        for message in messages:
            return message
        return await anyio.sleep_forever()

    async def run() -> None:
        with anyio.fail_after(PATIENCE):
            await app({**SCOPE, **scope}, receive, send)

    anyio.run(run)
    return json.loads(lines[-1])["outcome"]


@pytest.mark.parametrize("at", ["http.response.start", "http.response.body"])
def test_a_send_that_fails_lets_the_model_go(ticks: Ticks, at: str) -> None:
    """ASGI 2.4 tells of a lost caller by OSError, also before the first event."""
    backend = Defective(delta("a"), delta("b"))

    async def send(message: Any) -> None:
        if message["type"] == at:
            raise OSError("gone")

    assert outcome_of_a_stream(backend, ticks, send) == "client_gone"
    assert backend.cancelled == 1


class Silent(Defective):
    """A model that says one word and then nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def __iter__(self) -> Iterator[Document]:
        yield delta("a")
        self.let_go.wait(PATIENCE)

    def cancel(self) -> None:
        super().cancel()
        self.let_go.set()


def test_a_caller_who_does_not_read_leaves_time_to_store_the_answer(ticks: Ticks) -> None:
    """A send that never returns ends a second before the function would be killed with it."""
    backend = Defective(delta("a"), delta("b"))

    async def send(message: Any) -> None:
        if message.get("body"):
            ticks.now += 99
            await anyio.sleep_forever()

    deadline = {"tokenmill.deadline": ticks.now + 3}
    assert outcome_of_a_stream(backend, ticks, send, **deadline) == "client_gone"
    assert backend.cancelled == 1


def test_a_disconnect_message_ends_a_silent_model(ticks: Ticks) -> None:
    """ASGI before 2.4 tells of a lost caller by a message, behind whatever else it still has to say."""
    backend, heard = Silent(), anyio.Event()
    app = create_app(
        gateway_config(), clock=ticks.clock(), emit=lambda line: None, backends={"sagemaker": backend}
    )
    body = json.dumps({"model": QWEN, "messages": HELLO, "stream": True}).encode()
    messages = [{"type": "http.request", "body": body}, {"type": "http.request", "body": b""}]

    async def receive() -> Any:
        if messages:
            return messages.pop(0)
        await heard.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message.get("body"):
            heard.set()

    anyio.run(app, SCOPE, receive, send)
    assert backend.cancelled == 1


def test_an_older_urllib3_is_closed_only() -> None:
    """Without a way to wake the reader, the connection is closed all the same."""
    closed = []

    class Events:
        _raw_stream = object()

        def close(self) -> None:
            closed.append(True)

    let_go(Events())
    assert closed == [True]


def test_the_application_reads_its_environment(aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients are made when it starts; lines go to standard output."""
    document = gateway_config(conversation_table="t").to_document()
    monkeypatch.setenv("TOKENMILL_GATEWAY", json.dumps(document))
    with TestClient(application()) as client:
        assert client.get("/health").json() == {"status": "ok"}


@pytest.mark.parametrize("model", [0, 1])
def test_only_the_clients_that_are_used_are_made(
    aws: FakeAws, ticks: Ticks, model: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start makes what its models need."""
    from tokenmill_runtime import aws as clients

    config = gateway_config()
    with TestClient(create_app(replace(config, models=(config.models[model],)))):
        made = [clients.sagemaker_runtime, clients.bedrock_runtime, clients.dynamodb]
        assert [client.cache_info().currsize for client in made] == [1 - model, model, 0]
