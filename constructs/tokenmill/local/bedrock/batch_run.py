"""The records of a batch inference job, read from S3, answered one by one, and written back.

Records are read and written as streams, so that memory does not grow with a job. The built-in text engine
answers at once, without the time that a model takes; with a real model server behind the local cloud, that
server answers. Sources: Amazon Bedrock User Guide, "Format and upload your batch inference data" (recordId,
modelInput; results come in any order), "View the results of a batch inference job" (OBJECT.out,
manifest.json.out, error objects) and "Quotas for Amazon Bedrock" (fewest and most records of a job).
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import httpx
from botocore.exceptions import ClientError

from tokenmill.core.batch_quotas import batch_quota
from tokenmill.core.errors import TokenmillError
from tokenmill.local.aws_requests import AwsError
from tokenmill.local.bedrock.native_bodies import dialect_of
from tokenmill.local.bedrock.prompt_tokens import plain_request
from tokenmill.local.clients import split_uri
from tokenmill.local.model_server.defaults import DEFAULT_TIMING
from tokenmill.local.model_server.requests import RequestError, from_converse
from tokenmill.local.model_server.responses import Usage, converse_document
from tokenmill.local.sagemaker.fleet import MODEL_URL, Launch, LaunchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from tokenmill.local.aws_requests import Params, Scope
    from tokenmill.local.bedrock.control import BedrockControl
    from tokenmill.local.bedrock.job_records import Job
    from tokenmill.local.bedrock.routing import Routing
    from tokenmill.local.clients import CloudClients
    from tokenmill.local.sagemaker.fleet import Fleet

# Records that are answered before any of them is written: results come in another order than records.
WINDOW = 64
WORKERS = 16
ENDINGS = ("Completed", "PartiallyCompleted", "Failed")
FORM = (
    'bedrock_batch takes {"errors": {"429": SHARE, "400": SHARE}, "status": "'
    + '" or "'.join(ENDINGS)
    + '", '
    '"message": "WHY"}; each may be left out, and an empty object ends what was set'
)


class _JobError(Exception):
    """A job cannot be run."""


@dataclass(slots=True, kw_only=True)
class BatchFaults:
    """What goes wrong with batch inference, on request.

    Args:
        errors: Share of the records that get an error, by its code.
        status: How jobs end; nothing ends them as their records do.
        message: Why.
    """

    errors: dict[int, float] = field(default_factory=dict)
    status: str | None = None
    message: str | None = None

    @classmethod
    def of(cls, request: object) -> BatchFaults:
        """Return what an admin call asks for.

        Args:
            request: The call's member.

        Raises:
            TokenmillError: It has another form.
        """
        if not isinstance(request, dict) or not set(request) <= {"errors", "status", "message"}:
            raise TokenmillError(FORM)
        errors, status = request.get("errors") or {}, request.get("status")
        if not isinstance(errors, dict) or status not in (None, *ENDINGS):
            raise TokenmillError(FORM)
        shares: dict[int, float] = {}
        for code, share in errors.items():
            if not str(code).isdigit() or not isinstance(share, int | float) or not 0 <= share <= 1:
                raise TokenmillError(FORM)
            shares[int(code)] = float(share)
        return cls(errors=shares, status=status, message=request.get("message"))

    def error_of(self, job: str, record: str) -> Params | None:
        """Return the error that a record meets; nothing for most.

        Args:
            job: The job's id: a record that is sent again in another job draws again.
            record: The record's id.
        """
        if not self.errors:
            return None
        drawn = int.from_bytes(hashlib.sha256(f"{job}/{record}".encode()).digest()[:4]) / 2**32
        for code, share in sorted(self.errors.items()):
            if drawn < share:
                return {"errorCode": code, "errorMessage": f"an error {code} that was asked for"}
            drawn -= share
        return None


@dataclass(slots=True)
class Counts:
    """Records and tokens of a job.

    Args:
        total: Records.
    """

    total: int
    success: int = 0
    error: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def manifest(self) -> Params:
        """Return the members of manifest.json.out."""
        return {
            "totalRecordCount": self.total,
            "processedRecordCount": self.success + self.error,
            "successRecordCount": self.success,
            "errorRecordCount": self.error,
            "inputTokenCount": self.input_tokens,
            "outputTokenCount": self.output_tokens,
        }


class BatchRun:
    """Answers the records of invocation jobs.

    Args:
        control: The control plane, whose jobs run here.
        routing: Finds the model behind an id.
        clients: boto3 clients of the cloud.
        fleet: What runs the model servers, for a real model behind them.
    """

    def __init__(
        self,
        control: BedrockControl,
        routing: Routing,
        clients: CloudClients,
        fleet: Fleet,
    ) -> None:
        self._control = control
        self._routing = routing
        self._clients = clients
        self._fleet = fleet
        self.faults: dict[Scope, BatchFaults] = {}
        control.invocation_jobs.run = self.run

    def run(self, scope: Scope, job: Job) -> None:
        """Run a job to its end.

        Args:
            scope: Whose.
            job: The job, which has become InProgress.
        """
        faults = self.faults.get(scope, BatchFaults())
        try:
            self._records(scope, job, faults)
        except (_JobError, AwsError, ClientError) as error:
            self._control.invocation_jobs.end(scope, job, "Failed", str(error))
            return
        except Exception:
            self._control.invocation_jobs.end(scope, job, "Failed", "An internal server error occurred")
            raise
        status = faults.status or "Completed"
        self._control.invocation_jobs.end(scope, job, status, faults.message if faults.status else None)

    def _records(self, scope: Scope, job: Job, faults: BatchFaults) -> None:
        s3 = self._clients.client(scope, "s3")
        source = job.request["inputDataConfig"]["s3InputDataConfig"]["s3Uri"]
        target = job.request["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"].rstrip("/")
        bucket, _ = split_uri(source)
        inputs = _inputs(s3, source)
        counts = Counts(sum(1 for key, _ in inputs for _ in _lines(s3, bucket, key)))
        _check_size(job, inputs, counts.total)
        answerer = self._answerer(scope, job)
        folder = f"{split_uri(target)[1]}/{job.id}".lstrip("/")
        with ThreadPoolExecutor(WORKERS) as pool:
            answer_all: Callable[..., Any] = pool.map if MODEL_URL in os.environ else map
            for key, _ in inputs:
                with tempfile.TemporaryFile() as output:
                    lines = _lines(s3, bucket, key)
                    while window := list(islice(lines, WINDOW)):
                        if job.status != "InProgress":
                            break
                        answered = list(answer_all(lambda line: _result(line, job, faults, answerer), window))
                        _write(output, answered, counts)
                        job.progress(
                            total=counts.total,
                            processed=counts.success + counts.error,
                            success=counts.success,
                            error=counts.error,
                        )
                    output.seek(0)
                    name = key.rsplit("/", 1)[-1]
                    s3.upload_fileobj(output, split_uri(target)[0], f"{folder}/{name}.out")
        manifest = json.dumps(counts.manifest()).encode()
        s3.put_object(Bucket=split_uri(target)[0], Key=f"{folder}/manifest.json.out", Body=manifest)

    def _answerer(self, scope: Scope, job: Job) -> Callable[[Params], Params]:
        """Return what answers a record's `modelInput`."""
        route = self._routing.find(scope, job.request["modelId"], {})
        ask = self._through_server(route.model) if MODEL_URL in os.environ else _text_engine(route.model)
        if job.request.get("modelInvocationType", "InvokeModel") == "Converse":
            return ask
        dialect = dialect_of(route.model, imported=route.imported)
        return lambda given: {
            **_counted(answer := ask(dialect.read(given))),
            **dialect.write(answer, route.model),
        }

    def _through_server(self, model: str) -> Callable[[Params], Params]:
        key = f"bedrock/{model}"
        if self._fleet.url(key) is None:
            try:
                self._fleet.start(key, Launch(model=model, engine=None, context_tokens=None, copies=1))
            except LaunchError as error:
                raise _JobError(str(error)) from error
        url = f"{self._fleet.url(key)}/model/{model.replace(':', '%3A')}/converse"
        client = httpx.Client(timeout=httpx.Timeout(None, connect=5.0), trust_env=False)

        def ask(request: Params) -> Params:
            answer = client.post(url, json=plain_request(request))
            if answer.status_code >= 400:
                raise RequestError(answer.json()["error"]["message"], status=answer.status_code)
            document: Params = answer.json()
            return document

        return ask


