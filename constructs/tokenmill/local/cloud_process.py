"""Starting and stopping the cloud's process, and talking to one that runs."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx

from tokenmill.core.errors import TokenmillError
from tokenmill.local.processes import LOOPBACK, Child, listener

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_START_SECONDS = 30.0
_ADMIN_SECONDS = 180.0
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "PYTHONWARNINGS", "NODE_PATH", "VIRTUAL_ENV")
_KEPT_PREFIXES = ("TOKENMILL_MODEL_", "COVERAGE_")


def child_environment(state: Path) -> dict[str, str]:
    """Return the environment of the local cloud: nothing of the user's AWS configuration.

    Args:
        state: Folder of the local state, which holds the home.
    """
    home = state / "home"
    home.mkdir(parents=True, exist_ok=True)
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT_VARIABLES or name.startswith(_KEPT_PREFIXES)
    }
    return {**kept, "HOME": str(home)}


class CloudClient:
    """The admin calls of a cloud that runs.

    Args:
        endpoint: Its AWS endpoint.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    def admin(self, name: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Make an admin call.

        Args:
            name: Which.
            request: Its members.

        Raises:
            TokenmillError: The cloud refuses, or does not answer.
        """
        url = f"{self.endpoint}/_tokenmill/{name}"
        try:
            answer = httpx.post(url, json=dict(request), timeout=_ADMIN_SECONDS, trust_env=False)
        except httpx.TransportError as error:
            raise TokenmillError(
                f"the local cloud at {self.endpoint} does not answer ({type(error).__name__}); "
                "run `tokenmill down`, then `tokenmill up`"
            ) from error
        if "json" not in answer.headers.get("content-type", ""):
            raise TokenmillError(
                f"the local cloud failed at {name} ({answer.status_code}); see .tokenmill/logs/cloud.log"
            )
        document: dict[str, Any] = answer.json()
        if answer.status_code != 200:
            raise TokenmillError(f"the local cloud refuses: {document.get('error', document)}")
        return document


class CloudProcess(CloudClient):
    """A cloud that this process started and stops.

    Args:
        state: Folder of the local state.
        port: Port of the gateway; 0 takes a free one.
        region: Default region.
        startup_seconds: How long an instance or a copy takes to come up.

    Raises:
        TokenmillError: The port is in use.
    """

    def __init__(self, state: Path, *, port: int, region: str, startup_seconds: float = 1.0) -> None:
        gateway = listener(port)
        aws = listener()
        super().__init__(f"http://{LOOPBACK}:{aws.getsockname()[1]}")
        self.port: int = gateway.getsockname()[1]
        self._state = state
        command = [sys.executable, "-m", "tokenmill.local.cloud", "--region", region, "--state", str(state)]
        command += ["--aws-fd", str(aws.fileno()), "--gateway-fd", str(gateway.fileno())]
        command += ["--startup-seconds", str(startup_seconds)]
        self._child = Child(
            command,
            env=child_environment(state),
            log=state / "logs" / "cloud.log",
            pass_fds=[aws.fileno(), gateway.fileno()],
            own_session=True,
        )
        aws.close()
        gateway.close()

    @property
    def pid(self) -> int:
        """Its process id, which is its group's id too."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether it is there."""
        return self._child.returncode is None

    def wait(self) -> None:
        """Wait until it answers.

        Raises:
            TokenmillError: It does not.
        """
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if not self.running:
                raise TokenmillError(f"the local cloud did not start:\n{self._child.last_words(20)}")
            try:
                httpx.get(f"{self.endpoint}/_ministack/health", timeout=5.0, trust_env=False)
            except httpx.TransportError:
                time.sleep(0.03)
                continue
            return
        raise TokenmillError(
            f"the local cloud gave no answer in {_START_SECONDS:.0f} s; see {self._child.log}"
        )

    def stop(self) -> None:
        """End it and everything that it started."""
        self._child.stop(grace_seconds=8.0)
        shutil.rmtree(self._state / "tmp", ignore_errors=True)
