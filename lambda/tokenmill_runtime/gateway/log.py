"""Structured log lines: one JSON object a line, as CloudWatch Logs Insights reads them."""

from __future__ import annotations

import json
import sys
from typing import Literal

Level = Literal["info", "warning", "error"]


def print_line(line: str) -> None:
    """Write a line to standard output in one piece, so that the lines of concurrent requests do not mix."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def log_line(level: Level, message: str, **fields: object) -> str:
    """A log line; fields that are None are left out."""
    given = {name: value for name, value in fields.items() if value is not None}
    return json.dumps({"level": level, "message": message, **given}, separators=(",", ":"), default=str)
