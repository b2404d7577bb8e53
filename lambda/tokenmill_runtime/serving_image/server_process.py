"""vLLM's server as a child in a process group of its own: started, asked for its health, stopped whole."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Final

from tokenmill_runtime.serving_image.flags import model_of, server_flags

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill_runtime.serving_image.settings import Settings

LOOPBACK: Final = "127.0.0.1"
HEALTH_SECONDS: Final = 2.0
POLL_SECONDS: Final = 0.5


class ServerDied(Exception):
    """The server ended although nobody asked it to; the text has its exit code."""


class ServerProcess:
    """vLLM's server, from its command to its end.

    Raises BadEnvironment when the variables do not say what to serve, OSError when there is no such program.
    """

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        model = model_of(environment, settings.model_folder)
        flags = server_flags(environment, model)
        address = ["--host", LOOPBACK, "--port", str(settings.server_port)]
        self.command = [*settings.command, model, *flags, *address]
        self._settings = settings
        settings.cache_root.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            self.command,
            env={**environment, "VLLM_CACHE_ROOT": str(settings.cache_root)},
            start_new_session=True,
        )

    @property
    def exit_code(self) -> int | None:
        """The server's exit code, or None while it runs."""
        return self._process.poll()

    def healthy(self) -> bool:
        """Whether vLLM answers 200 on /health, which it does when every worker is loaded and alive."""
        connection = http.client.HTTPConnection(LOOPBACK, self._settings.server_port, timeout=HEALTH_SECONDS)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def wait_until_healthy(self, *, stopped: Mapping[str, bool]) -> bool:
        """Wait for the first answer of 200; False when somebody asked for the end before.

        Raises ServerDied when the server ends first.
        """
        while not stopped["stopped"]:
            self.check()
            if self.healthy():
                return True
            time.sleep(POLL_SECONDS)
        return False

    def check(self) -> None:
        """Raise ServerDied when the server has ended."""
        code = self.exit_code
        if code is not None:
            raise ServerDied(died(code))

    def stop(self) -> int:
        """End the server and all that it started: SIGTERM, time to finish, SIGKILL; return its exit code."""
        self._signal(signal.SIGTERM)
        try:
            code = self._process.wait(self._settings.stop_seconds)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            code = self._process.wait()
        # Workers outlive a server that was killed, and would keep the accelerator's cores.
        self._signal(signal.SIGKILL)
        return code

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return


def died(code: int) -> str:
    """What the end of a server means, in one sentence."""
    if code < 0:
        return f"vllm was ended by {signal.Signals(-code).name}"
    return f"vllm ended with exit code {code}"
