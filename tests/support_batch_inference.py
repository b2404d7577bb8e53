"""Bedrock's batch inference jobs, Converse and Step Functions' callbacks over HTTP, beside S3.

Requests come from boto3, which has checked them against botocore's service models. A job does nothing until
the test ends it, and writes its output out of order, as Bedrock may.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from support_batch import FakeBatchCloud, ObjectHandler, serving
from tokenmill_runtime import aws as aws_clients

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pytest

ACCOUNT = "000000000000"
JOBS = "/model-invocation-job"
PREFIX = "0123456789ab-"
SETTINGS: dict[str, Any] = {
    "model": "amazon.nova-lite-v1:0",
    "bucket": "files",
    "role": f"arn:aws:iam::{ACCOUNT}:role/jobs",
    "region": "us-east-1",
    "job_prefix": PREFIX,
    "form": "chat",
    "max_tokens": 64,
    "minimum_records": 3,
    "part_records": 6,
    "part_tokens": 1_000_000,
    "part_bytes": 1_000_000,
    "job_hours": 24,
    "retries": 1,
    "tolerated_failure_percent": 10.0,
    "prices": {
        "batch": {"input": 0.5, "output": 2.0},
        "standard": {"input": 1.0, "output": 4.0},
    },
    "price_note": "prices of the test",
}


def answer_to(request: Mapping[str, Any]) -> dict[str, Any]:
    """What the model says: the question again, with three tokens in and two out."""
    text = request["messages"][-1]["content"][0]["text"]
    return {
        "output": {"message": {"role": "assistant", "content": [{"text": f"re: {text}"}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5},
        "metrics": {"latencyMs": 1},
    }


class FakeBatchInference(FakeBatchCloud):
    """Jobs by ARN; `refusals` holds (status, code) for the next calls of CreateModelInvocationJob.

    `converse_refusals` holds them for Converse by a record's text. `answered` has the tokens of tasks that
    were answered, `gone` those whose tasks had ended. `stopped_runs` has the executions that were stopped.
    `not_stopped` is the code for what is not stopped; with `unstoppable`, no job is.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, str] = {}
        self.asked = 0
        self.lost_answers = 0
        self.converse_refusals: dict[str, list[tuple[int, str]]] = {}
        self.conversed: list[dict[str, Any]] = []
        self.answered: list[tuple[str, Any]] = []
        self.gone: set[str] = set()
        self.stopped_runs: set[str] = set()
        self.not_stopped = "ValidationException"
        self.unstoppable = False
        super().__init__()

    def handler(self) -> Any:
        return _Handler

    def create(self, request: dict[str, Any]) -> str:
        token = request["clientRequestToken"]
        if token not in self.tokens:
            number = len(self.jobs)
            arn = f"arn:aws:bedrock:us-east-1:{ACCOUNT}:model-invocation-job/{number:012d}"
            self.jobs[arn] = {"jobArn": arn, "status": "Submitted", **request}
            self.tokens[token] = arn
        return self.tokens[token]

    def records(self, arn: str) -> list[dict[str, Any]]:
        """The lines of a job's input file."""
        uri = self.jobs[arn]["inputDataConfig"]["s3InputDataConfig"]["s3Uri"]
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return self.lines(bucket, key)

    def end(
        self,
        arn: str,
        status: str = "Completed",
        *,
        errors: Mapping[int, int] | None = None,
        missing: tuple[int, ...] = (),
        message: str = "",
    ) -> dict[str, Any]:
        """End a job and return its event; `errors` are codes by a record's index."""
        job, errors = self.jobs[arn], errors or {}
        lines = []
        for record in self.records(arn):
            index = int(record["recordId"])
            if index in missing:
                continue
            if index in errors:
                told = {"error": {"errorCode": errors[index], "errorMessage": f"code {errors[index]}"}}
            else:
                told = {"modelOutput": answer_to(record["modelInput"])}
            lines.append(json.dumps({**record, **told}))
        if status != "Failed":
            self.write_output(job, reversed(lines))
        job.update(status=status, **({"message": message} if message else {}))
        return event_of(job)

    def write_output(self, job: Mapping[str, Any], lines: Iterator[str]) -> None:
        """Write a job's output where Bedrock does."""
        uri = job["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"]
        bucket, _, folder = uri.removeprefix("s3://").partition("/")
        body = "".join(f"{line}\n" for line in lines).encode()
        place = f"{folder}{job['jobArn'].rpartition('/')[2]}"
        self.put(bucket, f"{place}/part.jsonl.out", body)
        manifest = {"totalRecordCount": body.count(b"\n"), "inputTokenCount": 3, "outputTokenCount": 2}
        self.put(bucket, f"{place}/manifest.json.out", json.dumps(manifest).encode())


