"""Between two rounds: what may be sent again becomes the next round's records, or its errors stand."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime import batch_objects
from tokenmill_runtime.batch_inference_plan import DONE, plan
from tokenmill_runtime.batch_inference_run import (
    read_parts,
    read_source,
    read_summary,
    write_line,
)
from tokenmill_runtime.batch_objects import ObjectWriter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenmill_runtime.batch_inference_run import BatchRun, Part, Settings
    from tokenmill_runtime.clock import Clock

UNFINISHED: Final = {"kind": "unfinished", "code": None, "message": "the part's steps ended before it did"}
HOUR_SECONDS: Final = 3600


def review(
    run: BatchRun, settings: Settings, *, round_number: int, started: str, clock: Clock
) -> dict[str, Any]:
    """Write the records of the next round and say how it goes on: with jobs, on demand, or not at all.

    Fewer records than a job takes are asked on demand. As many as that go into another job while ``retries``
    are left and a job's longest time is left before the deadline; otherwise their errors stand. ``started``
    is when the execution began, in ISO 8601.
    """
    following, left = round_number + 1, 0
    with ObjectWriter(settings.bucket, run.source(following), metadata=run.mark) as written:
        for part in read_parts(run, settings, round_number):
            for line in _again(run, settings, part, round_number):
                written.write(line)
                left += 1
    ended = {"next": DONE, "round": round_number, "records": 0, "parts": 0, "parts_key": "", "left": left}
    if left == 0:
        return ended
    few = left < settings.minimum_records
    another = round_number < settings.retries and time_for_a_job(settings, started, clock)
    return plan(run, settings, round_number=following) if few or another else ended


def time_for_a_job(settings: Settings, started: str, clock: Clock) -> bool:
    """Whether a job that takes as long as it may would end before the run's deadline."""
    if settings.deadline_hours is None:
        return True
    began = datetime.datetime.fromisoformat(started).timestamp()
    hours = (clock.wall() - began) / HOUR_SECONDS
    return hours + settings.job_hours <= settings.deadline_hours


def _again(run: BatchRun, settings: Settings, part: Part, round_number: int) -> Iterator[bytes]:
    summary = read_summary(run, settings, part, round_number)
    if summary is None:
        for record in read_source(run, settings, part, round_number):
            yield write_line(record, body=json.loads(record.body), error=UNFINISHED)
    elif summary["again"]:
        yield from batch_objects.lines(
            settings.bucket, run.of_part(round_number, part.number, "again.jsonl")
        )[1]
