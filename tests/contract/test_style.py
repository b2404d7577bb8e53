"""The project's own style and types hold, with the pinned tools."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "command",
    [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]],
    ids=["ruff check", "ruff format", "mypy --strict"],
)
def test_the_tree_is_clean_under(command: list[str]) -> None:
    """Lint, format and strict types find nothing."""
    tool = [sys.executable, "-m", *command]
    found = subprocess.run(tool, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ})
    assert found.returncode == 0, found.stdout + found.stderr


def test_lock_files_hold_no_download_address() -> None:
    """Whoever installs chooses the registry."""
    for name in (
        "package-lock.json",
        "requirements/dev.txt",
        "requirements/checkov.txt",
        "requirements/gateway.txt",
    ):
        assert "://" not in (ROOT / name).read_text(), name


def test_every_pinned_requirement_has_a_hash() -> None:
    """A requirement is one release and its bytes."""
    for name in ("dev", "checkov", "gateway"):
        text = (ROOT / "requirements" / f"{name}.txt").read_text().replace("\\\n", " ")
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        assert lines
        assert [line for line in lines if "==" not in line or "--hash=sha256:" not in line] == []
