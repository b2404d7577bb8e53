"""The control plane over HTTP on loopback, for tests and for handlers that know nothing but its address.

Connections stay open, so that thousands of requests cost little; one whose answer is to be lost is closed.
"""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from tokenmill.local.aws_requests import AwsError, Scope
from tokenmill.local.rest_json import HttpRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import BinaryIO

    from tokenmill.local.bedrock.control import BedrockControl
    from tokenmill.local.rest_json import Answer

    Answering = Callable[[Scope, HttpRequest], Answer | None]

_CREDENTIAL = re.compile(r"Credential=([^/]+)/[^/]+/([^/]+)/([^/]+)/")
_LISTEN_SECONDS = 0.02
DEFAULT_ACCOUNT = "123456789012"


class BedrockServer:
    """A server; a context manager that runs it in a thread.

    Args:
        control: What answers Bedrock's requests.
        others: What answers requests of other services, by the name in their signature, such as "ssm".
    """

    def __init__(self, control: BedrockControl, *, others: dict[str, Answering] | None = None) -> None:
        self.control = control
        self.others = dict(others or {})
        self.url = ""
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> BedrockServer:
        self._server = _Server(("127.0.0.1", 0), _Connection)
        self._server.owner = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_LISTEN_SECONDS,), name="bedrock", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None and self._thread is not None
        self._server.shutdown()
        self._thread.join()
        self._server.close_connections()
        self._server.server_close()

    def answer(self, request: HttpRequest) -> Answer | None:
        """Answer a request of any service; None means that its connection breaks.

        Args:
            request: The request.
        """
        signed = _CREDENTIAL.search(request.headers.get("authorization", ""))
        if signed is None:
            missing = AwsError("MissingAuthenticationTokenException", "the request is not signed", status=403)
            return self.control.shapes.refuse(missing)
        account, region, service = signed.groups()
        scope = Scope(account if re.fullmatch(r"\d{12}", account) else DEFAULT_ACCOUNT, region)
        if service == "bedrock":
            return self.control.answer(scope, request)
        if service in self.others:
            return self.others[service](scope, request)
        unknown = AwsError("UnknownOperationException", f"there is no service {service} here", status=404)
        return self.control.shapes.refuse(unknown)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = True
    owner: BedrockServer

    def __init__(self, address: tuple[str, int], handler: type[_Connection]) -> None:
        super().__init__(address, handler)
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()

    @contextlib.contextmanager
    def open_connection(self, connection: socket.socket) -> Iterator[None]:
        """Remember a connection while it is open."""
        with self._lock:
            self._connections.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._connections.discard(connection)

    def close_connections(self) -> None:
        """End the connections that clients keep open."""
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class _Connection(socketserver.StreamRequestHandler):
    server: _Server
    disable_nagle_algorithm = True
    wbufsize = -1

    def handle(self) -> None:
        with self.server.open_connection(self.request):
            while (request := _read(self.rfile)) is not None:
                answer = self.server.owner.answer(request)
                if answer is None:
                    return
                self.wfile.write(_written(*answer))
                self.wfile.flush()


def _read(stream: BinaryIO | Any) -> HttpRequest | None:
    """Return the next request of a connection; None when its client is gone."""
    try:
        first = stream.readline().split()
        headers: dict[str, str] = {}
        while (line := stream.readline().strip()) != b"":
            name, _, value = line.partition(b":")
            headers[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
        if len(first) != 3:
            return None
        body = stream.read(int(headers.get("content-length", "0")))
    except ConnectionError:
        return None
    path, _, query = first[1].decode("latin-1").partition("?")
    return HttpRequest(method=first[0].decode("latin-1"), path=path, query=query, headers=headers, body=body)


def _written(status: int, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body
