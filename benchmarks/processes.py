"""CPU seconds, wall seconds and peak memory of a command with everything that it starts."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PR_SET_CHILD_SUBREAPER = 36
POLL_SECONDS = 0.02
PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one run took.

    Args:
        cpu_seconds: User and system time of the command and of every process it started.
        wall_seconds: From start to exit.
        peak_mib: The highest sum of resident memory over the process tree, polled; shared pages count twice.
        output: What the command printed.
    """

    cpu_seconds: float
    wall_seconds: float
    peak_mib: float
    output: str


def adopt_orphans() -> None:
    """Make this process the parent of orphaned descendants, so that their CPU time counts."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(
            ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed; Linux 3.4 or newer is needed"
        )


def measure(command: Sequence[str], *, cwd: Path, environment: Mapping[str, str] | None = None) -> Cost:
    """Run a command to its end.

    Args:
        command: Program and arguments.
        cwd: Where to run it.
        environment: Variables on top of this process's own.

    Raises:
        RuntimeError: The command failed; the message holds what it printed.
    """
    before = _children_cpu()
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=cwd, env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    peak = _PeakMemory(process.pid)
    peak.start()
    output, _ = process.communicate()
    wall = time.perf_counter() - started
    peak.stop()
    _reap_orphans()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{output}")
    return Cost(
        cpu_seconds=_children_cpu() - before, wall_seconds=wall, peak_mib=peak.highest_mib, output=output
    )


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _reap_orphans() -> None:
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


class _PeakMemory(threading.Thread):
    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self._root = root
        self._ended = threading.Event()
        self.highest_mib = 0.0

    def run(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            self.highest_mib = max(self.highest_mib, _tree_mib(self._root))

    def stop(self) -> None:
        self._ended.set()
        self.join()


def _tree_mib(root: int) -> float:
    children: dict[int, list[int]] = {}
    resident: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            pages = int((entry / "statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(fields[1]), []).append(int(entry.name))
        resident[int(entry.name)] = pages * PAGE_MIB
    total, queue = 0.0, [root]
    while queue:
        pid = queue.pop()
        total += resident.get(pid, 0.0)
        queue.extend(children.get(pid, []))
    return total
