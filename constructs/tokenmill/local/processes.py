"""Processes of the local cloud: each ends with its parent, and everything started is reaped."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import uvicorn

LOOPBACK = "127.0.0.1"
_POLL_SECONDS = 0.02


def listener(port: int = 0) -> socket.socket:
    """Return a socket that listens on the loopback interface.

    Args:
        port: Port; 0 takes a free one.

    Raises:
        TokenmillError: The port is in use.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((LOOPBACK, port))
    except OSError as error:
        sock.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise TokenmillError(
                f"port {port} on {LOOPBACK} cannot be used ({error.strerror}); "
                "stop what listens there, or choose another port with --port (0 takes a free one)"
            ) from None
        raise
    sock.listen(256)
    return sock


def listener_from_fd(fd: int) -> socket.socket:
    """Return the listening socket that the parent handed over.

    Args:
        fd: Its file descriptor.
    """
    return socket.socket(fileno=fd)


def serve(config: uvicorn.Config, sock: socket.socket) -> None:
    """Serve an application on a listening socket until a signal.

    Args:
        config: What to serve.
        sock: Where.
    """
    import uvicorn

    config.timeout_graceful_shutdown = 2
    uvicorn.Server(config).run(sockets=[sock])


def exit_with_parent(then: Callable[[], None] | None = None) -> None:
    """Watch standard input, which the parent holds open: when it ends the parent is gone.

    Args:
        then: What to do; by default this process ends at once.
    """

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        if then is not None:
            then()
        else:
            os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


class Child:
    """A child process whose standard input stays open as long as this process lives.

    Args:
        command: Program and arguments.
        env: Its whole environment.
        log: File that its output is appended to.
        pass_fds: File descriptors that it inherits.
        own_session: Whether it leads a session and process group of its own.
        on_line: Takes every line of its output, besides the log.
        directory: Where it runs; here by default.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        pass_fds: Sequence[int] = (),
        own_session: bool = False,
        on_line: Callable[[str], None] | None = None,
        directory: Path | None = None,
    ) -> None:
        self.log = log
        self._own_session = own_session
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=output if on_line is None else subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=dict(env),
                pass_fds=tuple(pass_fds),
                start_new_session=own_session,
                cwd=directory,
            )
        self._reader: threading.Thread | None = None
        if on_line is not None:
            self._reader = threading.Thread(target=self._read, args=(on_line,), daemon=True)
            self._reader.start()

    def _read(self, on_line: Callable[[str], None]) -> None:
        output = self._process.stdout
        assert output is not None  # it is a pipe when there is a reader
        with output, self.log.open("ab") as log:
            for line in output:
                log.write(line)
                log.flush()
                on_line(line.decode(errors="replace").rstrip("\n"))

    @property
    def pid(self) -> int:
        """Its process id, and its group's when it leads a session."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status; nothing while it runs."""
        return self._process.poll()

    def last_words(self, lines: int = 8) -> str:
        """Return the end of its log.

        Args:
            lines: How many lines.
        """
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def stop(self, grace_seconds: float = 3.0) -> None:
        """End it, and its whole group when it leads a session; returns when it is reaped.

        Args:
            grace_seconds: Time from asking to killing.
        """
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(grace_seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
        if self._own_session:
            kill_group(self.pid)
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._reader is not None:
            self._reader.join(timeout=1)


def kill_group(group: int) -> None:
    """Kill every process of a group that we started; an empty group is fine.

    Args:
        group: Process group id.
    """
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def group_members(group: int) -> list[int]:
    """Return the processes of a group that are alive, zombies left out (Linux; elsewhere none are listed).

    Args:
        group: Process group id.
    """
    members = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        fields = _stat(entry)
        if fields and fields[0] != "Z" and int(fields[2]) == group:
            members.append(int(entry.parent.name))
    return members


def start_time(pid: int) -> str | None:
    """Return when a process started, in a form that tells it from a later one with the same id.

    Args:
        pid: Process id.
    """
    if Path("/proc/self/stat").exists():
        fields = _stat(Path(f"/proc/{pid}/stat"))
        return None if not fields or fields[0] == "Z" else fields[19]
    asked = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or None


def _stat(path: Path) -> list[str]:
    try:
        text = path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(")")[2].split()


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition; say whether it came true in time.

    Args:
        condition: Asked every 20 ms.
        seconds: Time limit.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(_POLL_SECONDS)
    return condition()
