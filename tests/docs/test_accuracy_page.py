"""docs/accuracy.md holds what the command prints."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_tables_are_those_of_the_command() -> None:
    """Write them again with: python tools/accuracy_page.py."""
    spec = importlib.util.spec_from_file_location("accuracy_page", ROOT / "tools" / "accuracy_page.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page()
