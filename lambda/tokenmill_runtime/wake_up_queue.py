"""Requests that wait in a queue until a model that was scaled to zero has a copy again.

A message is ``{"id": "<name of the answer>", "body": {<OpenAI chat completion request>}}``; without an id the
message's own is taken. The answer goes to ``answers/<id>.json``, what no retry can mend to
``failures/<id>.json``. The first invocation that finds no copy is what wakes the model.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime.aws import s3, sagemaker_runtime, sqs
from tokenmill_runtime.gateway.assembling import assemble
from tokenmill_runtime.gateway.aws_errors import model_error
from tokenmill_runtime.gateway.connection import connection_errors
from tokenmill_runtime.gateway.errors import GatewayError
from tokenmill_runtime.gateway.sagemaker_backend import SageMakerStream

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE: Final = "TOKENMILL_WAKE_UP_QUEUE"
# A copy takes minutes to start; asking it twice a minute costs nothing and finds it early.
WAIT_SECONDS: Final = 30
ATTEMPTS: Final = 2
_ID: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where requests go and where answers are kept."""

    endpoint: str
    component: str
    queue_url: str
    bucket: str


class Unusable(ValueError):
    """A message that is no request."""


def handler(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Answer each message, and name those that wait ("Using Lambda with Amazon SQS": partial batches).

    Raises ValueError when the environment document is not of its form.
    """
    settings = read_settings(os.environ)
    waiting = [record["messageId"] for record in event["Records"] if not _finished(record, settings)]
    return {"batchItemFailures": [{"itemIdentifier": identifier} for identifier in waiting]}


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The environment document. Raises ValueError naming what is wrong."""
    text = environment.get(VARIABLE)
    if text is None:
        raise ValueError(f"environment variable {VARIABLE} is not set; WakeUpQueue renders it")
    try:
        return Settings(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{VARIABLE} needs endpoint, component, queue_url and bucket: {error}") from error


def _finished(record: Mapping[str, Any], settings: Settings) -> bool:
    """Whether a message has its answer or its failure; one that waits becomes visible again soon."""
    try:
        identifier, body = _request(record)
    except Unusable as error:
        _keep(settings, "failures", record["messageId"], {"error": str(error), "message": record["body"]})
        return True
    if _answered(settings, identifier):
        return True
    try:
        answer = _answer(body, settings)
    except GatewayError as error:
        if error.status in (429, 503):
            _wait(record, settings)
            return False
        _keep(settings, "failures", identifier, {"error": error.message, "status": error.status})
        return True
    _keep(settings, "answers", identifier, answer)
    return True


def _request(record: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    try:
        message = json.loads(record["body"])
    except ValueError as error:
        raise Unusable(f"the message is not JSON: {error}") from error
    if not isinstance(message, dict) or not isinstance(message.get("body"), dict):
        raise Unusable('the message must be {"id": "<name>", "body": {"messages": [...]}}')
    identifier = message.get("id", record["messageId"])
    if not isinstance(identifier, str) or not _ID.match(identifier):
        raise Unusable(
            f"id is {identifier!r}; give 1 to 128 letters, digits, '.', '_' and '-', a letter or digit first"
        )
    if not isinstance(message["body"].get("messages"), list):
        raise Unusable("body has no list messages; give an OpenAI chat completion request")
    return identifier, message["body"]


def _answer(body: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _ask(body, settings)
        except GatewayError as error:
            if error.status < 500 or error.status == 503 or attempt == ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")


def _ask(body: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """One invocation, streamed, because SageMaker ends one that is not after 60 s ("InvokeEndpoint")."""
    streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
    try:
        response = sagemaker_runtime().invoke_endpoint_with_response_stream(
            EndpointName=settings.endpoint,
            InferenceComponentName=settings.component,
            ContentType="application/json",
            Accept="text/event-stream",
            Body=json.dumps(streamed).encode(),
        )
    except connection_errors() as error:
        raise model_error(error, settings.component) from error
    stream = SageMakerStream(response["Body"], settings.component)
    try:
        return assemble(stream)
    finally:
        stream.cancel()


def _answered(settings: Settings, identifier: str) -> bool:
    """Whether an answer is there: a queue may deliver a message twice, and a second prefill costs."""
    from botocore.exceptions import ClientError

    try:
        s3().head_object(Bucket=settings.bucket, Key=f"answers/{identifier}.json")
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return False
        raise
    return True


def _keep(settings: Settings, folder: str, identifier: str, document: Mapping[str, Any]) -> None:
    s3().put_object(
        Bucket=settings.bucket,
        Key=f"{folder}/{identifier}.json",
        Body=json.dumps(document).encode(),
        ContentType="application/json",
    )


def _wait(record: Mapping[str, Any], settings: Settings) -> None:
    sqs().change_message_visibility(
        QueueUrl=settings.queue_url, ReceiptHandle=record["receiptHandle"], VisibilityTimeout=WAIT_SECONDS
    )
