"""Records that are too few for a job, asked one by one: Converse, a turn of the function after another.

They cost the standard price. A turn ends in time to keep what was answered; the state machine waits where
Bedrock throttles.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime import batch_objects
from tokenmill_runtime.aws import bedrock_runtime
from tokenmill_runtime.batch_inference_part import PartWriter, summary_of
from tokenmill_runtime.batch_inference_records import model_input
from tokenmill_runtime.batch_inference_run import (
    index_of,
    read_parts,
    read_source,
    write_line,
    write_summary,
)
from tokenmill_runtime.batch_objects import ObjectWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tokenmill_runtime.batch_inference_run import BatchRun, Part, Settings
    from tokenmill_runtime.batch_run import Record
    from tokenmill_runtime.batch_shard import LambdaContext

AT_ONCE: Final = 8
# A call's longest silence is 120 s, and what it answered is still to be written.
LAST_MS: Final = 150_000
WAIT_SECONDS: Final = 30
# An hour of waiting for a model that throttles; then it is an error.
MOST_TURNS: Final = 120
# Converse's errors that pass, and the connection's.
PASSING: Final = (
    "InternalServerException",
    "ModelErrorException",
    "ModelNotReadyException",
    "ModelTimeoutException",
    "ServiceUnavailableException",
    "ThrottlingException",
)


def ask(
    run: BatchRun, settings: Settings, *, round_number: int, turns: int, context: LambdaContext
) -> dict[str, Any]:
    """Ask what has no outcome yet; write results and errors when everything has one.

    Returns ``settled``, and ``wait_seconds`` until the next turn when it is not.
    """
    (part,) = read_parts(run, settings, round_number)
    known = dict(_known(run, settings, part, round_number))
    waiting = [r for r in read_source(run, settings, part, round_number) if r.index not in known]
    last = turns + 1 >= MOST_TURNS
    throttled = False
    for start in range(0, len(waiting), AT_ONCE):
        if context.get_remaining_time_in_millis() < LAST_MS:
            break
        for record, outcome in _together(waiting[start : start + AT_ONCE], settings):
            throttled = throttled or outcome is None
            if outcome is not None or last:
                known[record.index] = outcome or _throttled()
        if throttled and not last:
            break
    _keep(run, settings, part, round_number, known)
    if len(known) < part.count:
        return {"settled": False, "wait_seconds": WAIT_SECONDS if throttled else 1}
    _write(run, settings, part, round_number, known)
    return {"settled": True, "wait_seconds": 0}


def _together(records: list[Record], settings: Settings) -> Iterator[tuple[Record, dict[str, Any] | None]]:
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        yield from zip(records, pool.map(lambda record: _converse(record, settings), records), strict=True)


def _converse(record: Record, settings: Settings) -> dict[str, Any] | None:
    """A record's outcome; None where Bedrock may answer it later."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        found = bedrock_runtime().converse(modelId=settings.model, **model_input(record, settings))
    except ClientError as error:
        told = error.response["Error"]
        if told["Code"] in PASSING:
            return None
        return {"error": {"kind": "failed", "code": told["Code"], "message": told.get("Message", "")}}
    except BotoCoreError as error:
        return {"error": {"kind": "failed", "code": type(error).__name__, "message": str(error)}}
    kept = {"output": found["output"], "stopReason": found["stopReason"], "usage": found["usage"]}
    return {"answer": kept}


def _throttled() -> dict[str, Any]:
    message = f"Bedrock did not take the request in {MOST_TURNS} turns"
    return {"error": {"kind": "throttled", "code": "ThrottlingException", "message": message}}


def _key(run: BatchRun, part: Part, round_number: int) -> str:
    return run.of_part(round_number, part.number, "answered.jsonl")


def _known(
    run: BatchRun, settings: Settings, part: Part, round_number: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Outcomes of the turns before, of this execution."""
    found = batch_objects.tagged_lines(settings.bucket, _key(run, part, round_number))
    if found is not None and dict(found[0]) == run.mark:
        for line in found[1]:
            yield index_of(line), json.loads(line)["outcome"]


def _keep(run: BatchRun, settings: Settings, part: Part, round_number: int, known: Mapping[int, Any]) -> None:
    with ObjectWriter(settings.bucket, _key(run, part, round_number), metadata=run.mark) as written:
        for record in read_source(run, settings, part, round_number):
            if record.index in known:
                written.write(write_line(record, outcome=known[record.index]))


def _write(
    run: BatchRun, settings: Settings, part: Part, round_number: int, known: Mapping[int, dict[str, Any]]
) -> None:
    with PartWriter(run, settings, part, round_number) as written:
        for record in read_source(run, settings, part, round_number):
            outcome = known[record.index]
            if "answer" in outcome:
                written.answer(record, outcome["answer"])
            else:
                written.fail(record, outcome["error"])
    write_summary(run, settings, part, round_number, summary_of(written, tier="standard"))
