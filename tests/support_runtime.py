"""Fakes that the runtime's tests talk to over real sockets: AWS services, and a gateway under uvicorn."""

from __future__ import annotations

import json
import socket
import struct
import threading
from binascii import crc32
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn

from tokenmill_runtime.clock import Clock
from tokenmill_runtime.gateway.app import create_app
from tokenmill_runtime.gateway_config import GatewayConfig, GatewayModel
from tokenmill_runtime.token_work import TokenWorkCoefficients

if TYPE_CHECKING:
    from collections.abc import Callable

# Longest wait for something that happens at once when the code is right.
PATIENCE = 60.0
QWEN = "Qwen/Qwen3-8B"
CLAUDE = "claude"
COEFFICIENTS = TokenWorkCoefficients(
    prefill_seconds_per_request=0.01, prefill_seconds_per_token=0.001, decode_seconds_per_token=0.1
)


HELLO: list[Any] = [{"role": "user", "content": "Hello there"}]


def gateway_config(**changes: Any) -> GatewayConfig:
    """A configuration with one model of each back end."""
    limits: dict[str, Any] = {
        "context_tokens": 100,
        "max_output_tokens": 40,
        "token_work": COEFFICIENTS,
    }
    qwen = GatewayModel(
        name=QWEN, backend="sagemaker", target="comp", endpoint="ep", component="comp", **limits
    )
    claude = GatewayModel(
        name=CLAUDE, backend="bedrock", target="anthropic.c", bedrock_model_id="anthropic.c", **limits
    )
    return GatewayConfig(**{"plan_hash": "abc", "models": (qwen, claude), **changes})


def frame(payload: bytes, **headers: str) -> bytes:
    """One event-stream message; underscores in header names stand for hyphens, all begin with a colon."""
    encoded = b""
    for name, value in headers.items():
        key = f":{name.replace('_', '-')}".encode()
        encoded += bytes([len(key)]) + key + b"\x07" + struct.pack("!H", len(value)) + value.encode()
    start = struct.pack("!II", 16 + len(encoded) + len(payload), len(encoded))
    message = start + struct.pack("!I", crc32(start)) + encoded + payload
    return message + struct.pack("!I", crc32(message))


class Reply:
    """How a fake model answers one request."""

    def __init__(self, handler: BaseHTTPRequestHandler, path: str, body: dict[str, Any]) -> None:
        self.path = path
        self.body = body
        self._handler = handler

    def json(self, document: object, *, status: int = 200, error: str | None = None) -> None:
        self.raw(json.dumps(document).encode(), status=status, error=error)

    def raw(self, content: bytes, *, status: int = 200, error: str | None = None) -> None:
        handler = self._handler
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(content)))
        if error:
            handler.send_header("x-amzn-ErrorType", error)
        handler.end_headers()
        handler.wfile.write(content)

    def begin(self) -> None:
        self._handler.send_response(200)
        self._handler.send_header("Content-Type", "application/vnd.amazon.eventstream")
        self._handler.send_header("Transfer-Encoding", "chunked")
        self._handler.end_headers()

    def chunk(self, data: bytes) -> None:
        self._handler.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def part(self, data: bytes) -> None:
        """A PayloadPart of SageMaker."""
        headers = {"message_type": "event", "event_type": "PayloadPart", "content_type": "application/x"}
        self.chunk(frame(data, **headers))

    def sse(self, *documents: dict[str, Any] | str) -> None:
        for document in documents:
            data = document if isinstance(document, str) else json.dumps(document)
            self.part(f"data: {data}\n\n".encode())

    def whole(self, answer: str = "hi", *rest: dict[str, Any], finish: str = "stop") -> None:
        """A finished answer in chunks of one character, and what follows it, such as its usage."""
        self.begin()
        self.sse(delta("", role="assistant"), *(delta(character) for character in answer))
        self.sse(delta(finish=finish), *rest, "[DONE]")
        self.end()

    def event(self, kind: str, document: dict[str, Any]) -> None:
        """An event of Bedrock."""
        headers = {"message_type": "event", "event_type": kind, "content_type": "application/json"}
        self.chunk(frame(json.dumps(document).encode(), **headers))

    def failure(self, kind: str, document: dict[str, Any]) -> None:
        headers = {"message_type": "exception", "exception_type": kind, "content_type": "application/json"}
        self.chunk(frame(json.dumps(document).encode(), **headers))

    def end(self) -> None:
        self.chunk(b"")

    def hang_up(self) -> None:
        self._handler.connection.shutdown(socket.SHUT_RDWR)
        self._handler.close_connection = True

    def caller_hung_up(self) -> bool:
        """Wait until the other side closes the connection."""
        self._handler.connection.settimeout(PATIENCE)
        try:
            return not self._handler.connection.recv(1)
        except ConnectionError:
            return True


def delta(content: str | None = None, *, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk as a model server sends it."""
    change = {**({} if content is None else {"content": content}), **more}
    return {"id": "x", "choices": [{"index": 0, "delta": change, "finish_reason": finish}]}


def usage(prompt: int, completion: int, cached: int = 0) -> dict[str, Any]:
    """The usage chunk that ends a model server's stream."""
    details = {"cached_tokens": cached}
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "prompt_tokens_details": details}
    return {"id": "x", "choices": [], "usage": {**counts, "total_tokens": prompt + completion}}


