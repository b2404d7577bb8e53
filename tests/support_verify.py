"""What the tests of `tokenmill verify` share."""

from __future__ import annotations

import json
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3

from tokenmill.local.event_stream import encode_message
from tokenmill.verification import run_lines
from tokenmill.verification.aws import Pace
from tokenmill.verification.lines import find_lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.server import BaseHTTPRequestHandler
    from pathlib import Path

    from support_fake_aws import Resources
    from tokenmill.verification.run import Evidence, Result

HURRIED = Pace(poll_seconds=0.01, settle_seconds=5)


@cache
def session() -> boto3.Session:
    """One for all tests: reading the service models is what takes long."""
    return boto3.Session(region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")


def probe(state: Path, *ids: str, tell: Callable[[str], None] = lambda _: None) -> Result:
    return run_lines(
        find_lines(ids), session=session(), region="us-east-1", state=state, pace=HURRIED, tell=tell
    )


def only(result: Result) -> Evidence:
    (evidence,) = result.evidence
    return evidence


def described(resources: Resources, **more: Any) -> None:
    """Let a component be described with more than its status."""
    real = resources.fake.answers["sagemaker", "DescribeInferenceComponent"]
    resources.fake.answers["sagemaker", "DescribeInferenceComponent"] = lambda p: {**real(p), **more}


def created(resources: Resources) -> list[dict[str, Any]]:
    return [p for _, operation, p in resources.fake.calls if operation == "CreateInferenceComponent"]


def answering(*, first: float = 0.0, between: float = 0.0) -> Callable[[BaseHTTPRequestHandler], None]:
    """A container that streams four tokens of an answer after its role, each in an event of its own."""

    def part(delta: dict[str, str]) -> bytes:
        data = f"data: {json.dumps({'choices': [{'delta': delta}]})}\n\n".encode()
        kind = {":message-type": "event", ":event-type": "PayloadPart"}
        return encode_message({**kind, ":content-type": "application/octet-stream"}, data)

    def chunk(data: bytes) -> bytes:
        return b"%x\r\n%s\r\n" % (len(data), data)

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "application/vnd.amazon.eventstream")
        # As AWS does: of a body that is not chunked, the client would read 64 KiB before its first event.
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        request.wfile.write(chunk(part({"role": "assistant"})))
        time.sleep(first)
        for _ in range(4):
            request.wfile.write(chunk(part({"content": "word"})))
            request.wfile.flush()
            time.sleep(between)
        request.wfile.write(chunk(b""))

    return answer
