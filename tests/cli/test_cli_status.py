"""How `tokenmill status` looks where lines are short."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from tokenmill.cli._status import print_status

NAME = "officehoursunits-Units-11BE1CE1-959b6c0cfe2da017f1-s9e"
EMPTY: dict[str, Any] = {
    "cloud": {"pid": 1, "endpoint": "http://127.0.0.1:1", "base_url": None},
    "gateway": {"running": False},
    "control_loop": "policies act",
    "metrics": [],
    **{
        name: []
        for name in (
            "model_servers", "endpoints", "components", "scalable_targets", "scaling_policies", "model_units",
            "alarms", "levels",
        )
    },
}  # fmt: skip


def shown(**changes: Any) -> list[str]:
    """The lines that a console of 80 columns gets."""
    console = Console(file=io.StringIO(), width=80, highlight=False, soft_wrap=True)
    print_status(console, EMPTY | changes)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_row_stays_on_a_line_and_names_stay_whole() -> None:
    """They are copied into other commands; a cell of one letter a line can be read by nobody."""
    units = {
        "name": NAME, "model": "amazon.nova-lite-v1:0:24k", "units": 2, "status": "InService",
        "commitment": "none",
    }  # fmt: skip
    [row] = [line for line in shown(model_units=[units]) if NAME in line]
    assert row.split() == [NAME, "amazon.nova-lite-v1:0:24k", "2", "InService", "none"]


def test_long_reasons_wrap_beside_their_alarm() -> None:
    reason = "Threshold not crossed: 0 of 1 datapoints [no data points] are GreaterThanThreshold 0."
    lines = shown(alarms=[{"name": NAME, "state": "OK", "reason": reason}])
    place = next(number for number, line in enumerate(lines) if NAME in line)
    column = lines[place].index("Threshold")
    assert " ".join(line[column:].strip() for line in lines[place : place + 2]) == reason


def test_what_there_is_none_of_has_no_table() -> None:
    assert shown() == [
        "cloud     pid 1, AWS endpoint http://127.0.0.1:1",
        "gateway   none deployed",
        "control loop: policies act",
        "",
        "metrics seen: none yet",
        "",
    ]
