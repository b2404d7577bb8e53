"""What a probe is about to create, written down before that, so that nothing outlives a killed run."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One resource that a probe created or was about to create.

    Args:
        kind: Which deletion it needs.
        name: Its name, chosen by us, so that it can be found without the creation's answer.
        account: The account's number.
        region: AWS region.
        endpoint: Where the calls went: AWS's own address, or another one.
        created: When, in ISO 8601.
    """

    kind: str
    name: str
    account: str
    region: str
    endpoint: str
    created: str


class Ledger:
    """A file of entries, in the order of creation; each change is on disk before the call returns.

    Args:
        path: The file; it is made with its first entry and removed with its last.

    Raises:
        TokenmillError: The file is there and cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: list[Entry] = []
        if path.exists():
            try:
                document = json.loads(path.read_text(encoding="utf-8"))
                self._entries = [Entry(**entry) for entry in document["entries"]]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise TokenmillError(
                    f"cannot read {path}: {error}; look in the account for resources tagged tokenmill:verify"
                ) from error

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every entry, the oldest first."""
        return tuple(self._entries)

    def add(self, entry: Entry) -> None:
        """Write an entry down.

        Args:
            entry: The resource that is about to be created.
        """
        self._entries.append(entry)
        self._save()

    def remove(self, entry: Entry) -> None:
        """Strike an entry out.

        Args:
            entry: The resource that is known to be gone.
        """
        self._entries.remove(entry)
        self._save()

    def _save(self) -> None:
        if not self._entries:
            self.path.unlink(missing_ok=True)
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self.path.name + ".partial")
        with partial.open("w", encoding="utf-8") as file:
            json.dump({"schema": 1, "entries": [asdict(entry) for entry in self._entries]}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)
