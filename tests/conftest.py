"""How `pytest -n 2` hands the tests out: a file stays in one process, and so do all that watch a clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest
    from xdist.remote import Producer

WATCH_A_CLOCK = ("tests/e2e/", "tests/local/")


class ClocksTogether(LoadScopeScheduling):
    """One process runs the tests that start servers and wait for them, the others take the rest by file."""

    def _split_scope(self, nodeid: str) -> str:
        return "clock" if nodeid.startswith(WATCH_A_CLOCK) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ClocksTogether:
    """Replace the scheduler of `--dist`."""
    return ClocksTogether(config, log)
