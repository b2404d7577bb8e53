"""Service integrations of workflows in one cloud process: jobs, objects, our own services."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from support_local import ROLE, client
from support_local_workflows import get, new_bucket, output, put, run

if TYPE_CHECKING:
    from tokenmill.local.cloud_process import CloudProcess


@pytest.fixture
def bucket(cloud: CloudProcess) -> str:
    return new_bucket(cloud)


def test_a_workflow_waits_for_a_training_job_and_gets_its_document(cloud: CloudProcess, bucket: str) -> None:
    job = f"compile-{uuid4().hex[:8]}"
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::sagemaker:createTrainingJob.sync",
        "Parameters": {
            "TrainingJobName.$": "$.job",
            "RoleArn": ROLE,
            "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
            "OutputDataConfig": {"S3OutputPath": f"s3://{bucket}/out", "CompressionType": "NONE"},
            "ResourceConfig": {"InstanceType": "ml.trn2.48xlarge", "InstanceCount": 1, "VolumeSizeInGB": 9},
            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
            "Environment": {"TOKENMILL_ARTIFACT_KEY": "abc"},
        },
        "ResultSelector": {"name.$": "$.TrainingJobName", "output.$": "$.ModelArtifacts.S3ModelArtifacts"},
        "Catch": [{"ErrorEquals": ["SageMaker.ResourceInUseException"], "Next": "Again"}],
        "End": True,
    }
    states = {"Train": task, "Again": {"Type": "Pass", "Result": "used already", "End": True}}
    assert output(run(cloud, states, {"job": job})) == {
        "name": job,
        "output": f"s3://{bucket}/out/{job}/output/model/",
    }
    assert get(cloud, bucket, f"out/{job}/output/model/tokenmill-compiled/manifest.json")["modelled"] is True
    assert output(run(cloud, states, {"job": job})) == "used already"


def test_fails_a_workflow_whose_training_job_fails_with_its_document(cloud: CloudProcess) -> None:
    parameters = {
        "TrainingJobName": f"lost-{uuid4().hex[:8]}",
        "RoleArn": ROLE,
        "OutputDataConfig": {"S3OutputPath": "s3://no-such-bucket-here/out"},
        "ResourceConfig": {"InstanceType": "ml.trn1.2xlarge", "InstanceCount": 1, "VolumeSizeInGB": 9},
    }
    resource = "arn:aws:states:::sagemaker:createTrainingJob.sync"
    execution = run(
        cloud, {"T": {"Type": "Task", "Resource": resource, "Parameters": parameters, "End": True}}
    )
    assert (execution["status"], execution["error"]) == ("FAILED", "States.TaskFailed")
    cause = json.loads(execution["cause"])
    assert cause["TrainingJobStatus"] == "Failed"
    assert "no-such-bucket-here" in cause["FailureReason"]


def test_fails_a_workflow_whose_parameters_the_service_refuses(cloud: CloudProcess) -> None:
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::sagemaker:createTransformJob.sync",
        "Parameters": {"TransformJobName": "x"},
        "End": True,
    }
    execution = run(cloud, {"T": task})
    assert execution["error"] == "SageMaker.AmazonSageMakerException"
    assert "TransformInput" in execution["cause"]


def test_a_workflow_transforms_records_through_a_real_model_server(cloud: CloudProcess, bucket: str) -> None:
    name = f"batch-{uuid4().hex[:8]}"
    chat = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}
    put(cloud, bucket, "in/a.jsonl", b"\n".join([json.dumps(chat).encode()] * 2))
    client(cloud.endpoint, "sagemaker").create_model(
        ModelName=name,
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"Image": "image", "Environment": {"SM_VLLM_MODEL": "Qwen/Qwen3-8B"}},
    )
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/in/"}}
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::sagemaker:createTransformJob.sync",
        "Parameters": {
            "TransformJobName": name,
            "ModelName": name,
            "BatchStrategy": "SingleRecord",
            "TransformInput": {"DataSource": source, "SplitType": "Line", "ContentType": "application/json"},
            "TransformOutput": {"S3OutputPath": f"s3://{bucket}/out", "AssembleWith": "Line"},
            "TransformResources": {"InstanceType": "ml.inf2.24xlarge", "InstanceCount": 1},
        },
        "ResultPath": None,
        "Next": "Read",
    }
    read = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:s3:getObject",
        "Parameters": {"Bucket": bucket, "Key": "out/a.jsonl.out"},
        "ResultSelector": {"body.$": "$.Body"},
        "End": True,
    }
    body = output(run(cloud, {"Transform": task, "Read": read}))["body"]
    answers = [json.loads(line) for line in body.splitlines()]
    assert [answer["usage"]["completion_tokens"] for answer in answers] == [3, 3]


def test_objects_are_written_and_read_by_sdk_integrations(cloud: CloudProcess, bucket: str) -> None:
    write = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:s3:putObject",
        "Parameters": {"Bucket": bucket, "Key.$": "$.key", "Body.$": "$.body"},
        "ResultPath": "$.written",
        "Next": "Read",
    }
    read = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:s3:getObject",
        "Parameters": {"Bucket": bucket, "Key.$": "$.key"},
        "ResultSelector": {"document.$": "States.StringToJson($.Body)"},
        "End": True,
    }
    result = output(run(cloud, {"Write": write, "Read": read}, {"key": "k", "body": {"n": 1}}))
    assert result == {"document": {"n": 1}}
    assert get(cloud, bucket, "k") == {"n": 1}
    missing = {**read, "Catch": [{"ErrorEquals": ["S3.NoSuchKeyException"], "Next": "None"}]}
    states = {"Read": missing, "None": {"Type": "Pass", "Result": "nothing", "End": True}}
    assert output(run(cloud, states, {"key": "other"})) == "nothing"


def test_sdk_integrations_reach_our_services(cloud: CloudProcess) -> None:
    describe = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:sagemaker:describeEndpoint",
        "Parameters": {"EndpointName": "gone"},
        "Catch": [{"ErrorEquals": ["SageMaker.ValidationException"], "ResultPath": "$.e", "Next": "Build"}],
        "End": True,
    }
    build = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:codebuild:batchGetBuilds",
        "Parameters": {"Ids": ["gone:1"]},
        "End": True,
    }
    assert output(run(cloud, {"Describe": describe, "Build": build})) == {
        "Builds": [],
        "BuildsNotFound": ["gone:1"],
    }
