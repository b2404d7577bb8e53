"""A Hugging Face Hub, its CDN and S3 on loopback, with the faults that a long copy meets."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Callable

MODEL = "acme/tiny"
REVISION = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_aVerySecretToken"
BUCKET = "mirror"
PLACE = f"models/{MODEL}/{REVISION}"


def content(seed: int, size: int) -> bytes:
    """Bytes that differ everywhere, so that a part in the wrong place is seen."""
    block = hashlib.sha256(str(seed).encode()).digest()
    return b"".join(hashlib.sha256(block + i.to_bytes(8, "big")).digest() for i in range(size // 32 + 1))[
        :size
    ]


class Server:
    """An HTTP server in a thread; subclasses answer."""

    def __init__(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                try:
                    outer.answer(self, self.rfile.read(length))
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            do_POST = do_PUT = do_DELETE = do_HEAD = do_GET

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.netloc = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.netloc}"

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def send(request: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    """Answer; underscores in header names stand for hyphens."""
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


class Cdn(Server):
    """Where large files lie; faults are taken once each, by path."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[Callable[[BaseHTTPRequestHandler, bytes], None]]] = {}
        self.seen: list[tuple[str, str | None, str | None]] = []
        super().__init__()

    @property
    def served(self) -> dict[str, int]:
        """Requests by file."""
        found: dict[str, int] = {}
        for path, _, _ in self.seen:
            found[path] = found.get(path, 0) + 1
        return found

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        path = unquote(urlsplit(request.path).path).lstrip("/")
        self.seen.append((path, request.headers.get("Range"), request.headers.get("Authorization")))
        data = self.files[path]
        if self.faults.get(path):
            self.faults[path].pop(0)(request, data)
            return
        serve(request, data)


def serve(request: BaseHTTPRequestHandler, data: bytes, *, ranges: bool = True) -> None:
    """Send a file from the byte that is asked for."""
    wanted = request.headers.get("Range")
    if not wanted or not ranges:
        send(request, 200, data)
        return
    start = int(wanted.removeprefix("bytes=").rstrip("-"))
    send(request, 206, data[start:], Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}")


