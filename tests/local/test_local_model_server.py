"""The model server's interfaces over real HTTP, and a real server behind it."""

from __future__ import annotations

import gzip
import json
import os
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import httpx
import pytest
from botocore.eventstream import EventStreamBuffer

from support_local import TIMING
from tokenmill.local.processes import LOOPBACK, Child, listener, wait_until
from tokenmill.local.sagemaker.fleet import Launch, LaunchError, ModelServers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tokenmill.core.engine_timing import EngineTiming

CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}


class Server:
    """A model server of one test."""

    def __init__(
        self, folder: Path, name: str, *, engine: EngineTiming | None = None, **variables: str
    ) -> None:
        sock = listener()
        self.url = f"http://{LOOPBACK}:{sock.getsockname()[1]}"
        command = [
            sys.executable,
            "-m",
            "tokenmill.local.model_server",
            "--model",
            name,
            "--exit-with-parent",
        ]
        command += ["--exit-with-parent", "--listen-fd", str(sock.fileno()), "--context-tokens", "200"]
        if engine is not None:
            command += ["--engine", json.dumps(engine.to_json())]
        env = {**os.environ, **variables}
        self.child = Child(command, env=env, log=folder / f"{name}.log", pass_fds=[sock.fileno()])
        sock.close()
        self.http = httpx.Client(base_url=self.url, trust_env=False, timeout=10)
        assert wait_until(self._answers, 10), self.child.last_words()

    def _answers(self) -> bool:
        try:
            return self.http.get("/v1/models").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        self.http.close()
        self.child.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("model"), "plain")
    yield started
    started.stop()


@pytest.fixture
def relay(server: Server, tmp_path: Path) -> Iterator[Server]:
    """A model server with the plain one behind it."""
    started = Server(
        tmp_path, "relay", TOKENMILL_MODEL_URL=f"{server.url}/v1", TOKENMILL_MODEL_NAME="renamed"
    )
    yield started
    started.stop()


def test_it_says_that_it_holds_no_weights(server: Server) -> None:
    answer = server.http.post("/v1/chat/completions", json={**CHAT, "max_tokens": 100}).json()
    assert "I hold no weights" in answer["choices"][0]["message"]["content"]


def test_it_says_that_its_time_is_the_plans_only_when_it_is(server: Server, tmp_path: Path) -> None:
    def said(by: Server) -> str:
        answer = by.http.post("/v1/chat/completions", json={**CHAT, "max_tokens": 100}).json()
        return str(answer["choices"][0]["message"]["content"])

    assert "the time between them is a round default" in said(server)
    planned = Server(tmp_path, "planned", engine=TIMING)
    try:
        assert "the time that the plan predicts" in said(planned)
    finally:
        planned.stop()


def test_sagemakers_route_and_openais_route_answer_alike(server: Server) -> None:
    answers = [server.http.post(path, json=CHAT).json() for path in ("/invocations", "/v1/chat/completions")]
    assert answers[0]["choices"] == answers[1]["choices"]
    assert server.http.get("/ping").status_code == 200


def test_ignore_eos_gives_exactly_the_asked_number_of_tokens(server: Server) -> None:
    body = {**CHAT, "max_tokens": 30, "ignore_eos": True}
    answer = server.http.post("/v1/chat/completions", json=body).json()
    assert answer["usage"]["completion_tokens"] == 30
    assert answer["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"not json", "the body is not JSON"),
        (b"[]", "must be a JSON object"),
        (b'{"messages": []}', "at least one message"),
        (b'{"messages": [{"role": "robot", "content": "x"}]}', "role must be one of system"),
        (b'{"messages": [{"role": "user", "content": 7}]}', "content must be text"),
        (b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": -1}', "max_tokens must be a whole"),
        (b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 999}', "the context holds 200"),
    ],
)
def test_fails_bad_requests_with_an_openai_error_object(server: Server, body: bytes, said: str) -> None:
    answer = server.http.post("/v1/chat/completions", content=body)
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]


def test_the_counters_are_vllms(server: Server) -> None:
    server.http.post("/v1/chat/completions", json=CHAT)
    text = server.http.get("/metrics").text
    for name in (
        "num_requests_running",
        "num_requests_waiting",
        "kv_cache_usage_perc",
        "prompt_tokens_total",
    ):
        assert f'vllm:{name}{{model_name="plain"}}' in text


