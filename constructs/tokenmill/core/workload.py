"""What must be carried, how fast it must answer, and how far the search may go."""

from __future__ import annotations

import fnmatch
import math
from dataclasses import dataclass

from tokenmill.core.errors import TokenmillError


def _as_floats(value: object, *names: str) -> None:
    """Turn whole numbers into floats, so that 95 and 95.0 are one value with one digest."""
    for name in names:
        object.__setattr__(value, name, float(getattr(value, name)))


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise TokenmillError(f"{name} must be above 0, got {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What the endpoint must carry at its peak hour.

    Args:
        requests_per_second: Mean arrival rate of the peak hour.
        input_tokens: Mean prompt length of a request, in tokens.
        output_tokens: Mean answer length of a request, in tokens.

    Raises:
        TokenmillError: A number is not above 0.
    """

    requests_per_second: float
    input_tokens: int
    output_tokens: int

    def __post_init__(self) -> None:
        _positive(
            requests_per_second=self.requests_per_second,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
        )
        _as_floats(self, "requests_per_second")

    @property
    def tokens_per_hour(self) -> float:
        """Input and output tokens an hour at the planned rate."""
        return self.requests_per_second * 3600 * (self.input_tokens + self.output_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """How fast the endpoint must answer.

    Args:
        ttft_ms: Time to first token, in milliseconds, at the percentile.
        itl_ms: Inter-token latency (a request's mean gap between tokens), in milliseconds, at the percentile.
        percentile: Share of requests that must meet both, in percent, 50 to 99.9.

    Raises:
        TokenmillError: A number is out of its range.
    """

    ttft_ms: float
    itl_ms: float
    percentile: float = 95.0

    def __post_init__(self) -> None:
        _positive(ttft_ms=self.ttft_ms, itl_ms=self.itl_ms)
        if not 50 <= self.percentile <= 99.9:
            raise TokenmillError(f"percentile must be 50 to 99.9, got {self.percentile!r}")
        _as_floats(self, "ttft_ms", "itl_ms", "percentile")


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """How many copies may run, and how many run at first.

    Args:
        minimum: Fewest copies, 0 for scale to zero.
        maximum: Most copies.
        initial: Copies at the first deployment.

    Raises:
        TokenmillError: Not 0 <= minimum <= initial <= maximum, or maximum below 1.
    """

    minimum: int
    maximum: int
    initial: int

    def __post_init__(self) -> None:
        if self.maximum < 1 or not 0 <= self.minimum <= self.initial <= self.maximum:
            raise TokenmillError(
                f"capacity must satisfy 0 <= minimum <= initial <= maximum and maximum >= 1, "
                f"got minimum={self.minimum}, initial={self.initial}, maximum={self.maximum}"
            )

    @classmethod
    def fixed(cls, copies: int) -> Capacity:
        """Return a capacity that never scales.

        Args:
            copies: How many copies run.
        """
        return cls(minimum=copies, maximum=copies, initial=copies)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallelism:
    """How one copy of the model is split over accelerator cores.

    Args:
        tensor: Cores that share every layer.
        pipeline: Groups of layers, one after another.
        data: Replicas of the whole inside one copy.
        expert: Cores that share the experts of a mixture of experts.

    Raises:
        TokenmillError: A degree is below 1.
    """

    tensor: int
    pipeline: int = 1
    data: int = 1
    expert: int = 1

    def __post_init__(self) -> None:
        for name in ("tensor", "pipeline", "data", "expert"):
            if getattr(self, name) < 1:
                raise TokenmillError(f"{name} parallelism must be 1 or more, got {getattr(self, name)}")

    @property
    def cores(self) -> int:
        """Accelerator cores (or GPUs) of one copy."""
        return self.tensor * self.pipeline * self.data


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the search may choose from.

    Args:
        instances: Patterns of instance types, such as "ml.inf2.*"; empty means all in the catalog.
        context_tokens: Prompt plus answer that a sequence may hold; None derives it from the workload.
        max_instances: Most instances of a fleet.
        min_copies: Fewest copies while anything runs; two let a component be updated without a gap.
        target_utilization_percent: Busy share of an engine at the planned rate; the rest absorbs bursts.
        max_sequences: Largest batch to consider.
        allow_unpriced: Whether types without a price in the region may be candidates (after the priced).

    Raises:
        TokenmillError: A number is out of its range.
    """

    instances: tuple[str, ...] = ()
    context_tokens: int | None = None
    max_instances: int = 100
    min_copies: int = 1
    target_utilization_percent: float = 70.0
    max_sequences: int = 256
    allow_unpriced: bool = True

    def __post_init__(self) -> None:
        _positive(
            max_instances=self.max_instances,
            max_sequences=self.max_sequences,
            min_copies=self.min_copies,
        )
        if self.context_tokens is not None and self.context_tokens < 128:
            raise TokenmillError(f"context_tokens must be 128 or more, got {self.context_tokens}")
        if not 10 <= self.target_utilization_percent <= 95:
            raise TokenmillError(
                f"target_utilization_percent must be 10 to 95, got {self.target_utilization_percent!r}"
            )
        _as_floats(self, "target_utilization_percent")

    def allows(self, instance_type: str) -> bool:
        """Return whether an instance type may be used.

        Args:
            instance_type: A hosting type such as "ml.inf2.8xlarge".
        """
        return not self.instances or any(fnmatch.fnmatchcase(instance_type, p) for p in self.instances)
