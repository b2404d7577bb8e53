"""What must be carried, how fast it must answer, and how far the search may go."""

from __future__ import annotations

import fnmatch
import math
from dataclasses import dataclass

from tokenmill.core._checks import as_floats, as_texts, as_whole, at_most, numeric, of_kind, positive
from tokenmill.core.errors import TokenmillError

MOST_TOKENS = 100_000_000
"""Longer prompts, answers and contexts than this are mistakes: no published model holds a tenth of it."""
MOST_REQUESTS_PER_SECOND = 1_000_000.0
MOST_MS = 86_400_000.0
P95 = 1.6448536269514722
"""Standard deviations from the median to the 95th percentile of a normal variable."""
AS_PUBLISHED = "as-published"
QUANTIZATIONS = (AS_PUBLISHED, "fp8", "int8", "int4")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSpread:
    """How the lengths of prompts or answers spread.

    Args:
        p50: Median, in tokens.
        p95: 95th percentile, in tokens.
        cv: Coefficient of variation: standard deviation over mean. Queues grow with its square.

    Raises:
        TokenmillError: A number is out of its range, or p95 is below p50.
    """

    p50: int
    p95: int
    cv: float

    def __post_init__(self) -> None:
        as_whole(self, "p50", "p95")
        numeric(self, "cv")
        if not 0 <= self.p50 <= self.p95 <= MOST_TOKENS:
            raise TokenmillError(
                f"p50 must be 0 or more and p95 at least p50 and at most {MOST_TOKENS:,}, "
                f"got p50 {self.p50} and p95 {self.p95}"
            )
        if not 0 <= self.cv <= 1000:
            raise TokenmillError(f"cv must be 0 to 1000, got {self.cv!r}")
        as_floats(self, "cv")

    @classmethod
    def lognormal(cls, *, p50: int, p95: int) -> TokenSpread:
        """Return the spread of a lognormal length with these percentiles.

        Args:
            p50: Median, in tokens.
            p95: 95th percentile, in tokens.

        Raises:
            TokenmillError: p50 is not above 0, or p95 is below it.
        """
        positive(p50=p50)
        sigma = math.log(max(p95, p50) / p50) / P95
        return cls(p50=p50, p95=p95, cv=min(1000.0, math.sqrt(math.expm1(min(700.0, sigma * sigma)))))

    @property
    def lognormal_mean(self) -> int:
        """Mean of the lognormal length with these percentiles, in tokens."""
        return max(1, round(min(float(MOST_TOKENS), self.p50 * math.sqrt(1 + self.cv * self.cv))))

    def at(self, z: float) -> float:
        """Return a percentile, in tokens, on the line through the logarithms of median and 95th.

        Args:
            z: Standard deviations of a normal variable from its median; 1.645 gives the 95th percentile.
        """
        low = max(1, self.p50)
        return float(low * (max(self.p95, low) / low) ** (z / P95))


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeculativeDecoding:
    """A draft proposes tokens, and one step of the model checks them all.

    Expected tokens a step: (1 - a^(n+1)) / (1 - a) for n proposed tokens that are each accepted with
    probability a (Leviathan, Kalman, Matias: "Fast Inference from Transformers via Speculative Decoding",
    2023, equation 1).

    Args:
        tokens: Tokens that the draft proposes a step.
        acceptance: Share of proposed tokens that the model accepts, 0 to 1: measure it on your own traffic.
        draft_cost: Time to draft one token over the time of one step of the model; 0 for prompt lookup.

    Raises:
        TokenmillError: A number is out of its range.
    """

    tokens: int
    acceptance: float
    draft_cost: float = 0.0

    def __post_init__(self) -> None:
        as_whole(self, "tokens")
        numeric(self, "acceptance", "draft_cost")
        if not 1 <= self.tokens <= 64:
            raise TokenmillError(f"tokens must be 1 to 64, got {self.tokens}")
        if not 0 <= self.acceptance <= 1:
            raise TokenmillError(f"acceptance must be 0 to 1, got {self.acceptance!r}")
        if not 0 <= self.draft_cost <= 1:
            raise TokenmillError(f"draft_cost must be 0 to 1, got {self.draft_cost!r}")
        as_floats(self, "acceptance", "draft_cost")

    @property
    def tokens_per_step(self) -> float:
        """Tokens that a step yields on average, from 1 to `tokens` + 1."""
        return sum(self.acceptance**power for power in range(self.tokens + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What the endpoint must carry at its peak hour.

    Args:
        requests_per_second: Mean arrival rate of the peak hour.
        input_tokens: Mean prompt length of a request, in tokens.
        output_tokens: Mean answer length of a request, in tokens.
        input_spread: How prompts spread; None takes all as equally long.
        output_spread: How answers spread; None takes them as exponential.
        prefix_cache_share: Share of the prompt tokens that a prefix cache holds, 0 to below 1.
        burstiness: Coefficient of variation of the time between requests: 1 as Poisson's, above it burstier.
        trace_digest: SHA-256 of the trace's content; empty where the numbers come from no trace.
        speculative: Speculative decoding; None for none.

    Raises:
        TokenmillError: A number is out of its range.
    """

    requests_per_second: float
    input_tokens: int
    output_tokens: int
    input_spread: TokenSpread | None = None
    output_spread: TokenSpread | None = None
    prefix_cache_share: float = 0.0
    burstiness: float = 1.0
    trace_digest: str = ""
    speculative: SpeculativeDecoding | None = None

    def __post_init__(self) -> None:
        as_whole(self, "input_tokens", "output_tokens")
        numeric(self, "requests_per_second", "prefix_cache_share", "burstiness")
        of_kind(self, "input_spread", TokenSpread)
        of_kind(self, "output_spread", TokenSpread)
        of_kind(self, "speculative", SpeculativeDecoding)
        positive(
            requests_per_second=self.requests_per_second,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
        )
        at_most(MOST_REQUESTS_PER_SECOND, requests_per_second=self.requests_per_second)
        at_most(MOST_TOKENS, input_tokens=self.input_tokens, output_tokens=self.output_tokens)
        if not 0 <= self.prefix_cache_share < 1:
            raise TokenmillError(
                f"prefix_cache_share must be 0 or more and below 1, got {self.prefix_cache_share!r}; "
                "it is a share, not a percentage"
            )
        if not 0 <= self.burstiness <= 100:
            raise TokenmillError(f"burstiness must be 0 to 100, got {self.burstiness!r}")
        as_floats(self, "requests_per_second", "prefix_cache_share", "burstiness")

    @property
    def tokens_per_hour(self) -> float:
        """Input and output tokens an hour at the planned rate."""
        return self.requests_per_second * 3600 * (self.input_tokens + self.output_tokens)

    @property
    def has_gaps(self) -> bool:
        """Whether answers have a second token, and so a gap before it."""
        return self.output_tokens > 1

    @property
    def input_cv(self) -> float:
        """Coefficient of variation of the prompt length."""
        return self.input_spread.cv if self.input_spread else 0.0

    @property
    def output_cv(self) -> float:
        """Coefficient of variation of the answer length; 1, as of an exponential, where it is not known."""
        return self.output_spread.cv if self.output_spread else 1.0

    @property
    def long_tokens(self) -> int:
        """Prompt and answer of a long request: both 95th percentiles, or means where no spread is known."""
        long_input = self.input_spread.p95 if self.input_spread else 0
        long_output = self.output_spread.p95 if self.output_spread else 0
        return max(self.input_tokens, long_input) + max(self.output_tokens, long_output)


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
        numeric(self, "ttft_ms", "itl_ms", "percentile")
        positive(ttft_ms=self.ttft_ms, itl_ms=self.itl_ms)
        at_most(MOST_MS, ttft_ms=self.ttft_ms, itl_ms=self.itl_ms)
        if not 50 <= self.percentile <= 99.9:
            hint = "; it is in percent, not a share" if 0 < self.percentile < 1 else ""
            raise TokenmillError(f"percentile must be 50 to 99.9, got {self.percentile!r}{hint}")
        as_floats(self, "ttft_ms", "itl_ms", "percentile")


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
        as_whole(self, "minimum", "maximum", "initial")
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
        TokenmillError: A degree is no whole number above 0.
    """

    tensor: int
    pipeline: int = 1
    data: int = 1
    expert: int = 1

    def __post_init__(self) -> None:
        as_whole(self, "tensor", "pipeline", "data", "expert")
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
        quantizations: Weight formats that may be served: "as-published", and those that the server may
            convert plain weights to, such as "fp8"; that changes the answers, so none is tried unasked.
        allow_experimental: Whether what must first be tried may be chosen: types whose serving image must be
            built, and splits whose times are too uncertain.

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
    quantizations: tuple[str, ...] = (AS_PUBLISHED,)
    allow_experimental: bool = False

    def __post_init__(self) -> None:
        as_texts(self, "instances", "quantizations")
        as_whole(self, "max_instances", "max_sequences", "min_copies")
        numeric(self, "target_utilization_percent")
        positive(
            max_instances=self.max_instances,
            max_sequences=self.max_sequences,
            min_copies=self.min_copies,
        )
        at_most(MOST_TOKENS, max_instances=self.max_instances, max_sequences=self.max_sequences)
        if self.context_tokens is not None:
            as_whole(self, "context_tokens")
            if not 128 <= self.context_tokens <= MOST_TOKENS:
                raise TokenmillError(
                    f"context_tokens must be 128 or more and at most {MOST_TOKENS:,}, "
                    f"got {self.context_tokens}"
                )
        unknown = [name for name in self.quantizations if name not in QUANTIZATIONS]
        if unknown or not self.quantizations:
            raise TokenmillError(
                f"quantizations must name one or more of {', '.join(QUANTIZATIONS)}, "
                f"got {', '.join(map(repr, unknown)) or 'none'}"
            )
        if not 10 <= self.target_utilization_percent <= 95:
            hint = "; it is in percent, not a share" if 0 < self.target_utilization_percent <= 1 else ""
            raise TokenmillError(
                f"target_utilization_percent must be 10 to 95, got {self.target_utilization_percent!r}{hint}"
            )
        as_floats(self, "target_utilization_percent")

    def allows(self, instance_type: str) -> bool:
        """Return whether an instance type may be used.

        Args:
            instance_type: A hosting type such as "ml.inf2.8xlarge".
        """
        return not self.instances or any(fnmatch.fnmatchcase(instance_type, p) for p in self.instances)
