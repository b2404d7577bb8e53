"""What a team needs of the place that serves its model: what the Bedrock-or-SageMaker decision asks."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tokenmill.core._settings_reader import REGION
from tokenmill.core.errors import TokenmillError

HOURS_PER_MONTH = 730.0
OFFICE_HOURS_PER_MONTH = 10 * 5 * 52 / 12
ROOM_FOR_LONG_ANSWERS = 4

CUSTOMIZATIONS = (
    "none",
    "prompt",
    "lora",
    "full-fine-tune",
    "continued-pre-training",
    "own-weights",
    "own-architecture",
)
TUNED = ("lora", "full-fine-tune", "continued-pre-training")
CONTROLS = ("engine", "kernel", "network-isolation", "pinned-weights", "lifecycle")
CROSS_REGION = ("none", "geography", "global")
OPERATIONS = ("none", "part-time", "team")
SHAPES = ("steady", "office-hours", "bursty", "batch")


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Check a choice.

    Args:
        name: What it is the choice of, for the message.
        value: What was chosen.
        allowed: What may be chosen.

    Raises:
        TokenmillError: It is none of them.
    """
    if value not in allowed:
        raise TokenmillError(f"{name} is {value!r}; allowed: {', '.join(allowed)}")


def number(name: str, value: float, low: float, high: float, unit: str) -> None:
    """Check a number.

    Args:
        name: What it is, for the message.
        value: The number.
        low: Smallest allowed.
        high: Largest allowed.
        unit: What it is counted in.

    Raises:
        TokenmillError: It is not finite, or out of the range.
    """
    if not (math.isfinite(value) and low <= value <= high):
        raise TokenmillError(f"{name} is {value!r}; it must be {low:,g} to {high:,g} {unit}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What must hold wherever the model runs.

    Args:
        customization: "none", "prompt", "lora", "full-fine-tune", "continued-pre-training" (on open weights
            or on a model that Bedrock tunes), "own-weights" (trained elsewhere, known architecture) or
            "own-architecture".
        control: What the team must decide itself: "engine" (serving engine and its settings), "kernel" (own
            kernels or a compiler), "network-isolation" (the model in a network of the team's own),
            "pinned-weights" (the same weights until the team changes them), "lifecycle" (no withdrawal date).
        regions: Regions that may process prompts; empty for any.
        cross_region: How far from its region a request may be processed: "none", "geography" or "global".
        operations: Who looks after instances: "none", "part-time" or "team".

    Raises:
        TokenmillError: A word is none of the allowed ones, or a region has no region's form.
    """

    customization: str = "none"
    control: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    cross_region: str = "geography"
    operations: str = "team"

    def __post_init__(self) -> None:
        one_of("customization", self.customization, CUSTOMIZATIONS)
        one_of("cross_region", self.cross_region, CROSS_REGION)
        one_of("operations", self.operations, OPERATIONS)
        for item in self.control:
            one_of("control", item, CONTROLS)
        for region in self.regions:
            if not REGION.fullmatch(region):
                raise TokenmillError(f"regions has {region!r}; each must be an AWS region such as us-east-1")

    @property
    def tuned(self) -> bool:
        """Whether the weights differ from the published ones, though the architecture does not."""
        return self.customization in TUNED


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """How requests spread over a month; the workload's rate is that of the peak hour.

    Args:
        shape: "steady", "office-hours", "bursty" or "batch".
        hours_per_month: Hours with traffic; by default 730 for steady and bursty traffic, 217 (10 hours on 5
            days a week) for office hours; a batch must say how long its runs take.
        peak_factor: Rate of the peak hour over the mean rate of the hours with traffic; 1 by default, and
            bursty traffic must say it.
        scale_to_zero: Whether nothing needs to run in the hours without traffic; a batch never needs it.
        deadline_hours: For a batch: hours until the last answer must be there.

    Raises:
        TokenmillError: A number is out of its range, or one that the shape needs is missing.
    """

    shape: str = "steady"
    hours_per_month: float | None = None
    peak_factor: float | None = None
    scale_to_zero: bool = False
    deadline_hours: float | None = None

    def __post_init__(self) -> None:
        one_of("traffic shape", self.shape, SHAPES)
        if self.hours_per_month is not None:
            number("hours_per_month", self.hours_per_month, 0.1, HOURS_PER_MONTH, "hours")
        if self.peak_factor is not None:
            number("peak_factor", self.peak_factor, 1, 1000, "(peak hour over mean)")
        if self.deadline_hours is not None:
            number("deadline_hours", self.deadline_hours, 0.1, HOURS_PER_MONTH, "hours")
        if self.shape == "bursty" and self.peak_factor is None:
            raise TokenmillError("bursty traffic needs peak_factor, the peak hour's rate over the mean rate")
        if self.shape == "batch" and (self.hours_per_month is None or self.deadline_hours is None):
            raise TokenmillError(
                "a batch needs hours_per_month, the hours that its runs take, and deadline_hours"
            )

    @property
    def active_hours(self) -> float:
        """Hours with traffic in a month."""
        if self.hours_per_month is not None:
            return self.hours_per_month
        return OFFICE_HOURS_PER_MONTH if self.shape == "office-hours" else HOURS_PER_MONTH

    @property
    def idle_hours(self) -> float:
        """Hours without traffic in a month."""
        return HOURS_PER_MONTH - self.active_hours

    @property
    def peak(self) -> float:
        """Rate of the peak hour over the mean rate."""
        return 1.0 if self.peak_factor is None else self.peak_factor

    @property
    def idle_costs(self) -> bool:
        """Whether instances must stay in the hours without traffic."""
        return self.shape != "batch" and not self.scale_to_zero

    def requests_per_month(self, requests_per_second: float) -> float:
        """Return the requests of a month.

        Args:
            requests_per_second: Rate of the peak hour.
        """
        return requests_per_second / self.peak * 3600 * self.active_hours


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCapacity:
    """What one unit of provisioned throughput delivers and costs, which AWS tells its customers only.

    "For more information about what an MU specifies, contact your AWS account manager" ("Increase model
    invocation capacity with Provisioned Throughput in Amazon Bedrock", Amazon Bedrock User Guide).

    Args:
        input_tpm: Prompt tokens a minute.
        output_tpm: Answer tokens a minute.
        usd_per_hour: US dollars an hour.

    Raises:
        TokenmillError: A number is not plausible for a unit.
    """

    input_tpm: float
    output_tpm: float
    usd_per_hour: float

    def __post_init__(self) -> None:
        minute = "tokens a minute (tokens a second times 60)"
        number("input_tpm", self.input_tpm, 100, 1e9, minute)
        number("output_tpm", self.output_tpm, 100, 1e9, minute)
        number("usd_per_hour", self.usd_per_hour, 0.1, 10_000, "USD an hour")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """How requests use Bedrock.

    Args:
        cached_share: Share of the prompt tokens that repeat, and could come from the prompt cache, 0 to 1.
        cache_hits: Share of requests that find them in the cache; the others write them, 0 to 1.
        max_tokens: Answer length that a request asks room for, in tokens; None is four times the mean, which
            is what the gateway asks for.
        quota_tpm: The account's tokens-per-minute quota for the model; None where it is not known.
        burndown: Quota tokens that an answer token takes; None takes the documented rate.

    Raises:
        TokenmillError: A number is out of its range.
    """

    cached_share: float = 0.0
    cache_hits: float = 1.0
    max_tokens: int | None = None
    quota_tpm: float | None = None
    burndown: float | None = None

    def __post_init__(self) -> None:
        number("cached_share", self.cached_share, 0, 1, "(a share, not percent)")
        number("cache_hits", self.cache_hits, 0, 1, "(a share, not percent)")
        if self.max_tokens is not None:
            number("max_tokens", self.max_tokens, 1, 10_000_000, "tokens")
        if self.quota_tpm is not None:
            number("quota_tpm", self.quota_tpm, 1, 1e12, "tokens a minute")
        if self.burndown is not None:
            number("burndown", self.burndown, 1, 100, "quota tokens for each answer token")

    def answer_room(self, output_tokens: int) -> int:
        """Return the answer length that a request asks room for.

        Args:
            output_tokens: Mean answer length.
        """
        return output_tokens * ROOM_FOR_LONG_ANSWERS if self.max_tokens is None else self.max_tokens
