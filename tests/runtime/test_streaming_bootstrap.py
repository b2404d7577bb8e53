"""The streaming bootstrap as a process, started by its wrapper script, under a Runtime API over sockets."""

from __future__ import annotations

import base64
import json
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from support_runtime import PATIENCE, QWEN, delta, gateway_config
from support_runtime_api import Bootstrap, FakeRuntimeApi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support_runtime import FakeAws, Reply


@pytest.fixture
def api() -> Iterator[FakeRuntimeApi]:
    """Lambda's side."""
    made = FakeRuntimeApi()
    yield made
    made.close()


@pytest.fixture
def start(api: FakeRuntimeApi, tmp_path: Path) -> Iterator[Callable[..., Bootstrap]]:
    """Starts the process with a handler of an application of `support_asgi_application`."""
    started: list[Bootstrap] = []

    def starts(handler: str = "support_asgi_application:make", **environment: str) -> Bootstrap:
        started.append(Bootstrap(api, handler, environment, tmp_path))
        return started[-1]

    yield starts
    for process in started:
        process.kill()


def rest_event(path: str, **changes: Any) -> dict[str, Any]:
    """What a REST API sends for a route /{proxy+} of the stage prod."""
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": "POST",
        "headers": {"X-A": "2"},
        "multiValueHeaders": {"X-A": ["1", "2"], "Host": ["api.example:8443"]},
        "multiValueQueryStringParameters": {"a": ["1", "2 3"]},
        "pathParameters": {"proxy": path.removeprefix("/")},
        "requestContext": {
            "path": f"/prod{path}",
            "stage": "prod",
            "authorizer": {"principalId": "0123456789ab"},
            "identity": {"sourceIp": "192.0.2.1"},
        },
        "body": "hé",
        "isBase64Encoded": False,
        **changes,
    }


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    head, _, body = data.partition(b"\0" * 8)
    return json.loads(head), body


def test_chunks_leave_one_by_one(api: FakeRuntimeApi, start: Callable[..., Bootstrap]) -> None:
    """The application makes a chunk only when the Runtime API has the one before: nothing is gathered."""
    with socket.create_server(("127.0.0.1", 0)) as gates:
        gates.settimeout(PATIENCE)
        start(GATE=str(gates.getsockname()[1]))
        posted = api.invoke(rest_event("/gated"))
        assert posted.path == "/2018-06-01/runtime/invocation/id-1/response"
        assert posted.headers["Content-Type"] == "application/vnd.awslambda.http-integration-response"
        assert posted.headers["Lambda-Runtime-Function-Response-Mode"] == "streaming"
        assert posted.headers["Transfer-Encoding"] == "chunked"
        assert "Content-Length" not in posted.headers
        head, body = split(posted.chunk())
        assert body == b""
        assert head == {
            "statusCode": 201,
            "headers": {"content-type": "text/plain", "x-a": "1, 2"},
            "cookies": ["a=1", "b=2"],
        }
        gate, _ = gates.accept()
        with gate:
            for number in range(3):
                assert posted.chunk() == b"chunk %d" % number
                assert posted.chunks.empty()
                gate.sendall(b"x")
        assert posted.rest() == b""
        assert posted.trailers == {}


def test_one_process_serves_many_events_and_stops_when_asked(
    api: FakeRuntimeApi, start: Callable[..., Bootstrap]
) -> None:
    """The application is made once, its lifespan is around all requests, each event has its own trace."""
    process = start()
    first = api.invoke(
        rest_event("/v1/models"), Lambda_Runtime_Trace_Id="Root=1", Lambda_Runtime_Deadline_Ms="1500"
    )
    expected = ["POST", "/prod/v1/models", "/prod", "a=1&a=2+3", "0123456789ab", "id-1"]
    assert json.loads(split(first.rest())[1]) == [*expected, "hé".encode().hex(), 1.5, "Root=1", "2.4"]
    second = api.invoke(rest_event("/v1/models"), Lambda_Runtime_Aws_Request_Id="id-2")
    assert json.loads(split(second.rest())[1])[5:9] == ["id-2", "hé".encode().hex(), 9999999999.0, None]
    status, out, err = process.end()
    assert (status, err) == (0, "")
    assert out.splitlines() == ["making", "starting", "stopping"]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/silent-failure", "ValueError"),
        ("/started-failure", "ValueError"),
        ("/nothing", "IncompleteResponseError"),
        ("/out-of-order", "RuntimeError"),
    ],
)
def test_a_failure_before_the_first_byte_is_an_invocation_error(
    api: FakeRuntimeApi, start: Callable[..., Bootstrap], path: str, kind: str
) -> None:
    """Lambda's error endpoint gets type, message and stack; the next event is served."""
    start()
    posted = api.invoke(rest_event(path))
    assert posted.path == "/2018-06-01/runtime/invocation/id-1/error"
    assert posted.headers["Lambda-Runtime-Function-Error-Type"] == f"Runtime.{kind}"
    document = posted.json()
    assert document["errorType"] == f"Runtime.{kind}"
    assert document["errorMessage"].startswith(kind)
    assert document["stackTrace"]
    assert split(api.invoke(rest_event("/x")).rest())[0]["statusCode"] == 201


