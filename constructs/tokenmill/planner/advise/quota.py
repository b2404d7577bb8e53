"""How much of Bedrock's token quota a load takes.

Source: "How tokens are counted in Amazon Bedrock" (Amazon Bedrock User Guide): a request reserves its prompt
and `max_tokens` when it starts and is settled with what it used when it ends. The rates: that page and AWS's
posts on cross-Region inference name 5 for Claude 3.7 Sonnet, Opus 4, Sonnet 4 and Sonnet 4.5; the model cards
of OpenAI GPT-5.6 and GPT-6 Astra (the same guide) have 10 on the bedrock-runtime endpoint. Other models count
1. What of Claude came after 4.5 is in no page of AWS that was found: public code and texts count 5 up to 4.7,
15 for Opus 4.8 (some 10) and 10 for the fifth generation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenmill.core.workload import Workload
    from tokenmill.planner.advise.need import Usage

DOCUMENTED = re.compile(
    r"anthropic\.claude-(3-7-sonnet|(opus|sonnet|haiku)-4(-[15])?-20\d{6})|openai\.gpt-(5\.6|6-astra)"
)
PLAIN_RATE = 1.0
# the first that is found in an id decides
RATES = (
    (re.compile(r"anthropic\.claude-(instant|v\d|3-(?!7))"), PLAIN_RATE),
    (re.compile(r"anthropic\.claude-opus-4-8"), 15.0),
    (re.compile(r"anthropic\.claude-(3-7|[a-z]+-4)"), 5.0),
    (re.compile(r"anthropic\.claude-|openai\.gpt-\d"), 10.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaNeed:
    """Tokens a minute that the peak hour takes from the account's quota.

    Args:
        settled_tpm: What requests leave behind: prompts without cache reads, and answers times the burndown.
        reserved_tpm: What they ask for when they start: whole prompts and `max_tokens`.
        burndown: Quota tokens that an answer token takes.
        note: What is not documented of it; may be empty.
    """

    settled_tpm: float
    reserved_tpm: float
    burndown: float
    note: str

    @property
    def ask_for_tpm(self) -> float:
        """The quota that is enough even if no answer had ended within the minute."""
        return max(self.settled_tpm, self.reserved_tpm)


def burndown(model_id: str) -> tuple[float, str]:
    """Return the quota tokens that an answer token takes, and what is not documented of it.

    Args:
        model_id: A Bedrock id, with or without a profile's prefix.
    """
    rate = next((rate for pattern, rate in RATES if pattern.search(model_id)), PLAIN_RATE)
    if rate == PLAIN_RATE or DOCUMENTED.search(model_id):
        return rate, ""
    return rate, (
        f"no burndown rate of {model_id} was found documented; {rate:g} is what public code counts (5 up to "
        "Claude 4.7, 15 for Opus 4.8, 10 for later ones and OpenAI's GPT); give burndown if you know it"
    )


def quota_need(model_id: str, workload: Workload, usage: Usage) -> QuotaNeed:
    """Return what the peak hour takes from the quota.

    Args:
        model_id: A Bedrock id.
        workload: The peak hour.
        usage: Cached share, answer room and burndown.
    """
    rate, note = burndown(model_id) if usage.burndown is None else (usage.burndown, "")
    minute = workload.requests_per_second * 60
    read = workload.input_tokens * usage.cached_share * usage.cache_hits
    return QuotaNeed(
        settled_tpm=minute * (workload.input_tokens - read + workload.output_tokens * rate),
        reserved_tpm=minute * (workload.input_tokens + usage.answer_room(workload.output_tokens)),
        burndown=rate,
        note=note,
    )
