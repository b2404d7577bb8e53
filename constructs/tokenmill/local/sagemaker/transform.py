"""Batch transform, which is real: a model server starts, gets every record and is stopped again.

Source: Amazon SageMaker API Reference, "CreateTransformJob", "TransformInput", "TransformOutput",
"BatchStrategy" and "DescribeTransformJob".
"""

from __future__ import annotations

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx

from tokenmill.local.aws_requests import AwsError, Params, Scope
from tokenmill.local.sagemaker.jobs import NO_CAPACITY, Job, Jobs
from tokenmill.local.sagemaker.records import Endpoint, Variant, now

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.local.aws_requests import Operation
    from tokenmill.local.clients import Objects
    from tokenmill.local.sagemaker.control import SageMaker
    from tokenmill.local.sagemaker.jobs import Publish

# CreateTransformJob: MaxPayloadInMB's default; ModelClientConfig's defaults.
PAYLOAD_MB = 6
TIMEOUT_SECONDS = 600
_SPLITS = ("None", "Line")


class _TransformError(Exception):
    """An object was not transformed."""


class TransformJobs:
    """Transform jobs.

    Args:
        control: The control plane, for models and model servers.
        objects: S3.
        publish: Sends an event.
    """

    def __init__(self, control: SageMaker, objects: Objects, publish: Publish) -> None:
        self._control = control
        self._objects = objects
        self.jobs = Jobs("TransformJob", control, publish)
        self.jobs.run, self.jobs.document = self._run, self._document

    def operations(self) -> dict[str, Operation]:
        """Return the operations by their names."""
        table = self.jobs.operations()
        create = table["CreateTransformJob"]
        return {**table, "CreateTransformJob": lambda scope, params: self._create(scope, params, create)}

    def _create(self, scope: Scope, params: Params, create: Operation) -> Params:
        self._control.accounts[scope].model(params["ModelName"], scope)
        split = params["TransformInput"].get("SplitType", "None")
        if split not in _SPLITS:
            raise AwsError(
                "ValidationException", f"SplitType {split} is not modelled; the local cloud has {_SPLITS}"
            )
        processing = params.get("DataProcessing") or {}
        plain = {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"}
        if any(value != plain[name] for name, value in processing.items()):
            raise AwsError(
                "ValidationException", "DataProcessing is not modelled by the local cloud; leave it out"
            )
        return create(scope, params)

    def _run(self, job: Job) -> None:
        self.jobs.tell(job)
        self._control.sleep(self._control.startup_seconds)
        resources = job.request["TransformResources"]
        failure = None
        if resources["InstanceType"] in self._control.accounts[job.scope].faults.insufficient_capacity:
            failure = NO_CAPACITY
        if failure is None:
            failure = self._with_server(job, int(resources["InstanceCount"]))
        with self._control.lock:
            if job.status == "Stopping":
                job.end("Stopped")
            else:
                job.end("Completed" if failure is None else "Failed", failure)
        self.jobs.tell(job)

    def _with_server(self, job: Job, instances: int) -> str | None:
        config = {
            "VariantName": "transform",
            "ModelName": job.request["ModelName"],
            "InstanceType": job.request["TransformResources"]["InstanceType"],
            "InitialInstanceCount": instances,
        }
        variant = Variant.of(config)
        variant.held = {config["InstanceType"]: instances}
        endpoint = Endpoint(
            name=f"transform-{job.name}",
            scope=job.scope,
            config_name="",
            variants=[variant],
            status="InService",
        )
        key = endpoint.key(variant)
        refused = self._control.launch_variant(endpoint, variant)
        if refused is not None:
            return f"ClientError: the model server did not start: {refused}"
        try:
            url = self._control.fleet.url(key)
            if url is None:
                return "InternalServerError: the model server is gone"
            job.started = now()
            return self._transform(job, url, instances)
        except AwsError as error:
            return f"ClientError: {error.message}"
        finally:
            self._control.fleet.stop(key)

    def _transform(self, job: Job, url: str, instances: int) -> str | None:
        """Send every object's records; return why objects failed."""
        source = job.request["TransformInput"]["DataSource"]["S3DataSource"]
        inputs = self._inputs(job.scope, source)
        if not inputs:
            return f"ClientError: no objects under {source['S3Uri']}"
        problems = []
        workers = max(1, int(job.request.get("MaxConcurrentTransforms", 0) or 1) * instances)
        with ThreadPoolExecutor(workers) as pool, httpx.Client(trust_env=False) as client:
            for uri, relative in inputs:
                if job.status == "Stopping":
                    break
                try:
                    answers = self._answers(job, uri, lambda p: self._ask(job, client, url, p), pool)
                except _TransformError as error:
                    problems.append(f"{uri}: {error}")
                    continue
                self._write(job, relative, answers)
        return f"ClientError: {'; '.join(problems)}"[:1024] if problems else None

    def _inputs(self, scope: Scope, source: Params) -> list[tuple[str, str]]:
        """Return the objects, each with the path that its output keeps."""
        uri: str = source["S3Uri"]
        if source["S3DataType"] == "ManifestFile":
            entries = json.loads(self._objects.get(scope, uri)[0])
            prefix = entries[0]["prefix"] if entries and isinstance(entries[0], dict) else ""
            return [(f"{prefix}{name}", name) for name in entries if isinstance(name, str)]
        found = []
        for name in self._objects.under(scope, uri):
            relative = name.removeprefix(uri).lstrip("/")
            found.append((name, relative or name.rsplit("/", 1)[-1]))
        return [(name, relative) for name, relative in found if not name.endswith("/")]

    def _answers(
        self, job: Job, uri: str, ask: Callable[[bytes], bytes], pool: ThreadPoolExecutor
    ) -> list[bytes]:
        body, _ = self._objects.get(job.scope, uri)
        given = job.request["TransformInput"]
        if given.get("CompressionType") == "Gzip":
            body = gzip.decompress(body)
        records = [body] if given.get("SplitType", "None") == "None" else body.splitlines(keepends=True)
        most = int(job.request.get("MaxPayloadInMB", PAYLOAD_MB)) * 2**20
        alone = job.request.get("BatchStrategy", "MultiRecord") == "SingleRecord"
        payloads = list(_payloads([record for record in records if record.strip()], most, alone=alone))
        return list(pool.map(ask, payloads))

    def _ask(self, job: Job, client: httpx.Client, url: str, payload: bytes) -> bytes:
        if job.status == "Stopping":
            raise _TransformError("the job was stopped")
        limits = job.request.get("ModelClientConfig") or {}
        headers = {"content-type": job.request["TransformInput"].get("ContentType", "application/json")}
        if "Accept" in job.request["TransformOutput"]:
            headers["accept"] = job.request["TransformOutput"]["Accept"]
        tries = 1 + int(limits.get("InvocationsMaxRetries", 0))
        seconds = float(limits.get("InvocationsTimeoutInSeconds", TIMEOUT_SECONDS))
        problem = ""
        for _ in range(tries):
            try:
                answer = client.post(
                    f"{url}/invocations", content=payload.rstrip(b"\n"), headers=headers, timeout=seconds
                )
            except httpx.HTTPError as error:
                problem = f"the model server does not answer ({error})"
                continue
            if answer.status_code < 400:
                return answer.content
            problem = f"the model answered {answer.status_code}: {answer.text[:200]}"
            if answer.status_code < 500:
                break
        raise _TransformError(problem)

    def _write(self, job: Job, relative: str, answers: list[bytes]) -> None:
        output = job.request["TransformOutput"]
        by_line = output.get("AssembleWith") == "Line"
        body = b"".join(answer.rstrip(b"\n") + b"\n" if by_line else answer for answer in answers)
        kind = output.get("Accept", "application/json")
        self._objects.put(job.scope, f"{output['S3OutputPath'].rstrip('/')}/{relative}.out", body, kind)

    def _document(self, job: Job) -> Params:
        given = {name: value for name, value in job.request.items() if name != "Tags"}
        document: Params = {
            **given,
            "TransformJobArn": job.arn,
            "TransformJobStatus": job.status,
            "CreationTime": job.created,
        }
        for name, value in (
            ("FailureReason", job.failure),
            ("TransformStartTime", job.started),
            ("TransformEndTime", job.ended),
        ):
            if value is not None:
                document[name] = value
        return document


def _payloads(records: list[bytes], most: int, *, alone: bool) -> list[bytes]:
    """Return what is sent in one request each: a record, or as many as the payload holds."""
    payloads: list[bytes] = []
    for record in records:
        if len(record) > most:
            raise _TransformError(f"a record of {len(record)} bytes is over MaxPayloadInMB, {most} bytes")
        if payloads and not alone and len(payloads[-1]) + len(record) <= most:
            payloads[-1] += record
        else:
            payloads.append(record)
    return payloads
