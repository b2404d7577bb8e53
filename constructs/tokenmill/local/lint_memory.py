"""The last clean lint of an assembly: one that has not changed by a byte is not linted again."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# What a slow synth took, which aws-cdk-lib writes beside the assembly: never the same twice.
TIMES = "performance-counters.json"
_TOOLS = ("tokenmill", "cfn-lint", "cdk-nag")


class LintMemory:
    """What is remembered of one folder's last clean lint.

    Args:
        path: Where it is kept.
        assembly: The assembly.
    """

    def __init__(self, path: Path, *, assembly: Path) -> None:
        self._path = path
        self._digest = _digest(assembly)

    @property
    def clean(self) -> str | None:
        """What the clean lint of this very assembly said; nothing when there was none."""
        if not self._path.exists():
            return None
        try:
            kept = json.loads(self._path.read_text())
        except ValueError:
            return None  # cut short by a full disk or a kill: the next clean lint writes it again
        known = isinstance(kept, dict) and kept.get("digest") == self._digest
        return str(kept["summary"]) if known else None

    def remember(self, summary: str) -> None:
        """Keep a clean lint.

        Args:
            summary: What it said.
        """
        self._path.write_text(json.dumps({"digest": self._digest, "summary": summary}))


def _digest(assembly: Path) -> str:
    digest = hashlib.sha256()
    for tool in _TOOLS:
        try:
            digest.update(f"{tool} {version(tool)}\n".encode())
        except PackageNotFoundError:
            digest.update(f"{tool} missing\n".encode())
    for path in sorted(assembly.rglob("*.json")):
        asset = path.relative_to(assembly).parts[0].startswith("asset.")
        if not asset and path.name != TIMES:
            digest.update(path.name.encode() + _content(path))
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    """A file of the assembly without the traces of its metadata, which name a temporary folder of jsii's."""
    if not path.name.endswith(".metadata.json"):
        return path.read_bytes()
    document = json.loads(path.read_bytes())
    kept = {
        place: [{name: value for name, value in entry.items() if name != "trace"} for entry in entries]
        for place, entries in document.items()
    }
    return json.dumps(kept, sort_keys=True).encode()