@pytest.mark.parametrize(
    ("path", "kind"), [("/broken", "ValueError"), ("/unfinished", "IncompleteResponseError")]
)
def test_a_failure_in_the_middle_is_in_the_trailers(
    api: FakeRuntimeApi, start: Callable[..., Bootstrap], path: str, kind: str
) -> None:
    """The caller's connection must not look finished: Lambda learns it from the trailers it was promised."""
    start()
    posted = api.invoke(rest_event(path))
    assert split(posted.rest())[1] == b"half"
    assert posted.trailers["Lambda-Runtime-Function-Error-Type"] == f"Runtime.{kind}"
    document = json.loads(base64.b64decode(posted.trailers["Lambda-Runtime-Function-Error-Body"]))
    assert document["errorMessage"].startswith(kind)
    assert (
        posted.headers["Trailer"] == "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body"
    )
    assert api.invoke(rest_event("/x")).rest()


def test_a_failure_after_the_end_changes_nothing(
    api: FakeRuntimeApi, start: Callable[..., Bootstrap]
) -> None:
    """The response is out; the defect is logged and the next event is served."""
    process = start()
    assert split(api.invoke(rest_event("/after-the-end")).rest())[1] == b"all"
    assert api.invoke(rest_event("/x")).rest()
    out = process.end()[1]
    assert "out of its order" in out


@pytest.mark.parametrize("path", ["/endless", "/endless-ignored"])
def test_a_caller_who_has_gone_stops_the_application(
    api: FakeRuntimeApi, start: Callable[..., Bootstrap], path: str
) -> None:
    """Sending raises OSError, receiving gives the disconnect, and Lambda is told of no error."""
    process = start()
    api.hang_up_after = 2
    assert api.invoke(rest_event(path)).done.wait(PATIENCE)
    api.hang_up_after = None
    assert api.invoke(rest_event("/x")).path.endswith("/response")
    status, out, err = process.end()
    assert (status, err) == (0, "")
    assert "Lambda takes no more of the response" in out
    assert ("the caller has gone" in out) == (path == "/endless")


def test_an_end_that_lambda_refuses_is_not_an_end(
    api: FakeRuntimeApi, start: Callable[..., Bootstrap]
) -> None:
    """Another status than 202, or none, is logged; the process goes on."""
    process = start()
    for api.status in (413, None):
        assert api.invoke(rest_event("/x")).rest()
        assert api.invoke(rest_event("/broken")).rest()
    api.status = 202
    assert api.invoke(rest_event("/x")).rest()
    out = process.end()[1]
    assert "expected status 202, got 413" in out
    assert "took no end of the response" in out


@pytest.mark.parametrize("event", [{}, {"Records": []}, [1], None, {"requestContext": {"http": 1}}])
def test_an_event_of_no_http_front_is_refused(
    api: FakeRuntimeApi, start: Callable[..., Bootstrap], event: Any
) -> None:
    """With what it has instead."""
    start()
    posted = api.invoke(event)
    assert posted.path.endswith("/error")
    assert "must come from a REST API or a function URL" in posted.json()["errorMessage"]


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        ("support_asgi_application:fails", "RuntimeError: no configuration"),
        (
            "support_asgi_application:missing",
            "module:function of an ASGI factory, got 'support_asgi_application:missing'",
        ),
        (
            "support_asgi_application.make",
            "module:function of an ASGI factory, got 'support_asgi_application.make'",
        ),
        ("no_such_module:make", "No module named 'no_such_module'"),
        ("support_asgi_application:failing_lifespan", "start-up failed: no table"),
    ],
)
def test_a_function_that_cannot_start_says_so(
    api: FakeRuntimeApi, start: Callable[..., Bootstrap], handler: str, message: str
) -> None:
    """Before any event, at Lambda's init error endpoint; the process ends with a status other than 0."""
    process = start(handler)
    posted = api.posted.get(timeout=PATIENCE)
    assert posted.path == "/2018-06-01/runtime/init/error"
    assert posted.headers["Lambda-Runtime-Function-Error-Type"] == "Runtime.InitError"
    assert message in posted.json()["errorMessage"]
    status, out, _ = process.wait()
    assert status != 0
    assert "no lifespan" not in out


