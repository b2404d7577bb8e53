"""The image's program: ``serve`` answers requests, ``compile`` (SageMaker says ``train``) leaves an artifact.

Anything else runs as it stands, as in the base image.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if __package__ in (None, ""):
    # Run as a file: the package's parent is not on the module path then, its own folder is.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tokenmill_runtime.serving_image.artifact import (
    NO_COMPILING,
    BadArtifact,
    bring_weights,
    leave,
    seed,
)
from tokenmill_runtime.serving_image.flags import BadEnvironment
from tokenmill_runtime.serving_image.proxy import Proxy
from tokenmill_runtime.serving_image.server_process import POLL_SECONDS, ServerDied, ServerProcess, died
from tokenmill_runtime.serving_image.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

FAILED: Final = 1
BAD_INPUT: Final = 2
# "FailureReason": the first 1,024 characters of /opt/ml/output/failure.
MOST_FAILURE_CHARACTERS: Final = 1024


class _Stop:
    """Whether somebody asked for the end, and with which signal."""

    def __init__(self) -> None:
        self.state = {"stopped": False}
        self.signal = 0

    def listen(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._heard)

    def _heard(self, number: int, _: FrameType | None) -> None:
        self.signal = number
        self.state["stopped"] = True

    @property
    def exit_code(self) -> int:
        return 128 + self.signal


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run one of the program's ways and return its exit code; every failure is one line on standard error."""
    way = arguments[0] if arguments else "serve"
    if way not in ("serve", "train", "compile"):
        os.execvpe(arguments[0], list(arguments), dict(environment))
    stop = _Stop()
    stop.listen()
    failure_file: Path | None = None
    try:
        settings = Settings.read(environment)
        failure_file = None if way == "serve" else settings.failure_file
        return serve(settings, environment, stop) if way == "serve" else compile_(settings, environment, stop)
    except (BadEnvironment, BadArtifact) as error:
        return _fail(str(error), failure_file, BAD_INPUT)
    except (ServerDied, OSError) as error:
        return _fail(str(error), failure_file, FAILED)


def serve(settings: Settings, environment: Mapping[str, str], stop: _Stop) -> int:
    """Answer requests until somebody asks for the end (exit code 0) or vLLM dies (raises ServerDied)."""
    compiled = seed(settings.model_folder, settings.cache_root, key=settings.artifact_key)
    own = {NO_COMPILING: "1", **environment} if compiled else environment
    server = ServerProcess(settings, own)
    try:
        _say(f"starting: {' '.join(server.command)}")
        proxy = Proxy(settings.port, server=server, server_port=settings.server_port)
        thread = threading.Thread(target=proxy.serve_forever, args=(0.1,), daemon=True)
        thread.start()
        try:
            while not stop.state["stopped"]:
                server.check()
                time.sleep(POLL_SECONDS)
        finally:
            proxy.shutdown()
            proxy.server_close()
    finally:
        code = server.stop()
    _say(f"stopped by {signal.Signals(stop.signal).name}; {died(code)}")
    return 0


def compile_(settings: Settings, environment: Mapping[str, str], stop: _Stop) -> int:
    """Start the server as an endpoint would, and leave what it compiled next to the weights."""
    began = time.monotonic()
    if not settings.artifact_key:
        raise BadEnvironment("TOKENMILL_ARTIFACT_KEY is not set; the job that compiles names its artifact")
    bring_weights(settings.input_folder, settings.model_folder)
    server = ServerProcess(settings, environment)
    try:
        _say(f"compiling: {' '.join(server.command)}")
        healthy = server.wait_until_healthy(stopped=stop.state)
    finally:
        server.stop()
    if not healthy:
        name = signal.Signals(stop.signal).name
        _fail(f"stopped by {name} before the server was healthy; nothing was left", settings.failure_file, 0)
        return stop.exit_code
    seconds = time.monotonic() - began
    manifest = leave(settings.cache_root, settings.model_folder, key=settings.artifact_key, seconds=seconds)
    _say(f"compiled {settings.artifact_key[:16]} in {seconds:.0f} s: {len(manifest['files'])} files")
    return 0


def _say(text: str) -> None:
    print(f"tokenmill: {text}", flush=True)


def _fail(message: str, failure_file: Path | None, code: int) -> int:
    print(f"tokenmill: error: {message}", file=sys.stderr, flush=True)
    if failure_file is not None:
        failure_file.parent.mkdir(parents=True, exist_ok=True)
        failure_file.write_text(message[:MOST_FAILURE_CHARACTERS], encoding="utf-8")
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:], os.environ))
