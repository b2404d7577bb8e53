"""The section [batch] of tokenmill.toml: a file of requests now and then, and by when it must be answered."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenmill.core._checks import as_floats, as_whole, at_most, numeric, positive
from tokenmill.core._codec import digest, encode
from tokenmill.core.errors import TokenmillError
from tokenmill.core.model_catalog import find_model
from tokenmill.core.workload import MOST_TOKENS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tokenmill.core.model_spec import ModelSpec
    from tokenmill.core.workload import Limits

BATCH = "batch"
BEDROCK_BATCH = "bedrock-batch"
TRANSFORM = "transform"
ASYNC = "async"
KINDS = (BEDROCK_BATCH, TRANSFORM, ASYNC)
MOST_RECORDS = 10_000_000_000
# A year, as the longest execution of a state machine ("Quotas related to state machine executions").
MOST_HOURS = 8760.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLoad:
    """What one run has to answer, and by when.

    Args:
        records: Requests of a run.
        input_tokens: Mean prompt length, in tokens.
        output_tokens: Mean answer length, in tokens.
        deadline_hours: Hours from the start of a run to its last answer.

    Raises:
        TokenmillError: A number is out of its range.
    """

    records: int
    input_tokens: int
    output_tokens: int
    deadline_hours: float

    def __post_init__(self) -> None:
        as_whole(self, "records", "input_tokens", "output_tokens")
        numeric(self, "deadline_hours")
        positive(
            records=self.records,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            deadline_hours=self.deadline_hours,
        )
        at_most(MOST_RECORDS, records=self.records)
        at_most(MOST_TOKENS, input_tokens=self.input_tokens, output_tokens=self.output_tokens)
        if not (math.isfinite(self.deadline_hours) and self.deadline_hours <= MOST_HOURS):
            raise TokenmillError(
                f"deadline_hours is {self.deadline_hours}; it must be above 0 and at most {MOST_HOURS:g}"
            )
        as_floats(self, "deadline_hours")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """The section, checked.

    Args:
        path: The settings file; the plan stands beside it.
        region: AWS region.
        backend: "auto", or the one to take: "bedrock-batch", "transform" or "async".
        bedrock_model: The Bedrock id to ask for; None where Bedrock is not asked.
        model: Path of a config.json or name in the catalog, for SageMaker; None where it is not asked.
        load: What one run has to answer.
        limits: What may be chosen from on SageMaker.
        profile: "dev" or "prod".
        token_prices: Bedrock's prices of your own by part, such as "batch_input", in US dollars a million
            tokens; None for the price table's.
    """

    path: Path
    region: str
    backend: str
    bedrock_model: str | None
    model: str | None
    load: BatchLoad
    limits: Limits
    profile: str
    token_prices: Mapping[str, float] | None = None

    stack = BATCH

    @property
    def plan_path(self) -> Path:
        """The plan file beside the settings file."""
        return self.path.parent / f"{BATCH}.plan.json"

    @property
    def found_model(self) -> tuple[ModelSpec, dict[str, Any]] | None:
        """The model for SageMaker and the config that it was read from; None where there is none.

        Raises:
            TokenmillError: Neither a file nor a known model, or no config that can be read.
        """
        return None if self.model is None else find_model(self.model, self.path.parent)

    @property
    def input_hash(self) -> str:
        """Digest of everything that the section gives to a plan.

        Raises:
            TokenmillError: The model file cannot be read.
        """
        found = self.found_model
        return digest(
            {
                "region": self.region,
                "backend": self.backend,
                "bedrock_model": self.bedrock_model,
                "model": None if found is None else [found[0].id, encode(found[0])],
                "load": encode(self.load),
                "limits": encode(self.limits),
                "token_prices": None if self.token_prices is None else dict(self.token_prices),
            }
        )
