"""One run of batch inference on Bedrock: its settings, its parts, and where everything of it stands.

A run goes in rounds. Round 0 has the input's records, every further round those that failed and may be sent
again. A round's records are cut into parts; a part is one batch inference job.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from tokenmill_runtime import batch_objects
from tokenmill_runtime.batch_inference_contract import VARIABLE
from tokenmill_runtime.batch_run import Record, RenderedSettings, Run, Shard, read_record
from tokenmill_runtime.batch_shard import mark_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# A part's input object; the service's output object has this name with ".out" behind it ("View the results of
# a batch inference job", Amazon Bedrock user guide).
PART_FILE: Final = "part.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(RenderedSettings):
    """What the template says of a batch inference.

    ``form`` is what a record's body is: a chat completion's request, or Converse's. ``minimum_records``,
    ``part_records`` and ``part_bytes`` are the service's quotas of one job, ``part_tokens`` (estimated) is
    ours. ``job_hours`` is the longest a job may take, ``deadline_hours`` the longest of the whole run; none
    where there is none. ``retries`` is how many further jobs a record may go through. ``prices`` are US
    dollars for a million tokens by tier ("batch", "standard") and part, ``price_note`` says where they stand
    or why one is missing. ``job_prefix`` begins every job's name.
    """

    variable: ClassVar = VARIABLE
    rendered_by: ClassVar = "BatchInference"

    model: str
    bucket: str
    role: str
    region: str
    job_prefix: str
    form: str
    max_tokens: int
    minimum_records: int
    part_records: int
    part_tokens: int
    part_bytes: int
    job_hours: int
    retries: int
    tolerated_failure_percent: float
    prices: dict[str, dict[str, float]]
    price_note: str
    # A template's document has no member for what there is none of.
    deadline_hours: float | None = None
    output_key: str | None = None

    def jobs_of(self, execution: str) -> str:
        """What the names of an execution's jobs begin with: the construct's prefix, then the execution."""
        return f"{self.job_prefix}{hashlib.sha256(execution.encode()).hexdigest()[:12]}-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part(Shard):
    """Consecutive records of a round, and their estimated tokens."""

    tokens: int


class BatchRun(Run):
    """One execution and the objects that it writes below its output."""

    __slots__ = ()

    @property
    def cost(self) -> str:
        """Key of the cost report."""
        return f"{self.output}/cost.json"

    @property
    def mark(self) -> dict[str, str]:
        """The execution as an object's metadata."""
        return {"execution": mark_of(self)}

    def source(self, round_number: int) -> str:
        """Key of a round's records."""
        return self.input if round_number == 0 else f"{self.round(round_number)}/again.jsonl"

    def round(self, round_number: int) -> str:
        """Folder of a round."""
        return f"{self.output}/progress/r{round_number}"

    def parts(self, round_number: int) -> str:
        """Key of the list of a round's parts, one JSON object a line."""
        return f"{self.round(round_number)}/parts.jsonl"

    def of_part(self, round_number: int, number: int, name: str) -> str:
        """Key of an object of a part, such as its ``job.json``."""
        return f"{self.round(round_number)}/p{number:08d}/{name}"

    def token(self, round_number: int, number: int) -> str:
        """What makes asking twice for a part's job ask once; letters and digits only."""
        text = f"{self.execution}|{round_number}|{number}"
        return hashlib.sha256(text.encode()).hexdigest()[:48]


def read_source(run: BatchRun, settings: Settings, part: Part, round_number: int) -> Iterator[Record]:
    """A part's records, in their order."""
    _, lines = batch_objects.lines(
        settings.bucket, run.source(round_number), start=part.start, end=part.end, etag=part.etag
    )
    for ordinal, line in enumerate(line for line in lines if line.strip()):
        yield read_line(line, round_number, index=part.first + ordinal)


def read_line(line: bytes, round_number: int, *, index: int, line_number: int | None = None) -> Record:
    """The record of one line: the caller's own in round 0, ours in every other.

    Raises InputRefused for a line of the caller's that is no record.
    """
    if round_number == 0:
        return read_record(line, index=index, line_number=line_number or index + 1)
    document = json.loads(line)
    body = json.dumps(document["body"], separators=(",", ":")).encode()
    return Record(index=document["index"], custom_id=document.get("custom_id"), body=body)


def write_line(record: Record, **content: Any) -> bytes:
    """A line of results, errors or records to send again; it begins with the record's index."""
    return json.dumps({**record.labels(), **content}, separators=(",", ":")).encode() + b"\n"


def index_of(line: bytes) -> int:
    """The index that a line of `write_line` begins with; parsing the whole line would take the time."""
    return int(line[line.index(b":") + 1 : line.index(b",")])


def read_parts(run: BatchRun, settings: Settings, round_number: int) -> Iterator[Part]:
    """A round's parts, in the order of their records."""
    _, lines = batch_objects.lines(settings.bucket, run.parts(round_number))
    for line in lines:
        yield Part(**json.loads(line))


def write_summary(
    run: BatchRun, settings: Settings, part: Part, round_number: int, summary: Mapping[str, Any]
) -> None:
    """Say that a part is settled; what stands beside it counts from now on."""
    document = {"execution": run.execution, **summary}
    batch_objects.write_document(
        settings.bucket, run.of_part(round_number, part.number, "summary.json"), document
    )


def read_summary(run: BatchRun, settings: Settings, part: Part, round_number: int) -> dict[str, Any] | None:
    """What became of a part in this execution; None where it did not settle."""
    found = batch_objects.read_tagged(settings.bucket, run.of_part(round_number, part.number, "summary.json"))
    if found is None:
        return None
    document: dict[str, Any] = json.loads(found[0])
    return document if document["execution"] == run.execution else None
