"""The prompt that a deployment sends before it says that it is complete."""

from __future__ import annotations

from dataclasses import dataclass

from tokenmill.core._checks import as_whole, known
from tokenmill.core.errors import TokenmillError

LONGEST_PROMPT = 1000
# The function that asks has 15 minutes, of which reading the live state takes some.
LONGEST_WAIT_SECONDS = 720


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeTest:
    """One chat completion that a fresh deployment must answer.

    A fleet that stands at 0 copies is not woken: the wake-up would cost an instance start in every
    deployment, so there the prompt is skipped and the deployment says so in its log.

    Args:
        prompt: The user's message; None compares the live configuration and asks nothing. It stands in the
            template, so it is no place for a secret.
        max_tokens: Most tokens of the answer, 1 to 512.
        wait_seconds: How long answers may fail while containers warm up, in seconds, 1 to 720.

    Raises:
        TokenmillError: If a number is out of its range, or the prompt is empty or too long.
    """

    prompt: str | None = "Reply with the word ready."
    max_tokens: int = 8
    wait_seconds: int = 300

    def __post_init__(self) -> None:
        known("prompt", self.prompt)
        as_whole(self, "max_tokens", "wait_seconds")
        if self.prompt is not None and not 1 <= len(self.prompt) <= LONGEST_PROMPT:
            raise TokenmillError(
                f"prompt has {len(self.prompt)} characters; give 1 to {LONGEST_PROMPT}, or None"
            )
        if not 1 <= self.max_tokens <= 512:
            raise TokenmillError(f"max_tokens is {self.max_tokens}; it must be 1 to 512")
        if not 1 <= self.wait_seconds <= LONGEST_WAIT_SECONDS:
            raise TokenmillError(
                f"wait_seconds is {self.wait_seconds}; it must be 1 to {LONGEST_WAIT_SECONDS}, because the "
                "function that asks runs at most 15 minutes"
            )
