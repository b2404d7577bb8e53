"""What a job's output makes of its part: answers and errors in the order of the input, records to send again.

The service promises no order ("Format and upload your batch inference data"), and a part's output can have
gigabytes: it goes to the function's disk once, with each record's place in memory, and is read from there in
the order of the input.
"""

from __future__ import annotations

import json
import tempfile
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from tokenmill_runtime import batch_objects
from tokenmill_runtime.batch_inference_job import job_of, record_id
from tokenmill_runtime.batch_inference_part import PartWriter, summary_of
from tokenmill_runtime.batch_inference_run import PART_FILE, read_source, write_summary
from tokenmill_runtime.batch_objects import split_uri

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill_runtime.batch_inference_run import BatchRun, Part, Settings
    from tokenmill_runtime.batch_run import Record

TOO_MANY, SERVER_ERRORS = 429, range(500, 600)
# A record's place on the disk: where it begins and how long it is, in one number.
LENGTH_BITS: Final = 28
STOPPED: Final = "Stopped"


class _Spill:
    """A part's output on the disk, without the requests that the service repeats."""

    def __init__(self, disk: BinaryIO) -> None:
        self._disk = disk
        self._places: dict[str, int] = {}
        self.unreadable = 0

    def take(self, line: bytes) -> None:
        """Keep what a line says of its record; one that says nothing of any is counted."""
        try:
            document = json.loads(line)
            identity = document["recordId"]
        except (ValueError, KeyError):
            self.unreadable += 1
            return
        kept = {name: document[name] for name in ("modelOutput", "error") if document.get(name) is not None}
        content = json.dumps(kept, separators=(",", ":")).encode()
        self._places[identity] = (self._disk.tell() << LENGTH_BITS) | len(content)
        self._disk.write(content)

    def outcome(self, record: Record) -> dict[str, Any] | None:
        """What the service says of a record; None where it says nothing."""
        place = self._places.get(record_id(record.index))
        if place is None:
            return None
        self._disk.seek(place >> LENGTH_BITS)
        found: dict[str, Any] = json.loads(self._disk.read(place & ((1 << LENGTH_BITS) - 1)))
        return found


def gather(run: BatchRun, settings: Settings, part: Part, *, round_number: int) -> dict[str, Any]:
    """Write a part's results, errors and records to send again, and that it is settled."""
    job = job_of(run, settings, part, round_number)
    missing = _missing(job)
    bucket, folder = split_uri(job["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"])
    output = f"{folder.rstrip('/')}/{job['jobArn'].rpartition('/')[2]}"
    with tempfile.TemporaryFile() as disk:
        spill = _Spill(disk)
        found = batch_objects.tagged_lines(bucket, f"{output}/{PART_FILE}.out")
        for line in found[1] if found else ():
            if line.strip():
                spill.take(line)
        with PartWriter(run, settings, part, round_number) as written:
            for record in read_source(run, settings, part, round_number):
                _settle(record, spill.outcome(record), missing, written)
    counted = _manifest(bucket, f"{output}/manifest.json.out")
    told = {"job": job["jobArn"], "status": job["status"], "manifest": counted}
    if spill.unreadable:
        told["unreadable_lines"] = spill.unreadable
    write_summary(run, settings, part, round_number, {**summary_of(written, tier="batch"), **told})
    return {"settled": True}


def _settle(
    record: Record, outcome: Mapping[str, Any] | None, missing: Mapping[str, Any], written: PartWriter
) -> None:
    if outcome is None:
        # Who stopped a job does not want its records to be asked again.
        settle = written.fail if missing["kind"] == STOPPED else written.send_again
        settle(record, missing)
    elif "modelOutput" in outcome:
        written.answer(record, outcome["modelOutput"])
    else:
        told = outcome.get("error") or {}
        error = {"kind": "failed", "code": told.get("errorCode"), "message": told.get("errorMessage", "")}
        (written.send_again if passing(told.get("errorCode")) else written.fail)(record, error)


def passing(code: object) -> bool:
    """Whether an error of a record may not come again: throttling, and the service's own faults."""
    text = str(code)
    return text.isdigit() and (int(text) == TOO_MANY or int(text) in SERVER_ERRORS)


def _missing(job: Mapping[str, Any]) -> dict[str, Any]:
    """What a record without an outcome is told: how its job ended."""
    kind = job["status"] if job["status"] != "Completed" else "Missing"
    message = job.get("message") or f"the job ended as {job['status']} without this record"
    return {"kind": kind, "code": None, "message": message}


def _manifest(bucket: str, key: str) -> dict[str, Any] | None:
    """The service's own counts, where it has written them."""
    found = batch_objects.read_tagged(bucket, key)
    manifest: dict[str, Any] | None = None if found is None else json.loads(found[0])
    return manifest
