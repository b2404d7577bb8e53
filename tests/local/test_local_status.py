"""What `tokenmill status` says to people."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from tokenmill.cli._status import print_status

EMPTY = (
    "model_servers", "endpoints", "components", "scalable_targets", "scaling_policies", "alarms", "metrics",
    "levels", "model_units",
)  # fmt: skip


def shown(*, running: bool, base_url: str | None, **more: Any) -> str:
    """What is printed on a terminal of 80 columns."""
    document: dict[str, Any] = {
        **{name: [] for name in EMPTY},
        "cloud": {"pid": 1, "endpoint": "http://127.0.0.1:1", "base_url": base_url},
        "gateway": {"pid": 2 if running else None, "running": running, "port": 3},
        "control_loop": "none",
        **more,
    }
    out = io.StringIO()
    print_status(Console(file=out, width=80), document)
    return out.getvalue()


@pytest.mark.parametrize(
    ("running", "base_url", "said"),
    [
        (True, "http://127.0.0.1:3/v1", "pid 2, http://127.0.0.1:3/v1"),
        (False, "http://127.0.0.1:3/v1", "not running: run `tokenmill up` again"),
        (False, None, "none deployed"),
    ],
)
def test_the_gateway_is_there_gone_or_was_never_deployed(
    running: bool, base_url: str | None, said: str
) -> None:
    assert f"gateway   {said}\n" in shown(running=running, base_url=base_url)


def test_names_are_whole_on_a_narrow_terminal() -> None:
    """A name that is cut short cannot be copied into another command."""
    name = "tokenmill-chat-EndpointEEF1FD8F-8048A65FFAB1F"
    component = {"name": name, "status": "InService", "CurrentCopyCount": 2, "DesiredCopyCount": 2}
    alarm = {"name": f"{name}-alarm", "state": "OK", "reason": "Threshold not crossed: " + "0 of 5 " * 20}
    text = shown(running=True, base_url="http://x/v1", components=[component], alarms=[alarm])
    assert f" {name} " in text
    assert f" {name}-alarm " in text


def test_model_units_are_shown_with_what_they_commit_to() -> None:
    """Whoever pays for units sees them, their state and their commitment."""
    bought = {"name": "chat-1", "model": "a.b", "units": 2, "status": "Creating", "commitment": "none"}
    text = shown(running=False, base_url=None, model_units=[bought])
    assert "Bedrock model units" in text
    assert "chat-1" in text
    assert "Creating" in text
