"""A fake of Lambda's Runtime API, and the bootstrap as a process under it."""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from support_runtime import PATIENCE

LAMBDA = Path(__file__).resolve().parents[1] / "lambda"
RUN = LAMBDA / "tokenmill_runtime" / "streaming" / "run.sh"


@dataclass
class Posted:
    """What the runtime sent to one path; chunks can be taken while more are under way."""

    path: str
    headers: dict[str, str]
    body: bytes = b""
    chunks: queue.Queue[bytes] = field(default_factory=queue.Queue)
    trailers: dict[str, str] = field(default_factory=dict)
    done: threading.Event = field(default_factory=threading.Event)

    def chunk(self) -> bytes:
        return self.chunks.get(timeout=PATIENCE)

    def rest(self) -> bytes:
        """Everything that is left, when the response is complete."""
        assert self.done.wait(PATIENCE)
        return b"".join(self.chunks.queue)

    def json(self) -> Any:
        return json.loads(self.body)


class FakeRuntimeApi:
    """Gives out events and takes responses; ``hang_up_after`` chunks it drops a response's connection."""

    def __init__(self) -> None:
        self.events: queue.Queue[tuple[Any, dict[str, str]] | None] = queue.Queue()
        self.posted: queue.Queue[Posted] = queue.Queue()
        self.hang_up_after: int | None = None
        self.status: int | None = 202
        self._connections: list[socket.socket] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, self._connections))
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.address = f"127.0.0.1:{self._server.server_port}"

    def invoke(self, event: Any, **headers: str) -> Posted:
        self.events.put((event, headers))
        return self.posted.get(timeout=PATIENCE)

    def close(self) -> None:
        self.events.put(None)
        self._server.shutdown()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join()


def _handler(api: FakeRuntimeApi, connections: list[socket.socket]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            connections.append(self.connection)

        def do_GET(self) -> None:
            assert self.path == "/2018-06-01/runtime/invocation/next"
            given = api.events.get()
            if given is None:
                self.close_connection = True
                return
            event, headers = given
            body = event if isinstance(event, bytes) else json.dumps(event).encode()
            self.send_response(int(headers.pop("status", "200")))
            default = {"Lambda-Runtime-Aws-Request-Id": "id-1", "Lambda-Runtime-Deadline-Ms": "9999999999000"}
            given_headers = {name.replace("_", "-"): value for name, value in headers.items()}
            for name, value in {**default, **given_headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            posted = Posted(self.path, dict(self.headers))
            if self.headers.get("Transfer-Encoding") == "chunked":
                api.posted.put(posted)
                if not self._read_chunks(posted):
                    return
            else:
                posted.body = self.rfile.read(int(self.headers["Content-Length"]))
                api.posted.put(posted)
            posted.done.set()
            if api.status is None:
                self.close_connection = True
                return
            self.send_response(api.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _read_chunks(self, posted: Posted) -> bool:
            count = 0
            while size := int(self.rfile.readline(), 16):
                posted.chunks.put(self.rfile.read(size))
                assert self.rfile.readline() == b"\r\n"
                count += 1
                if count == api.hang_up_after:
                    posted.done.set()
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return False
            while (line := self.rfile.readline()) != b"\r\n":
                name, _, value = line.decode().partition(":")
                posted.trailers[name] = value.strip()
            return True

        def log_message(self, format: str, *args: object) -> None:
            return

    return Handler


class Bootstrap:
    """The runtime's process, started by the wrapper script as Lambda starts it."""

    def __init__(self, api: FakeRuntimeApi, handler: str, environment: dict[str, str], path: Path) -> None:
        variables = {
            **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(Path(__file__).parent),
            "LAMBDA_TASK_ROOT": str(LAMBDA),
            "AWS_LAMBDA_RUNTIME_API": api.address,
            "_HANDLER": handler,
            **environment,
        }
        self.process = subprocess.Popen(
            [str(RUN), sys.executable, "/var/runtime/bootstrap.py"],
            env=variables,
            cwd=path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> tuple[int, str, str]:
        """Ask it to stop, as Lambda does, unless it has stopped; status, standard output and error."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.wait()

    def wait(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err

    def kill(self) -> None:
        """End it in any case and close its pipes; what it said is for whoever reads a failed test."""
        if self.process.stdout is None or self.process.stdout.closed:
            return
        self.process.terminate()
        try:
            out, err = self.process.communicate(timeout=PATIENCE / 6)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
        sys.stderr.write(out + err)
