"""Tables of facts that stand beside the code, as comma-separated values."""

from __future__ import annotations

import csv
from importlib import resources


def rows(name: str) -> list[dict[str, str]]:
    """Return the rows of a table, by the names of its first line.

    Args:
        name: The file's name in the folder data.
    """
    text = resources.files("tokenmill.core").joinpath("data", name).read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))
