"""How `pytest -n 2` hands the tests out: a file stays in one process, and so do all that watch a clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdist import is_xdist_worker
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest
    from xdist.remote import Producer

WATCH_A_CLOCK = ("tests/e2e/", "tests/local/")
# What takes longest comes first, so that no process is left with it while the others have ended.
LONGEST_FIRST = (*WATCH_A_CLOCK, "tests/faults/", "tests/lint/", "tests/cli/", "tests/constructs/")


class ClocksTogether(LoadScopeScheduling):
    """One process runs the tests that start servers and wait for them, the others take the rest by file."""

    def _split_scope(self, nodeid: str) -> str:
        return "clock" if nodeid.startswith(WATCH_A_CLOCK) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ClocksTogether:
    """Replace the scheduler of `--dist`, which would order the files by how many tests they have."""
    config.option.loadscopereorder = False
    return ClocksTogether(config, log)


def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Order the files in the processes, which all have to agree."""
    if is_xdist_worker(session):
        items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    folders = [number for number, folder in enumerate(LONGEST_FIRST) if item.nodeid.startswith(folder)]
    return folders[0] if folders else len(LONGEST_FIRST)
