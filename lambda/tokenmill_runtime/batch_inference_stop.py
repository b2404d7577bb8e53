"""Jobs of an execution that was stopped: they end with it, as nobody would gather what they answer.

"Stop a batch inference job" (Amazon Bedrock user guide): tokens that were processed until then are charged,
others are not. Step Functions tells of a stopped execution on a best-effort basis ("AWS Step Functions
events", Amazon EventBridge events reference), and its DescribeExecution is eventually consistent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime.aws import bedrock, step_functions
from tokenmill_runtime.batch_inference_contract import ENDED, STOPPED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tokenmill_runtime.batch_inference_run import Settings

# "StopModelInvocationJob" (Amazon Bedrock API reference) lists both and says of neither what it is for; those
# who met a job that had ended (apache/airflow 48964, BerriAI/litellm 34087) took the second.
_NOT_STOPPED: Final = ("ConflictException", "ValidationException")
# "ModelInvocationJobSummary": states of a job that can still be stopped.
UNDER_WAY: Final = ("Submitted", "Validating", "Scheduled", "InProgress")


def on_stop(event: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Stop the jobs of the execution of an event; returns how many there were."""
    if event["detail"]["status"] not in STOPPED:
        return {"stopped": 0}
    names = f"{settings.jobs_of(event['detail']['executionArn'])}r"
    found = [job["jobArn"] for job in jobs_named(names) if job["status"] in UNDER_WAY]
    return {"stopped": sum(stop_job(arn) for arn in found)}


def stop_of_stopped(execution: str, arn: str) -> None:
    """Stop a job that was started while its execution was being stopped; the event may have missed it."""
    if step_functions().describe_execution(executionArn=execution)["status"] in STOPPED:
        stop_job(arn)


def stop_job(arn: str) -> bool:
    """Stop a job; False where it has ended, or is stopped already."""
    from botocore.exceptions import ClientError

    try:
        bedrock().stop_model_invocation_job(jobIdentifier=arn)
    except ClientError as error:
        if error.response["Error"]["Code"] not in _NOT_STOPPED or not _over(arn):
            raise
        return False
    return True


def _over(arn: str) -> bool:
    return bedrock().get_model_invocation_job(jobIdentifier=arn)["status"] in (*ENDED, "Stopping")


def jobs_named(text: str) -> Iterator[Mapping[str, Any]]:
    """The jobs of the account whose names contain a text."""
    for page in bedrock().get_paginator("list_model_invocation_jobs").paginate(nameContains=text):
        yield from page["invocationJobSummaries"]
