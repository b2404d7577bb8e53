"""Last step of a fan-out: the shards' results become one file in the order of the input, errors another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tokenmill_runtime import batch_objects
from tokenmill_runtime.batch_objects import ObjectWriter
from tokenmill_runtime.batch_run import Shard
from tokenmill_runtime.batch_shard import mark_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tokenmill_runtime.batch_run import Run, Settings


def collate(run: Run, settings: Settings, *, failure: Mapping[str, str]) -> dict[str, Any]:
    """Write results, errors and counts, and say whether the failures are tolerated.

    A shard without results of this execution did not end; each of its records becomes an error. ``failure``
    is why the shards as a whole ended early: ``Error`` and ``Cause``, both empty where they did not.
    """
    succeeded = failed = 0
    _, lines = batch_objects.lines(settings.bucket, run.shards)
    with (
        ObjectWriter(settings.bucket, run.results) as results,
        ObjectWriter(settings.bucket, run.errors) as errors,
    ):
        for line in lines:
            shard = Shard(**json.loads(line))
            answered, refused = _part(run, settings, "results", shard), _part(run, settings, "errors", shard)
            if answered is None or refused is None:
                answered, refused = iter(()), _unfinished(shard)
            succeeded += _copy(answered, results)
            failed += _copy(refused, errors)
    return _summary(run, settings, succeeded=succeeded, failed=failed, failure=failure)


def _part(run: Run, settings: Settings, kind: str, shard: Shard) -> Iterator[bytes] | None:
    found = batch_objects.tagged_lines(settings.bucket, run.part(kind, shard.number))
    if found is None or found[0].get("execution") != mark_of(run):
        return None
    return found[1]


def _copy(lines: Iterator[bytes], target: ObjectWriter) -> int:
    count = 0
    for line in lines:
        target.write(line)
        count += 1
    return count


def _unfinished(shard: Shard) -> Iterator[bytes]:
    error = {"kind": "unfinished", "message": f"shard {shard.number} ended before its records did"}
    for index in range(shard.first, shard.first + shard.count):
        yield json.dumps({"index": index, "error": error}, separators=(",", ":")).encode() + b"\n"


def _summary(
    run: Run, settings: Settings, *, succeeded: int, failed: int, failure: Mapping[str, str]
) -> dict[str, Any]:
    records = succeeded + failed
    percent = 100 * failed / records
    results = f"s3://{settings.bucket}/{run.results}"
    errors = f"s3://{settings.bucket}/{run.errors}"
    summary = {
        "records": records,
        "succeeded": succeeded,
        "failed": failed,
        "results": results,
        "errors": errors,
        "tolerated": percent <= settings.tolerated_failure_percent,
        "message": f"{failed} of {records} records failed ({percent:.3g} percent, tolerated are "
        f"{settings.tolerated_failure_percent:g}); see {errors}, and start the run again with the same "
        f"output to send those again{_reason(failure)}",
    }
    batch_objects.write_document(settings.bucket, run.summary, summary)
    return summary


def _reason(failure: Mapping[str, str]) -> str:
    parts = [failure[name] for name in ("Error", "Cause") if failure.get(name)]
    return f"; the shards ended early: {': '.join(parts)}" if parts else ""
