"""Last step: the rounds' answers become one file in the order of the input, errors another, and a bill.

A round's parts follow each other in the order of the input, so the rounds are merged line by line and no more
than a line of each is in memory.
"""

from __future__ import annotations

import heapq
import json
from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime import batch_objects
from tokenmill_runtime.batch_inference_records import USAGE
from tokenmill_runtime.batch_inference_run import index_of, read_parts, read_summary
from tokenmill_runtime.batch_objects import ObjectWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tokenmill_runtime.batch_inference_run import BatchRun, Settings

MILLION: Final = 1_000_000
COUNTED: Final = {"results": "succeeded", "errors": "failed"}


def collate(run: BatchRun, settings: Settings, *, round_number: int, left: int) -> dict[str, Any]:
    """Write results, errors, cost and counts, and say whether the failures are tolerated.

    ``round_number`` is the last round that was run, ``left`` how many of its records would have been sent
    again; their errors stand.
    """
    rounds = range(round_number + 1)
    succeeded = _merge(run, settings, run.results, [_lines(run, settings, n, "results") for n in rounds])
    errors = [_lines(run, settings, n, "errors") for n in rounds]
    if left:
        errors.append(_without_body(run, settings, round_number + 1))
    failed = _merge(run, settings, run.errors, errors)
    summaries = [item for n in rounds for item in _summaries(run, settings, n)]
    cost = cost_report(settings, summaries)
    batch_objects.write_document(settings.bucket, run.cost, cost)
    return _summary(run, settings, summaries, cost, succeeded=succeeded, failed=failed)


def cost_report(settings: Settings, summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """What a run's tokens cost, by tier; ``usd`` is null where a price is missing, and ``note`` says why.

    Prices are US dollars for a million tokens.
    """
    tiers = {}
    for tier in sorted({summary["tier"] for summary in summaries}):
        of_tier = [summary for summary in summaries if summary["tier"] == tier]
        tokens = {name: sum(summary["tokens"][name] for summary in of_tier) for name in USAGE}
        prices = settings.prices.get(tier) or {}
        missing = sorted(name for name, count in tokens.items() if count and prices.get(name) is None)
        usd = sum(count * (prices.get(name) or 0.0) for name, count in tokens.items()) / MILLION
        tiers[tier] = {
            "records": sum(summary["succeeded"] for summary in of_tier),
            "tokens": tokens,
            "usd_per_million_tokens": prices,
            "usd": None if missing else round(usd, 12),
            "missing_prices": missing,
        }
    known = [tier["usd"] for tier in tiers.values()]
    return {
        "model": settings.model,
        "region": settings.region,
        "tiers": tiers,
        "usd": None if None in known else round(sum(known), 12),
        "note": settings.price_note,
    }


def _merge(run: BatchRun, settings: Settings, key: str, streams: list[Iterator[bytes]]) -> int:
    count = 0
    with ObjectWriter(settings.bucket, key, metadata=run.mark) as written:
        for line in heapq.merge(*streams, key=index_of):
            written.write(line)
            count += 1
    return count


def _lines(run: BatchRun, settings: Settings, round_number: int, name: str) -> Iterator[bytes]:
    for part in read_parts(run, settings, round_number):
        # What stands beside no summary of this execution has been sent again, or is another execution's.
        summary = read_summary(run, settings, part, round_number)
        if summary is not None and summary[COUNTED[name]]:
            key = run.of_part(round_number, part.number, f"{name}.jsonl")
            # A round may wait for the others for long, which an open connection would not outlive.
            yield from batch_objects.split_lines(batch_objects.pieces(settings.bucket, key))


def _without_body(run: BatchRun, settings: Settings, round_number: int) -> Iterator[bytes]:
    for line in batch_objects.lines(settings.bucket, run.source(round_number))[1]:
        document = json.loads(line)
        document.pop("body")
        yield json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _summaries(run: BatchRun, settings: Settings, round_number: int) -> Iterator[dict[str, Any]]:
    for part in read_parts(run, settings, round_number):
        summary = read_summary(run, settings, part, round_number)
        if summary is not None:
            yield summary


def _summary(
    run: BatchRun,
    settings: Settings,
    summaries: list[dict[str, Any]],
    cost: Mapping[str, Any],
    *,
    succeeded: int,
    failed: int,
) -> dict[str, Any]:
    records = succeeded + failed
    percent = 100 * failed / records
    errors = f"s3://{settings.bucket}/{run.errors}"
    refused = [summary["refused"] for summary in summaries if "refused" in summary]
    why = f"; Bedrock refused a job: {refused[0]['code']}: {refused[0]['message']}" if refused else ""
    summary = {
        "records": records,
        "succeeded": succeeded,
        "failed": failed,
        "results": f"s3://{settings.bucket}/{run.results}",
        "errors": errors,
        "cost": f"s3://{settings.bucket}/{run.cost}",
        "report": cost,
        "jobs": sum("job" in item for item in summaries),
        "tolerated": percent <= settings.tolerated_failure_percent,
        "message": f"{failed} of {records} records failed ({percent:.3g} percent, tolerated are "
        f"{settings.tolerated_failure_percent:g}); see {errors}{why}",
    }
    batch_objects.write_document(settings.bucket, run.summary, summary)
    return summary