def event_of(job: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """The event of a job's state ("How EventBridge for Amazon Bedrock works")."""
    detail = {
        "version": "0.0",
        "accountId": ACCOUNT,
        "batchJobName": job["jobName"],
        "batchJobArn": job["jobArn"],
        "batchModelId": job["modelId"],
        "status": job["status"],
        "failureMessage": "",
        "creationTime": "Nov 22, 2026, 10:00:00 PM",
    }
    return {
        "version": "0",
        "detail-type": "Batch Inference Job State Change",
        "source": "aws.bedrock",
        "resources": [job["jobArn"]],
        "detail": {**detail, **changes},
    }


def running_inference(
    monkeypatch: pytest.MonkeyPatch, settings: Mapping[str, Any] | None = None, *, whole: bool = False
) -> Iterator[FakeBatchInference]:
    """A cloud that boto3 and the function find in the environment, for a fixture to yield from.

    `settings` change the usual ones, or are the whole of them as a template has them.
    """
    clients = (
        aws_clients.s3,
        aws_clients.bedrock,
        aws_clients.bedrock_runtime,
        aws_clients.step_functions,
    )
    document = json.dumps({**({} if whole else SETTINGS), **(settings or {})})
    yield from serving(monkeypatch, FakeBatchInference(), {"TOKENMILL_BATCH_INFERENCE": document}, clients)


class _Handler(ObjectHandler):
    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if self.headers.get("X-Amz-Target", "").endswith(".DescribeExecution"):
            self._describe(json.loads(self._body()))
        elif "X-Amz-Target" in self.headers:
            self._callback(json.loads(self._body()))
        elif path == JOBS:
            self._create(json.loads(self._body()))
        elif path.startswith(f"{JOBS}/") and path.endswith("/stop"):
            self._stop(path.removeprefix(f"{JOBS}/").removesuffix("/stop"))
        elif path.endswith("/converse"):
            self._converse(path.split("/")[2], json.loads(self._body()))
        else:
            super().do_POST()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith(f"{JOBS}/"):
            self._json(self._shown(self.cloud.jobs[path.removeprefix(f"{JOBS}/")]))
        elif path == f"{JOBS}s":
            self._list(parse_qs(urlsplit(self.path).query))
        else:
            super().do_GET()

    def _create(self, request: dict[str, Any]) -> None:
        self.cloud.asked += 1
        if self.cloud.refusals and (refusal := self.cloud.refusals.pop(0)) is not None:
            self._refuse(*refusal)
            return
        arn = self.cloud.create(request)
        if self.cloud.lost_answers:
            self.cloud.lost_answers -= 1
            self._refuse(500, "InternalServerException")
            return
        self._json({"jobArn": arn})

    def _list(self, query: dict[str, list[str]]) -> None:
        # One job a page, so that a reader that forgets the next page is found out.
        text = query["nameContains"][0]
        found = [self._shown(job) for job in self.cloud.jobs.values() if text in job["jobName"]]
        start = int(query.get("nextToken", ["0"])[0])
        more = {"nextToken": str(start + 1)} if start + 1 < len(found) else {}
        self._json({"invocationJobSummaries": found[start : start + 1], **more})

    def _stop(self, arn: str) -> None:
        job = self.cloud.jobs[arn]
        if job["status"] != "Submitted" or self.cloud.unstoppable:
            self._refuse(400, self.cloud.not_stopped)
            return
        job["status"] = "Stopping"
        self._json({})

    def _describe(self, request: dict[str, Any]) -> None:
        status = "ABORTED" if request["executionArn"] in self.cloud.stopped_runs else "RUNNING"
        self._json({"executionArn": request["executionArn"], "status": status})

    def _shown(self, job: Mapping[str, Any]) -> dict[str, Any]:
        kept = ("jobArn", "jobName", "status", "message", "roleArn", "modelId", "inputDataConfig")
        output = {"outputDataConfig": job["outputDataConfig"], "submitTime": "2026-11-22T22:00:00Z"}
        return {**{name: job[name] for name in kept if name in job}, **output}

    def _converse(self, model: str, request: dict[str, Any]) -> None:
        text = request["messages"][-1]["content"][0]["text"]
        waiting = self.cloud.converse_refusals.get(text)
        if waiting:
            self._refuse(*waiting.pop(0))
            return
        self.cloud.conversed.append({"modelId": model, **request})
        self._json(answer_to(request))

    def _callback(self, request: dict[str, Any]) -> None:
        if request["taskToken"] in self.cloud.gone:
            self._refuse(400, "TaskTimedOut")
            return
        self.cloud.gone.add(request["taskToken"])
        self.cloud.answered.append((request["taskToken"], json.loads(request["output"])))
        self._json({})

    def _json(self, document: Any) -> None:
        self._send(200, json.dumps(document).encode(), **{"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str) -> None:
        body = json.dumps({"message": f"{code} of the test", "__type": code}).encode()
        self._send(status, body, **{"x-amzn-ErrorType": code, "Content-Type": "application/json"})
