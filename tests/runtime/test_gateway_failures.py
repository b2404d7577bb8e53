"""Models that fail: before the first token a status, afterwards an error event, never a traceback."""

from __future__ import annotations

import json
import socket
import threading
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest

from support_runtime import HELLO, PATIENCE, QWEN, FakeAws, Gateway, Reply, Ticks, chat, delta, post
from tokenmill_runtime import aws as aws_clients

if TYPE_CHECKING:
    from collections.abc import Callable

FAILURES: list[tuple[int, str, dict[str, Any], int, str]] = [
    (400, "ThrottlingException", {}, 429, "rate_limit_exceeded"),
    (429, "ModelNotReadyException", {}, 503, "model_unavailable"),
    (503, "ServiceUnavailable", {}, 503, "model_unavailable"),
    (400, "ValidationError", {}, 503, "model_unavailable"),
    (403, "AccessDeniedException", {}, 500, "model_access_denied"),
    (500, "InternalFailure", {}, 502, "model_error"),
    (424, "ModelError", {"OriginalStatusCode": 500, "OriginalMessage": "boom"}, 502, "model_error"),
    (424, "ModelError", {"OriginalStatusCode": 429}, 429, "rate_limit_exceeded"),
    (424, "ModelError", {"OriginalStatusCode": 503}, 503, "model_unavailable"),
    (424, "ModelError", {"OriginalStatusCode": 504}, 504, "model_timeout"),
    (424, "ModelError", {"OriginalStatusCode": 400, "OriginalMessage": "bad top_k"}, 400, "invalid_value"),
    (
        424,
        "ModelError",
        {
            "OriginalStatusCode": 400,
            "OriginalMessage": '{"error": {"message": "maximum context length is 9"}}',
        },
        400,
        "context_length_exceeded",
    ),
    (
        424,
        "ModelError",
        {"OriginalStatusCode": 400, "OriginalMessage": '{"object": "error", "message": "no"}'},
        400,
        "invalid_value",
    ),
    (
        424,
        "ModelError",
        {"OriginalStatusCode": 422, "OriginalMessage": '{"error": "no"}'},
        400,
        "invalid_value",
    ),
    (424, "ModelError", {"OriginalStatusCode": 422, "OriginalMessage": "[1]"}, 400, "invalid_value"),
]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("aws_status", "kind", "fields", "status", "code"), FAILURES)
def test_a_failure_before_the_first_token_has_its_status(
    gateway: Gateway,
    aws: FakeAws,
    aws_status: int,
    kind: str,
    fields: dict[str, Any],
    status: int,
    code: str,
    stream: bool,
) -> None:
    """AWS's error becomes the caller's and its text stays in the log; the demand was there and is counted."""
    text = "arn:aws:logs:us-east-1:123456789012"
    aws.model = lambda to: to.json({"Message": text, **fields}, status=aws_status, error=kind)
    found, error = post(gateway, chat(stream=stream))
    assert (found, error["code"]) == (status, code)
    assert text not in error["message"]
    refused = status == 400
    assert gateway.total("Errors") == (0 if refused else 1)
    assert gateway.total("Requests") == 1
    assert gateway.logged()[-1]["outcome"] == code
    assert len(aws.requests) == 1, "never retried"
    if not refused:
        assert text in gateway.logged()[0]["detail"]


def test_the_model_s_own_words_reach_the_caller(gateway: Gateway, aws: FakeAws) -> None:
    """A refused request must say why."""
    fields = {"OriginalStatusCode": 400, "OriginalMessage": '{"error": {"message": "top_k must be above 0"}}'}
    aws.model = lambda to: to.json({"Message": "x", **fields}, status=424, error="ModelError")
    assert "top_k must be above 0" in post(gateway, chat())[1]["message"]


def test_an_unavailable_model_says_when_to_come_back(gateway: Gateway, aws: FakeAws) -> None:
    """The openai client honours the header."""
    aws.model = lambda to: to.json({"Message": "no copies"}, status=400, error="ValidationError")
    headers = {"authorization": "Bearer anna"}
    response = httpx.post(f"{gateway.url}/v1/chat/completions", json=chat(stream=True), headers=headers)
    assert response.headers["retry-after"] == "10"


