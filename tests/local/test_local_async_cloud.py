"""An asynchronous endpoint in one cloud process: S3, a model server, SNS and CloudWatch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from support_local import ROLE, client, variant
from support_local_workflows import SECONDS, get, new_bucket, output, put, run
from tokenmill.local.processes import wait_until

if TYPE_CHECKING:
    from tokenmill.local.cloud_process import CloudProcess


@pytest.fixture
def bucket(cloud: CloudProcess) -> str:
    return new_bucket(cloud)


@pytest.fixture
def queue(cloud: CloudProcess, bucket: str) -> str:
    """An asynchronous endpoint with an SQS queue that gets its messages; all have one name."""
    name = f"async-{uuid4().hex[:8]}"
    sagemaker, sns, sqs = (client(cloud.endpoint, service) for service in ("sagemaker", "sns", "sqs"))
    topic = sns.create_topic(Name=name)["TopicArn"]
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
    sagemaker.create_model(
        ModelName=name,
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"Image": "image", "Environment": {"SM_VLLM_MODEL": "Qwen/Qwen3-8B"}},
    )
    sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[variant(ModelName=name)],
        AsyncInferenceConfig={
            "OutputConfig": {
                "S3OutputPath": f"s3://{bucket}/answers",
                "S3FailurePath": f"s3://{bucket}/failures",
                "NotificationConfig": {"SuccessTopic": topic, "ErrorTopic": topic},
            }
        },
    )
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)

    def status() -> str:
        return str(sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"])

    assert wait_until(lambda: status() == "InService", SECONDS)
    return name


def test_a_pushed_images_digest_is_what_an_endpoint_says_it_runs(cloud: CloudProcess) -> None:
    name = f"image-{uuid4().hex[:8]}"
    ecr, sagemaker = client(cloud.endpoint, "ecr"), client(cloud.endpoint, "sagemaker")
    repository = ecr.create_repository(repositoryName=name)["repository"]["repositoryUri"]
    pushed = ecr.put_image(repositoryName=name, imageTag="v1", imageManifest="{}")["image"]["imageId"]
    container = {"Image": f"{repository}:v1", "Environment": {"SM_VLLM_MODEL": "Qwen/Qwen3-8B"}}
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant(ModelName=name)])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)

    def images() -> list[dict[str, Any]]:
        described = sagemaker.describe_endpoint(EndpointName=name)
        return [
            image for v in described.get("ProductionVariants", []) for image in v.get("DeployedImages", [])
        ]

    assert wait_until(lambda: bool(images()), SECONDS)
    assert images()[0]["ResolvedImage"] == f"{repository}@{pushed['imageDigest']}"


def messages(cloud: CloudProcess, queue: str) -> list[dict[str, Any]]:
    sqs = client(cloud.endpoint, "sqs")
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    received: list[dict[str, Any]] = []

    def some() -> bool:
        answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
        received.extend(json.loads(message["Body"]) for message in answer.get("Messages", []))
        return bool(received)

    assert wait_until(some, SECONDS)
    return received


def test_an_asynchronous_request_is_answered_in_s3_and_told_by_sns(
    cloud: CloudProcess, bucket: str, queue: str
) -> None:
    put(cloud, bucket, "in/1", {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3})
    runtime = client(cloud.endpoint, "sagemaker-runtime")
    accepted = runtime.invoke_endpoint_async(
        EndpointName=queue, InputLocation=f"s3://{bucket}/in/1", ContentType="application/json"
    )
    assert accepted["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert accepted["FailureLocation"].startswith(f"s3://{bucket}/failures/")
    [message] = messages(cloud, queue)
    assert message["inferenceId"] == accepted["InferenceId"]
    assert message["responseParameters"]["outputLocation"] == accepted["OutputLocation"]
    answer = get(cloud, bucket, accepted["OutputLocation"].removeprefix(f"s3://{bucket}/"))
    assert answer["usage"]["completion_tokens"] == 3
    with pytest.raises(runtime.exceptions.ValidationError, match="InvokeEndpointAsync"):
        runtime.invoke_endpoint(EndpointName=queue, Body=b"{}")


def test_an_asynchronous_request_that_the_model_refuses_is_told_as_failed(
    cloud: CloudProcess, bucket: str, queue: str
) -> None:
    put(cloud, bucket, "in/1", {"messages": []})
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:sagemakerruntime:invokeEndpointAsync",
        "Parameters": {"EndpointName": queue, "InputLocation": f"s3://{bucket}/in/1"},
        "End": True,
    }
    accepted = output(run(cloud, {"Ask": task}))
    [message] = messages(cloud, queue)
    assert (message["invocationStatus"], message["inferenceId"]) == ("Failed", accepted["InferenceId"])
    failure = get(cloud, bucket, accepted["FailureLocation"].removeprefix(f"s3://{bucket}/"))
    assert "error" in failure
    names = {
        metric["MetricName"]
        for metric in client(cloud.endpoint, "cloudwatch").list_metrics(
            Namespace="AWS/SageMaker", Dimensions=[{"Name": "EndpointName", "Value": queue}]
        )["Metrics"]
    }
    assert {"InvocationFailures", "Invocation4XXErrors"} <= names
