"""The command line's outermost layer: one message and an exit code, whatever went wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TOKENMILL = [sys.executable, "-c", "from tokenmill.cli import main; main()"]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*TOKENMILL, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def test_a_folder_where_a_file_should_be_is_a_message(tmp_path: Path) -> None:
    """An operating system error names the file and ends with 2, without a traceback."""
    (tmp_path / "tokenmill.toml").mkdir()
    done = run("plan", "chat", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "tokenmill.toml" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_is_json_where_json_was_asked_for(tmp_path: Path) -> None:
    """A pipeline reads the message from the document on standard output."""
    done = run("plan", "chat", "--json", cwd=tmp_path)
    assert done.returncode == 2
    assert "tokenmill.toml" in json.loads(done.stdout)["error"]["message"]


def test_the_version_is_printed(tmp_path: Path) -> None:
    """`--version` needs no project."""
    done = run("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout.split()[0]) == (0, "tokenmill")


def test_an_unknown_option_is_bad_input(tmp_path: Path) -> None:
    """A typing mistake ends with 2 and names itself."""
    done = run("plan", "--modle", "x", cwd=tmp_path)
    assert done.returncode == 2
    assert "--modle" in done.stderr
