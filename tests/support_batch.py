"""S3 and an asynchronous endpoint over real HTTP, for the functions of batch jobs.

Requests come from boto3, which has checked them against botocore's service models; what S3 promises of
conditional and partial requests is kept here.
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from botocore.config import Config

from tokenmill_runtime import aws as aws_clients

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

ANSWERS, FAILURES = "s3://mailbox/async/answers", "s3://mailbox/async/failures"


@dataclass
class Stored:
    """An object as S3 keeps it."""

    body: bytes
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.body, usedforsecurity=False).hexdigest()}"'


@dataclass
class Taken:
    """A request that the endpoint took."""

    inference_id: str
    body: Any
    headers: dict[str, str]
    answer: str
    failure: str


class FakeBatchCloud:
    """Objects by bucket and key, requests in the order in which they were taken.

    `refusals` holds (status, code) for the next calls of InvokeEndpointAsync; None takes the request.
    """

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Stored] = {}
        self.taken: list[Taken] = []
        self.refusals: list[tuple[int, str] | None] = []
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.metadata: dict[str, dict[str, str]] = {}
        self.aborted: list[str] = []
        self.reads: list[str] = []
        handler = type("Handler", (self.handler(),), {"cloud": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """What answers requests; a cloud with further services has another."""
        return ObjectHandler

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def put(self, bucket: str, key: str, body: bytes) -> None:
        self.objects[bucket, key] = Stored(body)

    def text(self, bucket: str, key: str) -> str:
        return self.objects[bucket, key].body.decode()

    def lines(self, bucket: str, key: str) -> list[Any]:
        return [json.loads(line) for line in self.text(bucket, key).splitlines()]

    def answer(self, taken: Taken, document: object) -> None:
        """Write what SageMaker writes of a request that went well."""
        self._write(taken.answer, json.dumps(document).encode())

    def fail(self, taken: Taken, message: str) -> None:
        """Write what SageMaker writes of a request that did not."""
        self._write(taken.failure, message.encode())

    def _write(self, uri: str, body: bytes) -> None:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        self.put(bucket, key, body)


class Context:
    """Lambda's context with so many calls before time runs out."""

    def __init__(self, turns: int = 1_000_000) -> None:
        self.turns = turns

    def get_remaining_time_in_millis(self) -> int:
        self.turns -= 1
        return 300_000 if self.turns >= 0 else 1_000


def running(monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]) -> Iterator[FakeBatchCloud]:
    """A cloud that boto3 and the fan-out's function find in the environment, for a fixture to yield from."""
    clients = (aws_clients.s3, aws_clients.sagemaker_runtime)
    yield from serving(monkeypatch, FakeBatchCloud(), {"TOKENMILL_FAN_OUT": json.dumps(settings)}, clients)


def serving(
    monkeypatch: pytest.MonkeyPatch, fake: FakeBatchCloud, variables: dict[str, str], clients: tuple[Any, ...]
) -> Iterator[Any]:
    """A cloud that boto3 and a function find in the environment, with clients made for it."""
    for name, value in {
        "AWS_ENDPOINT_URL": fake.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        **variables,
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(aws_clients, "_config", _one_attempt)
    for client in clients:
        client.cache_clear()
    yield fake
    for client in clients:
        if client.cache_info().currsize:
            client().close()
        client.cache_clear()
    fake.close()


def _one_attempt(*, read_timeout: float, attempts: int) -> Config:
    """No second attempts: a fake that refuses means it."""
    return Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})


