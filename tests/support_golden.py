"""Golden files under tests/snapshot: `make snapshot` rewrites them."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

GOLDEN = Path(__file__).resolve().parent / "snapshot" / "golden"
UPDATE = bool(os.environ.get("UPDATE_SNAPSHOTS"))


def compare(name: str, text: str) -> None:
    """Hold a text against its golden file, or write it."""
    path = GOLDEN / name
    if UPDATE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    golden = path.read_text(encoding="utf-8")
    change = difflib.unified_diff(golden.splitlines(), text.splitlines(), "golden", "now", lineterm="", n=2)
    assert text == golden, "\n".join(["read this, then run `make snapshot` if it is meant:", *change])
