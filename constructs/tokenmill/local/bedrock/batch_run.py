"""The records of a batch inference job, read from S3, answered one by one, and written back.

Records are read and written as streams, so that memory does not grow with a job. The built-in text engine
answers at once, without the time that a model takes; with a real model server behind the local cloud, that
server answers. Sources: Amazon Bedrock User Guide, "Format and upload your batch inference data" (recordId,
modelInput; results come in any order), "View the results of a batch inference job" (OBJECT.out,
manifest.json.out, error objects).
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import httpx
from botocore.exceptions import ClientError

from tokenmill.core.errors import TokenmillError
from tokenmill.local.aws_requests import AwsError
from tokenmill.local.bedrock.batch_input import JobError, input_files, validated_total
from tokenmill.local.bedrock.native_bodies import dialect_of
from tokenmill.local.bedrock.prompt_tokens import plain_request
from tokenmill.local.bedrock.runtime import BedrockRuntime
from tokenmill.local.clients import split_uri
from tokenmill.local.json_text import json_text
from tokenmill.local.model_server.defaults import DEFAULT_TIMING
from tokenmill.local.model_server.requests import RequestError, from_converse
from tokenmill.local.model_server.responses import Usage, converse_document
from tokenmill.local.sagemaker.fleet import MODEL_URL, Launch, LaunchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from tokenmill.local.aws_requests import Params, Scope
    from tokenmill.local.bedrock.batch_input import InputFile
    from tokenmill.local.bedrock.control import BedrockControl
    from tokenmill.local.bedrock.job_records import Job
    from tokenmill.local.bedrock.routing import Routing
    from tokenmill.local.clients import CloudClients
    from tokenmill.local.sagemaker.fleet import Fleet

    # Model and Converse request in, Converse answer out; `modelInput` in, `modelOutput` and usage out.
    Engine = Callable[[str, Params], Params]
    Answerer = Callable[[Params], tuple[Params, Params]]

_JSON = {"content-type": "application/json"}
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
        control.invocation_jobs.validate, control.invocation_jobs.run = self.validate, self.run

    def validate(self, scope: Scope, job: Job) -> None:
        """Let a job go on, or end it for its input.

        Args:
            scope: Whose.
            job: The job, which has become Validating.
        """
        with self._failing(scope, job):
            s3 = self._clients.client(scope, "s3")
            self._control.invocation_jobs.validated(job, validated_total(s3, job, _input(s3, job)))

    def run(self, scope: Scope, job: Job) -> None:
        """Run a job to its end.

        Args:
            scope: Whose.
            job: The job, which has become InProgress.
        """
        faults = self.faults.get(scope, BatchFaults())
        with self._failing(scope, job):
            self._records(scope, job, faults)
            message = faults.message if faults.status else None
            self._control.invocation_jobs.end(scope, job, faults.status or "Completed", message)

    @contextmanager
    def _failing(self, scope: Scope, job: Job) -> Iterator[None]:
        try:
            yield
        except (JobError, AwsError, ClientError) as error:
            self._control.invocation_jobs.end(scope, job, "Failed", str(error))
        except Exception:
            self._control.invocation_jobs.end(scope, job, "Failed", "An internal server error occurred")
            raise

    def _records(self, scope: Scope, job: Job, faults: BatchFaults) -> None:
        s3 = self._clients.client(scope, "s3")
        target = job.request["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"].rstrip("/")
        counts = Counts(job.counts["total"])
        bucket, key = split_uri(target)
        folder = f"{key}/{job.id}".lstrip("/")
        with ExitStack() as stack:
            ask = self._answerer(scope, job, stack)
            pool = stack.enter_context(ThreadPoolExecutor(WORKERS))
            answer_all: Callable[..., Any] = pool.map if MODEL_URL in os.environ else map
            for file in _input(s3, job):
                with tempfile.TemporaryFile() as output:
                    records = file.records(s3)
                    while window := list(islice(records, WINDOW)):
                        if job.status != "InProgress":
                            break
                        answered = list(answer_all(lambda record: _result(record, job, faults, ask), window))
                        _write(output, answered, counts)
                        job.progress(
                            total=counts.total,
                            processed=counts.success + counts.error,
                            success=counts.success,
                            error=counts.error,
                        )
                    output.seek(0)
                    s3.upload_fileobj(output, bucket, f"{folder}/{file.name}.out")
        manifest = json.dumps(counts.manifest()).encode()
        s3.put_object(Bucket=bucket, Key=f"{folder}/manifest.json.out", Body=manifest)

    def _answerer(self, scope: Scope, job: Job, stack: ExitStack) -> Answerer:
        """Return what answers a record's `modelInput`; the stack closes it."""
        model_id = job.request["modelId"]
        route = self._routing.find(scope, model_id, {})
        engine = self._through_server(route.model, stack) if MODEL_URL in os.environ else _text_engine
        if job.request.get("modelInvocationType", "InvokeModel") == "Converse":

            def converse(given: Params) -> tuple[Params, Params]:
                request = BedrockRuntime.shapes.members("Converse", {**given, "modelId": model_id})
                answer = engine(route.model, request)
                return answer, answer["usage"]

            return converse
        dialect = dialect_of(route.model, imported=route.imported)

        def invoke(given: Params) -> tuple[Params, Params]:
            answer = engine(route.model, dialect.read(given))
            return dialect.write(answer, route.model), answer["usage"]

        return invoke

    def _through_server(self, model: str, stack: ExitStack) -> Engine:
        key = f"bedrock/{model}"
        if self._fleet.url(key) is None:
            try:
                self._fleet.start(key, Launch(model=model, engine=None, context_tokens=None, copies=1))
            except LaunchError as error:
                raise JobError(str(error)) from error
        url = f"{self._fleet.url(key)}/model/{model.replace(':', '%3A')}/converse"
        client = stack.enter_context(
            httpx.Client(timeout=httpx.Timeout(None, connect=5.0), trust_env=False, headers=_JSON)
        )

        def ask(model: str, request: Params) -> Params:
            answer = client.post(url, content=json.dumps(plain_request(request), default=str))
            if answer.status_code >= 400:
                raise RequestError(answer.json()["error"]["message"], status=answer.status_code)
            document: Params = answer.json()
            return document

        return ask


