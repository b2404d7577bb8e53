"""What a running local cloud leaves in `.tokenmill/cloud.json`, and whether it still runs."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from tokenmill.core.errors import TokenmillError
from tokenmill.local.processes import start_time

STATE_FOLDER = ".tokenmill"
_SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudState:
    """One running cloud of one folder."""

    up_pid: int
    up_started: str
    cloud_pid: int
    cloud_started: str
    endpoint: str
    port: int
    account: str
    region: str
    stack: str | None = None
    base_url: str | None = None
    api_key: str | None = None

    @property
    def alive(self) -> bool:
        """Whether the cloud's process is still the one that was written down."""
        return start_time(self.cloud_pid) == self.cloud_started

    @property
    def up_alive(self) -> bool:
        """Whether the `up` that started it is still there."""
        return start_time(self.up_pid) == self.up_started

    def write(self, folder: Path) -> None:
        """Write the state, readable by its owner only: it holds a key.

        Args:
            folder: `.tokenmill`.
        """
        target = folder / "cloud.json"
        part = folder / f"cloud.{os.getpid()}.part"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"schema": _SCHEMA, **asdict(self)}, file, indent=2)
        part.replace(target)


def state_folder(directory: Path | None = None) -> Path:
    """Return the folder of the local state.

    Args:
        directory: The project's folder; the current one by default.
    """
    return (directory or Path.cwd()) / STATE_FOLDER


def running_cloud(folder: Path) -> CloudState | None:
    """Return the cloud that runs for a folder; nothing when none does.

    Args:
        folder: `.tokenmill`.
    """
    path = folder / "cloud.json"
    if not path.exists():
        return None
    document = json.loads(path.read_text())
    if document.pop("schema", None) != _SCHEMA:
        return None
    state = CloudState(**document)
    return state if state.alive else None


def require_running(folder: Path) -> CloudState:
    """Return the cloud that runs for a folder.

    Args:
        folder: `.tokenmill`.

    Raises:
        TokenmillError: None does.
    """
    state = running_cloud(folder)
    if state is None:
        raise TokenmillError(f"no local cloud runs in {folder.parent}; start one with `tokenmill up`")
    return state