def cut(after: int) -> Callable[[BaseHTTPRequestHandler, bytes], None]:
    """A fault: the connection ends after some bytes of the answer."""

    def fault(request: BaseHTTPRequestHandler, data: bytes) -> None:
        start = int((request.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        request.send_header("Content-Length", str(len(data) - start))
        request.end_headers()
        request.wfile.write(data[start : start + after])
        request.close_connection = True

    return fault


def status(code: int, **headers: str) -> Callable[[BaseHTTPRequestHandler, bytes], None]:
    """A fault: an HTTP status."""
    return lambda request, _: send(request, code, b"", **headers)


class Hub(Server):
    """A repository with one revision."""

    def __init__(self, cdn: Cdn) -> None:
        self.cdn = cdn
        self.files: dict[str, tuple[bytes, bool]] = {}
        self.card: dict[str, Any] | None = {"license": "apache-2.0"}
        self.gated: str | bool = False
        self.let_in = True
        self.wrong: dict[str, str] = {}
        self.faults: list[Callable[[BaseHTTPRequestHandler, bytes], None]] = []
        self.seen: list[str] = []
        super().__init__()

    def add(self, path: str, data: bytes, *, large: bool = False) -> None:
        """Put a file into the repository; a large one lies at the CDN."""
        self.files[path] = (data, large)
        self.cdn.files[path] = data

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        path = unquote(urlsplit(request.path).path)
        self.seen.append(path)
        if self.faults:
            self.faults.pop(0)(request, b"")
            return
        token = request.headers.get("Authorization")
        if token not in (None, f"Bearer {TOKEN}"):
            message = "Invalid credentials in Authorization header"
            send(request, 401, b"", X_Error_Message=message)
        elif path == f"/api/models/{MODEL}/revision/{REVISION}":
            assert parse_qs(urlsplit(request.path).query) == {"blobs": ["true"]}
            send(request, 200, json.dumps(self._description()).encode())
        elif path.startswith(f"/api/models/{MODEL}/revision/"):
            send(request, 404, b"", X_Error_Code="RevisionNotFound")
        elif path.startswith(f"/{MODEL}/resolve/{REVISION}/"):
            self._resolve(request, path.removeprefix(f"/{MODEL}/resolve/{REVISION}/"), token)
        else:
            send(request, 401, b"", X_Error_Code="RepoNotFound")

    def _resolve(self, request: BaseHTTPRequestHandler, name: str, token: str | None) -> None:
        data, large = self.files[name]
        if self.gated and (token is None or not self.let_in):
            send(request, 401 if token is None else 403, b"", X_Error_Code="GatedRepo")
        elif large:
            send(request, 302, b"", Location=f"{self.cdn.url}/{name}?signature=abc")
        else:
            serve(request, data)

    def _description(self) -> dict[str, Any]:
        siblings = []
        for path, (data, large) in self.files.items():
            header = b"blob %d\0" % len(data)
            sibling: dict[str, Any] = {
                "rfilename": path,
                "size": len(data),
                "blobId": self.wrong.get(path)
                or hashlib.sha1(header + data, usedforsecurity=False).hexdigest(),
            }
            if large:
                digest = self.wrong.get(path) or hashlib.sha256(data).hexdigest()
                sibling["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 134}
            siblings.append(sibling)
        found = {"id": MODEL, "sha": REVISION, "gated": self.gated, "siblings": siblings}
        return found if self.card is None else {**found, "cardData": self.card}


class S3(Server):
    """A bucket with uploads in parts; a missing key is 403, as for a role that lists some prefixes only."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, tuple[str, dict[int, bytes]]] = {}
        self.writes: list[str] = []
        self.encryption: set[str | None] = set()
        self.refuses = False
        self.part_hook: Callable[[int], None] = lambda _: None
        self._parts = 0
        self._lock = threading.Lock()
        super().__init__()

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        address = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(address.query, keep_blank_values=True).items()}
        _, bucket, key = (
            unquote(address.path).split("/", 2) if address.path.count("/") > 1 else ("", BUCKET, "")
        )
        assert bucket == BUCKET
        with self._lock:
            if self.refuses:
                _xml(request, "Error", "<Code>AccessDenied</Code><Message>no</Message>", code=403)
            else:
                self._act(request, request.command, key, query, body)

    def _act(
        self, request: BaseHTTPRequestHandler, verb: str, key: str, query: dict[str, str], body: bytes
    ) -> None:
        if not key:
            self._list(request, query)
        elif verb == "POST" and "uploads" in query:
            self.encryption.add(request.headers.get("x-amz-server-side-encryption-aws-kms-key-id"))
            upload = f"u{len(self.writes):06d}"
            self.writes.append(f"begin {key}")
            self.uploads[upload] = (key, {})
            _xml(request, "InitiateMultipartUploadResult", f"<UploadId>{upload}</UploadId>")
        elif verb == "PUT" and "partNumber" in query:
            self._parts += 1
            self.part_hook(self._parts)
            number = int(query["partNumber"])
            self.uploads[query["uploadId"]][1][number] = body
            self.writes.append(f"part {number} {key}")
            send(request, 200, b"", ETag=f'"{_tag(body)}"')
        elif verb == "GET" and "uploadId" in query:
            self._list_parts(request, query)
        elif verb == "POST":
            self._complete(request, key, query["uploadId"], body)
        elif verb == "DELETE":
            del self.uploads[query["uploadId"]]
            send(request, 204)
        elif verb == "PUT":
            self.encryption.add(request.headers.get("x-amz-server-side-encryption-aws-kms-key-id"))
            self.objects[key] = body
            self.writes.append(f"put {key}")
            send(request, 200, b"", ETag=f'"{_tag(body)}"')
        elif key in self.objects:
            send(request, 200, self.objects[key])
        else:
            _xml(request, "Error", "<Code>AccessDenied</Code><Message>no</Message>", code=403)

    def _list(self, request: BaseHTTPRequestHandler, query: dict[str, str]) -> None:
        prefix = query.get("prefix", "")
        if "uploads" in query:
            found = "".join(
                f"<Upload><Key>{escape(key)}</Key><UploadId>{upload}</UploadId>"
                "<Initiated>2026-11-22T00:00:00Z</Initiated></Upload>"
                for upload, (key, _) in self.uploads.items()
                if key.startswith(prefix)
            )
            _xml(request, "ListMultipartUploadsResult", f"<IsTruncated>false</IsTruncated>{found}")
            return
        keys = sorted(key for key in self.objects if key.startswith(prefix))
        start = int(query.get("continuation-token", "0"))
        page = keys[start : start + 2]
        more = start + 2 < len(keys)
        found = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.objects[key])}</Size></Contents>"
            for key in page
        )
        then = f"<NextContinuationToken>{start + 2}</NextContinuationToken>" if more else ""
        _xml(
            request,
            "ListBucketResult",
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{then}{found}",
        )

    def _list_parts(self, request: BaseHTTPRequestHandler, query: dict[str, str]) -> None:
        parts = self.uploads[query["uploadId"]][1]
        found = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{_tag(body)}&quot;</ETag>"
            f"<Size>{len(body)}</Size></Part>"
            for number, body in sorted(parts.items())
        )
        _xml(request, "ListPartsResult", f"<IsTruncated>false</IsTruncated>{found}")

    def _complete(self, request: BaseHTTPRequestHandler, key: str, upload: str, body: bytes) -> None:
        parts = self.uploads.pop(upload)[1]
        assert list(range(1, len(parts) + 1)) == sorted(parts)
        assert all(f"<PartNumber>{number}</PartNumber>".encode() in body for number in parts)
        self.objects[key] = b"".join(parts[number] for number in sorted(parts))
        self.writes.append(f"complete {key}")
        _xml(request, "CompleteMultipartUploadResult", f"<Key>{escape(key)}</Key>")


def _tag(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def _xml(request: BaseHTTPRequestHandler, name: str, inner: str, code: int = 200) -> None:
    send(request, code, f"<{name}>{inner}</{name}>".encode(), Content_Type="application/xml")
