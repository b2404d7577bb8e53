"""The token-work formula: how many seconds of one copy's engine a request takes.

Gateway, planner and simulator all call this one function, so what is measured, planned and simulated is the
same quantity. It is linear in requests and tokens, which is what target tracking's proportional rule needs.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenWorkCoefficients:
    """What a request costs one copy, in engine-busy seconds.

    ``prefill_seconds_per_request`` is the fixed part of a prefill, ``prefill_seconds_per_token`` the seconds
    an uncached input token adds to it, ``decode_seconds_per_token`` the share of a decode step that one
    output token occupies (a step's seconds divided by the most sequences that run together).

    Raises ValueError when a coefficient is negative, not finite, or when all of them are zero.
    """

    prefill_seconds_per_request: float
    prefill_seconds_per_token: float
    decode_seconds_per_token: float

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{name} must be a number of seconds, got {value!r}")
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"{name} must be a finite number of seconds, 0 or more, got {value!r}")
        if not any(asdict(self).values()):
            raise ValueError(
                "token work coefficients are all 0, so no load would be seen; give at least one above 0"
            )

    def to_json(self) -> dict[str, float]:
        """The coefficients as a JSON-safe mapping, read back by `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> TokenWorkCoefficients:
        """Read what `to_json` wrote; raises ValueError naming missing, unknown or bad keys."""
        expected = set(cls.__dataclass_fields__)
        if not isinstance(document, dict) or set(document) != expected:
            found = sorted(document) if isinstance(document, dict) else document
            raise ValueError(f"token work must have exactly the keys {sorted(expected)}, got {found!r}")
        return cls(**document)


def token_work(
    *,
    input_tokens: int,
    cached_input_tokens: int,
    output_tokens: int,
    coefficients: TokenWorkCoefficients,
    requests: int = 1,
) -> float:
    """Engine-busy seconds of one copy for these tokens: prefill of what is not cached, plus decode occupancy.

    All counts are tokens (``requests``: requests that start with them; 0 for tokens of a request already
    counted). Cached input tokens are part of ``input_tokens`` and cost nothing: a prefix cache skips their
    prefill.

    Raises ValueError when a count is negative or more tokens are cached than came in.
    """
    counts = {
        "input_tokens": input_tokens,
        "cached_input_tokens": cached_input_tokens,
        "output_tokens": output_tokens,
        "requests": requests,
    }
    for name, value in counts.items():
        if value < 0:
            raise ValueError(f"{name} must be 0 or more, got {value!r}")
    if cached_input_tokens > input_tokens:
        raise ValueError(
            f"cached_input_tokens must be at most input_tokens ({input_tokens}), got {cached_input_tokens}"
        )
    return (
        requests * coefficients.prefill_seconds_per_request
        + (input_tokens - cached_input_tokens) * coefficients.prefill_seconds_per_token
        + output_tokens * coefficients.decode_seconds_per_token
    )
