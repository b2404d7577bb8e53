"""Invocation logs: what models were asked and what they answered, in S3 and CloudWatch Logs.

Each record is delivered at once, so an S3 object is a batch of one; a call that is refused leaves none.
Sources: Amazon Bedrock User Guide, "Monitor model invocation using CloudWatch Logs and Amazon S3" (members of
an entry; bodies up to 100 KB, larger ones as objects under the data prefix; the folder of the bucket's
policy) and "Monitor `bedrock-runtime` inference using CloudWatch metrics" (metrics of deliveries). They name
neither the objects nor the members that stand for a large body and for cached tokens; here these have the
names that public readers of such logs look for.
"""

from __future__ import annotations

import gzip
import json
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore.eventstream import EventStreamBuffer
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.local.aws_requests import Params, Scope
    from tokenmill.local.bedrock.converse import Record
    from tokenmill.local.bedrock.logging_settings import LoggingSettings
    from tokenmill.local.clients import CloudClients

STREAM = "aws/bedrock/modelinvocations"
FOLDER = "BedrockModelInvocationLogs"
LARGE_BYTES = 100 * 1024
KIND = "application/json"


@dataclass(frozen=True, slots=True)
class Invocation:
    """One call.

    Args:
        id: The request's id, which the answer has too.
        operation: "Converse", "ConverseStream" or "InvokeModel".
        params: The request's members.
        body: The request's body, as it came: a guardrail may mask what the model gets.
        at: When it came.
    """

    id: str
    operation: str
    params: Params
    body: bytes
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a configuration of S3 puts the objects of one call."""

    bucket: str
    folder: str
    invocation: Invocation

    @classmethod
    def of(cls, config: Params, scope: Scope, invocation: Invocation) -> _Place:
        prefix = f"{config['keyPrefix'].strip('/')}/" if config.get("keyPrefix") else ""
        owner = f"{prefix}AWSLogs/{scope.account}/{FOLDER}/{scope.region}"
        return cls(config["bucketName"], f"{owner}/{invocation.at:%Y/%m/%d/%H}", invocation)

    @property
    def batch(self) -> str:
        return f"{self.folder}/{self.invocation.at:%Y%m%dT%H%M%S%f}Z_{self.invocation.id[:8]}.json.gz"

    def data(self, side: str) -> str:
        return f"{self.folder}/data/{self.invocation.id}_{side}.json.gz"


class InvocationLogs:
    """Writes the logs where they are turned on, beside the calls.

    Args:
        settings: Where they go.
        clients: boto3 clients of the cloud.
        record: Takes a metric of `AWS/Bedrock`.
    """

    def __init__(self, settings: LoggingSettings, clients: CloudClients, record: Record) -> None:
        self._settings = settings
        self._clients = clients
        self._metric = record
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="invocation logs")

    def wanted(self, scope: Scope) -> bool:
        """Whether calls are logged.

        Args:
            scope: Whose.
        """
        return self._settings.of(scope) is not None

    def take(self, scope: Scope, invocation: Invocation, answered: Params, usage: Params) -> None:
        """Log an answered call, soon; nothing happens where logging is off by now.

        Args:
            scope: Who called.
            invocation: The call.
            answered: The answer's body; of a stream, the answer that its events make up.
            usage: Its tokens, as Converse has them.
        """
        config = self._settings.of(scope)
        if config is not None:
            entry = _entry(scope, invocation, usage)
            delivery = self._pool.submit(self._deliver, scope, config, invocation, entry, answered)
            delivery.add_done_callback(_tell)

    def close(self) -> None:
        """Stop; what is not delivered is lost."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _deliver(
        self, scope: Scope, config: Params, invocation: Invocation, entry: Params, answered: Params
    ) -> None:
        bodies = {}
        if config["textDataDeliveryEnabled"]:
            bodies = {"input": json.loads(invocation.body or b"{}"), "output": answered}
        if "s3Config" in config:
            place = _Place.of(config["s3Config"], scope, invocation)
            batch = self._filled(scope, entry, bodies, place)
            self._try(scope, "LogsS3", lambda: self._put(scope, place, place.batch, batch))
        if "cloudWatchConfig" in config:
            stream = config["cloudWatchConfig"]
            given = stream.get("largeDataDeliveryS3Config")
            large = _Place.of(given, scope, invocation) if given is not None else None
            event = self._filled(scope, entry, bodies, large)
            self._try(scope, "LogsCloudWatch", lambda: self._send(scope, stream, event, invocation.at))

    def _filled(self, scope: Scope, entry: Params, bodies: dict[str, Params], large: _Place | None) -> Params:
        """Return an entry with its bodies; large ones go to a place, or are left out."""
        added = {side: self._body(scope, side, body, large) for side, body in bodies.items()}
        return entry | {side: entry[side] | members for side, members in added.items()}

    def _body(self, scope: Scope, side: str, document: Params, large: _Place | None) -> Params:
        if len(json.dumps(document).encode()) <= LARGE_BYTES:
            return {f"{side}BodyJson": document}
        if large is None:
            return {}
        key = large.data(side)
        stored = self._try(scope, "LargeDataS3", lambda: self._put(scope, large, key, document))
        return {f"{side}BodyS3Path": f"s3://{large.bucket}/{key}"} if stored else {}

    def _put(self, scope: Scope, place: _Place, key: str, document: Params) -> None:
        body = gzip.compress(json.dumps(document).encode() + b"\n")
        s3 = self._clients.client(scope, "s3")
        s3.put_object(Bucket=place.bucket, Key=key, Body=body, ContentType="application/x-gzip")

    def _send(self, scope: Scope, config: Params, entry: Params, at: datetime) -> None:
        logs, place = self._clients.client(scope, "logs"), {"logGroupName": config["logGroupName"]}
        with suppress(logs.exceptions.ResourceAlreadyExistsException):
            logs.create_log_stream(**place, logStreamName=STREAM)
        event = {"timestamp": round(at.timestamp() * 1000), "message": json.dumps(entry)}
        logs.put_log_events(**place, logStreamName=STREAM, logEvents=[event])

    def _try(self, scope: Scope, what: str, deliver: Callable[[], None]) -> bool:
        """Deliver; a refusal is a metric, as it is with the service, and no caller's error."""
        try:
            deliver()
        except ClientError:
            delivered = False
        else:
            delivered = True
        name = f"ModelInvocation{what}Delivery{'Success' if delivered else 'Failure'}"
        self._metric(scope, name, 1, "Count", {})
        return delivered


