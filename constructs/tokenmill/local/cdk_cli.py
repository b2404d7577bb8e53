"""The real CDK CLI, run against the local cloud: its own home, the machine's jsii cache."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tokenmill.core.errors import TokenmillError
from tokenmill.local.environment import find_cdk
from tokenmill.local.processes import Child

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenmill.local.progress import Step, Steps

_JSII_CACHE = "JSII_RUNTIME_PACKAGE_CACHE_ROOT"
_POLL_SECONDS = 0.05
_NO_MODULE = re.compile(r"ModuleNotFoundError: No module named '([^']+)'")


def jsii_cache() -> str:
    """Return jsii's package cache of this user, which is slow to fill and safe to share."""
    if _JSII_CACHE in os.environ:
        return os.environ[_JSII_CACHE]
    if platform.system() == "Darwin":
        return str(Path.home() / "Library" / "Caches" / "com.amazonaws.jsii")
    return str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aws" / "jsii")


def cli_environment(state: Path, *, endpoint: str, account: str, region: str) -> dict[str, str]:
    """Return the environment in which the CLI sees the local cloud and nothing of the user's accounts.

    Args:
        state: Folder of the local state, which holds the home.
        endpoint: The cloud's AWS endpoint.
        account: Account id, which is the access key too.
        region: Default region.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CDK_"))}
    home = state / "home"
    home.mkdir(parents=True, exist_ok=True)
    return {
        **kept,
        "HOME": str(home),
        _JSII_CACHE: jsii_cache(),
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "20",
        "NODE_NO_WARNINGS": "1",
        "CDK_DISABLE_VERSION_CHECK": "1",
        "CDK_DISABLE_CLI_TELEMETRY": "true",
        "CI": "1",
        "NO_COLOR": "1",
        **client_environment(endpoint=endpoint, account=account, region=region),
    }


def client_environment(*, endpoint: str, account: str, region: str) -> dict[str, str]:
    """Return the environment in which an AWS client reaches the local cloud.

    Args:
        endpoint: The cloud's AWS endpoint.
        account: Account id, which is the access key too.
        region: Default region.
    """
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": account,
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_REGION": region,
        # boto3 reads this name only, other SDKs and the CDK CLI read the one above.
        "AWS_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


class CdkCommand:
    """One run of the CLI, in a process group of its own.

    Args:
        directory: The project's folder.
        arguments: Command and options.
        env: Its environment.
        log: File for its output.
    """

    def __init__(self, directory: Path, arguments: Sequence[str], *, env: dict[str, str], log: Path) -> None:
        self.name = arguments[0]
        self._lines: list[str] = []
        log.unlink(missing_ok=True)
        self.child = Child(
            [
                *(sys.executable, "-m", "tokenmill.local.tether"),
                *(str(find_cdk(directory) or "cdk"), *arguments, "--no-notices"),
            ],
            env=env,
            log=log,
            own_session=True,
            on_line=self._lines.append,
            directory=directory,
        )

    def check(self) -> None:
        """Refuse a run that failed, in the words of the app or of CloudFormation.

        Raises:
            TokenmillError: It failed.
        """
        self.child.stop()
        if self.child.returncode != 0:
            raise TokenmillError(self._explanation())

    def _explanation(self) -> str:
        errors = [line.removeprefix("error: ") for line in self._lines if line.startswith("error: ")]
        if errors:
            return "\n".join(errors)
        failed = [line.split("|")[-1].strip() for line in self._lines if "_FAILED " in line and "|" in line]
        if failed:
            return "\n".join([f"cdk {self.name} failed:", *dict.fromkeys(failed)])
        tail = [line for line in self._lines if line.strip()][-12:]
        return "\n".join(
            [f"cdk {self.name} failed (all of it is in {self.child.log}):", *tail, *self._way_out()]
        )

    def _way_out(self) -> list[str]:
        """Say which Python has the packages when the one that ran the app has not."""
        found = [match for line in self._lines if (match := _NO_MODULE.match(line))]
        if not found:
            return []
        return [
            f"the python that ran the app has no {found[-1].group(1)}; activate the environment that has it, "
            f"or name its python: --app '\"{sys.executable}\" app.py'"
        ]


def run_all(steps: Steps, running: Sequence[tuple[Step, CdkCommand]]) -> None:
    """Wait for commands that run side by side; when one fails, the others are stopped.

    Args:
        steps: Where their ends are shown.
        running: The commands.

    Raises:
        TokenmillError: One failed.
    """
    waiting = list(running)
    try:
        while waiting:
            time.sleep(_POLL_SECONDS)
            for step, command in list(waiting):
                if command.child.returncode is not None:
                    waiting.remove((step, command))
                    command.check()
                    steps.done(step, f"cdk {command.name}")
    finally:
        for _, command in waiting:
            command.child.stop()
