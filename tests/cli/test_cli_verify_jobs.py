"""The probes about training and transform jobs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support_fake_aws import AwsError
from support_fake_components import Queues
from support_fake_services import Machines, Objects
from support_verify import only, probe
from tokenmill.verification import LINES, Verdict, job_lines
from tokenmill.verification.line import Deployment

if TYPE_CHECKING:
    from pathlib import Path

    from support_fake_aws import Resources

ALL = [line.id for line in LINES if line.deployment is Deployment.HOSTED_JOBS]
ACCELERATED = ("transform-neuron-driver", "transform-gpu-driver")
REASON = json.dumps({"TransformJobStatus": "Failed", "FailureReason": "the container failed"})


class Jobs:
    """Jobs that end at once; the attributes say how."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.keys = Queues(resources)
        self.objects = Objects(resources)
        self.machines = Machines(resources, self._end)
        self.out, self.made = f"{job_lines.OUTPUT}/{job_lines.BELOW}.out", job_lines.MADE
        self.plain_end: dict[str, Any] = {"status": "SUCCEEDED"}
        self.failing_end: dict[str, Any] = {
            "status": "FAILED",
            "error": "States.TaskFailed",
            "cause": REASON,
        }
        self.job = ("Completed", "")
        answers = resources.fake.answers
        answers["kms", "CreateKey"] = self._create_key
        answers["sagemaker", "CreateTransformJob"] = self._create_job
        answers["sagemaker", "DescribeTransformJob"] = self._describe_job
        answers["sagemaker", "DescribeTrainingJob"] = self._no_job

    def _create_key(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.keys.keys["ours"] = parameters["Description"]
        self.resources.create("Key", "ours")
        return {"KeyMetadata": {"KeyId": "ours", "Arn": "arn:aws:kms:us-east-1:123456789012:key/ours"}}

    def _no_job(self, _: dict[str, Any]) -> dict[str, Any]:
        raise AwsError("ValidationException", "Requested resource not found.")

    def _create_job(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.resources.create("Job", parameters["TransformJobName"])
        self.objects.keys |= {self.out} if self.job[0] == "Completed" else set()
        return {"TransformJobArn": "arn:aws:sagemaker:us-east-1:123456789012:transform-job/j"}

    def _describe_job(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if parameters["TransformJobName"] not in self.resources.live["Job"]:
            return self._no_job(parameters)
        status, reason = self.job
        return {"TransformJobStatus": status, "FailureReason": reason}

    def _end(self, task: dict[str, Any]) -> dict[str, Any]:
        asked = task["Parameters"]
        if task["Resource"].endswith("createTrainingJob.sync"):
            prefix = "trained/job/output/model/"
            self.objects.keys.add(f"{prefix}{self.made}")
            model = {"S3ModelArtifacts": f"{asked['OutputDataConfig']['S3OutputPath']}/job/output/model/"}
            return {**self.plain_end, "output": json.dumps({"ModelArtifacts": model})}
        if asked["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"].endswith("/failing"):
            return self.failing_end
        assert asked["TransformResources"]["VolumeKmsKeyId"] == asked["TransformOutput"]["KmsKeyId"]
        self.objects.keys.add(self.out)
        return {**self.plain_end, "output": "{}"}


@pytest.fixture
def jobs(resources: Resources) -> Jobs:
    return Jobs(resources)


def test_an_aws_that_does_what_is_claimed_makes_every_line_hold(jobs: Jobs, tmp_path: Path) -> None:
    result = probe(tmp_path, *ALL)
    assert {piece.line: piece.verdict for piece in result.evidence} == dict.fromkeys(ALL, Verdict.HOLDS)
    assert {"Machine", "Key", "Model", "Bucket", "Role"} <= jobs.resources.ever
    assert (result.exit_code, jobs.resources.left) == (0, set())


def test_an_artifact_of_another_form_fails(jobs: Jobs, tmp_path: Path) -> None:
    jobs.made = "model.tar.gz"
    evidence = only(probe(tmp_path, "training-artifact-prefix"))
    assert evidence.verdict is Verdict.FAILS
    assert evidence.observations["objects"] == ["trained/job/output/model/model.tar.gz"]


def test_an_output_that_loses_its_path_fails(jobs: Jobs, tmp_path: Path) -> None:
    jobs.out = f"{job_lines.OUTPUT}/some.jsonl.out"
    assert only(probe(tmp_path, "transform-out-path")).verdict is Verdict.FAILS


@pytest.mark.parametrize(
    ("cause", "verdict"),
    [("KMS: the key policy does not allow it", Verdict.FAILS), ("no instances left", Verdict.UNCLEAR)],
)
def test_a_job_that_fails_speaks_of_the_key_or_says_nothing(
    jobs: Jobs, tmp_path: Path, cause: str, verdict: Verdict
) -> None:
    jobs.plain_end = {"status": "FAILED", "error": "States.TaskFailed", "cause": cause}
    assert only(probe(tmp_path, "job-keys-role")).verdict is verdict
    assert only(probe(tmp_path, "transform-out-path")).verdict is Verdict.UNCLEAR
    assert only(probe(tmp_path, "training-artifact-prefix")).verdict is Verdict.UNCLEAR


@pytest.mark.parametrize(
    ("end", "verdict"),
    [
        ({"error": "States.TaskFailed", "cause": "it failed"}, Verdict.FAILS),
        ({"error": "States.TaskFailed", "cause": "{}"}, Verdict.FAILS),
        ({"error": "SageMaker.JobFailed", "cause": REASON}, Verdict.FAILS),
        ({"error": "SageMaker.AmazonSageMakerException", "cause": "not authorized to"}, Verdict.UNCLEAR),
        ({"status": "SUCCEEDED"}, Verdict.UNCLEAR),
    ],
)
def test_a_failure_of_another_form_fails(
    jobs: Jobs, tmp_path: Path, end: dict[str, Any], verdict: Verdict
) -> None:
    jobs.failing_end = {"status": "FAILED", **end}
    assert only(probe(tmp_path, "sync-failure-cause")).verdict is verdict
    assert jobs.resources.left == set()


@pytest.mark.parametrize("line", ACCELERATED)
@pytest.mark.parametrize(
    ("status", "reason", "verdict"),
    [
        ("Completed", "", Verdict.HOLDS),
        ("Failed", "the driver is too old", Verdict.FAILS),
        ("Failed", "insufficient capacity", Verdict.UNCLEAR),
    ],
)
def test_a_transform_job_on_an_accelerator_is_read_from_its_end(
    jobs: Jobs, tmp_path: Path, line: str, status: str, reason: str, verdict: Verdict
) -> None:
    jobs.job = (status, reason)
    evidence = only(probe(tmp_path, line))
    assert evidence.verdict is verdict
    asked = next(p for _, operation, p in jobs.resources.fake.calls if operation == "CreateTransformJob")
    neuron = line == "transform-neuron-driver"
    assert asked["TransformResources"]["InstanceType"] == ("ml.inf2.xlarge" if neuron else "ml.g6.2xlarge")
    jobs.resources.live["Job"].clear()
    assert jobs.resources.left == set()


def test_a_job_that_still_runs_is_stopped(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_lines, "_TRANSFORM_SECONDS", 0.05)
    jobs.job = ("InProgress", "")

    def stop(_: dict[str, Any]) -> dict[str, Any]:
        jobs.job = ("Stopped", "")
        return {}

    jobs.resources.fake.answers["sagemaker", "StopTransformJob"] = stop
    assert only(probe(tmp_path, "transform-gpu-driver")).verdict is Verdict.UNCLEAR
    assert jobs.job == ("Stopped", "")
