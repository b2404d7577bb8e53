"""Tasks of state machines that call Amazon Bedrock, and the states that make a model with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

States = dict[str, Any]
TOKEN = "States.Hash($$.Execution.Id, 'SHA-256')"
POLL_SECONDS = 60
FAILED = {"Variable": "$.polled.Status", "StringEquals": "Failed", "Next": "MakingFailed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """How a version is made, from "Make" to a `$.model.ModelArn`, and how a model is found by name.

    Args:
        states: The states; the first is "Make", and what follows the last is "Describe" or "Find".
        finding: The API that finds the model by its name, such as "getCustomModel".
    """

    states: Mapping[str, Any]
    finding: str


def sdk(partition: str, action: str, parameters: Mapping[str, Any], **more: Any) -> States:
    """Return a task that calls an API as it is ("AWS SDK service integrations", AWS Step Functions).

    Args:
        partition: The AWS partition.
        action: The service and its action, such as "bedrock:getCustomModel".
        parameters: What is asked.
        more: The state's further fields.
    """
    return task(f"arn:{partition}:states:::aws-sdk:{action}", parameters, **more)


def task(resource: str, parameters: Mapping[str, Any], **more: Any) -> States:
    """Return a task that is tried again where the service was busy.

    Args:
        resource: The integration.
        parameters: What is asked.
        more: The state's further fields.
    """
    service = "Ssm" if ":ssm:" in resource else "Bedrock"
    busy = ("ThrottlingException", "InternalServerException", "InternalServerErrorException")
    retried = [*(f"{service}.{error}" for error in busy), f"{service}.SdkClientException"]
    return {
        "Type": "Task",
        "Resource": resource,
        "Parameters": dict(parameters),
        "Retry": [
            {
                "ErrorEquals": retried,
                "IntervalSeconds": 5,
                "BackoffRate": 2,
                "MaxAttempts": 8,
                "MaxDelaySeconds": 120,
                "JitterStrategy": "FULL",
            }
        ],
        **more,
    }


def polled_import(request: Mapping[str, Any], *, partition: str) -> Making:
    """Return how open weights are imported: one job, asked for its state once a minute.

    Step Functions has no `.sync` for it ("Optimizing integrations", AWS Step Functions developer guide).

    Args:
        request: The parameters of CreateModelImportJob.
        partition: The AWS partition.
    """
    return Making(
        finding="getImportedModel",
        states={
            "Make": sdk(
                partition,
                "bedrock:createModelImportJob",
                request,
                ResultSelector={"arn.$": "$.JobArn"},
                ResultPath="$.started",
                Next="Wait",
            ),
            "Wait": {"Type": "Wait", "Seconds": POLL_SECONDS, "Next": "Poll"},
            "Poll": sdk(
                partition,
                "bedrock:getModelImportJob",
                {"JobIdentifier.$": "$.started.arn"},
                ResultPath="$.polled",
                Next="IsDone",
            ),
            "IsDone": {
                "Type": "Choice",
                "Choices": [
                    {"Variable": "$.polled.Status", "StringEquals": "Completed", "Next": "Made"},
                    FAILED,
                ],
                "Default": "Wait",
            },
            "Made": {
                "Type": "Pass",
                "Parameters": {"ModelArn.$": "$.polled.ImportedModelArn"},
                "ResultPath": "$.model",
                "Next": "Describe",
            },
            "MakingFailed": {
                "Type": "Fail",
                "Error": "ImportFailed",
                "CausePath": "States.JsonToString($.polled)",
            },
        },
    )


def created_model(request: Mapping[str, Any], *, partition: str) -> Making:
    """Return how a model of Amazon Nova that SageMaker trained becomes a custom model: made, and waited for.

    Args:
        request: The parameters of CreateCustomModel.
        partition: The AWS partition.
    """
    make = sdk(partition, "bedrock:createCustomModel", request, ResultPath="$.started", Next="WaitForModel")
    return Making(finding="getCustomModel", states={"Make": make})


def customized(request: Mapping[str, Any], *, partition: str, limit_seconds: int) -> Making:
    """Return how a model is fine-tuned or distilled: Step Functions waits for the job and stops it in time.

    "Invoke and customize Amazon Bedrock models with Step Functions": CreateModelCustomizationJob.sync has the
    fields of the API.

    Args:
        request: The parameters of CreateModelCustomizationJob.
        partition: The AWS partition.
        limit_seconds: After how long the job is stopped, in seconds.
    """
    return Making(
        finding="getCustomModel",
        states={
            "Make": task(
                f"arn:{partition}:states:::bedrock:createModelCustomizationJob.sync",
                request,
                ResultPath="$.made",
                TimeoutSeconds=limit_seconds,
                Next="Read",
            ),
            "Read": sdk(
                partition,
                "bedrock:getModelCustomizationJob",
                {"JobIdentifier.$": "$.job_name"},
                ResultSelector={"ModelArn.$": "$.OutputModelArn"},
                ResultPath="$.model",
                Next="Describe",
            ),
        },
    )
