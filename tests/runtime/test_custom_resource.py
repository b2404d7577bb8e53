"""CloudFormation's protocol: always one answer, at the URL it names, in its form."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tokenmill_runtime import custom_resource
from tokenmill_runtime.custom_resource import Answer, Identity, Refused, parse, redact, respond, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TYPE = "Custom::TokenmillThing"


class Storage:
    """The S3 object that a request names; `refuse` answers so many times with 503 first."""

    def __init__(self) -> None:
        self.answers: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.refuse = 0
        storage = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if storage.refuse:
                    storage.refuse -= 1
                    self.send_response(503)
                else:
                    storage.answers.append(json.loads(body))
                    storage.headers.append(dict(self.headers))
                    self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/answer?X-Amz-Signature=abc"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    made = Storage()
    monkeypatch.setattr(custom_resource.time, "sleep", lambda seconds: None)
    yield made
    made.close()


class Context:
    """What Lambda gives a function that has so many milliseconds left."""

    def __init__(self, milliseconds: int) -> None:
        self.milliseconds = milliseconds

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


def event(url: str, kind: str = "Create", **changes: Any) -> dict[str, Any]:
    return {
        "RequestType": kind,
        "ResponseURL": url,
        "StackId": "arn:stack",
        "RequestId": "1",
        "LogicalResourceId": "Thing",
        "ResourceType": TYPE,
        "ResourceProperties": {"ServiceToken": "arn", "ServiceTimeout": "60", "Size": "3"},
        **changes,
    }


def answer(storage: Storage, resource: Callable[..., Answer | None], **changes: Any) -> dict[str, Any]:
    run(event(storage.url, **changes), None, {TYPE: resource})
    (found,) = storage.answers
    return found


def test_a_resource_s_answer_in_the_form_of_the_protocol(storage: Storage) -> None:
    """All fields that "Custom resource response objects" requires, and no content type, which is signed."""
    found = answer(storage, lambda request: Answer(physical_id=request.own_id, data={"Copies": 3}))
    assert found == {
        "Status": "SUCCESS",
        "Reason": "",
        "PhysicalResourceId": found["PhysicalResourceId"],
        "StackId": "arn:stack",
        "RequestId": "1",
        "LogicalResourceId": "Thing",
        "NoEcho": False,
        "Data": {"Copies": 3},
    }
    assert found["PhysicalResourceId"].startswith("Thing-")
    assert storage.headers[0]["Content-Type"] == ""


def test_the_resource_reads_its_own_properties(storage: Storage) -> None:
    """ServiceToken and ServiceTimeout are CloudFormation's business."""
    seen: list[custom_resource.Request] = []

    def resource(request: custom_resource.Request) -> Answer:
        seen.append(request)
        return Answer(physical_id="x")

    old = {"ServiceToken": "arn", "Size": "2"}
    answer(storage, resource, kind="Update", PhysicalResourceId="p", OldResourceProperties=old)
    assert (seen[0].properties, seen[0].old_properties, seen[0].physical_id) == (
        {"Size": "3"},
        {"Size": "2"},
        "p",
    )


def test_a_refusal_is_the_stack_s_event_as_it_stands(storage: Storage) -> None:
    """The sentence alone: no class name, no traceback."""

    def resource(request: custom_resource.Request) -> Answer:
        raise Refused("endpoint ep runs configuration a, not b")

    found = answer(storage, resource)
    assert (found["Status"], found["Reason"]) == ("FAILED", "endpoint ep runs configuration a, not b")


