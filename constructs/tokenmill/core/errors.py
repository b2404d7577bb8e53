"""Errors that a command line or a pipeline catches: each says what, the value, what is allowed, a way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class TokenmillError(ValueError):
    """Something the user can mend: bad input or a missing piece of the environment."""

    exit_code = 2


class NoPlanError(TokenmillError):
    """No candidate meets the goals; the input itself is fine."""

    exit_code = 1


class SettingsError(TokenmillError):
    """Every problem of a settings file at once.

    Args:
        problems: One sentence a problem, each with the key, the bad value and what is allowed.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))
