"""The model servers of the endpoints: one process a component, which really starts, answers and stops."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import httpx

from tokenmill.core.errors import TokenmillError
from tokenmill.local.processes import LOOPBACK, Child, listener

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MODEL_URL = "TOKENMILL_MODEL_URL"
_START_SECONDS = 30.0


class LaunchError(TokenmillError):
    """A model server did not come up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What a model server is started with."""

    model: str
    engine: Mapping[str, Any] | None
    context_tokens: int | None
    copies: int


class Fleet(Protocol):
    """What runs the copies of a component."""

    def start(self, key: str, launch: Launch) -> None:
        """Start, or replace, the server of a component; returns when it answers."""

    def resize(self, key: str, copies: int) -> None:
        """Set how many copies take requests."""

    def stop(self, key: str) -> None:
        """Stop the server of a component."""

    def promote(self, key: str, onto: str) -> None:
        """Let a server answer under another's name; the other one stops."""

    def url(self, key: str) -> str | None:
        """Where the server of a component answers."""


@dataclass(slots=True)
class _Running:
    child: Child
    url: str
    launch: Launch


class ModelServers:
    """Model servers as child processes.

    Args:
        logs: Folder for their logs.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()

    def start(self, key: str, launch: Launch) -> None:
        """Start the server of a component, swap it in when it answers, and stop the one before.

        Args:
            key: Component.
            launch: What to start.

        Raises:
            LaunchError: It does not answer its health check.
        """
        started = self._spawn(key, launch)
        with self._lock:
            before = self._running.get(key)
            self._running[key] = started
        if before is not None:
            before.child.stop()

    def resize(self, key: str, copies: int) -> None:
        """Set how many copies of a component take requests; a server that died is started again.

        Args:
            key: Component.
            copies: How many.
        """
        running = self._running[key]
        launch = replace(running.launch, copies=copies)
        if running.child.returncode is not None:
            self.start(key, launch)
            return
        answer = httpx.put(f"{running.url}/_tokenmill/copies", json={"copies": copies}, trust_env=False)
        answer.raise_for_status()
        running.launch = launch

    def restart_dead(self) -> list[str]:
        """Start every server again whose process ended by itself; return their components."""
        dead = [key for key, running in self._running.items() if running.child.returncode is not None]
        for key in dead:
            self.start(key, self._running[key].launch)
        return dead

    def stop(self, key: str) -> None:
        """Stop the server of a component.

        Args:
            key: Component; one that has none is fine.
        """
        with self._lock:
            running = self._running.pop(key, None)
        if running is not None:
            running.child.stop()

    def promote(self, key: str, onto: str) -> None:
        """Let a server answer under another's name; the other one stops.

        Args:
            key: Name of the server that takes over.
            onto: Name that it gets; one that no server has is fine.
        """
        with self._lock:
            before = self._running.pop(onto, None)
            self._running[onto] = self._running.pop(key)
        if before is not None:
            before.child.stop()

    def stop_all(self) -> None:
        """Stop every server."""
        for key in list(self._running):
            self.stop(key)

    def url(self, key: str) -> str | None:
        """Return where the server of a component answers; nothing when it has none.

        Args:
            key: Component.
        """
        running = self._running.get(key)
        return running.url if running else None

    def describe(self) -> list[dict[str, Any]]:
        """Return every server with its process, address and state."""
        return [
            {
                "component": key,
                "model": running.launch.model,
                "pid": running.child.pid,
                "url": running.url,
                "copies": running.launch.copies,
                "timing": os.environ.get(MODEL_URL) or ("plan" if running.launch.engine else "default"),
                "running": running.child.returncode is None,
            }
            for key, running in sorted(self._running.items())
        ]

    def _spawn(self, key: str, launch: Launch) -> _Running:
        sock = listener()
        url = f"http://{LOOPBACK}:{sock.getsockname()[1]}"
        command = [sys.executable, "-m", "tokenmill.local.model_server", "--exit-with-parent"]
        command += [
            "--model",
            launch.model,
            "--copies",
            str(launch.copies),
            "--listen-fd",
            str(sock.fileno()),
        ]
        if launch.engine:
            command += ["--engine", json.dumps(launch.engine)]
        if launch.context_tokens:
            command += ["--context-tokens", str(launch.context_tokens)]
        log = self._logs / f"model-{key.replace('/', '-')}.log"
        child = Child(command, env=os.environ, log=log, pass_fds=[sock.fileno()])
        sock.close()
        try:
            self._wait(child, url)
        except LaunchError:
            child.stop()
            raise
        return _Running(child, url, launch)

    def _wait(self, child: Child, url: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        reason = f"no answer from its health check in {_START_SECONDS:.0f} s"
        while time.monotonic() < deadline:
            if child.returncode is not None:
                raise LaunchError(
                    f"the model server ended with status {child.returncode}: {child.last_words()}"
                )
            try:
                answer = httpx.get(f"{url}/ping", timeout=10.0, trust_env=False)
            except httpx.TransportError:
                time.sleep(0.05)
                continue
            if answer.status_code == 200:
                return
            reason = answer.json()["error"]["message"]
            break
        raise LaunchError(f"the model server is not healthy: {reason}")
