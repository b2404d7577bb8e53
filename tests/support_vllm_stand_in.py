"""A loopback stand-in for vLLM's server, run as a program: its state is files in the folder STAND_IN.

`ready` makes /health answer 200; `more` lets a stream go on after its first chunk; `command.json` holds the
arguments and variables that it was started with; `terminated` is there when it was asked to end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["STAND_IN"])
MODE = os.environ.get("STAND_IN_MODE", "")


def wait_for(name: str) -> None:
    while not (FOLDER / name).exists():
        time.sleep(0.01)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/health":
            self.answer(200 if (FOLDER / "ready").exists() else 503, b"")
        elif self.path == "/v1/models":
            self.answer(200, b'{"data": [{"id": "stand-in"}]}')
        else:
            self.answer(404, b"{}")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body.get("crash"):
            os._exit(3)
        if body.get("stream"):
            self.stream()
            return
        document = {"path": self.path, "body": body, "custom": self.headers.get("X-Custom", "")}
        self.answer(422 if body.get("wrong") else 200, json.dumps(document).encode())

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in (b"data: one\n\n", b"data: two\n\n"):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
            wait_for("more")
        self.wfile.write(b"0\r\n\r\n")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def compile_graphs() -> None:
    """Keep one graph as vLLM-Neuron does: found in the cache, or compiled unless that is forbidden."""
    if MODE == "compiles nothing":
        return
    entry = Path(os.environ["VLLM_CACHE_ROOT"], "neuron", "compile_cache", "a" * 32)
    if not (entry / "graph.neff").exists():
        if os.environ.get("VLLM_NEURON_DISABLE_WARMUP_COMPILE") == "1":
            raise SystemExit("cache miss while compiling is disabled")
        entry.mkdir(parents=True)
        (entry / "graph.neff").write_bytes(b"compiled graph")
        (entry / "graph.lock").write_bytes(b"")
        (FOLDER / "compiled").touch()


def main() -> None:
    variables = {key: value for key, value in os.environ.items() if key.startswith(("VLLM_", "HF_"))}
    (FOLDER / "command.json").write_text(json.dumps({"arguments": sys.argv[1:], "variables": variables}))
    compile_graphs()
    worker = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    (FOLDER / "worker").write_text(str(worker.pid))

    def end(number: int, frame: object) -> None:
        (FOLDER / "terminated").touch()
        if MODE != "ignores the end":
            os._exit(0)

    signal.signal(signal.SIGTERM, end)
    port = int(sys.argv[sys.argv.index("--port") + 1])
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever(0.02)


if __name__ == "__main__":
    main()
