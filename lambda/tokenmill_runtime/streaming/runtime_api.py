"""Lambda's Runtime API, with streamed responses.

AWS pages "Using the Lambda runtime API for custom runtimes" and "Building a custom runtime for AWS Lambda",
section "Implementing response streaming in a custom runtime" (AWS Lambda Developer Guide).
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_VERSION: Final = "/2018-06-01/runtime"
_ERROR_TYPE: Final = "Lambda-Runtime-Function-Error-Type"
_ERROR_BODY: Final = "Lambda-Runtime-Function-Error-Body"
_NULS: Final = b"\0" * 8
# The Runtime API is on the same machine; only waiting for the next event may take long.
_ANSWER_SECONDS: Final = 10.0


class RuntimeApiError(OSError):
    """The Runtime API answered with another status than documented."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """One event with its headers; ``deadline`` is epoch seconds."""

    request_id: str
    event: Any
    deadline: float
    trace_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionError:
    """A failure as Lambda shows it."""

    kind: str
    message: str
    stack: tuple[str, ...] = ()

    def document(self) -> bytes:
        """The JSON body of Lambda's error endpoints."""
        body = {"errorType": self.kind, "errorMessage": self.message, "stackTrace": list(self.stack)}
        return json.dumps(body).encode()


class RuntimeApi:
    """Client of the Runtime API at ``host:port``, from the environment variable AWS_LAMBDA_RUNTIME_API."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._waiting = HTTPConnection(address)

    def next(self) -> Invocation:
        """Wait for the next event; raises OSError or HTTPException when the API is gone."""
        self._waiting.request("GET", f"{_VERSION}/invocation/next")
        response = self._waiting.getresponse()
        body = response.read()
        if response.status != 200:
            raise RuntimeApiError(f"next invocation: expected status 200, got {response.status}")
        return Invocation(
            request_id=response.headers["Lambda-Runtime-Aws-Request-Id"],
            event=json.loads(body),
            deadline=int(response.headers["Lambda-Runtime-Deadline-Ms"]) / 1000,
            trace_id=response.headers["Lambda-Runtime-Trace-Id"],
        )

    def init_error(self, error: FunctionError) -> None:
        """Report that the function could not start."""
        self._post("/init/error", error)

    def invocation_error(self, request_id: str, error: FunctionError) -> None:
        """Report that an invocation failed before its response began."""
        self._post(f"/invocation/{request_id}/error", error)

    def response(self, request_id: str, prelude: Mapping[str, object]) -> ResponseStream:
        """Begin the response of an invocation with its HTTP status and headers."""
        connection = HTTPConnection(self._address, timeout=None)
        return ResponseStream(connection, f"{_VERSION}/invocation/{request_id}/response", prelude)

    def _post(self, path: str, error: FunctionError) -> None:
        connection = HTTPConnection(self._address, timeout=_ANSWER_SECONDS)
        headers = {"Content-Type": "application/vnd.aws.lambda.error+json", _ERROR_TYPE: error.kind}
        connection.request("POST", f"{_VERSION}{path}", body=error.document(), headers=headers)
        _expect_accepted(connection.getresponse(), path)
        connection.close()


class ResponseStream:
    """One response, sent as it is made.

    The prelude is JSON, then eight NUL bytes (AWS page "Set up a Lambda proxy integration with payload
    response streaming in API Gateway"; function URLs read the same). Methods block and raise OSError when
    Lambda no longer takes the response, as when its caller has gone.
    """

    def __init__(self, connection: HTTPConnection, path: str, prelude: Mapping[str, object]) -> None:
        self._connection = connection
        self._path = path
        self._connection.putrequest("POST", path, skip_accept_encoding=True)
        for name, value in (
            ("Content-Type", "application/vnd.awslambda.http-integration-response"),
            ("Lambda-Runtime-Function-Response-Mode", "streaming"),
            ("Transfer-Encoding", "chunked"),
            ("Trailer", f"{_ERROR_TYPE}, {_ERROR_BODY}"),
        ):
            self._connection.putheader(name, value)
        self._connection.endheaders()
        self.write(json.dumps(prelude).encode() + _NULS)

    def write(self, data: bytes) -> None:
        """Send a piece of the body; returning only when the system has taken it is the back-pressure."""
        # An empty chunk would end the body.
        if data:
            self._connection.send(b"%x\r\n%b\r\n" % (len(data), data))

    def finish(self) -> None:
        """End the response."""
        self._end(b"")

    def fail(self, error: FunctionError) -> None:
        """End a response that has begun with an error, in the trailers."""
        body = base64.b64encode(error.document()).decode()
        self._end(f"{_ERROR_TYPE}: {error.kind}\r\n{_ERROR_BODY}: {body}\r\n".encode())

    def close(self) -> None:
        """Drop the connection, also in the middle of a response."""
        self._connection.close()

    def _end(self, trailers: bytes) -> None:
        self._connection.send(b"0\r\n" + trailers + b"\r\n")
        self._connection.sock.settimeout(_ANSWER_SECONDS)
        # http.client knows no trailers of requests, so it is told here that this request is complete.
        response = HTTPResponse(self._connection.sock, method="POST")
        try:
            response.begin()
        except HTTPException as error:
            raise OSError(f"the Runtime API took no end of the response: {error!r}") from error
        _expect_accepted(response, self._path)
        self.close()


def _expect_accepted(response: HTTPResponse, path: str) -> None:
    response.read()
    if response.status != 202:
        raise RuntimeApiError(f"{path}: expected status 202, got {response.status}")
