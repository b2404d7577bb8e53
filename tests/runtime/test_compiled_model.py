"""The function behind compiled models: finds, records once, and refuses a deployment in one sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support_batch import FakeBatchCloud
from support_builds import Answers
from support_fake_aws import AwsError, FakeAws
from tokenmill_runtime import aws as aws_clients
from tokenmill_runtime.compiled_artifact import artifact_key
from tokenmill_runtime.compiled_model import RESOURCE_TYPE, handler
from tokenmill_runtime.custom_resource import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

LAMBDA = Path(__file__).resolve().parents[2] / "lambda"
DIGEST = "sha256:" + "d" * 64
ARTIFACT = {
    "schema": 1,
    "model": "Qwen/Qwen3-8B",
    "revision": "a" * 40,
    "accelerator": "Trainium2",
    "tensor_parallel": 4,
    "pipeline_parallel": 1,
    "max_sequences": 8,
    "context_tokens": 8192,
    "buckets": [],
    "dtype": "auto",
    "quantization": "as-published",
    "flags": {},
}
KEY = artifact_key({**ARTIFACT, "image_digest": DIGEST})
JOB = {
    "bucket": "artifacts",
    "prefix": "compiled/",
    "repository": "images",
    "repository_uri": "1.dkr.ecr.us-east-1.amazonaws.com/images",
    "tag": "1",
    "artifact": ARTIFACT,
}
LEFT = f"compiled/{KEY}/job/output/model/tokenmill-compiled/manifest.json"
MANIFEST = f"compiled/{KEY}/manifest.json"


class Cloud:
    """The bucket and the repository."""

    def __init__(self, bucket: FakeBatchCloud, aws: FakeAws) -> None:
        self.bucket, self.aws = bucket, aws
        aws.answers["ecr", "DescribeImages"] = lambda _: {"imageDetails": [{"imageDigest": DIGEST}]}
        read = bucket._server.RequestHandlerClass.do_GET

        def get(request: Any) -> None:
            if "list-type=2" not in request.path:
                read(request)
                return
            folders = sorted({key.split("/")[1] for _, key in bucket.objects})
            inner = "".join(
                f"<CommonPrefixes><Prefix>compiled/{name}/</Prefix></CommonPrefixes>" for name in folders
            )
            request._send(200, f"<ListBucketResult>{inner}</ListBucketResult>".encode())

        bucket._server.RequestHandlerClass.do_GET = get

    def put(self, key: str, document: object) -> None:
        self.bucket.put("artifacts", key, json.dumps(document).encode())

    def read(self, key: str) -> Any:
        return json.loads(self.bucket.text("artifacts", key))

    @property
    def keys(self) -> set[str]:
        return {key for _, key in self.bucket.objects}


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    aws, bucket = FakeAws(), FakeBatchCloud()
    for name, value in {
        "AWS_ENDPOINT_URL": aws.url,
        "AWS_ENDPOINT_URL_S3": bucket.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    clients = (aws_clients.ecr, aws_clients.s3)
    for client in clients:
        client.cache_clear()
    yield Cloud(bucket, aws)
    for client in clients:
        if client.cache_info().currsize:
            client().close()
        client.cache_clear()
    bucket.close()
    aws.close()


@pytest.fixture
def answers() -> Iterator[Answers]:
    made = Answers()
    yield made
    made.close()


def left(key: str = KEY) -> dict[str, Any]:
    """What the container leaves."""
    files = [{"path": "vllm-cache/a", "bytes": 7, "sha256": "0"}, {"path": "b", "bytes": 5, "sha256": "0"}]
    return {"schema": 1, "key": key, "seconds": 61.5, "files": files}


def recorded(**changes: Any) -> dict[str, Any]:
    """A record as an earlier run wrote it, of an artifact with some changes."""
    artifact = {**ARTIFACT, "image_digest": DIGEST, **changes}
    return {
        "schema": 1,
        "key": artifact_key(artifact),
        "artifact": artifact,
        "uri": "s3://artifacts/x/",
        "job": "j",
    }


def record_event() -> dict[str, Any]:
    looked = handler({"step": "look", "job": JOB}, None)
    training = {"name": "job", "output": f"s3://artifacts/compiled/{KEY}/job/output/model"}
    return {"step": "record", "job": JOB, "artifact": looked, "training": training}


def ask(answers: Answers, kind: str = "Create", **changes: Any) -> dict[str, Any]:
    """CloudFormation's answer to a request for a compiled model."""
    event = {
        "RequestType": kind,
        "RequestId": "r",
        "StackId": "arn:aws:cloudformation:us-east-1:1:stack/serve/1",
        "LogicalResourceId": "Check",
        "ResourceType": RESOURCE_TYPE,
        "ResponseURL": f"{answers.url}/r",
        "ResourceProperties": {
            "ServiceToken": "arn",
            "Bucket": "artifacts",
            "Prefix": "compiled/",
            "Repository": "images",
            "Tag": "1",
            "Artifact": json.dumps(ARTIFACT),
            "Stack": "trn2-build",
            "Job": "Compiled",
            **changes,
        },
        **({} if kind == "Create" else {"PhysicalResourceId": "old"}),
    }
    assert handler(event, None) is None
    return answers.taken[-1][1]


