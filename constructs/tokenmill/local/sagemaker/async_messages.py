"""One asynchronous invocation, and the notifications that tell how it ended.

Source: Amazon SageMaker AI Developer Guide, "Check prediction results" (members of both messages).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenmill.local.aws_requests import Params, Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """A request in the queue of an endpoint."""

    id: str
    scope: Scope
    endpoint: str
    input: str
    inline: bytes | None
    output: str
    failure: str | None
    content_type: str | None
    accept: str | None
    received: float
    ttl_seconds: int
    timeout_seconds: int
    received_at: datetime = field(default_factory=lambda: datetime.now(UTC))


def completed(invocation: Invocation, content_type: str, body: Params | None) -> Params:
    """Return the message of an answer.

    Args:
        invocation: What was answered.
        content_type: MIME type of the answer.
        body: The answer itself, where the endpoint's configuration asks for it.
    """
    message = _message(invocation, "Completed")
    message["responseParameters"] = {"contentType": content_type, "outputLocation": invocation.output}
    if body is not None:
        message["responseBody"] = body
    return message


def failed(invocation: Invocation, reason: str, body: Params | None = None) -> Params:
    """Return the message of a failure.

    Args:
        invocation: What failed.
        reason: Why.
        body: What the model said, where the endpoint's configuration asks for it.
    """
    message = _message(invocation, "Failed")
    message["failureReason"] = reason
    if body is not None:
        message["responseBody"] = body
    return message


def _message(invocation: Invocation, status: str) -> Params:
    given = {
        "accept": invocation.accept,
        "contentType": invocation.content_type,
        "endpointName": invocation.endpoint,
        "inputLocation": invocation.input or None,
    }
    return {
        "awsRegion": invocation.scope.region,
        "eventTime": _instant(datetime.now(UTC)),
        "receivedTime": _instant(invocation.received_at),
        "invocationStatus": status,
        "requestParameters": {name: value for name, value in given.items() if value is not None},
        "inferenceId": invocation.id,
        "eventVersion": "1.0",
        "eventSource": "aws:sagemaker",
        "eventName": "InferenceResult",
    }


def _instant(when: datetime) -> str:
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
