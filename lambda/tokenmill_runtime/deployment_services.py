"""What the guard of a deployment talks to: clients, time, and calls that are tried again."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tokenmill_runtime import aws

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_application_autoscaling import ApplicationAutoScalingClient
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient

Result = TypeVar("Result")

# "ConcurrentUpdateException" and "InternalServiceException" of Application Auto Scaling are no throttles to
# botocore, and both are gone a moment later.
# A role's policy may take a moment to be known everywhere after the deployment made it.
PASSING: Final = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "ConcurrentUpdateException",
        "InternalFailure",
        "InternalServiceException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
ATTEMPTS: Final = 8
FIRST_PAUSE_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Clients, each made when it is first asked for, and time."""

    sagemaker: Callable[[], SageMakerClient] = aws.sagemaker
    scaling: Callable[[], ApplicationAutoScalingClient] = aws.application_auto_scaling
    stacks: Callable[[], CloudFormationClient] = aws.cloudformation
    models: Callable[[], SageMakerRuntimeClient] = aws.sagemaker_smoke
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic

    def patiently(self, call: Callable[[], Result]) -> Result:
        """Make a call again while the service says that it only fails for now.

        Raises botocore's ClientError or BotoCoreError when it fails for good, or did so eight times.
        """
        from botocore.exceptions import ClientError, HTTPClientError

        for attempt in range(1, ATTEMPTS + 1):
            try:
                return call()
            except ClientError as error:
                if error_code(error) not in PASSING or attempt == ATTEMPTS:
                    raise
            except HTTPClientError:
                if attempt == ATTEMPTS:
                    raise
            self.sleep(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1))
        raise AssertionError("the last attempt returns or raises")


def error_code(error: Any) -> str:
    """The code of botocore's ClientError."""
    return str(error.response.get("Error", {}).get("Code", ""))


def is_missing(error: Any) -> bool:
    """Whether SageMaker says that there is no such endpoint or component.

    It has no code of its own for that: a ValidationException whose message begins with "Could not find".
    """
    message = str(error.response.get("Error", {}).get("Message", ""))
    return error_code(error) == "ValidationException" and "could not find" in message.lower()