def test_an_application_without_lifespan_is_served(
    api: FakeRuntimeApi, start: Callable[..., Bootstrap]
) -> None:
    """ASGI: raising in the lifespan scope means that there is none."""
    process = start("support_asgi_application:without_lifespan")
    assert api.invoke(rest_event("/x")).rest()
    status, out, _ = process.end()
    assert status == 0
    assert "no lifespan" in out


def test_a_runtime_api_that_fails_ends_the_process(
    api: FakeRuntimeApi, start: Callable[..., Bootstrap]
) -> None:
    """Lambda starts another one."""
    process = start()
    api.events.put(({}, {"status": "500"}))
    status, _, err = process.wait()
    assert status != 0
    assert "next invocation: expected status 200, got 500" in err


def test_the_gateway_streams_out_of_lambda(
    api: FakeRuntimeApi, start: Callable[..., Bootstrap], aws: FakeAws
) -> None:
    """The real gateway, the real boto3: each token is in Lambda's hands before the model makes the next."""
    arrived: list[bytes] = []
    posted: Any = None
    finished = threading.Event()

    def reply(to: Reply) -> None:
        nonlocal posted
        to.begin()
        to.sse(delta("one"))
        posted = api.posted.get(timeout=PATIENCE)
        arrived.append(posted.chunk())
        arrived.append(posted.chunk())
        to.sse(delta("two", finish="stop"))
        arrived.append(posted.chunk())
        to.sse("[DONE]")
        to.end()
        finished.set()

    aws.model = reply
    process = start(
        "tokenmill_runtime.gateway.app:application",
        AWS_ENDPOINT_URL=aws.url,
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
        AWS_DEFAULT_REGION="us-east-1",
        TOKENMILL_GATEWAY=json.dumps(gateway_config(conversation_table="turns").to_document()),
    )
    chat = {"model": QWEN, "messages": [{"role": "user", "content": "hi"}], "stream": True}
    chat["metadata"] = {"conversation_id": "c"}
    event = rest_event("/v1/chat/completions", body=json.dumps(chat))
    api.events.put((event, {}))
    assert finished.wait(PATIENCE)
    assert posted.rest() == b"data: [DONE]\n\n"
    status, out, err = process.end()
    assert (status, err) == (0, "")
    head, _ = split(arrived[0])
    assert head["statusCode"] == 200
    assert head["headers"]["content-type"].startswith("text/event-stream")
    assert head["headers"]["x-request-id"] == "id-1"
    assert b'"content":"one"' in arrived[1] and b'"content":"two"' in arrived[2]
    assert aws.turns() == [("user", "hi", False), ("assistant", "onetwo", False)]
    assert next(iter(aws.items))[0] == "0123456789ab#c"
    published = [json.loads(line) for line in out.splitlines()]
    assert sum(line.get("Requests", 0) for line in published) == 1
    assert published[-1]["outcome"] == "complete"


def test_a_stop_in_the_middle_of_an_answer_waits_for_its_end(
    api: FakeRuntimeApi, start: Callable[..., Bootstrap], aws: FakeAws
) -> None:
    """SIGTERM neither cuts the answer nor leaves a trace of torn tasks behind."""
    running: list[Bootstrap] = []
    posts: list[Any] = []
    finished = threading.Event()

    def reply(to: Reply) -> None:
        to.begin()
        to.sse(delta("one"))
        posts.append(api.posted.get(timeout=PATIENCE))
        assert b"200" in posts[0].chunk() and b"one" in posts[0].chunk()
        running[0].process.terminate()
        to.sse(delta("two", finish="stop"), "[DONE]")
        to.end()
        finished.set()

    aws.model = reply
    running.append(
        start(
            "tokenmill_runtime.gateway.app:application",
            AWS_ENDPOINT_URL=aws.url,
            AWS_ACCESS_KEY_ID="test",
            AWS_SECRET_ACCESS_KEY="test",
            AWS_DEFAULT_REGION="us-east-1",
            TOKENMILL_GATEWAY=json.dumps(gateway_config().to_document()),
        )
    )
    chat = {"model": QWEN, "messages": [{"role": "user", "content": "hi"}], "stream": True}
    api.events.put((rest_event("/v1/chat/completions", body=json.dumps(chat)), {}))
    assert finished.wait(PATIENCE)
    assert posts[0].rest().endswith(b"data: [DONE]\n\n")
    status, _, err = running[0].wait()
    assert (status, err) == (0, "")
