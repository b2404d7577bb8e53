"""Jobs of deployed stacks: state machines that carry tokenmill's tags, and their executions."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tokenmill.core.errors import TokenmillError
from tokenmill_runtime import jobs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import boto3

PATIENCE = Config(connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 4})
# "Name" of StartExecution: 1 to 80 characters; the rest is for the number of the try.
NAME_DIGITS = 32
_UNREACHABLE = (
    '; see what is missing with: tokenmill doctor, or point at a local cloud with: eval "$(tokenmill env)"'
)
RUNNING = "RUNNING"
SUCCEEDED = "SUCCEEDED"
# Account of the local cloud, and the access key that reaches it (docs/local-cloud.md).
LOCAL_ACCOUNT = "000000000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job of a stack.

    Args:
        kind: What it does: one of `tokenmill_runtime.jobs.KINDS`.
        name: The construct's id.
        stack: CloudFormation's name of the stack.
        arn: The state machine.
        description: What the state machine says of itself.
    """

    kind: str
    name: str
    stack: str
    arn: str
    description: Mapping[str, Any]

    @property
    def instance_type(self) -> str:
        """The instance type that it pays for, or nothing."""
        return str(self.description.get("instance_type", ""))

    @property
    def instances(self) -> int:
        """How many of them."""
        return int(self.description.get("instance_count", 1))

    @property
    def limit_seconds(self) -> int | None:
        """After how long it is stopped, in seconds."""
        limit = self.description.get("limit_seconds")
        return None if limit is None else int(limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One run of a job.

    Args:
        arn: The execution.
        name: Its name.
        status: Step Functions' word for its state.
        started: When it started, in ISO 8601.
        seconds: How long it ran, or has been running, in seconds.
        output: What it returned; empty until it has.
        reason: Why it failed; empty where it did not.
    """

    arn: str
    name: str
    status: str
    started: str
    seconds: float
    output: Mapping[str, Any]
    reason: str


class JobRunner:
    """The jobs of one account and region.

    Args:
        session: A boto3 session; `AWS_ENDPOINT_URL` is honoured.
    """

    def __init__(self, session: boto3.Session) -> None:
        self.region = session.region_name or ""
        self.session = session
        self._states = session.client("stepfunctions", config=PATIENCE)
        self.local = _local_cloud(session, self._states.meta.endpoint_url)

    def jobs(self, *, kind: str = "", stack: str = "", name: str = "") -> tuple[Job, ...]:
        """Return the jobs, by stack and name.

        Args:
            kind: Only this kind; all otherwise.
            stack: Only this stack's; all otherwise.
            name: Only the one of this name; all otherwise.

        Raises:
            TokenmillError: AWS cannot be asked.
        """
        found = []
        for arn in self._machines():
            tags = {
                tag["key"]: tag["value"]
                for tag in self._call("list_tags_for_resource", resourceArn=arn).get("tags", [])
            }
            wanted = ((jobs.JOB_TAG, kind), (jobs.STACK_TAG, stack), (jobs.NAME_TAG, name))
            if jobs.JOB_TAG not in tags or any(value and tags.get(tag) != value for tag, value in wanted):
                continue
            found.append(self._job(arn, tags))
        return tuple(sorted(found, key=lambda job: (job.stack, job.kind, job.name)))

    def only(self, kind: str, *, stack: str = "", name: str = "") -> Job:
        """Return the one job that is meant.

        Args:
            kind: Its kind.
            stack: Its stack; needed where several have such a job.
            name: Its name; needed where a stack has several.

        Raises:
            TokenmillError: There is none, or it is not clear which; the message says what there is.
        """
        found = self.jobs(kind=kind, stack=stack, name=name)
        if len(found) == 1:
            return found[0]
        if found:
            each = "; ".join(f"--stack {job.stack} --name {job.name}" for job in found)
            raise TokenmillError(f"{len(found)} jobs of kind {kind} are deployed, say which: {each}")
        asked = "".join(
            f" {word} {value!r}" for word, value in (("in stack", stack), ("named", name)) if value
        )
        others = "; ".join(f"{job.kind} {job.name} in {job.stack}" for job in self.jobs()) or "none"
        raise TokenmillError(
            f"no job of kind {kind!r}{asked} is deployed in {self.region}; there are: {others}; deploy the "
            "stack that has it with: npx cdk deploy STACK"
        )

    def built(self, job: Job, input: str = "{}") -> tuple[str, bool]:
        """Return what names a job's result, and whether it is there already.

        Args:
            job: A job; compiled models and versions of artifacts have a name.
            input: The execution's input, a JSON object.

        Raises:
            TokenmillError: The image that compiles is not there, or the version is built from something else.
        """
        if job.kind in jobs.VERSION_KINDS:
            return self._version(job, json.loads(input).get("version"))
        if job.kind != "compile":
            return "", False
        from tokenmill.core.compiled_artifact import CompiledArtifact
        from tokenmill_runtime.compiled_artifact import manifest_key

        about = job.description
        digest = self._digest(str(about["repository"]), str(about["tag"]), job)
        key = CompiledArtifact.from_json({**about["artifact"], "image_digest": digest}).key
        return key, self._exists(str(about["bucket"]), manifest_key(str(about["prefix"]), key))

    def start(self, job: Job, *, key: str, input: str) -> tuple[Execution, bool]:
        """Start a job, or return the run of the same thing that is under way.

        A run's name is made of what it makes: a second start of it at the same time is the first one, and a
        start after a failure has the next number ("StartExecution", AWS Step Functions API Reference).

        Args:
            job: The job.
            key: What names its result; empty to make it from the input.
            input: The execution's input, a JSON object.
        """
        same = key or hashlib.sha256(f"{job.arn}\n{input}".encode()).hexdigest()
        earlier = [
            item for item in self._executions(job) if item["name"].startswith(f"{same[:NAME_DIGITS]}-")
        ]
        for item in earlier:
            if item["status"] == RUNNING:
                return self.execution(item["executionArn"]), False
        name = f"{same[:NAME_DIGITS]}-{len(earlier) + 1}"
        try:
            started = self._states.start_execution(stateMachineArn=job.arn, name=name, input=input)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ExecutionAlreadyExists":
                raise _plain(error, f"{job.kind} {job.name}") from error
            # Somebody else was faster by a moment.
            arn = job.arn.replace(":stateMachine:", ":execution:") + f":{name}"
            return self.execution(arn), False
        except BotoCoreError as error:
            raise _plain(error, f"{job.kind} {job.name}") from error
        return self.execution(started["executionArn"]), True

    def last(self, job: Job) -> Execution | None:
        """Return a job's newest run.

        Args:
            job: The job.
        """
        newest = max(self._executions(job), key=lambda item: item["startDate"], default=None)
        return None if newest is None else self.execution(newest["executionArn"])

    def execution(self, arn: str) -> Execution:
        """Return a run as it stands.

        Args:
            arn: The execution.

        Raises:
            TokenmillError: There is no such execution.
        """
        found = self._call("describe_execution", executionArn=arn)
        started, stopped = found["startDate"], found.get("stopDate")
        if stopped is None:
            import datetime

            stopped = datetime.datetime.now(started.tzinfo)
        output = found.get("output")
        return Execution(
            arn=arn,
            name=found["name"],
            status=found["status"],
            started=started.isoformat(),
            seconds=max(0.0, (stopped - started).total_seconds()),
            output=json.loads(output) if output else {},
            reason=_reason(found),
        )

    def _version(self, job: Job, version: object) -> tuple[str, bool]:
        """Return the name of the runs that make a version, and whether it is recorded."""
        from tokenmill_runtime.artifact_versions import parameter_name, read_manifest, version_problem

        problem = version_problem(version)
        if problem:
            raise TokenmillError(f"{problem}; give --input '{json.dumps({'version': '1'})}'")
        name, recipe = (
            parameter_name(str(job.description["artifact"]), str(version)),
            job.description["recipe"],
        )
        key = hashlib.sha256(f"{name}\n{recipe}".encode()).hexdigest()
        client = self.session.client("ssm", config=PATIENCE)
        try:
            manifest = read_manifest(client.get_parameter(Name=name)["Parameter"]["Value"])
        except ClientError as error:
            if error.response["Error"]["Code"] == "ParameterNotFound":
                return key, False
            raise _plain(error, f"parameter {name}") from error
        except BotoCoreError as error:
            raise _plain(error, f"parameter {name}") from error
        except ValueError as error:
            raise TokenmillError(f"parameter {name}: {error}") from error
        if manifest["recipe"] != recipe:
            raise TokenmillError(
                f"version {version} of {job.name} in {job.stack} is built already, from another source or "
                "with other settings; versions never change, so give --input another version"
            )
        return key, True

    def _machines(self) -> Iterator[str]:
        for page in self._pages("list_state_machines"):
            yield from (item["stateMachineArn"] for item in page["stateMachines"])

    def _executions(self, job: Job) -> list[Any]:
        pages = self._pages("list_executions", stateMachineArn=job.arn)
        return [item for page in pages for item in page["executions"]]

    def _job(self, arn: str, tags: Mapping[str, str]) -> Job:
        stack = tags.get(jobs.STACK_TAG, "")
        definition = self._call("describe_state_machine", stateMachineArn=arn)["definition"]
        try:
            description = jobs.read_description(definition)
        except ValueError as error:
            raise TokenmillError(f"job {tags.get(jobs.NAME_TAG, arn)} of stack {stack}: {error}") from error
        name = tags.get(jobs.NAME_TAG, "")
        return Job(kind=tags[jobs.JOB_TAG], name=name, stack=stack, arn=arn, description=description)

    def _digest(self, repository: str, tag: str, job: Job) -> str:
        client = self.session.client("ecr", config=PATIENCE)
        try:
            found = client.describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])
        except ClientError as error:
            if error.response["Error"]["Code"] != "ImageNotFoundException":
                raise _plain(error, f"repository {repository}") from error
            raise TokenmillError(
                f"repository {repository} has no image {tag}; build it with: npx cdk deploy {job.stack}"
            ) from error
        except BotoCoreError as error:
            raise _plain(error, f"repository {repository}") from error
        return str(found["imageDetails"][0]["imageDigest"])

    def _exists(self, bucket: str, key: str) -> bool:
        client = self.session.client("s3", config=PATIENCE)
        try:
            client.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
                return False
            raise _plain(error, f"s3://{bucket}/{key}") from error
        except BotoCoreError as error:
            raise _plain(error, f"s3://{bucket}/{key}") from error
        return True

    def _pages(self, operation: str, **arguments: str) -> Iterator[Any]:
        token: dict[str, str] = {}
        while True:
            page = self._call(operation, **arguments, **token)
            yield page
            if not page.get("nextToken"):
                return
            token = {"nextToken": page["nextToken"]}

    def _call(self, operation: str, **arguments: str) -> Any:
        try:
            return getattr(self._states, operation)(**arguments)
        except (ClientError, BotoCoreError) as error:
            raise _plain(error, f"jobs in {self.region}") from error


def _local_cloud(session: boto3.Session, endpoint: str) -> str:
    """Return the address of the local cloud that a session talks to; empty for AWS."""
    address, credentials = urlsplit(endpoint), session.get_credentials()
    local = credentials is not None and credentials.access_key == LOCAL_ACCOUNT
    return address.netloc if local and address.hostname in ("127.0.0.1", "localhost") else ""


def _plain(error: Exception, what: str) -> TokenmillError:
    hint = _UNREACHABLE if isinstance(error, BotoCoreError) else ""
    return TokenmillError(f"{what}: {error}{hint}")


def _reason(found: Mapping[str, Any]) -> str:
    """Return why a run failed, in one line: a training job's own reason, a function's own message."""
    cause = str(found.get("cause") or found.get("error") or "")
    try:
        document = json.loads(cause)
    except ValueError:
        return " ".join(cause.split())
    if not isinstance(document, dict):
        return " ".join(cause.split())
    for name in ("FailureReason", "FailureMessage", "errorMessage", "Error"):
        if document.get(name):
            return " ".join(str(document[name]).split())
    return " ".join(cause.split())
