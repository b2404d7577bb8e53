"""JSON documents are read with a way out in every complaint, and replaced whole or not at all."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tokenmill.core._files import read_document, replace_text
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is not JSON \(line 1 column 1: expecting value\); write it"),
        (b'{"a": ', r"is not JSON \(line 1 column 7: expecting value\)"),
        (b"\xff\xfe", "is not text; write it"),
        (b"[" * 100_000, "is not JSON that a program here wrote; write it"),
        (b"9" * 5000, "is not JSON that a program here wrote; write it"),
    ],
)
def test_fails_for_a_damaged_document(tmp_path: Path, content: bytes, message: str) -> None:
    """Nested without end, cut off or no text at all: one sentence each."""
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(TokenmillError, match=f"^plan file .*a.json {message}"):
        read_document(path, "plan file", "write it")


def test_fails_for_a_document_that_is_none(tmp_path: Path) -> None:
    """Missing, or a folder."""
    with pytest.raises(TokenmillError, match=r"none.json does not exist; write it"):
        read_document(tmp_path / "none.json", "plan file", "write it")
    with pytest.raises(TokenmillError, match="is a folder; remove it and write it"):
        read_document(tmp_path, "plan file", "write it")


def test_a_file_is_replaced_and_may_be_read_by_others(tmp_path: Path) -> None:
    """As a file that is committed must be."""
    path = tmp_path / "a.json"
    path.write_text("old")
    replace_text(path, '{"é": 1}\n')
    assert json.loads(path.read_text(encoding="utf-8")) == {"é": 1}
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [OSError("no space left on device"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """A full disk, or Ctrl-C."""

    def fail(handle: int) -> None:
        raise error

    path = tmp_path / "a.json"
    path.write_text("old")
    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(type(error)):
        replace_text(path, "new")
    assert [item.name for item in tmp_path.iterdir()] == ["a.json"]
    assert path.read_text() == "old"


def test_fails_to_replace_a_folder(tmp_path: Path) -> None:
    """Before anything is written."""
    path = tmp_path / "a.json"
    path.mkdir()
    with pytest.raises(TokenmillError, match="cannot write .*a.json: it is a folder; remove it"):
        replace_text(path, "new")
    assert [item.name for item in tmp_path.iterdir()] == ["a.json"]
