"""A request for more tokens a minute, with every number that AWS asks for before it raises a quota.

What is asked: support's answer in RooCodeInc/Roo-Code issue 3000 (steady and peak tokens and requests a
minute, average prompt and answer, share of prompts above 25,000 tokens); how to ask: "Request an increase for
Amazon Bedrock quotas" (Amazon Bedrock User Guide).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from tokenmill.core._checks import known, text
from tokenmill.core.bedrock_prices import GLOBAL, plain_id, profile_of
from tokenmill.core.token_quota import burndown, quota_load

if TYPE_CHECKING:
    from tokenmill.core.token_quota import QuotaLoad
    from tokenmill.core.workload import TokenSpread, Workload

LONG_PROMPT = 25_000
PEAK_PERCENTILE = 0.999
HEADROOM = 1.2
ROUNDED_TO = 10_000
SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaRequest:
    """What to ask for, and why. Made by `from_workload`.

    Args:
        model_id: The Bedrock id that is called.
        region: The region that calls come from.
        steady: The mean minute of the peak hour.
        peak: The busiest minute of a thousand in that hour.
        average_input_tokens: Mean prompt.
        average_output_tokens: Mean answer.
        long_prompt_share: Share of prompts above 25,000 tokens, 0 to 1; None where no spread is known.
    """

    model_id: str
    region: str
    steady: QuotaLoad
    peak: QuotaLoad
    average_input_tokens: int
    average_output_tokens: int
    long_prompt_share: float | None

    @classmethod
    def from_workload(
        cls,
        workload: Workload,
        *,
        model: str,
        region: str,
        max_tokens: int,
        burndown_factor: float | None = None,
        cached_share: float = 0.0,
    ) -> QuotaRequest:
        """Return the request for a load.

        The peak is the 99.9th percentile of the arrivals of a minute, taken as normal with the variance that
        the load's burstiness gives them.

        Args:
            workload: The peak hour.
            model: A Bedrock id, or the ARN of a model or a system-defined profile.
            region: AWS region.
            max_tokens: The longest answer that a request asks for.
            burndown_factor: Quota tokens for each token of an answer; the data's otherwise.
            cached_share: Share of the prompts' tokens that the prompt cache gives, 0 to 1.

        Raises:
            TokenmillError: If a number is out of range, or the ARN does not name a model.
        """
        text("region", region)
        known("model", model)
        model_id = plain_id(model)
        factor = burndown(model_id).factor if burndown_factor is None else burndown_factor
        busiest = replace(workload, requests_per_second=workload.requests_per_second * peak_factor(workload))
        steady, peak = (
            quota_load(load, max_tokens=max_tokens, factor=factor, cached_share=cached_share)
            for load in (workload, busiest)
        )
        return cls(
            model_id=model_id,
            region=region,
            steady=steady,
            peak=peak,
            average_input_tokens=workload.input_tokens,
            average_output_tokens=workload.output_tokens,
            long_prompt_share=_share_above(workload.input_spread, LONG_PROMPT),
        )

    @property
    def desired_tpm(self) -> int:
        """The quota to ask for: the peak with a fifth to spare, in whole ten thousands."""
        return math.ceil(self.peak.needed_tpm * HEADROOM / ROUNDED_TO) * ROUNDED_TO

    @property
    def quota_name(self) -> str:
        """How the quota's name begins in Service Quotas; the model's name there follows it."""
        profile = profile_of(self.model_id)
        scope = "Global cross-region" if profile == GLOBAL else "Cross-region" if profile else "On-demand"
        return f"{scope} model inference tokens per minute for"

    @property
    def commands(self) -> tuple[str, str]:
        """What finds the quota's code, and what asks for more."""
        query = f"Quotas[?starts_with(QuotaName, '{self.quota_name}')].[QuotaCode,QuotaName,Value]"
        return (
            f"aws service-quotas list-service-quotas --service-code bedrock --region {self.region} "
            f'--query "{query}" --output table',
            "aws service-quotas request-service-quota-increase --service-code bedrock "
            f"--region {self.region} --quota-code CODE --desired-value {self.desired_tpm}",
        )

    def to_json(self) -> dict[str, Any]:
        """Return the request as a JSON-safe document."""
        return {
            "schema": SCHEMA,
            **asdict(self),
            "desired_tpm": self.desired_tpm,
            "quota_name": self.quota_name,
            "commands": list(self.commands),
        }

    def to_markdown(self) -> str:
        """Return the request as a text for the support case."""
        find, ask = self.commands
        long = "not known" if self.long_prompt_share is None else f"{self.long_prompt_share:.1%}"
        rows = [
            ("Steady state TPM", f"{_tokens(self, self.steady):,.0f}"),
            ("Peak state TPM", f"{_tokens(self, self.peak):,.0f}"),
            ("Steady state RPM", f"{self.steady.requests_per_minute:,.0f}"),
            ("Peak state RPM", f"{self.peak.requests_per_minute:,.0f}"),
            ("Average input tokens", f"{self.average_input_tokens:,}"),
            ("Average output tokens", f"{self.average_output_tokens:,}"),
            (f"Share of requests above {LONG_PROMPT:,} input tokens", long),
            ("max_tokens of a request", f"{self.peak.max_tokens:,}"),
            ("Burndown of an output token", f"{self.peak.factor:g}"),
            ("Quota tokens reserved at the peak", f"{self.peak.reserved_tpm:,.0f} a minute"),
            ("Quota tokens settled at the peak", f"{self.peak.settled_tpm:,.0f} a minute"),
        ]
        table = "\n".join(f"| {name} | {value} |" for name, value in rows)
        return (
            f"# Quota increase: {self.quota_name} {self.model_id}\n\n"
            f"Region {self.region}, service Amazon Bedrock. Requested value: "
            f"**{self.desired_tpm:,} tokens a minute**.\n\n"
            f"| what | value |\n| --- | --- |\n{table}\n\n"
            "The peak is the busiest minute of a thousand. Tokens are reserved as input plus max_tokens when "
            "a request starts, and settled when it ends; the requested value is the larger of both at the "
            "peak and a fifth to spare.\n\n"
            "To ask for it, find the code of the quota whose name has your model, and put it in place of "
            f"CODE:\n\n```\n{find}\n{ask}\n```\n"
        )


def peak_factor(workload: Workload) -> float:
    """Return by how much the busiest minute of a thousand is above the mean minute.

    Args:
        workload: The hour.
    """
    minute = workload.requests_per_second * 60
    return 1 + NormalDist().inv_cdf(PEAK_PERCENTILE) * workload.burstiness / math.sqrt(minute)


def _tokens(request: QuotaRequest, load: QuotaLoad) -> float:
    return load.requests_per_minute * (request.average_input_tokens + request.average_output_tokens)


def _share_above(spread: TokenSpread | None, tokens: int) -> float | None:
    """The share of a lognormal length above a number of tokens."""
    if spread is None:
        return None
    if spread.p95 <= spread.p50 or spread.p50 < 1:
        return float(spread.p50 > tokens)
    sigma = math.log(spread.p95 / spread.p50) / NormalDist().inv_cdf(0.95)
    return 1 - NormalDist().cdf(math.log(tokens / spread.p50) / sigma)
