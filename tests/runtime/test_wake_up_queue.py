"""Requests that wait for a model without copies: none is lost, none is answered twice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import support_fake_aws
from support_runtime import delta, usage
from tokenmill_runtime import wake_up_queue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support_runtime import FakeAws, Reply

NO_COPY = "Inference Component has no capacity to process this request."
REQUEST = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}


class Store:
    """The bucket and the queue."""

    def __init__(self, fake: support_fake_aws.FakeAws) -> None:
        self.objects: dict[str, Any] = {}
        self.visible_in: dict[str, int] = {}
        fake.answers["s3", "HeadObject"] = self._head
        fake.answers["s3", "PutObject"] = self._put
        fake.answers["sqs", "ChangeMessageVisibility"] = self._change

    def _head(self, request: dict[str, Any]) -> dict[str, Any]:
        assert request["Bucket"] == "answers-bucket"
        if request["Key"] not in self.objects:
            raise support_fake_aws.AwsError("404", "Not Found", 404)
        return {}

    def _put(self, request: dict[str, Any]) -> dict[str, Any]:
        body = request["Body"]
        self.objects[request["Key"]] = json.loads(body if isinstance(body, str | bytes) else body.read())
        return {}

    def _change(self, request: dict[str, Any]) -> dict[str, Any]:
        self.visible_in[request["ReceiptHandle"]] = int(request["VisibilityTimeout"])
        return {}


@pytest.fixture
def store(aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """S3 and SQS beside the model."""
    fake = support_fake_aws.FakeAws()
    for service in ("S3", "SQS"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", fake.url)
    document = {
        "endpoint": "ep",
        "component": "comp",
        "bucket": "answers-bucket",
        "queue_url": f"{fake.url}/1/q",
    }
    monkeypatch.setenv(wake_up_queue.VARIABLE, json.dumps(document))
    yield Store(fake)
    fake.close()


def message(body: object, *, identifier: str = "m-1") -> dict[str, Any]:
    text = body if isinstance(body, str) else json.dumps(body)
    return {"messageId": identifier, "receiptHandle": f"handle-{identifier}", "body": text}


def run(*records: dict[str, Any]) -> list[str]:
    """Handle messages; return those that wait."""
    answer = wake_up_queue.handler({"Records": list(records)}, None)
    return [item["itemIdentifier"] for item in answer["batchItemFailures"]]


def no_copy(reply: Reply) -> None:
    reply.json({"Message": NO_COPY}, status=400, error="ValidationError")


def hello(reply: Reply) -> None:
    reply.whole("hi", usage(3, 2))


def test_an_answer_is_kept_under_the_name_that_its_sender_gave(aws: FakeAws, store: Store) -> None:
    """The whole answer with its usage; the component is named and the request is streamed to it."""
    aws.model = hello
    assert run(message({"id": "order-7", "body": REQUEST})) == []
    kept = store.objects["answers/order-7.json"]
    assert kept["choices"][0]["message"]["content"] == "hi"
    assert kept["usage"]["completion_tokens"] == 2
    (asked,) = aws.requests
    assert asked.path == "/endpoints/ep/invocations-response-stream"
    assert asked.body == {**REQUEST, "stream": True, "stream_options": {"include_usage": True}}


def test_without_a_name_the_message_s_id_is_taken(aws: FakeAws, store: Store) -> None:
    """A sender that keeps the id of its message finds its answer."""
    aws.model = hello
    assert run(message({"body": REQUEST}, identifier="m-9")) == []
    assert list(store.objects) == ["answers/m-9.json"]


def test_a_request_that_finds_no_copy_waits_and_is_asked_for_soon(aws: FakeAws, store: Store) -> None:
    """The failed invocation wakes the model; the message comes back in half a minute and is not lost."""
    aws.model = no_copy
    assert run(message({"id": "a", "body": REQUEST})) == ["m-1"]
    assert (store.objects, store.visible_in) == ({}, {"handle-m-1": 30})
    assert len(aws.requests) == 1, "asking once is what wakes it; a second attempt at once cannot help"
    aws.model = hello
    assert run(message({"id": "a", "body": REQUEST})) == []
    assert list(store.objects) == ["answers/a.json"]


def test_a_second_delivery_is_not_answered_again(aws: FakeAws, store: Store) -> None:
    """A queue delivers at least once, and a second prefill costs."""
    aws.model = hello
    for _ in range(2):
        assert run(message({"id": "a", "body": REQUEST})) == []
    assert len(aws.requests) == 1


def test_what_the_model_refuses_is_a_failure_at_once(aws: FakeAws, store: Store) -> None:
    """Sending a prompt again that is too long cannot help."""

    def refuse(reply: Reply) -> None:
        text = json.dumps({"error": {"message": "maximum context length is 8192"}})
        document = {"Message": "model error", "OriginalStatusCode": 400, "OriginalMessage": text}
        reply.json(document, status=424, error="ModelError")

    aws.model = refuse
    assert run(message({"id": "a", "body": REQUEST})) == []
    assert "maximum context length" in store.objects["failures/a.json"]["error"]
    assert len(aws.requests) == 1


def test_a_broken_answer_is_asked_for_once_more(aws: FakeAws, store: Store) -> None:
    """A copy that dies in the middle costs one more attempt, not the answer."""

    def dies(reply: Reply) -> None:
        aws.model = hello
        reply.begin()
        reply.sse(delta("h"))
        reply.hang_up()

    aws.model = dies
    assert run(message({"id": "a", "body": REQUEST})) == []
    assert store.objects["answers/a.json"]["choices"][0]["message"]["content"] == "hi"
    assert len(aws.requests) == 2


def test_what_breaks_twice_is_a_failure(aws: FakeAws, store: Store) -> None:
    """A request that kills its copy must not go round for an hour."""

    def dies(reply: Reply) -> None:
        reply.begin()
        reply.sse(delta("h"))
        reply.hang_up()

    aws.model = dies
    assert run(message({"id": "a", "body": REQUEST})) == []
    assert store.objects["failures/a.json"]["status"] == 502
    assert len(aws.requests) == 2


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("not json", "the message is not JSON"),
        ("[]", "the message must be"),
        ({"id": "a"}, "the message must be"),
        ({"id": "../a", "body": REQUEST}, "id is '../a'; give 1 to 128 letters"),
        ({"id": 7, "body": REQUEST}, "id is 7"),
        ({"id": "a", "body": {"prompt": "x"}}, "body has no list messages"),
    ],
)
def test_fails_for_a_message_that_is_no_request(body: object, words: str, aws: FakeAws, store: Store) -> None:
    """Kept as a failure with the message, under the message's own id: the sender can find and mend it."""
    assert run(message(body)) == []
    assert words in store.objects["failures/m-1.json"]["error"]
    assert aws.requests == []


def test_one_that_waits_does_not_hold_up_the_others(aws: FakeAws, store: Store) -> None:
    """Only the waiting message goes back into the queue."""
    answers = iter([no_copy, hello])
    aws.model = lambda reply: next(answers)(reply)
    waiting = run(
        message({"id": "a", "body": REQUEST}, identifier="m-1"),
        message({"id": "b", "body": REQUEST}, identifier="m-2"),
    )
    assert (waiting, list(store.objects)) == (["m-1"], ["answers/b.json"])


def test_a_wrong_environment_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The function of a template that somebody changed by hand says what is missing."""
    monkeypatch.delenv(wake_up_queue.VARIABLE, raising=False)
    with pytest.raises(ValueError, match="TOKENMILL_WAKE_UP_QUEUE is not set"):
        run(message({"id": "a", "body": REQUEST}))
    monkeypatch.setenv(wake_up_queue.VARIABLE, '{"endpoint": "e"}')
    with pytest.raises(ValueError, match="needs endpoint, component, queue_url and bucket"):
        run(message({"id": "a", "body": REQUEST}))
