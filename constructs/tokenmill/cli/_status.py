"""How `tokenmill status` shows the local cloud to people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


LONGEST_NAME = 64
PROSE_WIDTH = 60
MOST_WIDTH = 1000


def print_status(console: Console, document: dict[str, Any]) -> None:
    """Print the tables.

    Args:
        console: Where.
        document: What the cloud says of itself.
    """
    # Names are copied, so they stay whole; a narrow terminal breaks the line, not every cell.
    console.width = MOST_WIDTH
    cloud, gateway = document["cloud"], document["gateway"]
    console.print(f"cloud     pid {cloud['pid']}, AWS endpoint {cloud['endpoint']}")
    gone = "none deployed" if cloud["base_url"] is None else "not running: run `tokenmill up` again"
    where = f"pid {gateway['pid']}, {cloud['base_url']}" if gateway["running"] else gone
    console.print(f"gateway   {where}")
    servers = [
        [entry["component"], entry["model"], str(entry["pid"]), str(entry["copies"]), entry["timing"],
         "running" if entry["running"] else "dead: run `tokenmill up` again"]
        for entry in document["model_servers"]
    ]  # fmt: skip
    _table(console, "Model servers", ["component", "model", "pid", "copies", "timing", "state"], servers)
    endpoints = [[entry["EndpointName"], entry["EndpointStatus"]] for entry in document["endpoints"]]
    _table(console, "Endpoints", ["endpoint", "status"], endpoints)
    components = [
        [entry["name"], entry["status"], f"{entry['CurrentCopyCount']} of {entry['DesiredCopyCount']}"]
        for entry in document["components"]
    ]
    _table(console, "Inference components", ["component", "status", "copies"], components)
    targets = [
        [entry["ResourceId"], f"{entry['MinCapacity']} to {entry['MaxCapacity']}"]
        for entry in document["scalable_targets"]
    ]
    _table(console, "Scalable targets", ["resource", "capacity"], targets)
    policies = [[entry["PolicyName"], entry["PolicyType"]] for entry in document["scaling_policies"]]
    _table(console, "Scaling policies", ["policy", "type"], policies)
    console.print(f"control loop: {document['control_loop']}\n")
    units = [
        [entry["name"], entry["model"], str(entry["units"]), entry["status"], entry["commitment"]]
        for entry in document["model_units"]
    ]
    _table(console, "Bedrock model units", ["name", "model", "units", "status", "commitment"], units)
    alarms = [[entry["name"], entry["state"], entry["reason"]] for entry in document["alarms"]]
    _table(console, "Alarms", ["alarm", "state", "reason"], alarms)
    console.print(f"metrics seen: {', '.join(document['metrics']) or 'none yet'}\n")
    levels = [
        [entry["type"], entry["level"], str(entry["count"]), entry["note"]] for entry in document["levels"]
    ]
    _table(console, "Levels of what is deployed", ["type", "level", "count", "note"], levels)


def _table(console: Console, title: str, columns: list[str], rows: list[list[str]]) -> None:
    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    if not rows:
        return
    table = Table(title=title, title_justify="left", box=SIMPLE, pad_edge=False)
    for column, cells in zip(columns, zip(*rows, strict=True), strict=True):
        longest = max(map(len, (column, *cells)))
        table.add_column(column, width=longest if longest <= LONGEST_NAME else PROSE_WIDTH, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)
