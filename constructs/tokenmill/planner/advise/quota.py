"""How much of Bedrock's token quota a load takes, with what is not documented of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenmill.core import token_quota

if TYPE_CHECKING:
    from tokenmill.core.workload import Workload
    from tokenmill.planner.advise.need import Usage


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
    found = token_quota.burndown(model_id)
    if found.documented:
        return found.factor, ""
    return found.factor, (
        f"no burndown rate of {model_id} was found documented; {found.factor:g} is what public code counts "
        "(5 up to Claude 4.7, 15 for Opus 4.8, 10 for later ones and OpenAI's GPT); give burndown if you "
        "know it"
    )


def quota_need(model_id: str, workload: Workload, usage: Usage) -> QuotaNeed:
    """Return what the peak hour takes from the quota.

    Args:
        model_id: A Bedrock id.
        workload: The peak hour.
        usage: Cached share, answer room and burndown.
    """
    rate, note = burndown(model_id) if usage.burndown is None else (usage.burndown, "")
    load = token_quota.quota_load(
        workload,
        max_tokens=usage.answer_room(workload.output_tokens),
        factor=rate,
        cached_share=usage.cached_share * usage.cache_hits,
    )
    return QuotaNeed(settled_tpm=load.settled_tpm, reserved_tpm=load.reserved_tpm, burndown=rate, note=note)
