"""First step of a fan-out: every line of the input is checked before one is sent, then cut into shards."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime import batch_objects
from tokenmill_runtime.batch_objects import InputRefused, ObjectWriter
from tokenmill_runtime.batch_run import Shard, read_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenmill_runtime.batch_run import Run, Settings

# Every child's result comes back as {} and a state's output may have 256 KiB ("Step Functions service
# quotas").
MOST_SHARDS: Final = 50_000


def plan(run: Run, settings: Settings) -> dict[str, Any]:
    """Write the list of shards and return what the next steps need.

    Raises InputRefused when there is no such object, it has no records, or a line is no record.
    """
    etag, lines = batch_objects.lines(settings.bucket, run.input)
    records = shards = 0
    with ObjectWriter(settings.bucket, run.shards) as written:
        for shard in cut(lines, etag=etag, size=settings.shard_records):
            records, shards = shard.first + shard.count, shard.number + 1
            if shards > MOST_SHARDS:
                raise InputRefused(
                    f"the input has more than {MOST_SHARDS} times {settings.shard_records} records; give "
                    "AsyncFanOut more shard_records, or split the input"
                )
            written.write(json.dumps(asdict(shard), separators=(",", ":")).encode() + b"\n")
    if records == 0:
        raise InputRefused(f"s3://{settings.bucket}/{run.input} has no records")
    return {"records": records, "shards": shards, "shards_key": run.shards}


def cut(lines: Iterator[bytes], *, etag: str, size: int) -> Iterator[Shard]:
    """Cut lines into shards of so many records; lines of white space are no records.

    Raises InputRefused for a line that is no record.
    """
    position = index = number = count = start = 0
    for line_number, line in enumerate(lines, start=1):
        end = position + len(line)
        if line.strip():
            read_record(line, index=index, line_number=line_number)
            if count == 0:
                start = position
            index, count = index + 1, count + 1
        position = end
        if count == size:
            yield Shard(number=number, first=index - count, count=count, start=start, end=end, etag=etag)
            number, count = number + 1, 0
    if count:
        yield Shard(number=number, first=index - count, count=count, start=start, end=position, etag=etag)
