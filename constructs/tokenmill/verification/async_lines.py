"""An asynchronous endpoint's answers, failures, notifications and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenmill.verification import endpoints, looking, small_host
from tokenmill.verification.inbox import Inbox
from tokenmill.verification.line import Deployment
from tokenmill.verification.lines import FOOTPRINTS
from tokenmill.verification.probe import Outcome, Verdict, holds

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tokenmill.verification.aws import Aws

PROCESSED = "InvocationsProcessed"
# The spelling of "Alarms and logs for tracking metrics from asynchronous endpoints" (Amazon SageMaker AI
# developer guide).
MISSPELT = "InvocationsProcesssed"
_ACTIONS = ("sns:Publish",)
# The shortest time to live; three requests before it take longer, each less than the container's minute.
_TTL_SECONDS = 60
_BLOCKS, _BLOCK_SECONDS = 3, 45


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A request that SageMaker took.

    Args:
        id: Its inference id.
        answer: Where the answer is to stand.
        failure: Where a failure is to stand.
    """

    id: str
    answer: str
    failure: str


class AsyncProbe:
    """One endpoint with a topic and its queue.

    Args:
        aws: The run.
    """

    def __init__(self, aws: Aws) -> None:
        self.aws = aws
        self.host = small_host.create_host(aws, "async", more=_ACTIONS)
        self.notes = Inbox(aws, "notes", service="sns.amazonaws.com")
        topic = self._topic()
        model = small_host.create_model(aws, "async", self.host.container(aws), self.host.role)
        self.endpoint = aws.name("async")
        variant = {
            "VariantName": endpoints.VARIANT,
            "ModelName": model,
            "InstanceType": FOOTPRINTS[Deployment.ASYNC_ENDPOINT].instance,
            "InitialInstanceCount": 1,
        }
        config = {
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 1},
            "OutputConfig": {
                "S3OutputPath": f"s3://{self.host.bucket}/answers",
                "S3FailurePath": f"s3://{self.host.bucket}/failures",
                "NotificationConfig": {"SuccessTopic": topic, "ErrorTopic": topic},
            },
        }
        endpoints.create_endpoint(aws, self.endpoint, variant, AsyncInferenceConfig=config)

    def send(self, word: str, body: dict[str, Any], *, id: str = "", seconds: int | None = None) -> Sent:
        """Send one request.

        Args:
            word: What it is for.
            body: Its body.
            id: Its inference id; one of its own otherwise.
            seconds: How long it may wait.
        """
        aws = self.aws
        given = id or f"{aws.run}-{word}"
        taken = aws.client("sagemaker-runtime").invoke_endpoint_async(
            EndpointName=self.endpoint,
            InputLocation=small_host.put(aws, self.host.bucket, f"requests/{word}.json", body),
            ContentType="application/json",
            InferenceId=given,
            **({} if seconds is None else {"RequestTTLSeconds": seconds}),
        )
        return Sent(id=given, answer=taken["OutputLocation"], failure=taken.get("FailureLocation", ""))

    def note(self, sent: Sent) -> dict[str, Any] | None:
        """Return the notification about a request, when it comes.

        Args:
            sent: The request.
        """
        found: dict[str, Any] | None = looking.or_nothing(
            lambda: self.aws.wait(
                "a notification",
                lambda: self.notes.find(lambda note: note.get("inferenceId") == sent.id),
                seconds=looking.METRIC_SECONDS,
            )
        )
        return found

    def appears(self, *addresses: str) -> list[str]:
        """Return which of some objects are there, when one is.

        Args:
            *addresses: Where they are to stand.
        """

        def look() -> list[str]:
            return [address for address in addresses if address and small_host.exists(self.aws, address)]

        wait = looking.or_nothing(lambda: self.aws.wait("an object", look, seconds=looking.METRIC_SECONDS))
        found: list[str] = wait or []
        return found

    def _topic(self) -> str:
        name, client = self.aws.name("notes"), self.aws.client("sns")
        self.aws.declare("topic", name)
        attributes = {"KmsMasterKeyId": "alias/aws/sns"}
        topic: str = client.create_topic(Name=name, Attributes=attributes, Tags=self.aws.tags)["TopicArn"]
        client.subscribe(
            TopicArn=topic,
            Protocol="sqs",
            Endpoint=self.notes.arn,
            Attributes={"RawMessageDelivery": "true"},
        )
        return topic


