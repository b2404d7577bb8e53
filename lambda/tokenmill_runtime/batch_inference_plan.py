"""First step of every round: its records are checked and cut into parts, one a batch inference job.

A part keeps to the service's records and bytes of a job and to our token budget, and never has fewer records
than the service takes ("Minimum number of records per batch inference job", Amazon Bedrock service quotas):
where the last part would, records move to it from the part before.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, NoReturn

from tokenmill_runtime import batch_objects
from tokenmill_runtime.batch_inference_records import estimated_tokens, model_input
from tokenmill_runtime.batch_inference_run import Part, read_line
from tokenmill_runtime.batch_objects import InputRefused, ObjectWriter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenmill_runtime.batch_inference_run import BatchRun, Settings

JOBS, ON_DEMAND, DONE = "jobs", "on-demand", "done"
# What a line gains as a record of a job: an id, and the names of the form.
LINE_OVERHEAD: Final = 64
# Every child's result comes back as {} and a state's output may have 256 KiB ("Step Functions service
# quotas").
MOST_PARTS: Final = 50_000


@dataclass(slots=True)
class _Weight:
    """One record: where its line begins, how many bytes and tokens it takes."""

    start: int
    size: int
    tokens: int


@dataclass(slots=True)
class _Draft:
    """A part that is being filled; ``tail`` holds its last records, which may move to the next part."""

    first: int
    start: int
    tail: deque[_Weight]
    count: int = 0
    size: int = 0
    tokens: int = 0
    end: int = 0

    def add(self, weight: _Weight, end: int) -> None:
        self.tail.append(weight)
        self._count(weight, 1)
        self.end = end

    def give(self, other: _Draft, number: int) -> None:
        """Move so many of the last records to the part after this one."""
        moved = [self.tail.pop() for _ in range(number)]
        for weight in moved:
            self._count(weight, -1)
            other._count(weight, 1)
        self.end = other.start = moved[-1].start
        other.first -= number

    def _count(self, weight: _Weight, sign: int) -> None:
        self.count += sign
        self.size += sign * weight.size
        self.tokens += sign * weight.tokens


@dataclass(slots=True)
class Cutter:
    """Cuts records into parts; a part leaves when the one after it has enough records by itself."""

    settings: Settings
    etag: str
    number: int = 0
    held: _Draft | None = None
    open: _Draft | None = None
    records: int = field(default=0)

    def add(self, start: int, end: int, size: int, tokens: int) -> Iterator[Part]:
        """Take the next record; its line stands at these bytes.

        Raises InputRefused where the service's smallest job would not fit into its largest file.
        """
        if self.open is None or self._full(self.open, size, tokens):
            if self.held is not None:
                yield self._leave(self.held)
            self.held = self.open
            self.open = _Draft(self.records, start, deque(maxlen=self.settings.minimum_records))
        self.open.add(_Weight(start, size, tokens), end)
        self.records += 1

    def finish(self) -> Iterator[Part]:
        """The last parts."""
        if self.open is None:
            return
        missing = self.settings.minimum_records - self.open.count
        if self.held is not None and missing > 0:
            if self.held.count - missing < self.settings.minimum_records:
                self._refuse_size(self.open)
            self.held.give(self.open, missing)
            if self.open.size > self.settings.part_bytes:
                self._refuse_size(self.open)
        if self.held is not None:
            yield self._leave(self.held)
        yield self._leave(self.open)

    def _full(self, draft: _Draft, size: int, tokens: int) -> bool:
        settings = self.settings
        if draft.size + size > settings.part_bytes:
            if draft.count < settings.minimum_records:
                self._refuse_size(draft)
            return True
        if draft.count >= settings.part_records:
            return True
        # The budget is ours and gives way: so many records that there are enough for the part before as well.
        return draft.count >= 2 * settings.minimum_records and draft.tokens + tokens > settings.part_tokens

    def _refuse_size(self, draft: _Draft) -> NoReturn:
        settings = self.settings
        raise InputRefused(
            f"records from number {draft.first + 1} on are so large that fewer than "
            f"{settings.minimum_records} fit into the {settings.part_bytes} bytes of a job's file, "
            "and a job has at least so many records; make the records smaller"
        )

    def _leave(self, draft: _Draft) -> Part:
        number, self.number = self.number, self.number + 1
        return Part(
            number=number,
            first=draft.first,
            count=draft.count,
            start=draft.start,
            end=draft.end,
            etag=self.etag,
            tokens=draft.tokens,
        )


def plan(run: BatchRun, settings: Settings, *, round_number: int = 0) -> dict[str, Any]:
    """Write a round's list of parts and return what the next steps need.

    Raises InputRefused when there is no such object, it has no records, or a line is none that batch
    inference takes.
    """
    etag, lines = batch_objects.lines(settings.bucket, run.source(round_number))
    cutter, parts = Cutter(settings, etag), 0
    with ObjectWriter(settings.bucket, run.parts(round_number)) as written:
        for part in _cut(lines, cutter, settings, round_number):
            parts += 1
            if parts > MOST_PARTS:
                raise InputRefused(f"the input makes more than {MOST_PARTS} jobs; split it")
            written.write(json.dumps(asdict(part), separators=(",", ":")).encode() + b"\n")
    if cutter.records == 0:
        raise InputRefused(f"s3://{settings.bucket}/{run.source(round_number)} has no records")
    enough = cutter.records >= settings.minimum_records
    return {
        "next": JOBS if enough else ON_DEMAND,
        "round": round_number,
        "records": cutter.records,
        "parts": parts,
        "parts_key": run.parts(round_number),
        "left": 0,
    }


def _cut(lines: Iterator[bytes], cutter: Cutter, settings: Settings, round_number: int) -> Iterator[Part]:
    position = 0
    for line_number, line in enumerate(lines, start=1):
        start, position = position, position + len(line)
        if not line.strip():
            continue
        record = read_line(line, round_number, index=cutter.records, line_number=line_number)
        request = model_input(record, settings, line_number=line_number)
        size = len(json.dumps(request, separators=(",", ":"))) + LINE_OVERHEAD
        yield from cutter.add(start, position, size, estimated_tokens(record, request))
    yield from cutter.finish()