_TOKENS = "_tokens"


def _counted(answer: Params) -> Params:
    return {_TOKENS: answer["usage"]}


def _text_engine(model: str) -> Callable[[Params], Params]:
    def ask(request: Params) -> Params:
        chat, _ = from_converse(plain_request(request))
        pieces, reason = chat.output_pieces(model, DEFAULT_TIMING.kv_capacity_tokens, planned=False)
        usage = Usage(input_tokens=chat.input_tokens, output_tokens=len(pieces))
        return converse_document("".join(pieces), reason, usage, 0)

    return ask


def _inputs(s3: Any, uri: str) -> list[tuple[str, int]]:
    """Return the keys of a job's input files and their sizes: one file, or every .jsonl under a folder."""
    bucket, key = split_uri(uri)
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
    found = [(entry["Key"], entry["Size"]) for page in pages for entry in page.get("Contents", [])]
    exact = [entry for entry in found if entry[0] == key]
    inputs = exact or [entry for entry in found if entry[0].endswith(".jsonl")]
    if not inputs:
        raise _JobError(f"there is no .jsonl file at {uri}")
    return sorted(inputs)


def _lines(s3: Any, bucket: str, key: str) -> Iterator[bytes]:
    # StreamingBody's own context manager gives the raw connection, which has no lines.
    with closing(s3.get_object(Bucket=bucket, Key=key)["Body"]) as body:
        for line in body.iter_lines(chunk_size=1 << 20):
            if line.strip():
                yield line