def test_a_service_that_cannot_be_reached_is_a_503(
    gateway: Gateway, aws: FakeAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port that is taken and not listened on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        aws_clients.sagemaker_runtime.cache_clear()
        assert post(gateway, chat(stream=True))[0] == 503


def test_a_connection_lost_before_the_answer_is_a_502(gateway: Gateway, aws: FakeAws) -> None:
    """The model may have taken the request, so it is not called unavailable."""
    aws.model = lambda to: to.hang_up()
    assert post(gateway, chat())[0] == 502


WRONG_ANSWERS = [
    b"<html>",
    b"[]",
    b"{}",
    b'{"error": {"message": "no"}}',
    b'{"error": {}}',
    b'{"choices": [{}]}',
    b'{"choices": [{"delta": {"content": ["secret"]}}]}',
    b'{"choices": [{"delta": {"content": "secret"}, "logprobs": NaN}]}',
    b'{"choices": [{"delta": {"content": "secret"}, "logprobs": ["secret"]}]}',
    b'{"choices": [{"delta": {"content": "secret"}, "logprobs": {"content": "secret"}}]}',
    b'{"choices": [{"delta": {"content": "secret"}, "index": "secret"}]}',
    b'{"choices": [{"message": {"content": "secret"}, "finish_reason": "stop"}]}',
    b'"secret"',
    b"secret",
    b"[" * 100_000,
]


@pytest.mark.parametrize("content", WRONG_ANSWERS)
def test_an_answer_of_another_form_is_no_answer(gateway: Gateway, aws: FakeAws, content: bytes) -> None:
    """Whatever the container says, the caller gets an error object; what it says stays out of the log."""

    def reply(to: Reply) -> None:
        to.begin()
        to.part(b"data: " + content + b"\n\ndata: [DONE]\n\n")
        to.end()

    aws.model = reply
    status, error = post(gateway, chat())
    assert (status, error["code"]) == (502, "model_error")
    assert gateway.total("Errors") == 1
    assert "secret" not in json.dumps(gateway.logged())


@pytest.mark.parametrize("content", [b"", b"<html>", b'{"choices": []}'])
def test_an_answer_without_events_is_no_answer(gateway: Gateway, aws: FakeAws, content: bytes) -> None:
    """A container that does not stream, or says nothing, whether or not SageMaker frames it."""

    def framed(to: Reply) -> None:
        to.begin()
        to.part(content)
        to.end()

    for reply in (framed, lambda to: to.raw(content)):
        aws.model = reply
        status, error = post(gateway, chat())
        assert (status, error["code"]) == (502, "model_error")


def breaks(how: Callable[[Reply], None]) -> Callable[[Reply], None]:
    def reply(to: Reply) -> None:
        to.begin()
        to.sse(delta("Hel"), delta("lo"))
        how(to)

    return reply


def _fails(kind: str, document: dict[str, Any]) -> Callable[[Reply], None]:
    def how(to: Reply) -> None:
        to.failure(kind, document)
        to.end()

    return how


def _says(*parts: Any) -> Callable[[Reply], None]:
    def how(to: Reply) -> None:
        for part in parts:
            if isinstance(part, bytes):
                to.part(part)
            else:
                to.sse(part)
        to.end()

    return how


def _broken_frame(to: Reply) -> None:
    to.chunk(b"\x00\x00\x00\x20" * 10)
    to.end()


MID_STREAM = {
    "model stream error": _fails(
        "ModelStreamError", {"Message": "died", "ErrorCode": "ModelInvocationTimeExceeded"}
    ),
    "internal failure": _fails("InternalStreamFailure", {"Message": "x"}),
    "connection lost": lambda to: to.hang_up(),
    "ended unfinished": lambda to: to.end(),
    "the model's own error": _says({"error": {"message": "out of memory"}}, "[DONE]"),
    "no json": _says(b"data: nonsense\n\n"),
    "no utf-8": _says(b"data: \xff\n\n"),
    "broken frame": _broken_frame,
    "choices of another form": _says({"choices": [7]}),
    "a delta of another form": _says({"choices": [{"delta": 7}]}),
    "a content of another form": _says({"choices": [{"delta": {"content": 7}}]}),
}


@pytest.mark.parametrize("how", MID_STREAM.values(), ids=MID_STREAM.keys())
def test_a_model_that_dies_mid_answer_raises_in_the_client(
    client: openai.OpenAI, aws: FakeAws, gateway: Gateway, how: Callable[[Reply], None]
) -> None:
    """The unmodified client gets the tokens so far, then APIError; nothing looks finished."""
    aws.model = breaks(how)
    texts, reasons = [], []
    with (
        pytest.raises(openai.APIError, match="failed") as raised,
        client.chat.completions.create(model=QWEN, messages=HELLO, stream=True) as stream,
    ):
        for chunk in stream:
            texts.append(chunk.choices[0].delta.content)
            reasons.append(chunk.choices[0].finish_reason)
    assert texts == ["Hel", "lo"]
    assert set(reasons) == {None}
    assert raised.value.code == "model_error"
    assert gateway.total("Errors") == 1
    assert gateway.total("OutputTokens") == 2
    assert not any("TimeToFirstToken" in line for line in gateway.metrics())


@pytest.mark.parametrize("how", MID_STREAM.values(), ids=MID_STREAM.keys())
def test_a_model_that_dies_in_a_whole_answer_is_a_502(
    aws: FakeAws, gateway: Gateway, how: Callable[[Reply], None]
) -> None:
    """Half an answer is none: the caller gets the error object and nothing of the text."""
    aws.model = breaks(how)
    status, error = post(gateway, chat())
    assert (status, error["code"]) == (502, "model_error")
    assert "Hel" not in json.dumps([error, gateway.lines])
    assert gateway.total("Errors") == 1


def test_no_done_follows_an_error_event(gateway: Gateway, aws: FakeAws) -> None:
    """Clients that only look for `[DONE]` must not find it."""
    aws.model = breaks(lambda to: to.end())
    headers = {"authorization": "Bearer anna"}
    response = httpx.post(f"{gateway.url}/v1/chat/completions", json=chat(stream=True), headers=headers)
    last = response.text.strip().split("\n\n")[-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "model_error"
    assert "[DONE]" not in response.text


def test_a_stream_that_fails_at_once_still_has_a_status(gateway: Gateway, aws: FakeAws) -> None:
    """Nothing is sent before the first chunk, so its failure is a real 502."""

    def reply(to: Reply) -> None:
        to.begin()
        to.failure("ModelStreamError", {"Message": "died"})
        to.end()

    aws.model = reply
    assert post(gateway, chat(stream=True))[0] == 502


def test_a_whole_answer_that_fails_lets_the_model_go(gateway: Gateway, aws: FakeAws) -> None:
    """The connection is closed at once, so that a model which is still busy stops for nobody."""
    gone = threading.Event()

    def reply(to: Reply) -> None:
        to.begin()
        to.sse(delta("one"), {"error": {"message": "no"}})
        if to.caller_hung_up():
            gone.set()

    aws.model = reply
    assert post(gateway, chat())[0] == 502
    assert gone.wait(PATIENCE)


def test_the_function_s_deadline_ends_a_silent_model(
    start_gateway: Callable[..., Gateway], aws: FakeAws, ticks: Ticks
) -> None:
    """With its last seconds the gateway stores what there is and says so, instead of being killed."""
    heard, gone = threading.Event(), threading.Event()

    def falls_silent(to: Reply) -> None:
        to.begin()
        to.sse(delta("one"))
        assert heard.wait(PATIENCE)
        ticks.now += 298
        to.sse(delta(" two"))
        if to.caller_hung_up():
            gone.set()

    aws.model = falls_silent
    gateway = start_gateway(deadline=ticks.now + 300, conversation_table="turns")
    body = chat(stream=True, metadata={"conversation_id": "c"})
    headers = {"authorization": "Bearer anna"}
    events = []
    with httpx.stream(
        "POST", f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=PATIENCE
    ) as response:
        for line in response.iter_lines():
            heard.set()
            if line:
                events.append(json.loads(line.removeprefix("data: ")))
    # Whether the second token is still waited for depends on which thread is faster; what was sent is stored.
    said = "".join(event["choices"][0]["delta"]["content"] for event in events[:-1])
    assert said in ("one", "one two")
    assert events[-1]["error"]["code"] == "model_timeout"
    assert gone.wait(PATIENCE)
    assert aws.turns()[-1] == ("assistant", said, True)
    status, error = post(gateway, chat())
    assert (status, error["code"]) == (504, "model_timeout"), "no time left at all"


def test_a_silent_model_is_given_up(gateway: Gateway, aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that says nothing within the client's time-out is a 504, before and within a stream."""
    monkeypatch.setattr(aws_clients, "MODEL_SILENCE_SECONDS", 0.05)
    aws_clients.sagemaker_runtime.cache_clear()
    done = threading.Event()

    def silent(to: Reply) -> None:
        done.wait(PATIENCE)

    def stops(to: Reply) -> None:
        to.begin()
        to.sse(delta("one"))
        done.wait(PATIENCE)

    try:
        aws.model = silent
        assert post(gateway, chat())[0] == 504
        assert post(gateway, chat(stream=True))[0] == 504
        aws.model = stops
        headers = {"authorization": "Bearer anna"}
        response = httpx.post(f"{gateway.url}/v1/chat/completions", json=chat(stream=True), headers=headers)
        assert "model_timeout" in response.text
    finally:
        done.set()
