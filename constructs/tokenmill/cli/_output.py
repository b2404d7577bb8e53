"""What every command prints: people read the console, machines read one JSON document."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDEST = 500
JsonFlag = Annotated[bool, typer.Option("--json", help="print one JSON document instead of text")]


def console() -> Console:
    """Return the console for people; progress and text go to standard output."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def print_table(out: Console, table: Table) -> None:
    """Print a table as wide as its cells: one squeezed into a narrow terminal or a log file cannot be read.

    Args:
        out: Where.
        table: The table.
    """
    out.width = max(out.width, table.__rich_measure__(out, out.options.update(max_width=WIDEST)).maximum)
    out.print(table)


def print_json(document: object) -> None:
    """Print one JSON document for machines.

    Args:
        document: Anything that `json` can write.
    """
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")
    sys.stdout.flush()


def print_error(message: str, *, as_json: bool) -> None:
    """Print what went wrong: a JSON document on standard output, or a sentence on standard error.

    Args:
        message: One sentence, or several lines where several things are wrong.
        as_json: Whether the command was asked for JSON.
    """
    if as_json:
        print_json({"error": {"message": message}})
    else:
        sys.stderr.write(f"error: {message}\n")
