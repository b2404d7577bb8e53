"""Training and transform jobs that Step Functions waits for, and transform jobs on accelerators."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tokenmill.core.images import serving_image
from tokenmill.core.instances import instance_type
from tokenmill.verification import endpoints, small_host
from tokenmill.verification.line import Deployment
from tokenmill.verification.lines import FOOTPRINTS
from tokenmill.verification.probe import Outcome, Verdict, create_role, holds

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tokenmill.verification.aws import Aws

_JOB_SECONDS = 40 * 60
_TRANSFORM_SECONDS = 60 * 60
# What BatchTransform's roles may do with keys; the keys' own policies name nobody but the account.
_KEY_ACTIONS = (
    "kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey",
    "kms:GenerateDataKeyWithoutPlaintext",
)  # fmt: skip
_MACHINE_ACTIONS = (
    "sagemaker:CreateTrainingJob", "sagemaker:DescribeTrainingJob", "sagemaker:StopTrainingJob",
    "sagemaker:CreateTransformJob", "sagemaker:DescribeTransformJob", "sagemaker:StopTransformJob",
    "sagemaker:AddTags", "sagemaker:ListTags", "iam:PassRole", "events:PutTargets", "events:PutRule",
    "events:DescribeRule",
)  # fmt: skip
INPUT, OUTPUT, BELOW = "input", "output", "below/some.jsonl"
MADE = "probe/made.txt"
_TRAIN = f"mkdir -p /opt/ml/model/probe && echo made > /opt/ml/model/{MADE}"


def hosted_jobs(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Run jobs by state machines: a transform with keys, one that fails, a training job.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    host = small_host.create_host(aws, "jobs", more=_KEY_ACTIONS)
    machine = create_role(aws, "machine", service="states.amazonaws.com", actions=_MACHINE_ACTIONS)
    # A state machine does not wait until a new role is known everywhere; this call does.
    model = small_host.create_model(aws, "jobs", host.container(aws), host.role)
    if "training-artifact-prefix" in wanted:
        job = aws.name("training")
        aws.declare("training-job", job)
        ended = _run(aws, machine, "training", "createTrainingJob", _training(aws, host, job))
        yield "training-artifact-prefix", _artifact(aws, host, ended)
    if {"transform-out-path", "job-keys-role"} & set(wanted):
        key = create_key(aws, "jobs")
        small_host.put(aws, host.bucket, f"{INPUT}/{BELOW}", {"words": 1}, {"words": 2})
        job = aws.name("transform")
        aws.declare("transform-job", job)
        asked = _transform(aws, host, job, model, source=INPUT, key=key)
        ended = _run(aws, machine, "transform", "createTransformJob", asked)
        yield "transform-out-path", _out_path(aws, host, ended)
        yield "job-keys-role", _keys(ended)
    if "sync-failure-cause" in wanted:
        small_host.put(aws, host.bucket, "failing/some.jsonl", {small_host.FAILS: True})
        job = aws.name("failing")
        aws.declare("transform-job", job)
        asked = _transform(aws, host, job, model, source="failing")
        ended = _run(aws, machine, "failing", "createTransformJob", asked)
        yield "sync-failure-cause", _cause(ended)


def neuron_transform(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Run a transform job with the Neuron image.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    for line in wanted:
        yield line, _accelerated(aws, Deployment.NEURON_TRANSFORM)


def gpu_transform(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Run a transform job with the GPU image.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    for line in wanted:
        yield line, _accelerated(aws, Deployment.GPU_TRANSFORM)


def _run(aws: Aws, role: str, suffix: str, call: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Run a job by a state machine of its own, and return how the execution ended."""
    client = aws.client("stepfunctions")
    task = {
        "Type": "Task",
        "Resource": f"arn:{aws.partition}:states:::sagemaker:{call}.sync",
        "Parameters": parameters,
        "End": True,
    }
    name = aws.name(suffix)
    aws.declare("state-machine", name)
    arn = aws.settle(
        lambda: client.create_state_machine(
            name=name,
            definition=json.dumps({"StartAt": "Job", "States": {"Job": task}}),
            roleArn=role,
            tags=[{"key": tag["Key"], "value": tag["Value"]} for tag in aws.tags],
        ),
        codes=("AccessDeniedException",),
    )["stateMachineArn"]
    execution = client.start_execution(stateMachineArn=arn, input="{}")["executionArn"]

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = client.describe_execution(executionArn=execution)
        return None if found["status"] == "RUNNING" else found

    ended: dict[str, Any] = aws.wait(f"execution {name}", look, seconds=_JOB_SECONDS)
    return ended


def _seen(ended: dict[str, Any]) -> dict[str, Any]:
    return {key: ended.get(key, "") for key in ("status", "error", "cause")}


def _training(aws: Aws, host: small_host.Host, job: str) -> dict[str, Any]:
    return {
        "TrainingJobName": job,
        "AlgorithmSpecification": {
            "TrainingImage": endpoints.sklearn_image(aws),
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["bash", "-c", _TRAIN],
        },
        "RoleArn": host.role,
        "OutputDataConfig": {"S3OutputPath": f"s3://{host.bucket}/trained", "CompressionType": "NONE"},
        "ResourceConfig": {
            "InstanceType": FOOTPRINTS[Deployment.HOSTED_JOBS].instance,
            "InstanceCount": 1,
            "VolumeSizeInGB": 5,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 900},
        "Tags": aws.tags,
    }