def test_looking_finds_the_image_and_no_artifact(cloud: Cloud) -> None:
    """The key is made of the digest that the tag has now."""
    assert handler({"step": "look", "job": JOB}, None) == {
        "key": KEY,
        "built": False,
        "image_digest": DIGEST,
        "image_uri": f"1.dkr.ecr.us-east-1.amazonaws.com/images@{DIGEST}",
        "output": f"s3://artifacts/compiled/{KEY}",
    }


def test_looking_finds_an_artifact_that_is_there(cloud: Cloud) -> None:
    """What is recorded is not compiled again."""
    cloud.put(MANIFEST, recorded())
    assert handler({"step": "look", "job": JOB}, None)["built"] is True


def test_a_job_is_recorded_with_what_it_left(cloud: Cloud) -> None:
    """The record says for what, where, by which job, how much and how long."""
    cloud.put(LEFT, left())
    assert handler(record_event(), None) == {
        "key": KEY,
        "built": True,
        "uri": f"s3://artifacts/compiled/{KEY}/job/output/model/",
    }
    assert cloud.read(MANIFEST) == {
        "schema": 1,
        "key": KEY,
        "artifact": {**ARTIFACT, "image_digest": DIGEST},
        "uri": f"s3://artifacts/compiled/{KEY}/job/output/model/",
        "job": "job",
        "files": 2,
        "bytes": 12,
        "seconds": 61.5,
    }


def test_a_record_is_never_overwritten(cloud: Cloud) -> None:
    """An endpoint that reads the first record keeps its files."""
    cloud.put(LEFT, left())
    event = record_event()
    cloud.put(MANIFEST, recorded())
    handler(event, None)
    assert cloud.read(MANIFEST) == recorded()


@pytest.mark.parametrize(
    ("manifest", "words"),
    [(None, "left no tokenmill-compiled/manifest.json"), (left("other"), "compiled other, asked for was")],
)
def test_fails_to_record_what_is_not_there(cloud: Cloud, manifest: dict[str, Any] | None, words: str) -> None:
    """A job that succeeded without an artifact is no artifact."""
    if manifest is not None:
        cloud.put(LEFT, manifest)
    with pytest.raises(Refused, match=words):
        handler(record_event(), None)
    assert MANIFEST not in cloud.keys


def test_fails_for_a_step_that_is_none() -> None:
    """The allowed ones are named."""
    with pytest.raises(ValueError, match="step is 'dance'; allowed are look, record"):
        handler({"step": "dance"}, None)


