"""A container that says back what it is told, on a host without accelerator, and what comes out of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tokenmill.verification import endpoints
from tokenmill.verification.probe import create_role

if TYPE_CHECKING:
    from tokenmill.verification.aws import Aws

# What requests of these words make the container do.
PAUSE, FAILS = "pause_seconds", "fails"
PROGRAM = f"""\
import json, time

def model_fn(model_dir):
    return None

def input_fn(body, content_type):
    return json.loads(body)

def predict_fn(data, model):
    time.sleep(data.get("{PAUSE}", 0))
    if data.get("{FAILS}"):
        raise RuntimeError("the probe fails here")
    return data

def output_fn(result, accept):
    return json.dumps(result)
"""
_WRITES = ("s3:PutObject", "s3:AbortMultipartUpload")


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What an endpoint or a job of the container needs.

    Args:
        role: ARN of its role.
        bucket: The bucket of its program, its requests and its answers.
    """

    role: str
    bucket: str

    def container(self, aws: Aws, **environment: str) -> dict[str, Any]:
        """Return the container as CreateModel takes it.

        Args:
            aws: The run.
            **environment: More variables.
        """
        return {
            "Image": endpoints.sklearn_image(aws),
            "ModelDataUrl": endpoints.model_data(self.bucket),
            "Environment": {**endpoints.sklearn_environment(aws), **environment},
        }


def create_host(aws: Aws, suffix: str, *, more: tuple[str, ...] = ()) -> Host:
    """Create the role and the bucket.

    Args:
        aws: The run.
        suffix: What they are for.
        more: Further actions of the role.

    Raises:
        TokenmillError: The region's registry is not known.
    """
    endpoints.sklearn_image(aws)
    actions = (*endpoints.ROLE_ACTIONS, *_WRITES, *more)
    role = create_role(aws, suffix, service="sagemaker.amazonaws.com", actions=actions)
    return Host(role=role, bucket=endpoints.upload_model(aws, program=PROGRAM))


def create_model(aws: Aws, suffix: str, container: dict[str, Any], role: str) -> str:
    """Create a model and return its name.

    Args:
        aws: The run.
        suffix: What it is for.
        container: Its container.
        role: ARN of its role.
    """
    name = aws.name(suffix)
    aws.declare("model", name)
    aws.settle(
        lambda: aws.client("sagemaker").create_model(
            ModelName=name, PrimaryContainer=container, ExecutionRoleArn=role, Tags=aws.tags
        ),
        codes=("ValidationException",),
    )
    return name


def put(aws: Aws, bucket: str, key: str, *bodies: dict[str, Any]) -> str:
    """Write JSON lines into a bucket and return the object's address.

    Args:
        aws: The run.
        bucket: The bucket.
        key: The object's key.
        *bodies: The lines.
    """
    text = "\n".join(json.dumps(body) for body in bodies)
    aws.client("s3").put_object(Bucket=bucket, Key=key, Body=text.encode())
    return f"s3://{bucket}/{key}"


def keys(aws: Aws, bucket: str, prefix: str) -> list[str]:
    """Return the keys under a prefix, as many as one answer holds.

    Args:
        aws: The run.
        bucket: The bucket.
        prefix: The prefix.
    """
    found = aws.client("s3").list_objects_v2(Bucket=bucket, Prefix=prefix)
    return [item["Key"] for item in found.get("Contents", [])]


def exists(aws: Aws, address: str) -> bool:
    """Return whether an object is there.

    Args:
        aws: The run.
        address: Its address, as s3://bucket/key.
    """
    parts = urlsplit(address)
    key = parts.path.lstrip("/")
    return key in keys(aws, parts.netloc, key)
