"""Helpers of the tests of builds, jobs and queues: S3, ECR and events in memory, a model server."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from tokenmill.local.aws_requests import AwsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tokenmill.local.aws_requests import Scope


class FakeObjects:
    """S3 in memory; `refused` are URIs that it refuses."""

    def __init__(self, **objects: bytes) -> None:
        self.objects: dict[str, bytes] = dict(objects)
        self.types: dict[str, str] = {}
        self.refused: set[str] = set()

    def get(self, scope: Scope, uri: str) -> tuple[bytes, str]:
        if uri not in self.objects:
            raise AwsError("NoSuchKey", f"{uri}: The specified key does not exist.")
        return self.objects[uri], self.types.get(uri, "application/octet-stream")

    def put(self, scope: Scope, uri: str, body: bytes, content_type: str) -> None:
        if uri in self.refused or any(uri.startswith(prefix) for prefix in self.refused):
            raise AwsError("AccessDenied", f"{uri}: Access Denied")
        self.objects[uri], self.types[uri] = body, content_type

    def under(self, scope: Scope, uri: str) -> list[str]:
        return sorted(name for name in self.objects if name.startswith(uri))


class FakeImages:
    """ECR in memory."""

    def __init__(self) -> None:
        self.pushed: dict[tuple[str, str], str] = {}

    def push(self, scope: Scope, repository: str, tag: str, manifest: str) -> str:
        self.pushed[(repository, tag)] = manifest
        return f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}"


class FakeBus:
    """An event bus that remembers what it is sent."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, dict[str, Any], list[str]]] = []

    def publish(
        self, scope: Scope, source: str, detail_type: str, detail: dict[str, Any], resources: list[str]
    ) -> None:
        self.events.append((source, detail_type, detail, resources))


class FakeMetrics:
    """Metrics by name and dimensions."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, tuple[tuple[str, str], ...]], list[float]] = {}

    def record(self, scope: Scope, name: str, value: float, unit: str, dimensions: Any) -> None:
        self.values.setdefault((name, tuple(sorted(dimensions.items()))), []).append(value)

    def last(self, name: str, **dimensions: str) -> float | None:
        values = self.values.get((name, tuple(sorted(dimensions.items()))))
        return values[-1] if values else None

    def total(self, name: str, **dimensions: str) -> float:
        return sum(self.values.get((name, tuple(sorted(dimensions.items()))), []))

    def count(self, name: str) -> int:
        return sum(len(values) for (found, _), values in self.values.items() if found == name)


@contextlib.contextmanager
def model_server(answer: Callable[[bytes], tuple[int, bytes]]) -> Iterator[str]:
    """A model server on loopback that answers POST /invocations; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status, document = answer(body)
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(document)))
            self.end_headers()
            self.wfile.write(document)

        def log_message(self, *_: object) -> None:
            """Nothing on the test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
