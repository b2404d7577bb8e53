"""One `tokenmill up` of the real app, in a copy of the project's files, for all end-to-end tests."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support_local import client, close_clients
from tokenmill.local.processes import group_members, wait_until
from tokenmill.local.state import CloudState, require_running

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
FILES = ("app.py", "acknowledgements.py", "cdk.json", "tokenmill.toml", "chat.plan.json", "models")
TOOLS = ("node_modules", ".venv-checkov")
TOKENMILL = (sys.executable, "-c", "from tokenmill.cli import main; main()")
UP_SECONDS = 180


class Project:
    """A copy of the project with a local cloud in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in FILES:
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
        for name in TOOLS:
            if (ROOT / name).exists():
                (folder / name).symlink_to(ROOT / name)
        roots = [str(ROOT / name) for name in ("constructs", "lambda", "stacks")]
        self.env = {**os.environ, "PYTHONPATH": os.pathsep.join(roots), "COLUMNS": "200"}
        self.log = folder / "up.log"
        self.arrivals: list[tuple[float, str]] = []

    def start(self) -> subprocess.Popen[str]:
        """Start `tokenmill up` and return when it says that it stays up."""
        process = subprocess.Popen(
            [*TOKENMILL, "up", "chat"],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        seen = ""
        while "up until" not in seen:
            character = process.stdout.read(1)
            if not character:
                raise AssertionError(f"`tokenmill up` ended with status {process.wait()}:\n{seen}")
            seen += character
            self.arrivals.append((time.monotonic(), character))
        self.output = seen
        return process

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of ours to its end."""
        return subprocess.run(
            [*TOKENMILL, *arguments],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=UP_SECONDS,
            check=False,
        )

    def json(self, *arguments: str) -> dict[str, Any]:
        """Run a command of ours that must succeed; return its JSON document."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    @property
    def state(self) -> CloudState:
        return require_running(self.folder / ".tokenmill")

    def outputs(self) -> dict[str, str]:
        """Outputs of the deployed stack."""
        stacks = self.client("cloudformation").describe_stacks(StackName="tokenmill-chat")["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in stacks[0]["Outputs"]}

    def client(self, service: str) -> Any:
        return client(self.state.endpoint, service)

    def model_server_pid(self) -> int:
        [server] = self.json("status")["model_servers"]
        return int(server["pid"])


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = Project(tmp_path_factory.mktemp("project"))
    process = project.start()
    group = project.state.cloud_pid
    endpoint = project.state.endpoint
    try:
        yield project
    finally:
        close_clients(endpoint)
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        wait_until(lambda: not group_members(group), 5)
        for member in group_members(group):
            os.kill(member, signal.SIGKILL)
