"""AWS clients, made at first use so that importing a handler stays cheap.

``AWS_ENDPOINT_URL`` and ``AWS_ENDPOINT_URL_<SERVICE>`` are honoured by boto3 itself.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from botocore.config import Config
    from mypy_boto3_application_autoscaling import ApplicationAutoScalingClient
    from mypy_boto3_bedrock_runtime import BedrockRuntimeClient
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient
    from mypy_boto3_sqs import SQSClient

# Longest silence of a model in seconds: above SageMaker's own 60 s for the first byte (AWS page
# "InvokeEndpointWithResponseStream"), so that its error arrives before ours.
MODEL_SILENCE_SECONDS: Final = 120

# As many as a gateway process has threads for calls that block.
MAX_CONNECTIONS: Final = 256


def _config(*, read_timeout: float, attempts: int) -> Config:
    from botocore.config import Config

    return Config(
        connect_timeout=3,
        read_timeout=read_timeout,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=MAX_CONNECTIONS,
        tcp_keepalive=True,
    )


@cache
def dynamodb() -> DynamoDBClient:
    """DynamoDB with a short time-out: it stands in front of every request."""
    import boto3

    return boto3.client("dynamodb", config=_config(read_timeout=3, attempts=3))


@cache
def sagemaker() -> SageMakerClient:
    """SageMaker's control plane."""
    import boto3

    return boto3.client("sagemaker", config=_config(read_timeout=10, attempts=3))


@cache
def sagemaker_runtime() -> SageMakerRuntimeClient:
    """SageMaker's invocations, never retried: a second attempt would cost a second prefill unseen."""
    import boto3

    return boto3.client("sagemaker-runtime", config=_config(read_timeout=MODEL_SILENCE_SECONDS, attempts=1))


@cache
def bedrock_runtime() -> BedrockRuntimeClient:
    """Bedrock's invocations, never retried for the same reason."""
    import boto3

    return boto3.client("bedrock-runtime", config=_config(read_timeout=MODEL_SILENCE_SECONDS, attempts=1))


@cache
def s3() -> S3Client:
    """Objects: answers, records, manifests."""
    import boto3

    return boto3.client("s3", config=_config(read_timeout=30, attempts=4))


@cache
def sqs() -> SQSClient:
    """Queues of requests that wait."""
    import boto3

    return boto3.client("sqs", config=_config(read_timeout=25, attempts=4))


@cache
def codebuild() -> Any:
    """Builds of container images and copies of models."""
    import boto3

    return boto3.client("codebuild", config=_config(read_timeout=10, attempts=4))


@cache
def logs() -> CloudWatchLogsClient:
    """What builds and containers wrote."""
    import boto3

    return boto3.client("logs", config=_config(read_timeout=10, attempts=3))


@cache
def application_auto_scaling() -> ApplicationAutoScalingClient:
    """Scalable targets of endpoints and components."""
    import boto3

    return boto3.client("application-autoscaling", config=_config(read_timeout=10, attempts=3))


@cache
def cloudformation() -> CloudFormationClient:
    """The stack that a function belongs to."""
    import boto3

    return boto3.client("cloudformation", config=_config(read_timeout=10, attempts=3))


@cache
def sagemaker_smoke() -> SageMakerRuntimeClient:
    """Smoke prompts: SageMaker ends an invocation after 60 s (AWS page "Model Hosting FAQs")."""
    import boto3

    return boto3.client("sagemaker-runtime", config=_config(read_timeout=65, attempts=1))


@cache
def ecr() -> Any:
    """The images of a repository."""
    import boto3

    return boto3.client("ecr", config=_config(read_timeout=10, attempts=4))


@cache
def ssm() -> Any:
    """Parameters: handles, ledgers, versions of artifacts."""
    import boto3

    return boto3.client("ssm", config=_config(read_timeout=10, attempts=4))


@cache
def bedrock() -> Any:
    """Bedrock's control plane: units, deployments, jobs, settings."""
    import boto3

    return boto3.client("bedrock", config=_config(read_timeout=10, attempts=4))


def bedrock_once() -> Any:
    """Bedrock's control plane without attempts of the client's own: who calls comes back a moment later."""
    return _bedrock_at(os.environ.get("AWS_ENDPOINT_URL_BEDROCK"), os.environ.get("AWS_ENDPOINT_URL"))


@cache
def _bedrock_at(*_addresses: str | None) -> Any:
    """One client for each address that the environment has named so far."""
    import boto3

    return boto3.client("bedrock", config=_config(read_timeout=15, attempts=1))


@cache
def ssm_handles() -> Any:
    """Parameters that a request waits for: short time-outs, because the last value read will do."""
    import boto3

    return boto3.client("ssm", config=_config(read_timeout=2, attempts=2))


@cache
def step_functions() -> Any:
    """Executions, and the tasks of theirs that wait for an answer."""
    import boto3

    return boto3.client("stepfunctions", config=_config(read_timeout=10, attempts=4))


@cache
def cloudwatch() -> Any:
    """Alarms that outlive a stack, and the use of units."""
    import boto3

    return boto3.client("cloudwatch", config=_config(read_timeout=10, attempts=4))


@cache
def service_quotas() -> Any:
    """What an account may own, and what it has to request."""
    import boto3

    return boto3.client("service-quotas", config=_config(read_timeout=10, attempts=4))