def _check_size(job: Job, inputs: list[tuple[str, int]], records: int) -> None:
    quota = batch_quota(job.request["modelId"].rsplit("/", 1)[-1])
    if records < quota.minimum_records:
        raise _JobError(
            f"Batch job {job.arn} contains less records ({records}) than the required minimum of: "
            f"{quota.minimum_records}"
        )
    if records > quota.records_per_job:
        raise _JobError(
            f"Batch job {job.arn} contains more records ({records}) than the allowed maximum of: "
            f"{quota.records_per_job}"
        )
    large = [key for key, size in inputs if size > quota.file_bytes]
    if large:
        told = f"input files are over the allowed maximum of {quota.file_bytes} bytes: {', '.join(large)}"
        raise _JobError(told)


def _result(
    line: bytes, job: Job, faults: BatchFaults, ask: Callable[[Params], Params]
) -> tuple[Params, Params]:
    """Return a record's line of the output and its tokens."""
    result: Params = {}
    try:
        record = json.loads(line)
        result["modelInput"] = given = record["modelInput"]
        result["recordId"] = record.get("recordId") or hashlib.sha256(line).hexdigest()[:11].upper()
        asked_for = faults.error_of(job.id, result["recordId"])
        if asked_for is not None:
            return {**result, "error": asked_for}, {}
        answer = ask(given)
    except RequestError as error:
        return {**result, "error": {"errorCode": error.status, "errorMessage": str(error)}}, {}
    except AwsError as error:
        return {**result, "error": {"errorCode": error.status, "errorMessage": error.message}}, {}
    except (ValueError, KeyError, TypeError) as error:
        result.setdefault("recordId", hashlib.sha256(line).hexdigest()[:11].upper())
        told = f"the record is not {{'recordId', 'modelInput'}}: {type(error).__name__}: {error}"
        return {**result, "error": {"errorCode": 400, "errorMessage": told}}, {}
    tokens = answer.pop(_TOKENS, None) or answer["usage"]
    return {**result, "modelOutput": answer}, tokens


def _write(output: BinaryIO | Any, answered: list[tuple[Params, Params]], counts: Counts) -> None:
    # Every other record first: whoever relies on the order finds out here.
    for result, tokens in (*answered[1::2], *answered[0::2]):
        output.write(json.dumps(result, ensure_ascii=False).encode() + b"\n")
        if "error" in result:
            counts.error += 1
        else:
            counts.success += 1
            counts.input_tokens += tokens["inputTokens"]
            counts.output_tokens += tokens["outputTokens"]