def async_lines(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Send requests that are answered, that fail, that come twice and that wait too long.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    probe = AsyncProbe(aws)
    plain = probe.send("plain", {"words": 1})
    if "async-topic-key" in wanted:
        yield "async-topic-key", _topic_key(probe, plain)
    if {"async-failure-object", "async-failure-message"} & set(wanted):
        failing = probe.send("failing", {small_host.FAILS: True})
        yield "async-failure-object", _failure_object(probe, failing)
        yield "async-failure-message", _failure_message(probe, failing)
    if "async-repeated-id" in wanted:
        yield "async-repeated-id", _repeated(probe, plain)
    if "async-expired-object" in wanted:
        yield "async-expired-object", _expired(probe)
    if "async-processed-metric" in wanted:
        yield "async-processed-metric", _metric(probe, plain)


def _topic_key(probe: AsyncProbe, plain: Sent) -> Outcome:
    note = probe.note(plain)
    if note is not None:
        return Outcome(Verdict.HOLDS, {"note": note})
    answered = probe.appears(plain.answer)
    # Without an answer there was nothing to tell.
    return Outcome(Verdict.FAILS if answered else Verdict.UNCLEAR, {"note": None, "answered": bool(answered)})


def _failure_object(probe: AsyncProbe, failing: Sent) -> Outcome:
    note = probe.note(failing)
    there = probe.appears(failing.failure)
    listed = small_host.keys(probe.aws, probe.host.bucket, "failures/")
    seen = {"announced": failing.failure, "found": there, "failures": listed}
    if note is None and not there:
        return Outcome(Verdict.UNCLEAR, seen)
    return Outcome(holds(bool(there) and there[0].endswith("-error.out")), seen)


def _failure_message(probe: AsyncProbe, failing: Sent) -> Outcome:
    note = probe.note(failing)
    if note is None:
        return Outcome(Verdict.UNCLEAR, {"note": None})
    failed = note.get("invocationStatus") == "Failed" and bool(note.get("failureReason"))
    return Outcome(holds(failed and "responseParameters" not in note), {"note": note})


def _repeated(probe: AsyncProbe, plain: Sent) -> Outcome:
    if not probe.appears(plain.answer):
        return Outcome(Verdict.UNCLEAR, {"first": None})
    again = probe.send("again", {"words": 2}, id=plain.id)
    there = probe.appears(again.answer) if again.answer != plain.answer else []
    return Outcome(holds(bool(there)), {"first": plain.answer, "second": again.answer, "found": there})


def _expired(probe: AsyncProbe) -> Outcome:
    for number in range(_BLOCKS):
        probe.send(f"block-{number}", {small_host.PAUSE: _BLOCK_SECONDS})
    late = probe.send("late", {"words": 3}, seconds=_TTL_SECONDS)
    there = probe.appears(late.failure, late.answer)
    seen: dict[str, Any] = {"announced": late.failure, "found": there}
    if late.answer in there:
        # It was answered in time, so nothing expired.
        return Outcome(Verdict.UNCLEAR, seen)
    return Outcome(holds(late.failure in there), seen)


def _metric(probe: AsyncProbe, plain: Sent) -> Outcome:
    aws = probe.aws

    def look() -> list[str]:
        pages = (
            aws.client("cloudwatch")
            .get_paginator("list_metrics")
            .paginate(
                Namespace="AWS/SageMaker", Dimensions=[{"Name": "EndpointName", "Value": probe.endpoint}]
            )
        )
        names = {metric["MetricName"] for page in pages for metric in page["Metrics"]}
        return sorted(names) if {PROCESSED, MISSPELT} & names else []

    found = looking.or_nothing(lambda: aws.wait("the metric", look, seconds=looking.METRIC_SECONDS)) or []
    seen = {"metrics": found, "answered": bool(probe.appears(plain.answer))}
    if not found:
        return Outcome(Verdict.UNCLEAR, seen)
    return Outcome(holds(PROCESSED in found), seen)
