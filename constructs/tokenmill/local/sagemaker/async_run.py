"""What happens to one request of an asynchronous endpoint: read, asked, written, told.

Source: Amazon SageMaker AI Developer Guide, "Alarms and logs for tracking metrics from asynchronous
endpoints" (what each metric counts; InvocationsProcessed is misspelled there), "Check prediction results".
"""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from tokenmill.local.aws_requests import AwsError, Params, Scope
from tokenmill.local.sagemaker.async_messages import Invocation, completed, failed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tokenmill.local.clients import Objects
    from tokenmill.local.sagemaker.runtime import Target

    Record = Callable[[Scope, str, float, str, Mapping[str, str]], None]

# AsyncInferenceNotificationConfig, IncludeInferenceResponseIn: up to 128 KB of the answer.
MOST_INCLUDED_BYTES = 128 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What an asynchronous endpoint reaches beside its queue.

    Args:
        objects: S3.
        record: Takes a metric of `AWS/SageMaker`: scope, name, value, unit, dimensions.
        notify: Publishes a message: scope, ARN of the topic, text.
        target: Says who answers: scope, endpoint.
        clock: Seconds that only go up.
        sleep: Waits that many seconds before an answer that is to come late.
    """

    objects: Objects
    record: Record
    notify: Callable[[Scope, str, str], None]
    target: Callable[[Scope, str], Target]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    content_type: str


class _InvocationError(Exception):
    def __init__(self, reason: str, body: bytes | None = None) -> None:
        self.reason = reason
        self.body = body
        super().__init__(reason)


class AsyncRun:
    """One request with its endpoint's configuration.

    Args:
        invocation: The request.
        config: The endpoint's AsyncInferenceConfig.
        variant: Name of the variant, for the metrics.
        outside: What is reached.
    """

    def __init__(self, invocation: Invocation, config: Params, variant: str, outside: Outside) -> None:
        self._invocation = invocation
        self._output: Params = config["OutputConfig"]
        self._dimensions = {"EndpointName": invocation.endpoint, "VariantName": variant}
        self._outside = outside

    def process(self) -> None:
        """Read the input, ask the model, write the answer or the failure, and tell it."""
        received, clock = self._invocation.received, self._outside.clock
        self._metric("TimeInBacklog", (clock() - received) * 1e6, "Microseconds")
        try:
            self._run()
        except _InvocationError as error:
            self._fail(error.reason, error.body)
        self._metric("InvocationsProcessed", 1, "Count")
        self._metric("TotalProcessingTime", (clock() - received) * 1e3, "Milliseconds")

    def expire(self) -> None:
        """Give up a request that waited longer than its RequestTTLSeconds."""
        self._metric("ExpiredRequests", 1, "Count")
        self._fail("ClientError: The request expired before it was processed.", None)

    def _run(self) -> None:
        began = self._outside.clock()
        body = self._input()
        self._latency("RequestDownloadLatency", began)
        began = self._outside.clock()
        answer = self._ask(body)
        self._latency("ModelLatency", began)
        if answer.status >= 400:
            raise self._refused(answer)
        began = self._outside.clock()
        try:
            self._put(self._invocation.output, answer)
        except AwsError as error:
            raise _InvocationError(f"ClientError: Unable to upload the response: {error.message}") from error
        self._latency("ResponseUploadLatency", began)
        told = self._included("SUCCESS_NOTIFICATION_TOPIC", answer.body)
        self._tell("SuccessTopic", completed(self._invocation, answer.content_type, told))

    def _input(self) -> bytes:
        if self._invocation.inline is not None:
            return self._invocation.inline
        try:
            return self._outside.objects.get(self._invocation.scope, self._invocation.input)[0]
        except AwsError as error:
            self._metric("RequestDownloadFailures", 1, "Count")
            raise _InvocationError(f"ClientError: Unable to download the request: {error.message}") from error

    def _ask(self, body: bytes) -> _Answer:
        try:
            target = self._outside.target(self._invocation.scope, self._invocation.endpoint)
            self._outside.sleep(target.latency_seconds)
            if target.failing:
                return _Answer(500, b"the image fails on request", "text/plain")
            answer = httpx.post(
                f"{target.url}/invocations",
                content=body,
                headers={"content-type": self._invocation.content_type or "application/json"},
                timeout=httpx.Timeout(self._invocation.timeout_seconds, connect=5.0),
                trust_env=False,
            )
        except (httpx.HTTPError, AwsError) as error:
            return _Answer(503, str(error).encode(), "text/plain")
        kind = answer.headers.get("content-type", "application/json")
        return _Answer(answer.status_code, answer.content, kind)

    def _refused(self, answer: _Answer) -> _InvocationError:
        client = answer.status < 500
        self._metric("Invocation4XXErrors" if client else "Invocation5XXErrors", 1, "None")
        reason = f"Received {'client' if client else 'server'} error ({answer.status}) from model."
        if self._invocation.failure is not None:
            try:
                self._put(self._invocation.failure, answer)
            except AwsError as error:
                reason += f" Unable to upload the failure: {error.message}."
        return _InvocationError(
            f"ClientError: {reason} See the SageMaker Endpoint logs in your account for more information.",
            answer.body,
        )

    def _put(self, uri: str, answer: _Answer) -> None:
        try:
            self._outside.objects.put(self._invocation.scope, uri, answer.body, answer.content_type)
        except AwsError:
            self._metric("ResponseUploadFailures", 1, "Count")
            raise

    def _fail(self, reason: str, body: bytes | None) -> None:
        self._metric("InvocationFailures", 1, "Count")
        told = self._included("ERROR_NOTIFICATION_TOPIC", body)
        self._tell("ErrorTopic", failed(self._invocation, reason, told))

    def _included(self, topic: str, body: bytes | None) -> Params | None:
        """Return the model's words for a notification that is asked to carry them."""
        wanted = self._notifications.get("IncludeInferenceResponseIn") or []
        if topic not in wanted or body is None or len(body) > MOST_INCLUDED_BYTES:
            return None
        return {"content": base64.b64encode(body).decode(), "encoding": "BASE64"}

    @property
    def _notifications(self) -> Params:
        return self._output.get("NotificationConfig") or {}

    def _tell(self, topic: str, message: Params) -> None:
        arn = self._notifications.get(topic)
        if arn is None:
            return
        try:
            self._outside.notify(self._invocation.scope, arn, json.dumps(message))
        except AwsError:
            self._metric("NotificationFailures", 1, "Count")

    def _latency(self, name: str, began: float) -> None:
        self._metric(name, (self._outside.clock() - began) * 1e6, "Microseconds")

    def _metric(self, name: str, value: float, unit: str) -> None:
        self._outside.record(self._invocation.scope, name, value, unit, self._dimensions)
