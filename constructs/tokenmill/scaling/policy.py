"""The scaling policy as a value: what a simulation runs is what the construct renders."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tokenmill.core._checks import as_whole, numeric
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from tokenmill.core.plan import Candidate

# Queued requests count as concurrent ("Amazon SageMaker AI metrics in Amazon CloudWatch": the per-copy
# concurrency includes those queued in the container), so the safety target leaves part of the batch free.
SAFETY_SHARE_OF_BATCH = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenScalingPolicy:
    """When copies are added and removed.

    Args:
        target_utilization_percent: Busy share of a copy that target tracking holds, in percent.
        concurrent_requests_per_copy: Requests in flight a copy above which copies are added at once.
        scale_out_cooldown_seconds: Wait after copies were added, in seconds.
        scale_in_cooldown_seconds: Wait after copies were removed, in seconds.

    Raises:
        TokenmillError: If a number is out of its range.
    """

    target_utilization_percent: float
    concurrent_requests_per_copy: float
    scale_out_cooldown_seconds: int = 60
    scale_in_cooldown_seconds: int = 300

    def __post_init__(self) -> None:
        numeric(self, "target_utilization_percent", "concurrent_requests_per_copy")
        as_whole(self, "scale_out_cooldown_seconds", "scale_in_cooldown_seconds")
        if not 0 < self.target_utilization_percent <= 100:
            raise TokenmillError(
                f"target_utilization_percent is {self.target_utilization_percent}; it must be above "
                "0, up to 100"
            )
        if not (math.isfinite(self.concurrent_requests_per_copy) and self.concurrent_requests_per_copy > 0):
            raise TokenmillError(
                f"concurrent_requests_per_copy is {self.concurrent_requests_per_copy}; it must be above 0"
            )
        for name in ("scale_out_cooldown_seconds", "scale_in_cooldown_seconds"):
            if getattr(self, name) < 0:
                raise TokenmillError(f"{name} is {getattr(self, name)}; it must be 0 or more")

    @classmethod
    def from_candidate(cls, candidate: Candidate) -> Self:
        """Return the policy of a planned candidate: its target utilisation and most of its batch.

        Args:
            candidate: A candidate of a plan.
        """
        return cls(
            target_utilization_percent=candidate.target_utilization_percent,
            concurrent_requests_per_copy=max(
                1.0, math.floor(candidate.max_sequences * SAFETY_SHARE_OF_BATCH)
            ),
        )
