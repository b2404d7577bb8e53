"""The probes about asynchronous endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support_fake_services import Mail, Objects
from support_verify import only, probe
from tokenmill.verification import LINES, Verdict
from tokenmill.verification.async_lines import MISSPELT, PROCESSED
from tokenmill.verification.line import Deployment

if TYPE_CHECKING:
    from pathlib import Path

    from support_fake_aws import Resources

ALL = [line.id for line in LINES if line.deployment is Deployment.ASYNC_ENDPOINT]


class Queue:
    """An endpoint that answers at once; the attributes say how AWS is to behave."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.mail = Mail(resources)
        self.objects = Objects(resources)
        self.notifies = self.answers = True
        self.failure_name = "failures/{number}-error.out"
        self.failure_note: dict[str, Any] = {"invocationStatus": "Failed", "failureReason": "it fails here"}
        self.same_place_for_same_id = False
        self.expired = "failures"
        self.taken: dict[str, str] = {}
        self.metric = PROCESSED
        answers = resources.fake.answers
        answers["sagemaker-runtime", "InvokeEndpointAsync"] = self._invoke
        answers["cloudwatch", "ListMetrics"] = lambda _: {
            "Metrics": [{"MetricName": name} for name in ("ModelLatency", self.metric) if name]
        }

    def _invoke(self, parameters: dict[str, Any]) -> dict[str, Any]:
        word = parameters["InputLocation"].rpartition("/")[2].removesuffix(".json")
        id = parameters["InferenceId"]
        number = str(len(self.taken))
        if self.same_place_for_same_id:
            number = self.taken.get(id, number)
        self.taken[id] = number
        answer, failure = f"answers/{number}.out", self.failure_name.format(number=number)
        if word == "failing":
            self.objects.keys.add(failure)
            self._note({"inferenceId": id, **self.failure_note})
        elif word == "late":
            self.objects.keys |= {answer} if self.expired == "answers" else set()
            self.objects.keys |= {failure} if self.expired == "failures" else set()
        elif self.answers:
            self.objects.keys.add(answer)
            self._note({"inferenceId": id, "invocationStatus": "Completed"})
        places = {"OutputLocation": f"s3://b/{answer}", "FailureLocation": f"s3://b/{failure}"}
        return {"InferenceId": id, **places}

    def _note(self, message: dict[str, Any]) -> None:
        if self.notifies:
            self.mail.post(message)


@pytest.fixture
def queue(resources: Resources) -> Queue:
    return Queue(resources)


def test_an_aws_that_does_what_is_claimed_makes_every_line_hold(queue: Queue, tmp_path: Path) -> None:
    result = probe(tmp_path, *ALL)
    assert {piece.line: piece.verdict for piece in result.evidence} == dict.fromkeys(ALL, Verdict.HOLDS)
    assert {"Topic", "Queue", "Endpoint", "Model", "Bucket"} <= queue.resources.ever
    assert (result.exit_code, queue.resources.left) == (0, set())


@pytest.mark.parametrize(
    ("metric", "verdict"), [(MISSPELT, Verdict.FAILS), ("", Verdict.UNCLEAR), (PROCESSED, Verdict.HOLDS)]
)
def test_the_metric_s_spelling_is_read_from_what_is_published(
    queue: Queue, tmp_path: Path, metric: str, verdict: Verdict
) -> None:
    queue.metric = metric
    assert only(probe(tmp_path, "async-processed-metric")).verdict is verdict


def test_a_failure_with_another_name_fails(queue: Queue, tmp_path: Path) -> None:
    queue.failure_name = "failures/{number}.error"
    evidence = only(probe(tmp_path, "async-failure-object"))
    assert evidence.verdict is Verdict.FAILS
    assert evidence.observations["failures"] == ["failures/1.error"]


@pytest.mark.parametrize(
    ("note", "verdict"),
    [
        ({"invocationStatus": "Failed", "failureReason": "r", "responseParameters": {}}, Verdict.FAILS),
        ({"invocationStatus": "Failed"}, Verdict.FAILS),
    ],
)
def test_a_failure_s_message_of_another_form_fails(
    queue: Queue, tmp_path: Path, note: dict[str, Any], verdict: Verdict
) -> None:
    queue.failure_note = note
    assert only(probe(tmp_path, "async-failure-message")).verdict is verdict


def test_an_endpoint_that_tells_nobody_fails_where_it_answers(queue: Queue, tmp_path: Path) -> None:
    queue.notifies = False
    assert only(probe(tmp_path, "async-topic-key")).verdict is Verdict.FAILS
    queue.answers = False
    assert only(probe(tmp_path, "async-topic-key")).verdict is Verdict.UNCLEAR
    assert only(probe(tmp_path, "async-failure-message")).verdict is Verdict.UNCLEAR


@pytest.mark.parametrize(
    ("expired", "verdict"), [("", Verdict.FAILS), ("answers", Verdict.UNCLEAR), ("failures", Verdict.HOLDS)]
)
def test_an_expired_request_is_read_from_what_is_written(
    queue: Queue, tmp_path: Path, expired: str, verdict: Verdict
) -> None:
    queue.expired = expired
    assert only(probe(tmp_path, "async-expired-object")).verdict is verdict


def test_an_id_that_is_taken_for_the_same_request_fails(queue: Queue, tmp_path: Path) -> None:
    queue.same_place_for_same_id = True
    assert only(probe(tmp_path, "async-repeated-id")).verdict is Verdict.FAILS
    queue.answers = False
    assert only(probe(tmp_path, "async-repeated-id")).verdict is Verdict.UNCLEAR


def test_an_endpoint_that_fails_leaves_nothing(queue: Queue, tmp_path: Path) -> None:
    queue.resources.status["async"] = "Failed"
    evidence = only(probe(tmp_path, "async-topic-key"))
    assert evidence.verdict is Verdict.UNCLEAR
    assert "is Failed" in evidence.observations["error"]
    assert queue.resources.left == set()
