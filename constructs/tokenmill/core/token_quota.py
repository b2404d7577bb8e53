"""What Bedrock's throttling counts: tokens reserved when a request starts, and settled when it ends.

Source: "How tokens are counted in Amazon Bedrock" (Amazon Bedrock User Guide). A request takes its whole
input, caches included, and `max_tokens` from the quota when it starts. When it ends it has taken its input
without cache reads, and its answer times a burndown factor; the difference is given back. Most throttling
below the quota comes from a `max_tokens` far above the answers.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from tokenmill.core._checks import as_whole, numeric, positive, text
from tokenmill.core._tables import rows
from tokenmill.core.bedrock_profiles import split_profile
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from tokenmill.core.workload import Workload

MOST_FACTOR = 100.0
NO_OVERRIDES: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Burndown:
    """How much of the quota an answer's token takes.

    Args:
        factor: Quota tokens for each token of an answer.
        documented: Whether AWS says so.
        source: Where it stands; empty for a factor of the user's.
    """

    factor: float
    documented: bool
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUse:
    """Tokens of one request, as Bedrock counts them; those of caches are not part of the input.

    Args:
        input_tokens: Read by the model itself.
        output_tokens: Answered.
        cache_read_tokens: Read from the prompt cache.
        cache_write_tokens: Written to it.

    Raises:
        TokenmillError: If a count is below 0 or no whole number.
    """

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0

    def __post_init__(self) -> None:
        names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
        as_whole(self, *names)
        for name in names:
            if getattr(self, name) < 0:
                raise TokenmillError(f"{name} must be 0 or more, got {getattr(self, name)}")

    def reserved(self, max_tokens: int) -> int:
        """Return the quota tokens that the request takes when it starts.

        Args:
            max_tokens: The longest answer that it asks for.
        """
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens + max_tokens

    def settled(self, factor: float) -> float:
        """Return the quota tokens that it has taken when it ends.

        Args:
            factor: Quota tokens for each token of an answer.
        """
        return self.input_tokens + self.cache_write_tokens + self.output_tokens * factor


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaLoad:
    """What a load takes from a quota of tokens a minute.

    Args:
        requests_per_minute: Mean of the hour.
        reserved_tpm: What the requests of a minute take when they start.
        settled_tpm: What they have taken when they ended.
        max_tokens: The longest answer that each asks for.
        factor: Quota tokens for each token of an answer.
    """

    requests_per_minute: float
    reserved_tpm: float
    settled_tpm: float
    max_tokens: int
    factor: float

    @property
    def needed_tpm(self) -> float:
        """The quota that is enough even if no request of a minute ended within it."""
        return max(self.reserved_tpm, self.settled_tpm)

    def headroom(self, quota_tpm: float) -> float:
        """Return the share of a quota that the load leaves free; below 0 where it does not fit.

        Args:
            quota_tpm: The quota, in tokens a minute.

        Raises:
            TokenmillError: If the quota is not above 0.
        """
        positive(quota_tpm=quota_tpm)
        return 1 - self.needed_tpm / quota_tpm

    def longest_answer(self, quota_tpm: float) -> int:
        """Return the largest `max_tokens` with which a minute's requests fit a quota; 0 for none.

        Args:
            quota_tpm: The quota, in tokens a minute.

        Raises:
            TokenmillError: If the quota is not above 0.
        """
        positive(quota_tpm=quota_tpm)
        if self.settled_tpm > quota_tpm:
            return 0
        prompts = self.reserved_tpm - self.max_tokens * self.requests_per_minute
        return max(0, int((quota_tpm - prompts) / self.requests_per_minute))


def burndown(model_id: str, *, overrides: Mapping[str, float] = NO_OVERRIDES) -> Burndown:
    """Return how much of the quota a model's answers take.

    Args:
        model_id: A Bedrock id, with or without a profile's geography, or an ARN that ends in one.
        overrides: Factors of your own by the beginning of a model's id, such as {"anthropic.claude-opus": 5}.

    Raises:
        TokenmillError: If a factor of yours is not from 1 to 100.
    """
    text("model_id", model_id)
    if not isinstance(overrides, Mapping):
        raise TokenmillError(
            f"overrides is {overrides!r:.80}; give factors by the beginning of a model's id, such as "
            '{"anthropic.claude-opus": 5}'
        )
    for prefix, factor in overrides.items():
        text("the beginning of a model's id in overrides", prefix)
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 1 <= factor <= MOST_FACTOR:
            raise TokenmillError(
                f"the burndown factor of {prefix!r} is {factor!r}; it must be 1 to {MOST_FACTOR:g} quota "
                "tokens for each answer token"
            )
    model = split_profile(model_id.rpartition("/")[2])[1]
    own = _longest(model, overrides)
    if own is not None:
        return Burndown(factor=float(overrides[own]), documented=True, source="")
    listed = _listed()
    found = _longest(model, listed)
    if found is not None:
        return listed[found]
    return Burndown(
        factor=1.0, documented=True, source="How tokens are counted in Amazon Bedrock: all other models"
    )


def quota_load(workload: Workload, *, max_tokens: int, factor: float, cached_share: float = 0.0) -> QuotaLoad:
    """Return what a load takes from a quota.

    Args:
        workload: The hour to look at.
        max_tokens: The longest answer that a request asks for.
        factor: Quota tokens for each token of an answer; `burndown` knows it.
        cached_share: Share of the prompts' tokens that the prompt cache gives, 0 to 1.

    Raises:
        TokenmillError: If a number is out of range.
    """
    asked = _Asked(max_tokens=max_tokens, factor=factor, cached_share=cached_share)
    minute = workload.requests_per_second * 60
    read = workload.input_tokens * asked.cached_share
    return QuotaLoad(
        requests_per_minute=minute,
        reserved_tpm=minute * (workload.input_tokens + asked.max_tokens),
        settled_tpm=minute * (workload.input_tokens - read + workload.output_tokens * asked.factor),
        max_tokens=asked.max_tokens,
        factor=asked.factor,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    max_tokens: int
    factor: float
    cached_share: float

    def __post_init__(self) -> None:
        as_whole(self, "max_tokens")
        numeric(self, "factor", "cached_share")
        positive(max_tokens=self.max_tokens)
        if not 1 <= self.factor <= MOST_FACTOR:
            raise TokenmillError(f"factor must be 1 to {MOST_FACTOR:g}, got {self.factor!r}")
        if not 0 <= self.cached_share <= 1:
            raise TokenmillError(
                f"cached_share must be 0 to 1, got {self.cached_share!r}; it is a share, not a percentage"
            )


def _longest(model: str, known: Mapping[str, object]) -> str | None:
    return max((prefix for prefix in known if model.startswith(prefix)), key=len, default=None)


@functools.cache
def _listed() -> dict[str, Burndown]:
    return {
        row["prefix"]: Burndown(
            factor=float(row["factor"]), documented=row["documented"] == "yes", source=row["source"]
        )
        for row in rows("token_burndown.csv")
    }