def test_fails_with_one_line_without_secrets(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    """An exception nobody expected: its class and text, tokens and signatures out, traceback in the log."""

    def resource(request: custom_resource.Request) -> Answer:
        raise RuntimeError(f"cannot read\nhf_abcdefghijk at {storage.url} with AKIAABCDEFGHIJKLMNOP")

    found = answer(storage, resource)
    assert found["Reason"].startswith("RuntimeError: cannot read <redacted> at http://")
    assert "hf_abc" not in found["Reason"] and "AKIA" not in found["Reason"]
    assert "Signature=abc" not in found["Reason"]
    log = capsys.readouterr().err
    assert "Traceback" in log and "hf_abc" not in log


def test_a_failed_update_keeps_the_resource_s_id(storage: Storage) -> None:
    """Another id would make CloudFormation delete the resource that still stands."""

    def resource(request: custom_resource.Request) -> Answer:
        raise Refused("no")

    assert answer(storage, resource, kind="Update", PhysicalResourceId="p")["PhysicalResourceId"] == "p"


def test_a_failed_creation_has_the_id_that_its_deletion_will_name(storage: Storage) -> None:
    """CloudFormation deletes what failed to be made, by the id of the answer."""

    def resource(request: custom_resource.Request) -> Answer:
        raise Refused("no")

    found = answer(storage, resource)
    assert found["PhysicalResourceId"] == parse(event(storage.url)).own_id


def test_no_answer_of_its_own_where_another_one_follows(storage: Storage) -> None:
    """A build answers when it ends, with the request's identity."""
    run(event(storage.url), None, {TYPE: lambda request: None})
    assert storage.answers == []
    identity = Identity(response_url=storage.url, stack_id="s", request_id="1", logical_id="l")
    respond(identity, status="SUCCESS", physical_id="p", data={"Digest": "sha256:1"})
    assert storage.answers[0]["Data"] == {"Digest": "sha256:1"}


def test_an_unknown_type_names_the_known_ones(storage: Storage) -> None:
    """A template that is newer than its function says what is missing."""
    run(event(storage.url, ResourceType="Custom::TokenmillOther"), None, {TYPE: lambda request: None})
    assert storage.answers[0]["Reason"] == (
        "this function has no resource 'Custom::TokenmillOther'; it has Custom::TokenmillThing"
    )


def test_an_answer_is_put_again_where_storage_is_busy(storage: Storage) -> None:
    """S3 answers 503 now and then; a lost answer would hang the stack for an hour."""
    storage.refuse = custom_resource.RESPOND_ATTEMPTS - 1
    assert answer(storage, lambda request: Answer(physical_id="p"))["Status"] == "SUCCESS"


def test_fails_when_storage_never_takes_the_answer(storage: Storage) -> None:
    """The function breaks, so that Lambda runs it again."""
    storage.refuse = 3 * custom_resource.RESPOND_ATTEMPTS
    with pytest.raises(OSError, match="503"):
        run(event(storage.url), None, {TYPE: lambda request: Answer(physical_id="p")})


def test_fails_before_the_function_s_time_is_over(storage: Storage) -> None:
    """One answer, from the timer; what the resource says afterwards is not sent."""
    started = threading.Event()

    def resource(request: custom_resource.Request) -> Answer:
        started.set()
        end = time.monotonic() + 30
        while not storage.answers and time.monotonic() < end:
            threading.Event().wait(0.005)
        return Answer(physical_id="late")

    milliseconds = int(custom_resource.LAST_WORDS_SECONDS * 1000)
    run(event(storage.url), Context(milliseconds), {TYPE: resource})
    assert started.is_set()
    (found,) = storage.answers
    assert (found["Status"], found["Reason"]) == ("FAILED", "Create took longer than the function's 15 s")


def test_a_long_reason_is_told_in_any_script(storage: Storage) -> None:
    """A service may quote what people wrote; an answer that is too long would be none for an hour."""

    def resource(request: custom_resource.Request) -> Answer:
        raise Refused("容量不足" * 500)

    found = answer(storage, resource)
    assert found["Status"] == "FAILED" and found["Reason"] == "容量不足" * 250


def test_fails_where_the_answer_is_too_long(storage: Storage) -> None:
    """CloudFormation takes 4,096 bytes, and the stack says so instead of hanging."""
    found = answer(storage, lambda request: Answer(physical_id="p", data={"Manifest": "x" * 4096}))
    assert found["Status"] == "FAILED"
    assert "CloudFormation takes 4096" in found["Reason"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"RequestType": "Replace"}, "RequestType is 'Replace'; allowed are Create, Update, Delete"),
        ({"RequestId": None}, "the event has no 'RequestId'"),
    ],
)
def test_fails_for_what_is_no_request(change: dict[str, Any], sentence: str) -> None:
    """An event of another kind is no request."""
    broken = {key: value for key, value in (event("https://x") | change).items() if value is not None}
    with pytest.raises(ValueError, match=sentence):
        parse(broken)


def test_fails_for_an_address_that_is_none_of_the_web() -> None:
    """A file address would read the function's own disk."""
    to = Identity(response_url="file:///etc/passwd", stack_id="s", request_id="1", logical_id="l")
    with pytest.raises(ValueError, match="it must be an https address"):
        respond(to, status="SUCCESS", physical_id="p")


def test_secrets_are_redacted() -> None:
    """Tokens, keys and signatures, wherever they stand."""
    text = "Bearer abc.def hf_12345678 ASIAABCDEFGHIJKLMNOP u?X-Amz-Security-Token=tok&x=1"
    assert redact(text) == "Bearer <redacted> <redacted> <redacted> u?X-Amz-Security-Token=<redacted>&x=1"
