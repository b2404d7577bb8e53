"""A batch inference job that has ended and is stopped, and one whose input has a line that is no record."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tokenmill.verification.bedrock_asks import told, tried
from tokenmill.verification.probe import Outcome, Verdict
from tokenmill_runtime.batch_inference_contract import ENDED
from tokenmill_runtime.batch_inference_run import PART_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenmill.verification.aws import Aws

# JSON, and no object.
NO_RECORD = b'["no record"]'
FOLDER = "no-record"
# What follows Validating ("GetModelInvocationJob", Amazon Bedrock API reference).
_VALIDATED = ("Scheduled", "InProgress", "Completed", "PartiallyCompleted")
_OF_INPUT = re.compile(r"\b(json\w*|records?|lines?|formats?|formatted|malformed|pars\w+|schema)\b", re.I)
_STOP_FAILURES = ("", "ConflictException", "ResourceNotFoundException")
_VALIDATION_SECONDS = 40 * 60


def ended_job_lines(
    aws: Aws, arn: str, request: dict[str, Any], *, worked: bool
) -> Iterator[tuple[str, Outcome]]:
    """Stop a job that has ended, and run its input again with one line more.

    Args:
        aws: The run.
        arn: The job's ARN.
        request: What it was started with.
        worked: Whether its records were answered; otherwise its input says nothing with a line more either.
    """
    yield "batch-stop-ended", tried(lambda: _stop(aws, arn))
    if worked:
        yield "batch-line-no-record", tried(lambda: _no_record(aws, request))


def _stop(aws: Aws, arn: str) -> Outcome:
    refused = told(lambda: aws.client("bedrock").stop_model_invocation_job(jobIdentifier=arn))
    if refused["code"] == "ValidationException":
        return Outcome(Verdict.HOLDS, refused)
    return Outcome(Verdict.FAILS if refused["code"] in _STOP_FAILURES else Verdict.UNCLEAR, refused)


def _no_record(aws: Aws, request: dict[str, Any]) -> Outcome:
    client, s3 = aws.client("bedrock"), aws.client("s3")
    input_uri = request["inputDataConfig"]["s3InputDataConfig"]["s3Uri"]
    bucket, _, key = input_uri.removeprefix("s3://").partition("/")
    folder = f"{key.rpartition('/')[0]}/{FOLDER}"
    # The same records were answered before: only the line more is new to the service.
    answered = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    s3.put_object(Bucket=bucket, Key=f"{folder}/{PART_FILE}", Body=answered + b"\n" + NO_RECORD)
    place, name = f"s3://{bucket}/{folder}", aws.name(FOLDER)
    given = {"s3InputFormat": "JSONL", "s3Uri": f"{place}/{PART_FILE}"}
    aws.declare("invocation-job", name)
    arn = client.create_model_invocation_job(
        **{
            **request,
            "jobName": name,
            "clientRequestToken": f"{aws.run}line",
            "inputDataConfig": {"s3InputDataConfig": given},
            "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": f"{place}/out/"}},
        }
    )["jobArn"]

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = client.get_model_invocation_job(jobIdentifier=arn)
        # What was validated is looked at no longer: the teardown stops it before many records cost.
        return found if found["status"] in (*ENDED, *_VALIDATED) else None

    job = aws.wait(f"the end of the validation of {arn}", look, seconds=_VALIDATION_SECONDS)
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=f"{folder}/out/").get("Contents", [])
    outputs = [item["Key"] for item in listed if item["Key"].endswith(f"{PART_FILE}.out")]
    seen = {"status": job["status"], "message": job.get("message", ""), "outputs": outputs}
    if job["status"] in _VALIDATED or outputs:
        return Outcome(Verdict.FAILS, seen)
    of_input = job["status"] == "Failed" and _OF_INPUT.search(seen["message"])
    return Outcome(Verdict.HOLDS if of_input else Verdict.UNCLEAR, seen)
