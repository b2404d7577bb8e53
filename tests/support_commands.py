"""The type of the fixture that runs a command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from click.testing import Result


class Run(Protocol):
    def __call__(self, *arguments: str, input: str | None = None) -> Result: ...
