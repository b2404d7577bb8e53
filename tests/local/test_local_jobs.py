"""SageMaker jobs: training goes through its states, transform really asks a model server."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from support_local import ROLE, SCOPE, ByHand, FakeFleet
from support_local_jobs import FakeBus, FakeObjects, model_server
from tokenmill.local.aws_requests import AwsError
from tokenmill.local.sagemaker.control import SageMaker
from tokenmill.local.sagemaker.jobs import TrainingJobs
from tokenmill.local.sagemaker.transform import TransformJobs
from tokenmill_runtime.compiled_artifact import COMPILED_FOLDER, MANIFEST, SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INSTANCE = "ml.trn2.48xlarge"


class ServingFleet(FakeFleet):
    """Every server that is started answers at one address."""

    address = ""

    def url(self, key: str) -> str | None:
        return self.address if key in self.running else None


class World:
    """A control plane with jobs that run by hand."""

    def __init__(self) -> None:
        self.objects, self.bus, self.fleet = FakeObjects(), FakeBus(), ServingFleet()
        self.background = ByHand()
        self.while_asleep: Callable[[], None] = lambda: None
        self.control = SageMaker(self.fleet, background=self.background, sleep=self._sleep)
        for jobs in (TrainingJobs, TransformJobs):
            self.control.add_operations(jobs(self.control, self.objects, self.bus.publish).operations())
        self.call("CreateModel", ModelName="m", PrimaryContainer={"Image": "i"})

    def _sleep(self, seconds: float) -> None:
        if seconds:
            self.while_asleep()

    def call(self, operation: str, **params: Any) -> dict[str, Any]:
        self.control.shapes.check(operation, params)
        return self.control.call(SCOPE, operation, params)

    def train(self, **changes: Any) -> str:
        params = {
            "TrainingJobName": "compile-1",
            "RoleArn": ROLE,
            "AlgorithmSpecification": {"TrainingImage": "image@sha256:1", "TrainingInputMode": "File"},
            "OutputDataConfig": {"S3OutputPath": "s3://out/compiled"},
            "ResourceConfig": {"InstanceType": INSTANCE, "InstanceCount": 1, "VolumeSizeInGB": 100},
            "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
            **changes,
        }
        return str(self.call("CreateTrainingJob", **params)["TrainingJobArn"])

    def training(self) -> dict[str, Any]:
        return self.call("DescribeTrainingJob", TrainingJobName="compile-1")

    def transform(self, **changes: Any) -> None:
        source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://in/data/"}}
        params: dict[str, Any] = {
            "TransformJobName": "batch-1",
            "ModelName": "m",
            "BatchStrategy": "SingleRecord",
            "TransformInput": {"DataSource": source, "SplitType": "Line", "ContentType": "application/json"},
            "TransformOutput": {"S3OutputPath": "s3://out/answers/", "AssembleWith": "Line"},
            "TransformResources": {"InstanceType": "ml.inf2.24xlarge", "InstanceCount": 2},
        }
        for name, value in changes.items():
            params[name] = {**params[name], **value} if isinstance(value, dict) and name in params else value
        self.call("CreateTransformJob", **params)

    def transformed(self) -> dict[str, Any]:
        return self.call("DescribeTransformJob", TransformJobName="batch-1")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def asked(world: World) -> Iterator[list[bytes]]:
    requests: list[bytes] = []

    def answer(body: bytes) -> tuple[int, bytes]:
        requests.append(body)
        if b"refuse" in body:
            return 400, b'{"error": "too long"}'
        return 200, b'{"answer": ' + body + b"}"

    with model_server(answer) as url:
        world.fleet.address = url
        yield requests


def test_a_training_job_goes_through_its_secondary_statuses(world: World) -> None:
    arn = world.train()
    first = world.training()
    assert (first["TrainingJobStatus"], first["SecondaryStatus"]) == ("InProgress", "Starting")
    world.background.run()
    done = world.training()
    assert (done["TrainingJobStatus"], done["SecondaryStatus"]) == ("Completed", "Completed")
    steps = [step["Status"] for step in done["SecondaryStatusTransitions"]]
    assert steps == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert all("EndTime" in step for step in done["SecondaryStatusTransitions"][:-1])
    assert done["TrainingJobArn"] == arn
    assert done["TrainingEndTime"] >= done["TrainingStartTime"] >= done["CreationTime"]
    shape = world.control.shapes.model.operation_model("DescribeTrainingJob").output_shape
    assert shape is not None
    assert set(done) <= set(shape.members)


def test_its_events_tell_its_document_with_times_in_milliseconds(world: World) -> None:
    arn = world.train()
    world.background.run()
    states = [detail["TrainingJobStatus"] for _, _, detail, _ in world.bus.events]
    assert states == ["InProgress", "Completed"]
    source, name, detail, resources = world.bus.events[-1]
    assert (source, name, resources) == ("aws.sagemaker", "SageMaker Training Job State Change", [arn])
    assert detail["CreationTime"] > 1e12
    json.dumps(detail)


def test_the_artifact_says_that_nothing_was_computed(world: World) -> None:
    world.train()
    world.background.run()
    where = world.training()["ModelArtifacts"]["S3ModelArtifacts"]
    assert where == "s3://out/compiled/compile-1/output/model.tar.gz"
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(world.objects.objects[where]))) as archive:
        entry = archive.extractfile("modelled.json")
        assert entry is not None
        document = json.loads(entry.read())
    assert document["modelled"] is True
    assert document["image"] == "image@sha256:1"


def test_a_compiling_job_leaves_the_manifest_that_its_recorder_reads(world: World) -> None:
    world.train(
        OutputDataConfig={"S3OutputPath": "s3://out/compiled", "CompressionType": "NONE"},
        Environment={"TOKENMILL_ARTIFACT_KEY": "k" * 64},
    )
    world.background.run()
    where = world.training()["ModelArtifacts"]["S3ModelArtifacts"]
    assert where == "s3://out/compiled/compile-1/output/model/"
    manifest = json.loads(world.objects.objects[f"{where}{COMPILED_FOLDER}/{MANIFEST}"])
    assert (manifest["schema"], manifest["key"], manifest["modelled"]) == (SCHEMA, "k" * 64, True)
    for entry in manifest["files"]:
        left = world.objects.objects[f"{where}{COMPILED_FOLDER}/{entry['path']}"]
        assert len(left) == entry["bytes"]


def test_a_stopped_training_job_leaves_nothing(world: World) -> None:
    world.train()
    world.while_asleep = lambda: world.call("StopTrainingJob", TrainingJobName="compile-1") and None
    world.background.run()
    done = world.training()
    assert (done["TrainingJobStatus"], done["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert "Stopping" in [step["Status"] for step in done["SecondaryStatusTransitions"]]
    assert world.objects.objects == {}
    with pytest.raises(AwsError, match="in status Stopped"):
        world.call("StopTrainingJob", TrainingJobName="compile-1")


def test_fails_a_training_job_without_capacity(world: World) -> None:
    world.control.set_faults(SCOPE, {"insufficient_capacity": [INSTANCE]})
    world.train()
    world.background.run()
    done = world.training()
    assert done["TrainingJobStatus"] == "Failed"
    assert done["FailureReason"].startswith(
        "CapacityError: Unable to provision requested ML compute capacity"
    )


def test_fails_a_training_job_whose_output_cannot_be_written(world: World) -> None:
    world.objects.refused.add("s3://out")
    world.train()
    world.background.run()
    assert "Access Denied" in world.training()["FailureReason"]


def test_fails_a_name_that_was_used_and_one_that_was_not(world: World) -> None:
    world.train()
    with pytest.raises(AwsError) as raised:
        world.train()
    assert raised.value.code == "ResourceInUse"
    with pytest.raises(AwsError, match="Could not find requested job"):
        world.call("DescribeTrainingJob", TrainingJobName="other")


def test_jobs_are_listed_by_status_and_name(world: World) -> None:
    world.train()
    world.background.run()
    world.train(TrainingJobName="other")
    listed = world.call("ListTrainingJobs", StatusEquals="Completed")["TrainingJobSummaries"]
    assert [job["TrainingJobName"] for job in listed] == ["compile-1"]
    assert listed[0]["TrainingEndTime"]
    names = [job["TrainingJobName"] for job in world.call("ListTrainingJobs")["TrainingJobSummaries"]]
    assert names == ["other", "compile-1"]


def test_every_record_is_asked_and_answered_in_its_place(world: World, asked: list[bytes]) -> None:
    world.objects.objects["s3://in/data/a.jsonl"] = b'{"n": 1}\n{"n": 2}\n\n{"n": 3}'
    world.objects.objects["s3://in/data/sub/b.jsonl"] = b'{"n": 4}\n'
    world.transform(MaxConcurrentTransforms=2)
    assert world.transformed()["TransformJobStatus"] == "InProgress"
    world.background.run()
    done = world.transformed()
    assert done["TransformJobStatus"] == "Completed"
    assert world.objects.objects["s3://out/answers/a.jsonl.out"] == (
        b'{"answer": {"n": 1}}\n{"answer": {"n": 2}}\n{"answer": {"n": 3}}\n'
    )
    assert world.objects.objects["s3://out/answers/sub/b.jsonl.out"] == b'{"answer": {"n": 4}}\n'
    assert sorted(asked) == [b'{"n": %d}' % n for n in (1, 2, 3, 4)]
    assert world.fleet.running == {}, "the model server goes with the job"
    assert [detail["TransformJobStatus"] for _, _, detail, _ in world.bus.events] == [
        "InProgress",
        "Completed",
    ]
    shape = world.control.shapes.model.operation_model("DescribeTransformJob").output_shape
    assert shape is not None
    assert set(done) <= set(shape.members)


def test_a_model_server_starts_with_a_copy_an_instance(world: World, asked: list[bytes]) -> None:
    launched = []
    start = world.fleet.start
    world.fleet.start = lambda key, launch: (launched.append((key, launch.copies)), start(key, launch))[1]
    world.objects.objects["s3://in/data/a"] = b"{}"
    world.transform()
    world.background.run()
    assert launched == [("transform-batch-1/transform", 2)]


def test_an_unsplit_object_and_one_named_by_itself_are_one_request(world: World, asked: list[bytes]) -> None:
    world.objects.objects["s3://in/data/a.json"] = b'{"n":\n 1}'
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://in/data/a.json"}}
    world.transform(
        TransformInput={"DataSource": source, "SplitType": "None"}, TransformOutput={"AssembleWith": "None"}
    )
    world.background.run()
    assert world.objects.objects["s3://out/answers/a.json.out"] == b'{"answer": {"n":\n 1}}'


def test_many_records_go_in_one_request_unless_each_goes_alone(world: World, asked: list[bytes]) -> None:
    world.objects.objects["s3://in/data/a"] = b"1\n2\n3\n"
    world.transform(BatchStrategy="MultiRecord")
    world.background.run()
    assert asked == [b"1\n2\n3"]


def test_a_manifest_names_the_objects(world: World, asked: list[bytes]) -> None:
    world.objects.objects["s3://in/list.json"] = b'[{"prefix": "s3://in/data/"}, "a", "b"]'
    world.objects.objects |= {"s3://in/data/a": b"1", "s3://in/data/b": b"2", "s3://in/data/c": b"3"}
    source = {"S3DataSource": {"S3DataType": "ManifestFile", "S3Uri": "s3://in/list.json"}}
    world.transform(TransformInput={"DataSource": source})
    world.background.run()
    assert sorted(asked) == [b"1", b"2"]
    assert world.objects.objects["s3://out/answers/b.out"] == b'{"answer": 2}\n'


def test_fails_the_job_but_keeps_the_objects_that_went_well(world: World, asked: list[bytes]) -> None:
    world.objects.objects |= {"s3://in/data/a": b"1\nrefuse\n", "s3://in/data/b": b"2\n"}
    world.transform()
    world.background.run()
    done = world.transformed()
    assert done["TransformJobStatus"] == "Failed"
    assert "s3://in/data/a: the model answered 400" in done["FailureReason"]
    assert "s3://out/answers/a.out" not in world.objects.objects, "no partial output"
    assert world.objects.objects["s3://out/answers/b.out"] == b'{"answer": 2}\n'


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        ({}, "no objects under s3://in/data/"),
        ({"s3://in/data/a": b"x" * (2**20 + 1)}, "over MaxPayloadInMB"),
    ],
)
def test_fails_input_that_cannot_be_sent(
    world: World, asked: list[bytes], objects: dict[str, bytes], said: str
) -> None:
    world.objects.objects |= objects
    world.transform(MaxPayloadInMB=1)
    world.background.run()
    assert said in world.transformed()["FailureReason"]


def test_fails_a_transform_whose_model_server_does_not_start(world: World) -> None:
    world.fleet.failure = "no memory"
    world.objects.objects["s3://in/data/a"] = b"1"
    world.transform()
    world.background.run()
    assert "did not start: no memory" in world.transformed()["FailureReason"]


def test_a_stopped_transform_writes_no_more(world: World, asked: list[bytes]) -> None:
    world.objects.objects["s3://in/data/a"] = b"1"
    world.transform()
    world.while_asleep = lambda: world.call("StopTransformJob", TransformJobName="batch-1") and None
    world.background.run()
    assert world.transformed()["TransformJobStatus"] == "Stopped"
    assert asked == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ModelName": "other"}, "Could not find model"),
        ({"TransformInput": {"SplitType": "RecordIO"}}, "RecordIO is not modelled"),
        ({"DataProcessing": {"JoinSource": "Input"}}, "DataProcessing is not modelled"),
    ],
)
def test_fails_transforms_that_cannot_be_had(world: World, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(AwsError, match=said):
        world.transform(**changes)
