"""A file of requests through an asynchronous endpoint: each gets its answer, and none is lost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_iam as iam

from tokenmill.batch.files import BatchFiles
from tokenmill.batch.job import BatchJob, States
from tokenmill.batch.tasks import caught, function_task, lines_map, result_states
from tokenmill.core._checks import as_whole, numeric
from tokenmill.core.errors import TokenmillError
from tokenmill.endpoints.async_delivery import ANSWERS, FAILURES, REQUESTS
from tokenmill.endpoints.endpoint_checks import check_same_region
from tokenmill.security import FunctionEntry, RuntimeFunction, actions
from tokenmill_runtime.batch_run import VARIABLE
from tokenmill_runtime.functions import BATCH_FAN_OUT

if TYPE_CHECKING:
    from constructs import Construct

    from tokenmill.endpoints.async_endpoint import AsyncEndpoint
    from tokenmill.security.hosting import FunctionHosting

FUNCTION_SECONDS = 600
ENTRY = FunctionEntry(
    runs=BATCH_FAN_OUT,
    description="Plans, sends and collects the requests of a fan-out",
    timeout_seconds=FUNCTION_SECONDS,
    memory_mb=512,
)
MAP_LABEL = "Shards"
# "InvokeEndpointAsync" (Amazon SageMaker Runtime API Reference).
TTL_SECONDS = (60, 21_600)
INVOCATION_SECONDS = (1, 3600)
# What a shard's ledger and its lines may take of a function's memory.
MOST_SHARD_RECORDS = 1000
# "Quotas for distributed map": 10,000 children at once.
MOST_SHARDS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class FanOut:
    """How the requests of a file are sent.

    Args:
        shard_records: Requests that one child execution looks after, 1 to 1,000.
        shards_at_once: Child executions at once, 1 to 1,000. All of their requests stand in the endpoint's
            queue together, so this times `shard_records` should cover what its instances answer in a minute
            or two.
        request_ttl_seconds: How long a request may wait in the queue, in seconds, 60 to 21,600: longer than
            an endpoint without instances takes to start one.
        invocation_seconds: Longest answer, in seconds, 1 to 3,600.
        tolerated_failure_percent: Failed requests that still let the execution succeed, in percent.

    Raises:
        TokenmillError: If a number is out of its range.
    """

    shard_records: int = 100
    shards_at_once: int = 20
    request_ttl_seconds: int = 21_600
    invocation_seconds: int = 900
    tolerated_failure_percent: float = 0.0

    def __post_init__(self) -> None:
        as_whole(self, "shard_records", "shards_at_once", "request_ttl_seconds", "invocation_seconds")
        numeric(self, "tolerated_failure_percent")
        ranges = {
            "shard_records": (self.shard_records, 1, MOST_SHARD_RECORDS),
            "shards_at_once": (self.shards_at_once, 1, MOST_SHARDS_AT_ONCE),
            "request_ttl_seconds": (self.request_ttl_seconds, *TTL_SECONDS),
            "invocation_seconds": (self.invocation_seconds, *INVOCATION_SECONDS),
        }
        for name, (value, least, most) in ranges.items():
            if not least <= value <= most:
                raise TokenmillError(f"{name} is {value}; it must be {least} to {most:,}")
        percent = self.tolerated_failure_percent
        if not (math.isfinite(percent) and 0 <= percent <= 100):
            raise TokenmillError(f"tolerated_failure_percent is {percent}; it must be 0 to 100")


class AsyncFanOut(BatchJob):
    """Every line of a file becomes a request; answers and failures come back in the order of the lines.

    An execution takes {"input": "input/<object>", "output": "output/<folder>"}. A line is a request's JSON
    body, or {"custom_id": "...", "body": {...}} as in OpenAI's batch files. The folder gets results.jsonl,
    errors.jsonl and summary.json. Another execution with the same input and folder sends only what has no
    answer yet, because a request's inference id is made of its line.

    First every line is checked, then shards of lines are sent and looked after by child executions: a turn of
    a function, a wait that costs nothing, another turn ("Distributed map" and "Wait", AWS Step Functions
    developer guide). Outcomes are read from S3 and not from notifications, which can be lost or come twice.

    Args:
        scope: The parent construct.
        id: The construct's id.
        endpoint: The endpoint that answers.
        files: The bucket and its folders.
        requests: How the requests are sent.
        hosting: Network, keys, logs of the function.

    Raises:
        TokenmillError: If the endpoint answers at once, or the bucket is in another region.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        endpoint: AsyncEndpoint,
        files: BatchFiles | None = None,
        requests: FanOut | None = None,
        hosting: FunctionHosting | None = None,
    ) -> None:
        _check(endpoint, files)
        super().__init__(scope, id)
        self.files, self.requests = files or BatchFiles(), requests or FanOut()
        self.bucket = self.files.bucket_for(self)
        self.function = self._function(endpoint, hosting)
        self.state_machine = self._machine(
            self._definition(),
            kind="fan-out",
            description={
                "instance_type": endpoint.serving.instance_type,
                "about": f"{endpoint.serving.model} over the lines of a file, through its queue",
            },
            statements=self._statements(),
            hosting=hosting,
        )
        self._allow_map_run(MAP_LABEL)

    def _function(self, endpoint: AsyncEndpoint, hosting: FunctionHosting | None) -> RuntimeFunction:
        requests = self.requests
        document = {
            "endpoint": endpoint.endpoint_name,
            "bucket": self.bucket.bucket_name,
            "requests": endpoint.mailbox.uri(REQUESTS),
            "shard_records": requests.shard_records,
            "request_ttl_seconds": requests.request_ttl_seconds,
            "invocation_timeout_seconds": requests.invocation_seconds,
            "tolerated_failure_percent": requests.tolerated_failure_percent,
        }
        function = RuntimeFunction(
            self,
            "Function",
            entry=ENTRY,
            environment={VARIABLE: cdk.Stack.of(self).to_json_string(document)},
            hosting=hosting,
        )
        endpoint.grant_invoke_async(function.role)
        endpoint.grant_read_answers(function.role)
        endpoint.mailbox.argue(function.role, REQUESTS, ANSWERS, FAILURES)
        self._grant_files(function.role, read_output=True)
        return function

    def _definition(self) -> States:
        return {
            "Comment": "Sends the lines of a file through an endpoint's queue and collects the answers",
            "StartAt": "Plan",
            "States": {
                "Plan": {
                    **self._call({"step": "plan"}),
                    # Step Functions refuses a path to what is not there, so no failure is an empty one.
                    "ResultSelector": {
                        "shards_key.$": "$.Payload.shards_key",
                        "records.$": "$.Payload.records",
                        "failure": {"Error": "", "Cause": ""},
                    },
                    "ResultPath": "$.plan",
                    "Catch": [caught("Failed")],
                    "Next": MAP_LABEL,
                },
                MAP_LABEL: self._map(),
                **result_states(self._call({"step": "collate", "failure.$": "$.plan.failure"})),
            },
        }

    def _map(self) -> States:
        """Return the state that runs one child execution a shard; what they did is read from S3."""
        children = lines_map(
            self,
            label=MAP_LABEL,
            bucket=self.bucket.bucket_name,
            key_path="$.plan.shards_key",
            item={
                "step": "shard",
                "turns": 0,
                "shard.$": "$$.Map.Item.Value",
                "input.$": "$.input",
                "output.$": "$.output",
                "execution.$": "$$.Execution.Id",
            },
            at_once=self.requests.shards_at_once,
            tolerated_failure_percent=self.requests.tolerated_failure_percent,
            start="Turn",
            states={
                "Turn": {
                    **self._task({"Payload.$": "$"}),
                    "OutputPath": "$.Payload",
                    "Next": "Settled",
                },
                "Settled": {
                    "Type": "Choice",
                    "Choices": [{"Variable": "$.settled", "BooleanEquals": True, "Next": "ShardAnswered"}],
                    "Default": "Wait",
                },
                "Wait": {"Type": "Wait", "SecondsPath": "$.wait_seconds", "Next": "Turn"},
                # The results of all children together must fit into a state's output.
                "ShardAnswered": {"Type": "Pass", "Result": {}, "End": True},
            },
        )
        return {
            **children,
            "ResultPath": "$.plan.shards",
            "Catch": [caught("Collate", "$.plan.failure")],
            "Next": "Collate",
        }

    def _call(self, parameters: States) -> States:
        payload = {
            **parameters,
            "input.$": "$.input",
            "output.$": "$.output",
            "execution.$": "$$.Execution.Id",
        }
        return self._task({"Payload": payload})

    def _task(self, payload: States) -> States:
        return function_task(self, self.function.function.function_arn, payload, seconds=FUNCTION_SECONDS)

    def _statements(self) -> list[iam.PolicyStatement]:
        return [
            iam.PolicyStatement(
                actions=list(actions.CALL_FUNCTION), resources=[self.function.function.function_arn]
            )
        ]


def _check(endpoint: AsyncEndpoint, files: BatchFiles | None) -> None:
    if endpoint.answers_async is not True:
        raise TokenmillError(
            f"endpoint {endpoint.node.path} has no queue of requests; give an AsyncEndpoint that this "
            "app makes"
        )
    if files is not None:
        check_same_region(cdk.Stack.of(endpoint).region, {"files.bucket": files.bucket})
