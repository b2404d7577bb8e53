"""One part of a round as a batch inference job: submitted once, waited for by its event, looked for as well.

"Monitor Amazon Bedrock job state changes using Amazon EventBridge" says that events come on a best-effort
basis, so the state machine asks again after a while and the job's own state counts.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime import batch_objects
from tokenmill_runtime.aws import bedrock, step_functions
from tokenmill_runtime.batch_inference_contract import ENDED, EVENT_TYPE
from tokenmill_runtime.batch_inference_part import PartWriter, summary_of
from tokenmill_runtime.batch_inference_records import model_input
from tokenmill_runtime.batch_inference_run import PART_FILE, read_source, write_summary
from tokenmill_runtime.batch_inference_stop import jobs_named, stop_of_stopped
from tokenmill_runtime.batch_objects import ObjectWriter, split_uri

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill_runtime.batch_inference_run import BatchRun, Part, Settings

# CreateModelInvocationJob's errors that asking again does not mend.
FINAL: Final = ("AccessDeniedException", "ResourceNotFoundException", "ValidationException")
# The task that a token stands for has ended: it timed out, or somebody else answered first.
GONE: Final = ("InvalidToken", "TaskDoesNotExist", "TaskTimedOut")


class SubmitLater(RuntimeError):
    """Bedrock takes no job now: too many at once, or it is throttling. The state machine asks again."""


def submit(run: BatchRun, settings: Settings, part: Part, *, round_number: int) -> dict[str, Any]:
    """Write a part's file and start its job; a part whose job was started before is left alone.

    Returns ``submitted``; False where Bedrock refuses the job for good, which is then the part's outcome.
    Raises SubmitLater where it does not take one now.
    """
    from botocore.exceptions import ClientError

    if _job(run, settings, part, round_number) is not None:
        return {"submitted": True}
    _write_file(run, settings, part, round_number)
    try:
        arn = _create(run, settings, part, round_number)
    except ClientError as error:
        told = error.response["Error"]
        if told["Code"] in FINAL:
            _refused(run, settings, part, round_number, told)
            return {"submitted": False}
        raise SubmitLater(f"{told['Code']}: {told.get('Message', '')}") from error
    document = {"execution": run.execution, "job": arn}
    batch_objects.write_document(
        settings.bucket, run.of_part(round_number, part.number, "job.json"), document
    )
    stop_of_stopped(run.execution, arn)
    return {"submitted": True}


def _refused(
    run: BatchRun, settings: Settings, part: Part, round_number: int, told: Mapping[str, Any]
) -> None:
    error = {"kind": "refused", "code": told["Code"], "message": told.get("Message", "")}
    with PartWriter(run, settings, part, round_number) as written:
        for record in read_source(run, settings, part, round_number):
            written.fail(record, error)
    summary = {**summary_of(written, tier="batch"), "status": "Refused", "refused": error}
    write_summary(run, settings, part, round_number, summary)


def await_end(
    run: BatchRun, settings: Settings, part: Part, *, round_number: int, token: str
) -> dict[str, Any]:
    """Leave a task's token where the event of the job's end finds it, and look whether it has ended already.

    The token is written first: whichever of the two comes later sees the other.
    """
    key = run.of_part(round_number, part.number, "token.json")
    batch_objects.write_document(settings.bucket, key, {"token": token})
    job = job_of(run, settings, part, round_number)
    if job["status"] in ENDED:
        _answer(token, job["status"])
    return {"status": job["status"]}


def on_event(event: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Answer the task that waits for the job of an event; events of other jobs are none of ours."""
    found = event["detail"]
    if event.get("detail-type") != EVENT_TYPE or found["status"] not in ENDED:
        return {"answered": False}
    job = bedrock().get_model_invocation_job(jobIdentifier=found["batchJobArn"])
    bucket, folder = split_uri(job["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"])
    if bucket != settings.bucket or not folder.endswith("/out/"):
        return {"answered": False}
    waiting = batch_objects.read_tagged(bucket, f"{folder.removesuffix('out/')}token.json")
    # Without a token nobody waits yet; who comes to wait looks for the job's state first.
    if waiting is None:
        return {"answered": False}
    return {"answered": _answer(json.loads(waiting[0])["token"], job["status"])}


def job_of(run: BatchRun, settings: Settings, part: Part, round_number: int) -> dict[str, Any]:
    """What Bedrock says of a part's job.

    Raises ValueError where none was started.
    """
    arn = _job(run, settings, part, round_number)
    if arn is None:
        raise ValueError(f"part {part.number} of round {round_number} has no job; it is submitted first")
    job: dict[str, Any] = bedrock().get_model_invocation_job(jobIdentifier=arn)
    return job


def _job(run: BatchRun, settings: Settings, part: Part, round_number: int) -> str | None:
    found = batch_objects.read_tagged(settings.bucket, run.of_part(round_number, part.number, "job.json"))
    document = None if found is None else json.loads(found[0])
    return document["job"] if document and document["execution"] == run.execution else None


def _write_file(run: BatchRun, settings: Settings, part: Part, round_number: int) -> None:
    with ObjectWriter(settings.bucket, run.of_part(round_number, part.number, PART_FILE)) as written:
        for record in read_source(run, settings, part, round_number):
            line = {"recordId": record_id(record.index), "modelInput": model_input(record, settings)}
            written.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")


def record_id(index: int) -> str:
    """The service's name of a record: eleven digits, as its examples have eleven characters."""
    return f"{index:011d}"


def _create(run: BatchRun, settings: Settings, part: Part, round_number: int) -> str:
    from botocore.exceptions import ClientError

    name = job_name(run, settings, part, round_number)
    folder = f"s3://{settings.bucket}/{run.of_part(round_number, part.number, '')}"
    output = {"s3Uri": f"{folder}out/"}
    if settings.output_key is not None:
        output["s3EncryptionKeyId"] = settings.output_key
    try:
        made = bedrock().create_model_invocation_job(
            jobName=name,
            roleArn=settings.role,
            clientRequestToken=run.token(round_number, part.number),
            modelId=settings.model,
            modelInvocationType="Converse",
            inputDataConfig={
                "s3InputDataConfig": {"s3InputFormat": "JSONL", "s3Uri": f"{folder}{PART_FILE}"}
            },
            outputDataConfig={"s3OutputDataConfig": output},
            timeoutDurationInHours=settings.job_hours,
            tags=[{"key": "tokenmill:job", "value": "batch"}],
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConflictException":
            raise
        # A job of this name is this part's: it was started before and the answer got lost.
        own = [item["jobArn"] for item in jobs_named(name) if item["jobName"] == name]
        if not own:
            raise
        return str(own[0])
    return str(made["jobArn"])


def job_name(run: BatchRun, settings: Settings, part: Part, round_number: int) -> str:
    """A job's name: the construct's prefix, which the event rule matches, then run, round and part."""
    return f"{settings.jobs_of(run.execution)}r{round_number}-p{part.number}"


def _answer(token: str, status: str) -> bool:
    """Let the waiting task go on; False where it has gone on already."""
    from botocore.exceptions import ClientError

    try:
        step_functions().send_task_success(taskToken=token, output=json.dumps({"status": status}))
    except ClientError as error:
        if error.response["Error"]["Code"] in GONE:
            return False
        raise
    return True