def test_an_endpoint_gets_what_is_compiled_for_it(cloud: Cloud, answers: Answers) -> None:
    """The address, the digest and the key become attributes of the resource."""
    cloud.put(MANIFEST, {**recorded(), "uri": "s3://artifacts/compiled/k/job/output/model/"})
    answer = ask(answers)
    assert answer["Status"] == "SUCCESS"
    assert answer["PhysicalResourceId"] == KEY
    assert answer["Data"] == {
        "Key": KEY,
        "Digest": DIGEST,
        "Uri": "s3://artifacts/compiled/k/job/output/model/",
        "Job": "j",
    }


def test_fails_a_deployment_that_nothing_is_compiled_for(cloud: Cloud, answers: Answers) -> None:
    """One sentence: for what, and the command that compiles it."""
    answer = ask(answers)
    assert answer["Status"] == "FAILED"
    assert answer["Reason"] == (
        "no compiled model for Qwen/Qwen3-8B at aaaaaaaaaaaa, tensor_parallel 4, max_sequences 8, "
        f"context_tokens 8192, image sha256:dddddddddddd, key {KEY[:16]}; compile it with: "
        "tokenmill jobs run compile --stack trn2-build --name Compiled"
    )


def test_fails_a_deployment_with_the_nearest_difference(cloud: Cloud, answers: Answers) -> None:
    """Of the artifacts of the same model, the one with the fewest differences is compared in words."""
    for changes in (
        {"max_sequences": 16},
        {"max_sequences": 32, "tensor_parallel": 8},
        {"model": "other"},
    ):
        cloud.put(f"compiled/{recorded(**changes)['key']}/manifest.json", recorded(**changes))
    assert "(the nearest that is there: max_sequences 16 was built, 8 is asked for)" in ask(answers)["Reason"]


def test_fails_a_deployment_of_another_image(cloud: Cloud, answers: Answers) -> None:
    """The same tag in another repository may be another image."""
    cloud.put(MANIFEST, recorded())
    other = "sha256:" + "e" * 64
    cloud.aws.answers["ecr", "DescribeImages"] = lambda _: {"imageDetails": [{"imageDigest": other}]}
    reason = ask(answers)["Reason"]
    assert "image sha256:dddddddddddd" in reason
    assert "image sha256:eeeeeeeeeeee" in reason


def test_fails_a_deployment_before_the_image_is_built(cloud: Cloud, answers: Answers) -> None:
    """The stack that builds it comes first."""

    def missing(_: dict[str, Any]) -> dict[str, Any]:
        raise AwsError("ImageNotFoundException")

    cloud.aws.answers["ecr", "DescribeImages"] = missing
    assert ask(answers)["Reason"] == (
        "repository images has no image 1; deploy the stack that builds it first"
    )


def test_fails_a_deployment_when_the_registry_refuses(cloud: Cloud, answers: Answers) -> None:
    """A denied call is not taken for a missing image."""

    def denied(_: dict[str, Any]) -> dict[str, Any]:
        raise AwsError("AccessDeniedException", "not authorized")

    cloud.aws.answers["ecr", "DescribeImages"] = denied
    assert "AccessDeniedException" in ask(answers)["Reason"]


def test_fails_for_a_record_of_another_version(cloud: Cloud, answers: Answers) -> None:
    """A record that cannot be read is not taken for a missing one."""
    cloud.put(MANIFEST, {"schema": 7})
    assert "has schema 7; this version reads 1" in ask(answers)["Reason"]


def test_deleting_an_endpoint_leaves_the_artifact(cloud: Cloud, answers: Answers) -> None:
    """Artifacts belong to their bucket; the next endpoint serves the same one."""
    cloud.put(MANIFEST, recorded())
    answer = ask(answers, "Delete")
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("SUCCESS", "old")
    assert cloud.keys == {MANIFEST}


def test_the_handler_loads_without_boto3() -> None:
    """A cold start pays for what it uses."""
    code = "import sys, tokenmill_runtime.compiled_model; print('boto3' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=LAMBDA
    )
    assert found.stdout == "False\n"
