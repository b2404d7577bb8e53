"""Training jobs, which are modelled: their states are SageMaker's, their work is not done.

A job goes through the states of the Amazon SageMaker API Reference, "DescribeTrainingJob" (TrainingJobStatus,
SecondaryStatus), and leaves a document that says that it is modelled where its container would have left
its output. Events are those of "Automating Amazon SageMaker AI with Amazon EventBridge".
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tokenmill.local.aws_requests import AwsError, Params, Scope
from tokenmill.local.sagemaker import describe
from tokenmill.local.sagemaker.records import now
from tokenmill_runtime.compiled_artifact import COMPILED_FOLDER, MANIFEST, SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from tokenmill.local.aws_requests import Operation
    from tokenmill.local.clients import Objects
    from tokenmill.local.sagemaker.control import SageMaker

    Publish = Callable[[Scope, str, str, Params, list[str]], None]

EVENT_SOURCE = "aws.sagemaker"
# What tells the serving image's container, started as a training job, that it compiles.
ARTIFACT_VARIABLE = "TOKENMILL_ARTIFACT_KEY"
CACHE_FILE = "vllm-cache/modelled.json"
ENDED = ("Completed", "Failed", "Stopped")
NO_CAPACITY = (
    "CapacityError: Unable to provision requested ML compute capacity. "
    "Please retry using a different ML instance type."
)
# Secondary statuses of a job that goes well, with the messages of SecondaryStatusTransition.
_STEPS = (
    ("Starting", "Preparing the instances for training"),
    ("Downloading", "Downloading the training image"),
    ("Training", "Training image download completed. Training in progress."),
    ("Uploading", "Uploading generated training model"),
)


@dataclass(slots=True, kw_only=True)
class Job:
    """One job of any kind."""

    name: str
    arn: str
    scope: Scope
    request: Params
    status: str = "InProgress"
    failure: str | None = None
    created: datetime = field(default_factory=now)
    modified: datetime = field(default_factory=now)
    started: datetime | None = None
    ended: datetime | None = None
    steps: list[Params] = field(default_factory=list)

    def step(self, status: str, message: str) -> None:
        """Go to another secondary status.

        Args:
            status: The new one.
            message: What it means.
        """
        when = now()
        if self.steps and "EndTime" not in self.steps[-1]:
            self.steps[-1]["EndTime"] = when
        self.steps.append({"Status": status, "StartTime": when, "StatusMessage": message})
        self.modified = when

    def end(self, status: str, failure: str | None = None) -> None:
        """End the job.

        Args:
            status: "Completed", "Failed" or "Stopped".
            failure: Why it failed.
        """
        self.status, self.failure, self.ended, self.modified = status, failure, now(), now()


class Jobs:
    """The jobs of one kind.

    Args:
        noun: What the members of the API are called after, such as `TrainingJob`.
        control: The control plane.
        publish: Sends an event: scope, source, detail type, detail, resources.
    """

    def __init__(self, noun: str, control: SageMaker, publish: Publish) -> None:
        self.noun = noun
        self._control = control
        self._publish = publish
        self._records: defaultdict[Scope, dict[str, Job]] = defaultdict(dict)
        self.run: Callable[[Job], None] = lambda job: None
        self.document: Callable[[Job], Params] = lambda job: {}

    def operations(self) -> dict[str, Operation]:
        """Return the operations by their names."""
        return {
            f"Create{self.noun}": self._create,
            f"Describe{self.noun}": self._describe,
            f"Stop{self.noun}": self._stop,
            f"List{self.noun}s": self._list,
        }

    def tell(self, job: Job) -> None:
        """Send the event of a job's state.

        Args:
            job: The job.
        """
        words = self.noun.replace("Job", " Job")
        self._publish(
            job.scope,
            EVENT_SOURCE,
            f"SageMaker {words} State Change",
            in_milliseconds(self.document(job)),
            [job.arn],
        )

    def find(self, scope: Scope, name: str) -> Job:
        """Return a job.

        Args:
            scope: Whose.
            name: Its name.

        Raises:
            AwsError: There is none.
        """
        if name not in self._records[scope]:
            raise AwsError("ValidationException", f"Could not find requested job with name: {name}")
        return self._records[scope][name]

    def _create(self, scope: Scope, params: Params) -> Params:
        name = params[f"{self.noun}Name"]
        kind = {"TrainingJob": "training-job", "TransformJob": "transform-job"}[self.noun]
        arn = scope.arn("sagemaker", f"{kind}/{name.lower()}")
        if name in self._records[scope]:
            raise AwsError(
                "ResourceInUse", f"a job of this name is there already ({arn}); names are used once"
            )
        job = Job(name=name, arn=arn, scope=scope, request=params)
        self._records[scope][name] = job
        self._control._tag(scope, arn, params)
        self._control.background(lambda: self.run(job))
        return {f"{self.noun}Arn": arn}

    def _describe(self, scope: Scope, params: Params) -> Params:
        return self.document(self.find(scope, params[f"{self.noun}Name"]))

    def _stop(self, scope: Scope, params: Params) -> Params:
        job = self.find(scope, params[f"{self.noun}Name"])
        if job.status != "InProgress":
            raise AwsError(
                "ValidationException", f"The request was rejected because the job is in status {job.status}."
            )
        job.status, job.modified = "Stopping", now()
        return {}

    def _list(self, scope: Scope, params: Params) -> Params:
        jobs = self._records[scope].values()
        documents = [{**self.document(job), "LastModifiedTime": job.modified} for job in jobs]
        more = (
            f"{self.noun}Status",
            "LastModifiedTime",
            f"{self.noun.removesuffix('Job')}EndTime",
            "SecondaryStatus",
        )
        if params.get("SortOrder", "Descending") == "Descending":
            documents.reverse()
        return {f"{self.noun}Summaries": describe.listed(documents, self.noun, params, *more)}


class TrainingJobs:
    """Training jobs.

    Args:
        control: The control plane.
        objects: Where their outputs go.
        publish: Sends an event.
    """

    def __init__(self, control: SageMaker, objects: Objects, publish: Publish) -> None:
        self._control = control
        self._objects = objects
        self.jobs = Jobs("TrainingJob", control, publish)
        self.jobs.run, self.jobs.document = self._run, self._document

    def operations(self) -> dict[str, Operation]:
        """Return the operations by their names."""
        return self.jobs.operations()

    def _run(self, job: Job) -> None:
        """Go through the states; the job may be stopped between any two of them."""
        self.jobs.tell(job)
        for status, message in _STEPS:
            with self._control.lock:
                job.step(status, message)
                if status == "Training":
                    job.started = now()
            self._control.sleep(self._control.startup_seconds if status in ("Starting", "Training") else 0)
            if job.status == "Stopping":
                job.step("Stopping", "Stopping the training job")
                self._end(job, "Stopped", "Stopped")
                return
            if status == "Starting" and self._without_capacity(job):
                self._end(job, "Failed", "Failed", NO_CAPACITY)
                return
        try:
            for uri, body in outputs(job).items():
                kind = "application/json" if uri.endswith(".json") else "application/octet-stream"
                self._objects.put(job.scope, uri, body, kind)
        except AwsError as error:
            self._end(job, "Failed", "Failed", f"ClientError: {error.message}")
            return
        self._end(job, "Completed", "Completed")

    def _without_capacity(self, job: Job) -> bool:
        wanted = (job.request.get("ResourceConfig") or {}).get("InstanceType")
        return wanted in self._control.accounts[job.scope].faults.insufficient_capacity

    def _end(self, job: Job, status: str, secondary: str, failure: str | None = None) -> None:
        with self._control.lock:
            job.step(secondary, failure or f"Training job {status.lower()}")
            job.end(status, failure)
        self.jobs.tell(job)

    def _document(self, job: Job) -> Params:
        given = {name: value for name, value in job.request.items() if name != "Tags"}
        document: Params = {
            **given,
            "TrainingJobArn": job.arn,
            "TrainingJobStatus": job.status,
            "SecondaryStatus": job.steps[-1]["Status"] if job.steps else "Starting",
            "SecondaryStatusTransitions": [dict(step) for step in job.steps],
            "CreationTime": job.created,
            "LastModifiedTime": job.modified,
            "ModelArtifacts": {"S3ModelArtifacts": model_artifacts(job)},
        }
        if job.failure is not None:
            document["FailureReason"] = job.failure
        if job.started is not None:
            document["TrainingStartTime"] = job.started
        if job.ended is not None:
            document["TrainingEndTime"] = job.ended
            if job.started is not None:
                seconds = int((job.ended - job.started).total_seconds())
                document |= {"TrainingTimeInSeconds": seconds, "BillableTimeInSeconds": seconds}
        return document


def model_artifacts(job: Job) -> str:
    """Return where SageMaker puts what the container left under /opt/ml/model.

    Args:
        job: The training job.
    """
    output = job.request["OutputDataConfig"]
    folder = f"{output['S3OutputPath'].rstrip('/')}/{job.name}/output/model"
    return f"{folder}/" if output.get("CompressionType") == "NONE" else f"{folder}.tar.gz"


def outputs(job: Job) -> dict[str, bytes]:
    """Return the objects that a job leaves, by URI: a document that says that nothing was computed.

    Args:
        job: The training job.
    """
    algorithm = job.request.get("AlgorithmSpecification") or {}
    document: Params = {
        "modelled": True,
        "training_job": job.name,
        "image": algorithm.get("TrainingImage"),
        "environment": job.request.get("Environment") or {},
        "hyperparameters": job.request.get("HyperParameters") or {},
    }
    body = json.dumps(document, indent=1, sort_keys=True).encode()
    files = {"modelled.json": body}
    key = document["environment"].get(ARTIFACT_VARIABLE)
    if key is not None:
        files |= _compiled(key, body)
    where = model_artifacts(job)
    if where.endswith("/"):
        return {f"{where}{name}": content for name, content in files.items()}
    return {where: _archive(files)}


def _compiled(key: str, cache: bytes) -> dict[str, bytes]:
    """Return what a compiling job leaves beside the weights: its cache and, written last, its manifest."""
    digest = hashlib.sha256(cache).hexdigest()
    files = [{"path": CACHE_FILE, "bytes": len(cache), "sha256": digest}]
    manifest = {"schema": SCHEMA, "key": key, "seconds": 0.0, "files": files, "modelled": True}
    return {
        f"{COMPILED_FOLDER}/{CACHE_FILE}": cache,
        f"{COMPILED_FOLDER}/{MANIFEST}": json.dumps(manifest, indent=1).encode(),
    }


def in_milliseconds(value: Any) -> Any:
    """Return a document with its times as milliseconds since 1970, as events and Step Functions have them.

    Args:
        value: The document.
    """
    if isinstance(value, dict):
        return {name: in_milliseconds(member) for name, member in value.items()}
    if isinstance(value, list):
        return [in_milliseconds(member) for member in value]
    if hasattr(value, "timestamp"):
        return int(value.timestamp() * 1000)
    return value


def _archive(files: dict[str, bytes]) -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, body in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))
    return gzip.compress(plain.getvalue(), mtime=0)
