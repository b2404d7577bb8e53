"""States that the state machines of batch jobs share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk

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
        "Resource": f"arn:{cdk.Stack.of(scope).partition}:states:::lambda:invoke",
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
