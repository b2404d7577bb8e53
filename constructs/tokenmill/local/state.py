"""What a running local cloud leaves in `.tokenmill/cloud.json`, and whether it still runs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from tokenmill.core.errors import TokenmillError
from tokenmill.local.processes import start_time

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    model_url: str | None = None
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


@contextlib.contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Make the folder of the local state and keep every other run of `up` out of it for a while.

    Args:
        folder: `.tokenmill`.

    Raises:
        TokenmillError: The folder cannot be written, or another run is at work in it.
    """
    try:
        folder.mkdir(exist_ok=True)
        lock = (folder / "up.lock").open("w")
    except OSError as error:
        raise TokenmillError(
            f"{folder} cannot be written ({error.strerror}); the local cloud keeps its state there, "
            "so mend or remove it, or run in another folder"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TokenmillError(
                f"another `tokenmill up` is at work in {folder.parent}; wait until it is up, or stop it"
            ) from None
        yield


def running_cloud(folder: Path) -> CloudState | None:
    """Return the cloud that runs for a folder; nothing when none does.

    Args:
        folder: `.tokenmill`.

    Raises:
        TokenmillError: The state file is damaged.
    """
    path = folder / "cloud.json"
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_text())
    except ValueError:
        document = None
    members = {"schema", *(field.name for field in fields(CloudState))}
    if not isinstance(document, dict) or set(document) != members or document.pop("schema") != _SCHEMA:
        raise TokenmillError(
            f"{path} cannot be read; stop the `tokenmill up` that wrote it, if it still runs, "
            f"then run: rm {path}"
        )
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