def streamed_answer(events: bytes) -> Params | None:
    """Return Converse's answer that a stream's events make up; nothing when it did not come to its end.

    Args:
        events: The events as they were sent.
    """
    buffer: Any = EventStreamBuffer()
    buffer.add_data(events)
    texts, ending = list[str](), dict[str, Any]()
    for message in buffer:
        kind, members = message.headers.get(":event-type"), json.loads(message.payload)
        if kind == "contentBlockDelta":
            texts.append(members["delta"].get("text", ""))
        elif kind in ("messageStop", "metadata"):
            ending |= members
    if "usage" not in ending:
        return None
    return {"output": {"message": {"role": "assistant", "content": [{"text": "".join(texts)}]}}, **ending}


def _entry(scope: Scope, invocation: Invocation, usage: Params) -> Params:
    """Return a call's entry without its bodies."""
    cached = {
        f"cache{way}InputTokenCount": usage[f"cache{way}InputTokens"]
        for way in ("Read", "Write")
        if f"cache{way}InputTokens" in usage
    }
    # A member of Converse, and a header with JSON of InvokeModel.
    metadata = invocation.params.get("requestMetadata")
    if isinstance(metadata, str):
        metadata = json.loads(metadata)
    return {
        "schemaType": "ModelInvocationLog",
        "schemaVersion": "1.0",
        "timestamp": f"{invocation.at:%Y-%m-%dT%H:%M:%SZ}",
        "accountId": scope.account,
        "region": scope.region,
        "requestId": invocation.id,
        "operation": invocation.operation,
        "modelId": invocation.params["modelId"],
        "identity": {"arn": f"arn:aws:iam::{scope.account}:root"},
        **({"requestMetadata": metadata} if metadata else {}),
        "input": {"inputContentType": KIND, "inputTokenCount": usage["inputTokens"], **cached},
        "output": {"outputContentType": KIND, "outputTokenCount": usage["outputTokens"]},
    }


def _tell(delivery: Future[None]) -> None:
    # An error in a callback is printed; one in a future that nobody asks would not be.
    if not delivery.cancelled():
        delivery.result()