def _input(s3: Any, job: Job) -> list[InputFile]:
    return input_files(s3, job.request["inputDataConfig"]["s3InputDataConfig"]["s3Uri"])


def _text_engine(model: str, request: Params) -> Params:
    chat, _ = from_converse(plain_request(request))
    pieces, reason = chat.output_pieces(model, DEFAULT_TIMING.kv_capacity_tokens, planned=False)
    usage = Usage(input_tokens=chat.input_tokens, output_tokens=len(pieces))
    return converse_document("".join(pieces), reason, usage, 0)


def _result(record: Params, job: Job, faults: BatchFaults, ask: Answerer) -> tuple[Params, Params]:
    """Return a record's line of the output and its tokens."""
    asked_for = faults.error_of(job.id, record["recordId"])
    if asked_for is not None:
        return {**record, "error": asked_for}, {}
    try:
        output, tokens = ask(record["modelInput"])
    except RequestError as error:
        return {**record, "error": {"errorCode": error.status, "errorMessage": str(error)}}, {}
    except AwsError as error:
        return {**record, "error": {"errorCode": error.status, "errorMessage": error.message}}, {}
    return {**record, "modelOutput": output}, tokens


def _write(output: BinaryIO | Any, answered: list[tuple[Params, Params]], counts: Counts) -> None:
    # Every other record first: whoever relies on the order finds out here.
    for result, tokens in (*answered[1::2], *answered[0::2]):
        output.write(json_text(result) + b"\n")
        if "error" in result:
            counts.error += 1
        else:
            counts.success += 1
            counts.input_tokens += tokens["inputTokens"]
            counts.output_tokens += tokens["outputTokens"]
