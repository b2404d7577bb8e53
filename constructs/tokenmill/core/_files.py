"""JSON documents beside the settings file: read with a way out in every complaint, replaced in one step."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from tokenmill.core.errors import TokenmillError


def read_document(path: Path, kind: str, again: str) -> Any:
    """Return the parsed content of a JSON file.

    Args:
        path: The file.
        kind: What it is, for messages: "plan file".
        again: How it is written again, as the end of a sentence.

    Raises:
        TokenmillError: The file is missing, a folder, not text or not JSON.
    """
    where = f"{kind} {path}"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TokenmillError(f"{where} does not exist; {again}") from None
    except IsADirectoryError:
        raise TokenmillError(f"{where} is a folder; remove it and {again}") from None
    except UnicodeDecodeError:
        raise TokenmillError(f"{where} is not text; {again}") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}: {error.msg.lower()}"
        raise TokenmillError(f"{where} is not JSON ({place}); {again}") from None
    except (RecursionError, ValueError):
        # json gives up on thousands of nested brackets, and on numbers of more than 4,300 digits
        raise TokenmillError(f"{where} is not JSON that a program here wrote; {again}") from None


def replace_text(path: Path, text: str) -> None:
    """Write a file: a reader sees the old content or the new one, and a failure leaves nothing behind.

    Args:
        path: The file.
        text: Its new content.

    Raises:
        TokenmillError: The path is a folder.
        OSError: The folder does not exist or cannot be written to.
    """
    if path.is_dir():
        raise TokenmillError(f"cannot write {path}: it is a folder; remove it")
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    partial = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp keeps others out; these files hold nothing secret and are committed
        partial.chmod(0o644)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