@dataclass
class FakeAws:
    """SageMaker runtime, Bedrock runtime, DynamoDB and SageMaker's control plane on one loopback port."""

    model: Callable[[Reply], None] = lambda reply: reply.json({})
    items: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    copies: dict[str, int] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    before_put: Callable[[dict[str, Any]], None] = lambda item: None
    requests: list[Reply] = field(default_factory=list)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    connections: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _aws_handler(self))
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        for connection in self.connections:
            # Clients keep connections alive, and the server waits for its threads.
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join()

    def turns(self) -> list[tuple[str, str, bool]]:
        """The stored turns in order: role, content, interrupted."""
        stored = [item for _, item in sorted(self.items.items())]
        return [(i["role"]["S"], i["content"]["S"], i["interrupted"]["BOOL"]) for i in stored]

    def table_call(self, operation: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """DynamoDB and SageMaker's control plane, as far as the runtime uses them."""
        self.calls.append((operation, body))
        if operation in self.refused:
            return 400, {"__type": "AccessDeniedException", "message": "not authorized: arn:aws:secret"}
        if operation == "DescribeInferenceComponent":
            return self._describe(body["InferenceComponentName"])
        if operation == "Query":
            return 200, self._query(body)
        if operation == "PutItem":
            self.before_put(body["Item"])
            with self.lock:
                return self._put(body)
        if "key_id" in body["Key"]:
            found = self.keys.get(body["Key"]["key_id"]["S"])
        else:
            found = self.items.get((body["Key"]["pk"]["S"], body["Key"]["sk"]["S"]))
        return 200, {"Item": found} if found else {}

    def _describe(self, name: str) -> tuple[int, dict[str, Any]]:
        if name not in self.copies:
            return 400, {"__type": "ValidationException", "message": f"Could not find {name}"}
        return 200, {"RuntimeConfig": {"CurrentCopyCount": self.copies[name]}}

    def _query(self, body: dict[str, Any]) -> dict[str, Any]:
        partition = body["ExpressionAttributeValues"][":pk"]["S"]
        assert body["ConsistentRead"] and not body["ScanIndexForward"]
        start = body.get("ExclusiveStartKey", {}).get("sk", {}).get("S", "~")
        found = [self.items[key] for key in sorted(self.items, reverse=True) if key[0] == partition]
        found = [item for item in found if item["sk"]["S"] < start]
        page = found[: body["Limit"]]
        last = {"LastEvaluatedKey": {n: page[-1][n] for n in ("pk", "sk")}} if len(found) > len(page) else {}
        return {"Items": page, "Count": len(page), **last}

    def _put(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        assert body["ConditionExpression"] == "attribute_not_exists(pk)"
        key = (body["Item"]["pk"]["S"], body["Item"]["sk"]["S"])
        if key in self.items:
            kind = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"
            return 400, {"__type": kind, "message": "The conditional request failed"}
        self.items[key] = body["Item"]
        return 200, {}


def _aws_handler(aws: FakeAws) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            aws.connections.append(self.connection)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
            reply = Reply(self, self.path, body)
            target = self.headers.get("X-Amz-Target")
            if target:
                status, document = aws.table_call(target.rpartition(".")[2], body)
                reply.json(document, status=status)
                return
            reply.headers = dict(self.headers)  # type: ignore[attr-defined]
            aws.requests.append(reply)
            aws.model(reply)

        def log_message(self, format: str, *args: object) -> None:
            return

    return Handler


def chat(**changes: Any) -> dict[str, Any]:
    """The body of a request, which is right until it is changed."""
    return {"model": QWEN, "messages": HELLO, **changes}


def post(gateway: Gateway, body: object) -> tuple[int, dict[str, Any]]:
    """Status and error object of a raw request."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    url, headers = f"{gateway.url}/v1/chat/completions", {"authorization": "Bearer anna"}
    response = httpx.post(url, content=content, headers=headers, timeout=PATIENCE)
    assert "Traceback" not in response.text
    assert response.headers["x-request-id"]
    document = response.json()["error"]
    assert set(document) == {"message", "type", "param", "code"}
    return response.status_code, document


@dataclass
class Ticks:
    """A clock that stands still until the test moves it."""

    now: float = 1_000_000.0

    def clock(self) -> Clock:
        return Clock(wall=lambda: self.now, monotonic=lambda: self.now)


class Gateway:
    """The gateway under uvicorn in a thread; any bearer token is the principal of that name."""

    def __init__(
        self, config: GatewayConfig, ticks: Ticks, *, deadline: float | None = None, **options: Any
    ) -> None:
        self.lines: list[dict[str, Any]] = []
        app = create_app(
            config, clock=ticks.clock(), emit=lambda line: self.lines.append(json.loads(line)), **options
        )

        async def front(scope: Any, receive: Any, send: Any) -> None:
            headers = dict(scope.get("headers", ()))
            token = headers.get(b"authorization", b"").decode().removeprefix("Bearer ")
            extra = {"tokenmill.principal": token} if token else {}
            limit = {} if deadline is None else {"tokenmill.deadline": deadline}
            await app({**scope, **extra, **limit}, receive, send)

        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(front, log_level="error", lifespan="on"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]})
        self._thread.start()
        # Answered only when the start-up is over, which makes clients from the environment of this moment.
        httpx.get(f"{self.url}/health", timeout=PATIENCE).raise_for_status()

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def metrics(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if "_aws" in line]

    def total(self, name: str) -> float:
        return float(sum(line.get(name, 0) for line in self.metrics()))

    def logged(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if "_aws" not in line]