def _artifact(aws: Aws, host: small_host.Host, ended: dict[str, Any]) -> Outcome:
    if ended["status"] != "SUCCEEDED":
        return Outcome(Verdict.UNCLEAR, _seen(ended))
    output = json.loads(ended["output"])
    address = output.get("ModelArtifacts", {}).get("S3ModelArtifacts", "")
    there = bool(address) and small_host.exists(aws, f"{address.rstrip('/')}/{MADE}")
    listed = small_host.keys(aws, host.bucket, "trained/")
    seen = {"address": address, "ends_with_slash": address.endswith("/"), "objects": listed}
    return Outcome(holds(there), seen)


def _transform(
    aws: Aws, host: small_host.Host, job: str, model: str, *, source: str, key: str = ""
) -> dict[str, Any]:
    encrypted = {"KmsKeyId": key} if key else {}
    volume = {"VolumeKmsKeyId": key} if key else {}
    return {
        "TransformJobName": job,
        "ModelName": model,
        "BatchStrategy": "SingleRecord",
        "ModelClientConfig": {"InvocationsMaxRetries": 0, "InvocationsTimeoutInSeconds": 600},
        "TransformInput": {
            "ContentType": "application/json",
            "SplitType": "Line",
            "DataSource": {
                "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{host.bucket}/{source}"}
            },
        },
        "TransformOutput": {
            "S3OutputPath": f"s3://{host.bucket}/{OUTPUT}",
            "Accept": "application/json",
            "AssembleWith": "Line",
            **encrypted,
        },
        "TransformResources": {
            "InstanceType": FOOTPRINTS[Deployment.HOSTED_JOBS].instance,
            "InstanceCount": 1,
            **volume,
        },
        "Tags": aws.tags,
    }


def _out_path(aws: Aws, host: small_host.Host, ended: dict[str, Any]) -> Outcome:
    if ended["status"] != "SUCCEEDED":
        return Outcome(Verdict.UNCLEAR, _seen(ended))
    listed = small_host.keys(aws, host.bucket, f"{OUTPUT}/")
    return Outcome(holds(listed == [f"{OUTPUT}/{BELOW}.out"]), {"objects": listed})


def _keys(ended: dict[str, Any]) -> Outcome:
    if ended["status"] == "SUCCEEDED":
        return Outcome(Verdict.HOLDS, _seen(ended))
    said = str(ended.get("cause", "")).lower()
    about = "kms" in said or "key" in said
    return Outcome(Verdict.FAILS if about else Verdict.UNCLEAR, _seen(ended))


def _cause(ended: dict[str, Any]) -> Outcome:
    seen = _seen(ended)
    if ended["status"] != "FAILED" or "not authorized" in seen["cause"]:
        # No job was started.
        return Outcome(Verdict.UNCLEAR, seen)
    try:
        document = json.loads(seen["cause"])
    except ValueError:
        return Outcome(Verdict.FAILS, seen)
    told = isinstance(document, dict) and bool(document.get("FailureReason"))
    return Outcome(holds(seen["error"] == "States.TaskFailed" and told), seen)


def create_key(aws: Aws, suffix: str) -> str:
    """Create a key whose policy names nobody but the account, and return its ARN.

    Args:
        aws: The run.
        suffix: What it is for.
    """
    name = aws.name(suffix)
    root = {"AWS": f"arn:{aws.partition}:iam::{aws.account}:root"}
    statement = {"Effect": "Allow", "Principal": root, "Action": "kms:*", "Resource": "*"}
    aws.declare("key", name)
    key: str = aws.client("kms").create_key(
        Description=name,
        Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
        Tags=[{"TagKey": tag["Key"], "TagValue": tag["Value"]} for tag in aws.tags],
    )["KeyMetadata"]["Arn"]
    return key


def _accelerated(aws: Aws, deployment: Deployment) -> Outcome:
    kind = FOOTPRINTS[deployment].instance
    copy = endpoints.small_copy(aws, deployment, devices=1)
    host = small_host.create_host(aws, "accelerated")
    container = {"Image": copy.image, "Environment": copy.environment}
    model = small_host.create_model(aws, "accelerated", container, host.role)
    question = {"messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 16}
    small_host.put(aws, host.bucket, f"{INPUT}/{BELOW}", {**question, "model": endpoints.MODEL})
    job, client = aws.name("accelerated"), aws.client("sagemaker")
    aws.declare("transform-job", job)
    asked = _transform(aws, host, job, model, source=INPUT)
    client.create_transform_job(**{**asked, "TransformResources": {"InstanceType": kind, "InstanceCount": 1}})

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = client.describe_transform_job(TransformJobName=job)
        return None if found["TransformJobStatus"] in ("InProgress", "Stopping") else found

    ended = aws.wait(f"job {job}", look, seconds=_TRANSFORM_SECONDS)
    status, reason = ended["TransformJobStatus"], ended.get("FailureReason", "")
    seen = {
        "status": status,
        "failure_reason": reason,
        "image": copy.image,
        "driver_needed": serving_image(instance_type(kind), aws.region).driver_needed,
    }
    if status != "Completed":
        no_capacity = "capacity" in reason.lower() or "limit" in reason.lower()
        return Outcome(Verdict.UNCLEAR if no_capacity else Verdict.FAILS, seen)
    listed = small_host.keys(aws, host.bucket, f"{OUTPUT}/")
    return Outcome(holds(bool(listed)), {**seen, "objects": listed})
