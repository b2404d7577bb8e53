"""batch.plan.json: which service answers the requests of a batch, why, and why not the others."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenmill.core._codec import decode, digest, encode
from tokenmill.core._files import read_document, replace_text
from tokenmill.core.batch_settings import KINDS, BatchLoad
from tokenmill.core.errors import NoPlanError, TokenmillError
from tokenmill.core.plan import Plan

if TYPE_CHECKING:
    from tokenmill.core.batch_settings import BatchSettings

SCHEMA = 1
AGAIN = "write it with: tokenmill plan batch --write"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOption:
    """One service that could answer a run.

    Args:
        kind: "bedrock-batch", "transform" or "async".
        runs_on: The Bedrock model, or the instances.
        instances: How many instances work on a run; 0 on Bedrock.
        usd: What a run costs, in US dollars; None where a price is not known.
        hours: By when a run is over at the latest, in hours; None where nothing says so.
        refused: Why it cannot be taken; empty where it can.
        note: What a reader must know of the numbers.
    """

    kind: str
    runs_on: str
    instances: int = 0
    usd: float | None = None
    hours: float | None = None
    refused: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise TokenmillError(f"kind is {self.kind!r}; allowed are {', '.join(KINDS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """The choice for a section [batch].

    Args:
        region: AWS region.
        load: What one run has to answer.
        input_hash: Digest of the section that it was made from.
        options: Every service, the chosen one first.
        reason: Why the first one; or why none.
        serving: The plan of the instances, chosen candidate first; None where Bedrock answers.
    """

    region: str
    load: BatchLoad
    input_hash: str
    options: tuple[BatchOption, ...]
    reason: str
    serving: Plan | None = None

    @property
    def chosen(self) -> BatchOption:
        """The service to take.

        Raises:
            NoPlanError: No service answers a run in time.
        """
        first = self.options[0] if self.options else None
        if first is None or first.refused:
            raise NoPlanError(self.reason)
        return first

    @property
    def hash(self) -> str:
        """Digest of the whole choice."""
        return digest(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return a document of plain JSON values."""
        return {
            "schema": SCHEMA,
            "region": self.region,
            "load": encode(self.load),
            "input_hash": self.input_hash,
            "reason": self.reason,
            "options": [encode(option) for option in self.options],
            "serving": None if self.serving is None else self.serving.to_json(),
        }

    def write(self, path: Path | str) -> None:
        """Write the choice as JSON, in one step.

        Args:
            path: The file, such as batch.plan.json.

        Raises:
            NoPlanError: There is nothing to take.
            TokenmillError: The path is a folder.
        """
        _ = self.chosen
        replace_text(Path(path), json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n")

    @classmethod
    def read(cls, path: Path | str) -> BatchPlan:
        """Return the choice in a file.

        Args:
            path: The file.

        Raises:
            TokenmillError: The file is missing, or was not written by this version.
        """
        document = read_document(Path(path), "plan file", AGAIN)
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            found = document.get("schema") if isinstance(document, dict) else None
            raise TokenmillError(
                f"plan file {path} has schema {found!r}, this version reads {SCHEMA}; {AGAIN}"
            )
        names = [item.name for item in fields(cls)]
        missing = [name for name in names if name not in document]
        if missing:
            raise TokenmillError(f"plan file {path} has no {missing[0]!r}; {AGAIN}")
        serving = document["serving"]
        choice = {name: document[name] for name in names if name != "serving"}
        return replace(
            decode(cls, choice, str(path)),
            serving=None if serving is None else Plan.from_json(serving, f"{path}: serving"),
        )


def read_batch_plan(settings: BatchSettings) -> BatchPlan:
    """Return the committed choice of a section.

    Args:
        settings: The section.

    Raises:
        TokenmillError: The file is missing, cannot be read, or was made from other settings.
    """
    plan = BatchPlan.read(settings.plan_path)
    if plan.input_hash != settings.input_hash:
        raise TokenmillError(
            f"plan file {settings.plan_path} was made from other settings than {settings.path} has now; see "
            f"what changes with: tokenmill plan batch --diff; accept it with: tokenmill plan batch --write"
        )
    return plan