class ObjectHandler(BaseHTTPRequestHandler):
    cloud: Any
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        address = urlsplit(self.path)
        body = self._body()
        if address.path.endswith("/async-invocations"):
            self._invoke(address.path.split("/")[2])
            return
        bucket, key = self._place(address.path)
        query = parse_qs(address.query, keep_blank_values=True)
        if "uploads" in query:
            name = f"upload-{len(self.cloud.uploads)}"
            self.cloud.uploads[name], self.cloud.metadata[name] = {}, self._metadata()
            self._send(200, f"<R><UploadId>{name}</UploadId></R>".encode())
            return
        parts = self.cloud.uploads.pop(query["uploadId"][0])
        whole = b"".join(parts[number] for number in sorted(parts))
        assert all(len(parts[number]) >= 5 * 1024 * 1024 for number in sorted(parts)[:-1]), (
            "a part is too small"
        )
        assert body.count(b"<PartNumber>") == len(parts)
        self.cloud.objects[bucket, key] = Stored(whole, self.cloud.metadata[query["uploadId"][0]])
        self._send(200, b"<R><ETag>whole</ETag></R>")

    def do_PUT(self) -> None:
        address = urlsplit(self.path)
        bucket, key = self._place(address.path)
        body = self._body()
        query = parse_qs(address.query)
        if "uploadId" in query:
            self.cloud.uploads[query["uploadId"][0]][int(query["partNumber"][0])] = body
            self._send(200, b"", ETag='"part"')
            return
        stored = self.cloud.objects.get((bucket, key))
        wanted = self.headers.get("If-Match")
        if (self.headers.get("If-None-Match") == "*" and stored is not None) or (
            wanted is not None and (stored is None or stored.etag != wanted)
        ):
            self._error(412, "PreconditionFailed")
            return
        made = self.cloud.objects[bucket, key] = Stored(body, self._metadata())
        self._send(200, b"", ETag=made.etag)

    def do_DELETE(self) -> None:
        name = parse_qs(urlsplit(self.path).query)["uploadId"][0]
        self.cloud.uploads.pop(name)
        self.cloud.aborted.append(name)
        self._send(204, b"")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        bucket, key = self._place(urlsplit(self.path).path)
        stored = self.cloud.objects.get((bucket, key))
        if stored is None:
            self._error(404, "NoSuchKey")
            return
        if self.headers.get("If-Match") not in (None, stored.etag):
            self._error(412, "PreconditionFailed")
            return
        body, status = stored.body, 200
        if "Range" in self.headers:
            first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
            body, status = body[int(first) : int(last) + 1], 206
        if self.command == "GET":
            self.cloud.reads.append(key)
        named = {f"x-amz-meta-{name}": value for name, value in stored.metadata.items()}
        self._send(status, body, ETag=stored.etag, **named)

    def _invoke(self, endpoint: str) -> None:
        refusal = self.cloud.refusals.pop(0) if self.cloud.refusals else None
        if refusal is not None:
            status, code = refusal
            self._send(status, json.dumps({"message": code}).encode(), **{"x-amzn-ErrorType": code})
            return
        headers = {name.removeprefix("X-Amzn-SageMaker-"): value for name, value in self.headers.items()}
        bucket, _, key = headers["InputLocation"].removeprefix("s3://").partition("/")
        number = len(self.cloud.taken)
        taken = Taken(
            inference_id=headers["Inference-Id"],
            body=json.loads(self.cloud.objects[bucket, key].body),
            headers={**headers, "endpoint": endpoint},
            answer=f"{ANSWERS}/{number}.out",
            failure=f"{FAILURES}/{number}-error.out",
        )
        self.cloud.taken.append(taken)
        self._send(
            202,
            json.dumps({"InferenceId": taken.inference_id}).encode(),
            **{
                "X-Amzn-SageMaker-OutputLocation": taken.answer,
                "X-Amzn-SageMaker-FailureLocation": taken.failure,
            },
        )

    def _place(self, path: str) -> tuple[str, str]:
        bucket, _, key = unquote(path).lstrip("/").partition("/")
        return bucket, key

    def _metadata(self) -> dict[str, str]:
        prefix = "x-amz-meta-"
        return {
            k.lower().removeprefix(prefix): v for k, v in self.headers.items() if k.lower().startswith(prefix)
        }

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked" or "aws-chunked" in self.headers.get(
            "Content-Encoding", ""
        ):
            return self._chunks()
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def _chunks(self) -> bytes:
        """The content of an aws-chunked body with its checksum behind it."""
        chunked = self.headers.get("Transfer-Encoding") == "chunked"
        raw = self._transfer() if chunked else self.rfile.read(int(self.headers["Content-Length"]))
        content = b""
        while raw:
            size, _, rest = raw.partition(b"\r\n")
            length = int(size.split(b";")[0], 16)
            if length == 0:
                break
            content, raw = content + rest[:length], rest[length + 2 :]
        return content

    def _transfer(self) -> bytes:
        whole = b""
        while (length := int(self.rfile.readline(), 16)) > 0:
            whole += self.rfile.read(length)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def _error(self, status: int, code: str) -> None:
        self._send(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
