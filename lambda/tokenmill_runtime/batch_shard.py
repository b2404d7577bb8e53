"""Middle step of a fan-out: one turn of one shard. It sends what was not sent and looks for outcomes.

SageMaker writes an answer or a failure to the address that it gave when it took the request; both are looked
for, because a notification can get lost and an object cannot. The state machine waits between turns, so no
function is paid for the waiting.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Protocol

from tokenmill_runtime import batch_objects
from tokenmill_runtime.aws import sagemaker_runtime
from tokenmill_runtime.batch_ledger import Entry, Ledger
from tokenmill_runtime.batch_objects import ObjectWriter, split_uri
from tokenmill_runtime.batch_run import read_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenmill_runtime.batch_run import Record, Run, Settings, Shard
    from tokenmill_runtime.clock import Clock

# A turn ends in time to write the ledger.
LAST_MS: Final = 20_000
FIRST_WAIT_SECONDS: Final = 15
LONGEST_WAIT_SECONDS: Final = 300
WAIT_GROWTH: Final = 1.5
# What may come after both of SageMaker's own limits are over: the failure is still being written.
GRACE_SECONDS: Final = 300
# InvokeEndpointAsync's own errors that pass by themselves, and the throttling of every service.
PASSING: Final = (
    "InternalFailure",
    "InternalFailureException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "ThrottlingException",
    "TooManyRequestsException",
)


class LambdaContext(Protocol):
    """What is used of Lambda's context object."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda stops the function."""


def turn(
    run: Run, settings: Settings, shard: Shard, *, turns: int, clock: Clock, context: LambdaContext
) -> dict[str, Any]:
    """Send, look, and write results when every record has an outcome.

    Returns ``settled``, and ``wait_seconds`` until the next turn when it is not.
    """
    ledger = Ledger.read(settings.bucket, run.ledger(shard.number))
    before = len(ledger.entries)
    try:
        if ledger.whole_for != run.execution:
            _send(run, settings, shard, ledger, clock, context)
        for entry in ledger.open:
            _look(entry, settings, now=clock.wall())
    finally:
        # Also when SageMaker refused: what it has taken must not be sent again.
        ledger.write()
    if ledger.whole_for != run.execution:
        # Time or SageMaker's patience ran out; what was taken so far went forward.
        wait = 1 if len(ledger.entries) > before else FIRST_WAIT_SECONDS
        return {"settled": False, "wait_seconds": wait}
    if ledger.open:
        return {"settled": False, "wait_seconds": wait_seconds(turns)}
    _write_parts(run, settings, shard, ledger)
    return {"settled": True, "wait_seconds": 0}


def wait_seconds(turns: int) -> int:
    """How long to wait after so many turns: a little at first, five minutes at last."""
    return min(LONGEST_WAIT_SECONDS, int(FIRST_WAIT_SECONDS * WAIT_GROWTH ** min(turns, 20)))


def _send(
    run: Run, settings: Settings, shard: Shard, ledger: Ledger, clock: Clock, context: LambdaContext
) -> None:
    from botocore.exceptions import ClientError

    kept: dict[str, Entry] = {}
    for record in _records(run, settings, shard):
        name = record.inference_id(settings.endpoint)
        if not _taken(ledger.entries.get(name), run, settings, now=clock.wall()):
            if context.get_remaining_time_in_millis() < LAST_MS:
                return
            try:
                ledger.entries[name] = _submit(record, name, run, settings, now=clock.wall())
            except ClientError as error:
                if error.response["Error"]["Code"] in PASSING:
                    return
                raise
        kept[name] = ledger.entries[name]
    # Entries of another input under the same folder go only when all of this one's are there.
    ledger.entries = kept
    ledger.whole_for = run.execution


def _taken(entry: Entry | None, run: Run, settings: Settings, *, now: float) -> bool:
    """Whether a record need not be sent: it is under way, has an answer that is still there, or failed in
    this run."""
    if entry is None or entry.sent_by == run.execution:
        return entry is not None
    # What another run sent: its answer may have come, or gone by the bucket's lifecycle, since then.
    known, entry.outcome = entry.outcome, None
    _look(entry, settings, now=now)
    return entry.outcome == "answered" or (known is None and entry.outcome is None)


def _records(run: Run, settings: Settings, shard: Shard) -> Iterator[Record]:
    _, lines = batch_objects.lines(
        settings.bucket, run.input, start=shard.start, end=shard.end, etag=shard.etag
    )
    index = shard.first
    for line in lines:
        if line.strip():
            yield read_record(line, index=index, line_number=index + 1)
            index += 1


def _submit(record: Record, name: str, run: Run, settings: Settings, *, now: float) -> Entry:
    bucket, folder = split_uri(settings.requests)
    key = f"{folder}/{name}.json"
    batch_objects.write(bucket, key, record.body)
    taken = sagemaker_runtime().invoke_endpoint_async(
        EndpointName=settings.endpoint,
        ContentType="application/json",
        InputLocation=f"s3://{bucket}/{key}",
        InferenceId=name,
        RequestTTLSeconds=settings.request_ttl_seconds,
        InvocationTimeoutSeconds=settings.invocation_timeout_seconds,
    )
    return Entry(
        inference_id=name,
        labels=record.labels(),
        answer=taken["OutputLocation"],
        failure=taken.get("FailureLocation"),
        sent_at=now,
        sent_by=run.execution,
    )


def _look(entry: Entry, settings: Settings, *, now: float) -> None:
    """Give an entry its outcome; an answer wins over a failure, because a request may run twice."""
    if batch_objects.exists(*split_uri(entry.answer)):
        entry.outcome = "answered"
    elif entry.failure is not None and batch_objects.exists(*split_uri(entry.failure)):
        entry.outcome = "failed"
    else:
        limit = settings.request_ttl_seconds + settings.invocation_timeout_seconds + GRACE_SECONDS
        if now - entry.sent_at > limit:
            entry.outcome = "expired"


def _write_parts(run: Run, settings: Settings, shard: Shard, ledger: Ledger) -> None:
    mark = {"execution": mark_of(run)}
    entries = sorted(ledger.entries.values(), key=lambda entry: entry.labels["index"])
    with (
        ObjectWriter(settings.bucket, run.part("results", shard.number), metadata=mark) as results,
        ObjectWriter(settings.bucket, run.part("errors", shard.number), metadata=mark) as errors,
    ):
        for entry in entries:
            if entry.outcome == "answered":
                results.write(_line(entry, response=_document(entry.answer)))
            else:
                errors.write(_line(entry, error=_failure(entry, settings)))


def mark_of(run: Run) -> str:
    """The execution as an object's metadata, which holds ASCII only."""
    return run.execution.encode("ascii", "backslashreplace").decode()


def _failure(entry: Entry, settings: Settings) -> dict[str, Any]:
    if entry.outcome == "expired" or entry.failure is None:
        limit = settings.request_ttl_seconds + settings.invocation_timeout_seconds
        return {"kind": "expired", "message": f"neither an answer nor a failure came within {limit} seconds"}
    return {"kind": "failed", "message": _document(entry.failure)}


def _document(uri: str) -> Any:
    """An object as JSON, or as text where it is none."""
    content = batch_objects.read(*split_uri(uri))
    try:
        return json.loads(content)
    except ValueError:
        return content.decode(errors="replace")


def _line(entry: Entry, **content: Any) -> bytes:
    document = {**entry.labels, "inference_id": entry.inference_id, **content}
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"
