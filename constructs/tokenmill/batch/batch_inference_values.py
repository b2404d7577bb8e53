"""How a batch inference on Bedrock goes through its records, and what its tokens cost."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from tokenmill.bedrock.foundation_model import NamedModel, foundation_arn
from tokenmill.core._checks import as_whole, is_token, numeric, of_kind
from tokenmill.core.batch_quotas import BatchQuota
from tokenmill.core.bedrock_prices import STANDARD, bedrock_price
from tokenmill.core.errors import TokenmillError
from tokenmill_runtime.batch_inference_contract import FORMS

if TYPE_CHECKING:
    from tokenmill.bedrock.model import IBedrockModel

# "CreateModelInvocationJob" (Amazon Bedrock API Reference): timeoutDurationInHours.
JOB_HOURS = (24, 168)
MOST_RETRIES = 5
MOST_PART_TOKENS = 100_000_000_000
MOST_ANSWER_TOKENS = 1_000_000
BATCH = "batch"
# The same page: modelId takes foundation models, custom models and inference profiles; "Process multiple
# prompts with batch inference" leaves provisioned models out.
NOT_IN_JOBS = re.compile(r":(provisioned-model|default-prompt-router|prompt-router|custom-model-deployment)/")


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceRecords:
    """What the lines of an input are.

    Args:
        form: "chat" for chat completions' requests, as AsyncFanOut and OpenAI's batch files have them;
            "converse" for requests of Bedrock's Converse, whose answers come back as they are.
        max_tokens: The longest answer of a record that does not say, in tokens.

    Raises:
        TokenmillError: If the form is neither, or the answer's length out of its range.
    """

    form: str = "chat"
    max_tokens: int = 1024

    def __post_init__(self) -> None:
        as_whole(self, "max_tokens")
        if self.form not in FORMS:
            raise TokenmillError(f"form is {self.form!r}; allowed are {', '.join(FORMS)}")
        if not 1 <= self.max_tokens <= MOST_ANSWER_TOKENS:
            raise TokenmillError(f"max_tokens is {self.max_tokens}; it must be 1 to {MOST_ANSWER_TOKENS:,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceJobs:
    """How the records of a run are made into jobs.

    Args:
        job_hours: The longest that a job may wait and run, in hours, 24 to 168; what it has not answered by
            then comes back as a failure.
        deadline_hours: When the whole run must have ended, in hours; no further job is started that could
            end later. None for no deadline.
        retries: Through how many further jobs a record goes that failed for a reason that passes, 0 to 5.
            Where fewer records are left than a job takes, they are asked one by one, at the standard price.
        part_tokens: About how many tokens a job has at most; what is lost with a job is bounded by it. The
            service's minimum of records goes before it.
        tolerated_failure_percent: Failed records that still let the execution succeed, in percent.
        quota: Your account's quotas; the model's defaults otherwise.

    Raises:
        TokenmillError: If a number is out of its range, or the deadline is nearer than a job may take.
    """

    job_hours: int = 24
    deadline_hours: float | None = None
    retries: int = 1
    part_tokens: int = 100_000_000
    tolerated_failure_percent: float = 0.0
    quota: BatchQuota | None = None

    def __post_init__(self) -> None:
        as_whole(self, "job_hours", "retries", "part_tokens")
        numeric(self, "tolerated_failure_percent")
        of_kind(self, "quota", BatchQuota)
        ranges = {
            "job_hours": (self.job_hours, *JOB_HOURS),
            "retries": (self.retries, 0, MOST_RETRIES),
            "part_tokens": (self.part_tokens, 1, MOST_PART_TOKENS),
            "tolerated_failure_percent": (self.tolerated_failure_percent, 0, 100),
        }
        for name, (value, least, most) in ranges.items():
            if not least <= value <= most:
                raise TokenmillError(f"{name} is {value}; it must be {least} to {most:,}")
        if self.deadline_hours is None:
            return
        numeric(self, "deadline_hours")
        if not self.deadline_hours >= self.job_hours:
            raise TokenmillError(
                f"deadline_hours is {self.deadline_hours} and job_hours {self.job_hours}; a batch inference "
                f"job may take all of job_hours, which is {JOB_HOURS[0]} or more, so for an earlier deadline "
                "use AsyncFanOut or BatchTransform"
            )


def check_model(model: IBedrockModel) -> None:
    """Refuse what Bedrock runs no batch inference on.

    Args:
        model: The model.

    Raises:
        TokenmillError: If it is provisioned, a router, or an on-demand deployment of a custom model.
    """
    if model.handle is not None:
        raise TokenmillError(
            "model has provisioned units, and Bedrock runs no batch inference on those; give the foundation "
            "model or an inference profile"
        )
    if not getattr(model, "in_batch_jobs", True):
        raise TokenmillError(
            f"model is a {type(model).__name__}, and Bedrock runs no batch inference on those; give a "
            "foundation model's id or an InferenceProfile"
        )
    found = None if is_token(model.model_id) else NOT_IN_JOBS.search(model.model_id)
    if found is not None:
        raise TokenmillError(
            f"model is {model.model_id!r}, and Bedrock runs no batch inference on a {found[1]}; give a "
            "foundation model, a custom model or an inference profile"
        )


def submitted_arns(model: IBedrockModel) -> list[str]:
    """Return what a job's submission names: the model or profile, and what stands behind a profile.

    Args:
        model: The model.
    """
    source = getattr(model, "source", model)
    if not isinstance(source, NamedModel):
        return [model.model_id]
    named = [getattr(model, "arn", source.arn), source.arn]
    route, foundation = source.route, source.foundation_model
    if route is None:
        return list(dict.fromkeys(named))
    behind = [foundation_arn(foundation, region) for region in route.regions] or [
        foundation_arn(foundation),
        foundation_arn(foundation, ""),
    ]
    return list(dict.fromkeys([*named, *behind]))


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPrices:
    """What a million tokens cost, in US dollars, in a job ("batch") and one by one ("standard").

    Args:
        tiers: By tier and part: "input", "output", "cache_read", "cache_write".
        note: Where the prices stand, or why one is missing.
    """

    tiers: Mapping[str, Mapping[str, float | None]]
    note: str

    @property
    def in_words(self) -> str:
        """What `tokenmill jobs run` says before it asks."""
        batch = self.tiers.get(BATCH)
        if not batch:
            return f"paid for by the token; the price is not known ({self.note})"
        return f"paid for by the token: ${batch['input']:g} a million in, ${batch['output']:g} out"

    @classmethod
    def find(
        cls, model: IBedrockModel, region: str | None, *, given: Mapping[str, float] | None
    ) -> BatchPrices:
        """Return the prices of the price table, or given ones.

        Args:
            model: The model; the one behind it where it is an application inference profile.
            region: The stack's region; None where only the deployment knows it.
            given: Prices of your own by part, such as "input", "output", "batch_input", "batch_output".

        Raises:
            TokenmillError: If a given price is not usable.
        """
        if given is not None and not isinstance(given, Mapping):
            raise TokenmillError(f"prices is {given!r:.80}; {WAY_OUT}")
        behind = getattr(model, "source", model)
        known = behind.model_id
        if region is None or is_token(known):
            what = "the region" if region is None else "the model behind an ARN"
            if given is None:
                return cls(tiers={}, note=f"{what} is not known at synthesis; give prices")
            region, known = region or "us-east-1", "given"
        try:
            quote = bedrock_price(known, region, given=given, way_out=WAY_OUT)
        except TokenmillError as error:
            if given is not None:
                raise
            return cls(tiers={}, note=str(error))
        if quote.price is None:
            return cls(tiers={}, note=quote.note)
        tiers = {
            name: asdict(price) for name, price in quote.price.tiers.items() if name in (BATCH, STANDARD)
        }
        source = f"{quote.price.source} {quote.price.source_date}".strip()
        missing = "" if BATCH in tiers else f"no batch price of {known} is known; {WAY_OUT}"
        return cls(tiers=tiers, note="; ".join(part for part in (source, quote.note, missing) if part))


WAY_OUT = (
    'give prices={"input": USD, "output": USD, "batch_input": USD, "batch_output": USD} a million tokens'
)
