"""SageMaker's routes in front of vLLM's: /ping says whether it is healthy, the rest passes through.

"Use Your Own Inference Code with Hosting Services" (Amazon SageMaker developer guide): a container answers
GET /ping with 200 when it takes requests and POST /invocations on port 8080.
"""

from __future__ import annotations

import http.client
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime.serving_image.server_process import LOOPBACK

if TYPE_CHECKING:
    from tokenmill_runtime.serving_image.server_process import ServerProcess

CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
EMBEDDINGS: Final = "/v1/embeddings"
PASSED: Final = ("/v1/", "/metrics", "/version")
# Hop-by-hop headers (RFC 9110, section 7.6.1), and those that this hop writes itself.
NOT_PASSED: Final = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer",
     "transfer-encoding", "upgrade", "host", "content-length", "date", "server", "expect"}
)  # fmt: skip
LARGEST_BODY: Final = 64 * 1024**2
PIECE: Final = 65_536
# Longer than SageMaker waits for a whole answer (streaming: 8 minutes; InvokeEndpoint: 60 s).
ANSWER_SECONDS: Final = 3600.0


class Proxy(ThreadingHTTPServer):
    """The container's port; one thread a request, so that a long answer never holds up /ping."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, *, server: ServerProcess, server_port: int) -> None:
        self.vllm = server
        self.vllm_port = server_port
        super().__init__(("", port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        # vLLM logs its own requests; /ping every few seconds would drown them.
        return

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/ping":
            self._answer(200 if self.server.vllm.healthy() else 503, b"")
        elif path.startswith(PASSED):
            self._pass(self.path, b"")
        else:
            self._refuse(404, f"no route GET {path}; this container has /ping, /invocations and /v1/")

    def do_POST(self) -> None:
        body = self._body()
        if body is None:
            return
        path = self.path.partition("?")[0]
        if path == "/invocations":
            self._invoke(body)
        elif path.startswith(PASSED):
            self._pass(self.path, body)
        else:
            self._refuse(404, f"no route POST {path}; this container has /ping, /invocations and /v1/")

    def _invoke(self, body: bytes) -> None:
        try:
            document = json.loads(body)
        except ValueError:
            self._refuse(400, "the body is not JSON; send an OpenAI chat or completion request")
            return
        route = route_of(document)
        if route is None:
            self._refuse(400, "the body has neither messages, prompt nor input; send an OpenAI request")
            return
        self._pass(route, body)

    def _body(self) -> bytes | None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            self._refuse(411, "Content-Length is missing or no number")
            return None
        if int(length) > LARGEST_BODY:
            self._refuse(413, f"the body has {length} bytes; at most {LARGEST_BODY} are taken")
            return None
        return self.rfile.read(int(length))

    def _pass(self, path: str, body: bytes) -> None:
        connection = http.client.HTTPConnection(LOOPBACK, self.server.vllm_port, timeout=ANSWER_SECONDS)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in NOT_PASSED}
            connection.request(self.command, path, body=body or None, headers=headers)
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            self._refuse(503, f"vllm does not answer: {type(error).__name__}")
            return
        try:
            self._relay(answer)
        except (OSError, http.client.HTTPException):
            # The status is out already: a cut connection is the only way to say that the answer is not whole.
            self.close_connection = True
        finally:
            # Closing ends the request inside vLLM when the caller has hung up.
            connection.close()

    def _relay(self, answer: http.client.HTTPResponse) -> None:
        length = answer.getheader("Content-Length")
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in NOT_PASSED:
                self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", length)
        else:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while piece := answer.read1(PIECE):
            self.wfile.write(piece if length is not None else b"%x\r\n%s\r\n" % (len(piece), piece))
        if length is None:
            self.wfile.write(b"0\r\n\r\n")

    def _refuse(self, status: int, message: str) -> None:
        error = {"error": {"message": message, "type": "tokenmill_container", "code": status}}
        self.close_connection = True
        self._answer(status, json.dumps(error).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


def route_of(document: object) -> str | None:
    """vLLM's route for a body of /invocations, or None where it is of no known form."""
    if not isinstance(document, dict):
        return None
    for field, route in (("messages", CHAT), ("prompt", COMPLETIONS), ("input", EMBEDDINGS)):
        if field in document:
            return route
    return None
