"""The batch jobs' state machines and function in the local cloud, with its S3, queue and model server."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aws_cdk as cdk
import pytest

from support_jobs import async_endpoint, inf2
from support_local import ROLE, client, variant
from support_local_workflows import SECONDS, get, keys, new_bucket, output, put, run
from support_stack import REGION, make_app, of_type, only, template_of
from support_states import definition, flat
from tokenmill.batch import AsyncFanOut, BatchTransform, FanOut
from tokenmill.local.processes import wait_until
from tokenmill.security.code import runtime_root
from tokenmill_runtime.functions import BATCH_FAN_OUT

if TYPE_CHECKING:
    from pathlib import Path

    from tokenmill.local.cloud_process import CloudProcess

MACHINE = "AWS::StepFunctions::StateMachine"
GIVEN = {"input": "input/requests.jsonl", "output": "output/run"}


def prompt(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 3}


def upload(cloud: CloudProcess, bucket: str, *documents: dict[str, Any]) -> None:
    put(cloud, bucket, GIVEN["input"], b"".join(json.dumps(item).encode() + b"\n" for item in documents))


def read_lines(cloud: CloudProcess, bucket: str, key: str) -> list[Any]:
    body = client(cloud.endpoint, "s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    return [json.loads(line) for line in body.splitlines()]


def code() -> bytes:
    """The function's files, and nothing else of the package."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for part in ("__init__.py", *BATCH_FAN_OUT.parts):
            name = f"tokenmill_runtime/{part}"
            archive.write(runtime_root() / name, name)
    return buffer.getvalue()


def synthesized(tmp_path: Path, kind: str) -> dict[str, Any]:
    stack = cdk.Stack(make_app(tmp_path), kind, env=cdk.Environment(region=REGION))
    if kind == "fan-out":
        requests = FanOut(shard_records=2, tolerated_failure_percent=50)
        AsyncFanOut(stack, "Job", endpoint=async_endpoint(stack), requests=requests)
    else:
        BatchTransform(stack, "Job", serving=inf2())
    return template_of(stack)


@pytest.fixture
def bucket(cloud: CloudProcess) -> str:
    return new_bucket(cloud)


@pytest.fixture
def model(cloud: CloudProcess) -> str:
    name = f"batch-{uuid4().hex[:8]}"
    client(cloud.endpoint, "sagemaker").create_model(
        ModelName=name,
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"Image": "image", "Environment": {"SM_ON_MODEL": "Qwen/Qwen3-8B"}},
    )
    return name


@pytest.fixture
def endpoint(cloud: CloudProcess, bucket: str, model: str) -> str:
    """An asynchronous endpoint in service."""
    sagemaker = client(cloud.endpoint, "sagemaker")
    paths = {"S3OutputPath": f"s3://{bucket}/async/answers", "S3FailurePath": f"s3://{bucket}/async/failures"}
    sagemaker.create_endpoint_config(
        EndpointConfigName=model,
        ProductionVariants=[variant(ModelName=model)],
        AsyncInferenceConfig={"OutputConfig": paths},
    )
    sagemaker.create_endpoint(EndpointName=model, EndpointConfigName=model)

    def status() -> str:
        return str(sagemaker.describe_endpoint(EndpointName=model)["EndpointStatus"])

    assert wait_until(lambda: status() == "InService", SECONDS)
    return model


def deploy_function(cloud: CloudProcess, template: dict[str, Any], *, endpoint: str, bucket: str) -> str:
    """Make the template's function, with its own environment for these names; return its ARN."""
    (function,) = of_type(template, "AWS::Lambda::Function").values()
    settings = json.loads(flat(function["Properties"]["Environment"]["Variables"]["TOKENMILL_FAN_OUT"], {}))
    settings |= {"endpoint": endpoint, "bucket": bucket, "requests": f"s3://{bucket}/async/requests"}
    made = client(cloud.endpoint, "lambda").create_function(
        FunctionName=f"fan-out-{uuid4().hex[:8]}",
        Runtime="python3.13",
        Role=ROLE,
        Handler=function["Properties"]["Handler"],
        Code={"ZipFile": code()},
        Timeout=60,
        Environment={"Variables": {"TOKENMILL_FAN_OUT": json.dumps(settings)}},
    )
    return str(made["FunctionArn"])


def test_a_fan_out_runs_as_it_is_deployed(
    cloud: CloudProcess, tmp_path: Path, bucket: str, endpoint: str
) -> None:
    """Two shards through queue and model server; a request that the model refuses is an error of its own."""
    template = synthesized(tmp_path, "fan-out")
    arn = deploy_function(cloud, template, endpoint=endpoint, bucket=bucket)
    (logical,) = of_type(template, "AWS::Lambda::Function")
    (files,) = (name for name in of_type(template, "AWS::S3::Bucket") if name.startswith("Job"))
    document = definition(only(template, MACHINE), {logical: arn, files: bucket})
    waiting = document["States"]["Shards"]["ItemProcessor"]["States"]["Wait"]
    # A quarter of a minute is the shortest wait; the local model answers at once.
    del waiting["SecondsPath"]
    waiting["Seconds"] = 1
    upload(cloud, bucket, prompt("one"), {"custom_id": "b", "body": prompt("two")}, {"messages": []})
    summary = output(run(cloud, document["States"], GIVEN))
    assert (summary["records"], summary["succeeded"], summary["failed"]) == (3, 2, 1)
    results = read_lines(cloud, bucket, "output/run/results.jsonl")
    assert [(item["index"], item.get("custom_id")) for item in results] == [(0, None), (1, "b")]
    assert all(item["response"]["usage"]["completion_tokens"] == 3 for item in results)
    (error,) = read_lines(cloud, bucket, "output/run/errors.jsonl")
    assert (error["index"], error["error"]["kind"]) == (2, "failed")
    assert get(cloud, bucket, "output/run/summary.json")["tolerated"] is True


def test_a_transform_job_runs_as_it_is_deployed(
    cloud: CloudProcess, tmp_path: Path, bucket: str, model: str
) -> None:
    """One object in, one with .out behind its name, line for line."""
    template = synthesized(tmp_path, "transform")
    (files,) = of_type(template, "AWS::S3::Bucket")
    (logical,) = of_type(template, "AWS::SageMaker::Model")
    document = definition(only(template, MACHINE), {files: bucket, logical: model})
    upload(cloud, bucket, prompt("one"), prompt("two"))
    found = output(run(cloud, document["States"], GIVEN))
    assert found["transform"]["status"] == "Completed"
    (written,) = (key for key in keys(cloud, bucket) if key.startswith("output/run/"))
    assert written.endswith("requests.jsonl.out")
    answers = read_lines(cloud, bucket, written)
    assert [answer["usage"]["completion_tokens"] for answer in answers] == [3, 3]
