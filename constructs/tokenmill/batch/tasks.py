"""States that the state machines of batch jobs share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenmill.security.place import place_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from constructs import Construct

# Lambda's own errors that pass ("Best practices for Step Functions": transient Lambda service exceptions),
# and a function that ran out of time; every step goes on where it stopped.
PASSING = (
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
    "Sandbox.Timedout",
)
TIMEOUT = "States.Timeout"
RESULTS = ("records", "succeeded", "failed", "results", "errors")
FINAL = ("InputRefused", "LedgerTaken")


def function_task(
    scope: Construct, function_arn: str, payload: dict[str, Any], *, seconds: int
) -> dict[str, Any]:
    """Return a state that calls a function and asks again where an error of Lambda passes.

    Args:
        scope: A construct of the stack.
        function_arn: The function.
        payload: The member of the parameters that holds the payload.
        seconds: The function's longest run, in seconds.
    """
    return {
        "Type": "Task",
        "Resource": f"arn:{place_of(scope).partition}:states:::lambda:invoke",
        "Parameters": {"FunctionName": function_arn, **payload},
        "TimeoutSeconds": seconds + 60,
        "Retry": [{"ErrorEquals": list(FINAL), "MaxAttempts": 0}, retry((*PASSING, TIMEOUT))],
    }


def retry(errors: Sequence[str]) -> dict[str, Any]:
    """Return a retrier for errors that pass within minutes.

    Args:
        errors: Their names.
    """
    return {
        "ErrorEquals": list(errors),
        "IntervalSeconds": 2,
        "MaxAttempts": 6,
        "BackoffRate": 2,
        "JitterStrategy": "FULL",
    }


def caught(
    following: str, path: str = "$.failure", errors: Sequence[str] = ("States.ALL",)
) -> dict[str, Any]:
    """Return a catcher.

    Args:
        following: The state after it.
        path: Where the error is put.
        errors: Their names.
    """
    return {"ErrorEquals": list(errors), "ResultPath": path, "Next": following}


def lines_map(
    scope: Construct,
    *,
    label: str,
    bucket: str,
    key_path: str,
    item: dict[str, Any],
    at_once: int,
    tolerated_failure_percent: float,
    start: str,
    states: dict[str, Any],
) -> dict[str, Any]:
    """Return a state that runs one child execution for each line of an object; what follows is the caller's.

    Args:
        scope: A construct of the stack.
        label: What the children's names begin with.
        bucket: The object's bucket.
        key_path: Where in the state the object's key stands.
        item: What a child is given.
        at_once: Children at once.
        tolerated_failure_percent: Failed children that do not fail the state, in percent.
        start: A child's first state.
        states: A child's states.
    """
    return {
        "Type": "Map",
        "Label": label,
        "ItemReader": {
            "Resource": f"arn:{place_of(scope).partition}:states:::s3:getObject",
            "ReaderConfig": {"InputType": "JSONL"},
            "Parameters": {"Bucket": bucket, "Key.$": key_path},
        },
        "ItemSelector": item,
        "MaxConcurrency": at_once,
        "ToleratedFailurePercentage": tolerated_failure_percent,
        "ItemProcessor": {
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
            "StartAt": start,
            "States": states,
        },
        "ResultSelector": {"ended": True},
    }


def result_states(collate: dict[str, Any], *, reported: Sequence[str] = RESULTS) -> dict[str, Any]:
    """Return the last states of a run: its outcome is collated, and is a failure where too much failed.

    Args:
        collate: The task that collates.
        reported: What of its answer the execution's output has.
    """
    return {
        "Collate": {
            **collate,
            "ResultSelector": {
                f"{name}.$": f"$.Payload.{name}" for name in (*reported, "tolerated", "message")
            },
            "ResultPath": "$.summary",
            "Catch": [caught("Failed")],
            "Next": "Tolerated",
        },
        "Tolerated": {
            "Type": "Choice",
            "Choices": [{"Variable": "$.summary.tolerated", "BooleanEquals": True, "Next": "Answered"}],
            "Default": "TooManyFailed",
        },
        "Answered": {"Type": "Pass", "InputPath": "$.summary", "End": True},
        "TooManyFailed": {"Type": "Fail", "Error": "TooManyFailed", "CausePath": "$.summary.message"},
        "Failed": {"Type": "Fail", "ErrorPath": "$.failure.Error", "CausePath": "$.failure.Cause"},
    }