def test_a_stream_passes_through_from_the_server_behind(relay: Server) -> None:
    with relay.http.stream("POST", "/invocations", json={**CHAT, "stream": True}) as response:
        lines = [line for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    first = json.loads(lines[0].removeprefix("data: "))
    assert first["model"] == "renamed", "TOKENMILL_MODEL_NAME is what the server behind knows the model by"


def test_converse_is_translated_for_the_server_behind(relay: Server) -> None:
    body = {"messages": [{"role": "user", "content": [{"text": "hi"}]}], "inferenceConfig": {"maxTokens": 4}}
    whole = relay.http.post("/model/m/converse", json=body).json()
    assert whole["usage"]["outputTokens"] == 4
    buffer = EventStreamBuffer()
    buffer.add_data(relay.http.post("/model/m/converse-stream", json=body).content)
    kinds = [event.headers[":event-type"] for event in buffer]
    assert kinds == [
        "messageStart",
        *["contentBlockDelta"] * 4,
        "contentBlockStop",
        "messageStop",
        "metadata",
    ]


class Compressing(BaseHTTPRequestHandler):
    """A server that compresses for whoever takes it, and has nothing to say."""

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = b'{"choices": []}'
        packed = "gzip" in self.headers.get("accept-encoding", "")
        self.send_response(200)
        if packed:
            self.send_header("content-encoding", "gzip")
        self.end_headers()
        self.wfile.write(gzip.compress(body) if packed else body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output quiet."""


@contextmanager
def compressing() -> Iterator[str]:
    """Its base URL while it runs."""
    behind = HTTPServer((LOOPBACK, 0), Compressing)
    thread = threading.Thread(target=behind.serve_forever)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{behind.server_address[1]}/v1"
    finally:
        behind.shutdown()
        thread.join()
        behind.server_close()


def test_a_server_that_compresses_is_asked_not_to(tmp_path: Path) -> None:
    with compressing() as url:
        started = Server(tmp_path, "front", TOKENMILL_MODEL_URL=url)
        try:
            assert started.http.post("/v1/chat/completions", json=CHAT).json() == {"choices": []}
        finally:
            started.stop()


def test_fails_loudly_when_the_server_behind_is_gone(tmp_path: Path, server: Server) -> None:
    behind = Server(tmp_path, "behind")
    started = Server(tmp_path, "front", TOKENMILL_MODEL_URL=f"{behind.url}/v1")
    try:
        behind.stop()
        answer = started.http.post("/v1/chat/completions", json=CHAT)
        assert answer.status_code == 502
        assert "unset TOKENMILL_MODEL_URL" in answer.json()["error"]["message"]
        assert started.http.get("/ping").status_code == 502
    finally:
        started.stop()


def test_fails_to_launch_when_nothing_answers_at_the_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENMILL_MODEL_URL", "http://127.0.0.1:9/v1")
    fleet = ModelServers(tmp_path)
    with pytest.raises(LaunchError, match=r"http://127.0.0.1:9/v1\) does not answer"):
        fleet.start("c", Launch(model="m", engine=None, context_tokens=None, copies=1))
    assert fleet.url("c") is None


def test_fails_a_converse_request_when_the_server_behind_is_no_openai_server(tmp_path: Path) -> None:
    body = {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
    with compressing() as url:
        started = Server(tmp_path, "front", TOKENMILL_MODEL_URL=url)
        try:
            answer = started.http.post("/model/m/converse", json=body)
            assert answer.status_code == 502
            assert "sent an answer without choices" in answer.json()["error"]["message"]
            stream = EventStreamBuffer()
            stream.add_data(started.http.post("/model/m/converse-stream", json=body).content)
            [*_, last] = stream
            assert last.headers[":exception-type"] == "modelStreamErrorException"
            assert b"ends without [DONE]" in last.payload
        finally:
            started.stop()


def test_a_server_behind_has_its_own_timing_and_status_says_so(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENMILL_MODEL_URL", f"{server.url}/v1")
    fleet = ModelServers(tmp_path)
    try:
        fleet.start("c", Launch(model="m", engine=None, context_tokens=None, copies=1))
        assert fleet.describe()[0]["timing"] == f"{server.url}/v1"
    finally:
        fleet.stop_all()


def test_a_replaced_server_is_stopped_only_when_the_new_one_answers(tmp_path: Path) -> None:
    fleet = ModelServers(tmp_path)
    try:
        fleet.start("c", Launch(model="old", engine=None, context_tokens=None, copies=1))
        before = fleet.url("c")
        fleet.start("c", Launch(model="new", engine=None, context_tokens=None, copies=2))
        assert fleet.url("c") != before
        [described] = fleet.describe()
        assert (described["model"], described["copies"], described["timing"]) == ("new", 2, "default")
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{before}/ping", trust_env=False)
    finally:
        fleet.stop_all()
