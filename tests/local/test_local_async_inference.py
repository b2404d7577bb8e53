"""Asynchronous inference: the queue, its answers, failures, messages and metrics; time moves by hand."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from support_local import ROLE, SCOPE, ByHand, FakeFleet, variant
from support_local_jobs import FakeMetrics, FakeObjects, model_server
from tokenmill.local.aws_requests import AwsError
from tokenmill.local.sagemaker.async_inference import AsyncInference
from tokenmill.local.sagemaker.async_run import Outside
from tokenmill.local.sagemaker.control import SageMaker
from tokenmill.local.sagemaker.runtime import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

INPUT = "s3://in/requests/1.json"
SUCCESS, ERROR = (f"arn:aws:sns:us-east-1:000000000000:{name}" for name in ("good", "bad"))
QUEUE = {"EndpointName": "async"}
VARIANT = {"EndpointName": "async", "VariantName": "AllTraffic"}


class World:
    """One asynchronous endpoint whose model answers what it is told to."""

    def __init__(self, url: str) -> None:
        self.url, self.time = url, 1000.0
        self.objects = FakeObjects(**{INPUT: b'{"prompt": "hi"}'})
        self.metrics, self.messages = FakeMetrics(), []
        self.failing, self.refuse_topics = False, False
        self.transitions, self.background = ByHand(), ByHand()
        self.control = SageMaker(FakeFleet(), background=self.transitions, sleep=lambda _: None)
        outside = Outside(
            objects=self.objects,
            record=self.metrics.record,
            notify=self.notify,
            target=self.target,
            clock=lambda: self.time,
            sleep=self.sleep,
        )
        self.queue = AsyncInference(self.control, outside, background=self.background)

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def notify(self, scope: object, topic: str, message: str) -> None:
        if self.refuse_topics:
            raise AwsError("NotFound", "Topic does not exist")
        self.messages.append((topic, json.loads(message)))

    def target(self, scope: object, endpoint: str) -> Target:
        return Target(
            url=self.url,
            variant="AllTraffic",
            dimensions={},
            capacity=1,
            failing=self.failing,
            latency_seconds=2.0,
        )

    def create(self, *, count: int = 1, concurrent: int = 2, **output: Any) -> None:
        create = self.control.call
        create(SCOPE, "CreateModel", {"ModelName": "m", "PrimaryContainer": {"Image": "i"}})
        config = {
            "EndpointConfigName": "async",
            "ExecutionRoleArn": ROLE,
            "ProductionVariants": [variant(ModelName="m", InitialInstanceCount=count)],
            "AsyncInferenceConfig": {
                "ClientConfig": {"MaxConcurrentInvocationsPerInstance": concurrent},
                "OutputConfig": {
                    "S3OutputPath": "s3://out/answers/",
                    "S3FailurePath": "s3://out/failures",
                    "NotificationConfig": {"SuccessTopic": SUCCESS, "ErrorTopic": ERROR},
                    **output,
                },
            },
        }
        create(SCOPE, "CreateEndpointConfig", config)
        create(SCOPE, "CreateEndpoint", {"EndpointName": "async", "EndpointConfigName": "async"})
        self.transitions.run()

    def scale(self, count: int) -> None:
        change = {"VariantName": "AllTraffic", "DesiredInstanceCount": count}
        self.control.call(
            SCOPE,
            "UpdateEndpointWeightsAndCapacities",
            {"EndpointName": "async", "DesiredWeightsAndCapacities": [change]},
        )
        self.transitions.run()

    def invoke(self, **headers: str) -> tuple[int, dict[str, str], dict[str, Any]]:
        given = {"x-amzn-sagemaker-inputlocation": INPUT, **headers}
        status, answered, body = self.queue.answer(SCOPE, "/endpoints/async/async-invocations", given, b"")
        return status, answered, json.loads(body)


@pytest.fixture
def world() -> Iterator[World]:
    def answer(body: bytes) -> tuple[int, bytes]:
        if b"refuse" in body:
            return 400, b'{"error": "too long"}'
        return 200, b'{"answer": ' + body + b"}"

    with model_server(answer) as url:
        yield World(url)


def test_an_answer_lies_in_s3_and_is_told_in_the_documented_form(world: World) -> None:
    world.create()
    status, headers, body = world.invoke(
        **{"x-amzn-sagemaker-content-type": "application/json", "x-amzn-sagemaker-inference-id": "mine"}
    )
    assert (status, body) == (202, {"InferenceId": "mine"})
    output = headers["x-amzn-sagemaker-outputlocation"]
    assert output.startswith("s3://out/answers/")
    assert output.endswith(".out")
    assert headers["x-amzn-sagemaker-failurelocation"].startswith("s3://out/failures/")
    assert output not in world.objects.objects, "nothing is answered yet"
    world.background.run()
    assert json.loads(world.objects.objects[output]) == {"answer": {"prompt": "hi"}}
    [(topic, message)] = world.messages
    assert topic == SUCCESS
    assert message["invocationStatus"] == "Completed"
    assert message["requestParameters"] == {
        "contentType": "application/json",
        "endpointName": "async",
        "inputLocation": INPUT,
    }
    assert message["responseParameters"] == {"contentType": "application/json", "outputLocation": output}
    fixed = ("inferenceId", "eventVersion", "eventSource", "eventName", "awsRegion")
    assert [message[name] for name in fixed] == [
        "mine",
        "1.0",
        "aws:sagemaker",
        "InferenceResult",
        "us-east-1",
    ]
    assert message["receivedTime"].endswith("Z")
    assert world.metrics.total("InvocationsProcessed", **VARIANT) == 1
    assert world.metrics.last("ModelLatency", **VARIANT) == 2e6
    assert world.metrics.last("TotalProcessingTime", **VARIANT) == 2000


def test_a_request_that_the_model_refuses_lies_under_the_failure_path(world: World) -> None:
    world.create()
    world.objects.objects[INPUT] = b'{"prompt": "refuse"}'
    _, headers, _ = world.invoke()
    world.background.run()
    assert world.objects.objects[headers["x-amzn-sagemaker-failurelocation"]] == b'{"error": "too long"}'
    assert headers["x-amzn-sagemaker-outputlocation"] not in world.objects.objects
    [(topic, message)] = world.messages
    assert (topic, message["invocationStatus"]) == (ERROR, "Failed")
    assert message["failureReason"].startswith("ClientError: Received client error (400) from model.")
    assert "responseParameters" not in message
    assert world.metrics.total("Invocation4XXErrors", **VARIANT) == 1
    assert world.metrics.total("InvocationFailures", **VARIANT) == 1


def test_a_message_carries_the_answer_where_it_is_asked_to(world: World) -> None:
    included = {"SuccessTopic": SUCCESS, "IncludeInferenceResponseIn": ["SUCCESS_NOTIFICATION_TOPIC"]}
    world.create(NotificationConfig=included)
    world.invoke()
    world.background.run()
    body = world.messages[0][1]["responseBody"]
    assert json.loads(base64.b64decode(body["content"])) == {"answer": {"prompt": "hi"}}
    assert body["encoding"] == "BASE64"


def test_an_instance_takes_its_share_and_the_others_wait(world: World) -> None:
    world.create(count=1, concurrent=2)
    for _ in range(5):
        world.invoke()
    assert len(world.background.jobs) == 2
    world.time += 30
    world.queue.tick()
    assert world.metrics.last("ApproximateBacklogSize", **QUEUE) == 5
    assert world.metrics.last("ApproximateBacklogSizePerInstance", **QUEUE) == 5
    assert world.metrics.last("ApproximateAgeOfOldestRequest", **QUEUE) == 30
    assert world.metrics.last("HasBacklogWithoutCapacity", **QUEUE) == 0
    while world.background.jobs:
        world.background.run()
    world.queue.tick()
    assert len(world.messages) == 5
    assert world.metrics.last("ApproximateBacklogSize", **QUEUE) == 0


def test_without_instances_the_backlog_has_no_capacity_until_one_comes(world: World) -> None:
    world.create()
    world.scale(0)
    world.queue.tick()
    assert world.metrics.last("HasBacklogWithoutCapacity", **QUEUE) == 0, "nothing waits yet"
    per_instance = len(
        world.metrics.values.get(("ApproximateBacklogSizePerInstance", tuple(QUEUE.items())), [])
    )
    world.invoke()
    world.queue.tick()
    assert world.background.jobs == []
    assert world.metrics.last("HasBacklogWithoutCapacity", **QUEUE) == 1
    after = world.metrics.count("ApproximateBacklogSizePerInstance")
    assert after == per_instance, "there is no number a division by zero would give"
    world.scale(1)
    world.queue.tick()
    world.background.run()
    assert world.messages[0][0] == SUCCESS
    world.queue.tick()
    assert world.metrics.last("HasBacklogWithoutCapacity", **QUEUE) == 0


def test_fails_a_request_that_waited_longer_than_it_may(world: World) -> None:
    world.create()
    world.scale(0)
    world.invoke(**{"x-amzn-sagemaker-requestttlseconds": "60"})
    world.time += 61
    world.queue.tick()
    [(topic, message)] = world.messages
    assert topic == ERROR
    assert "expired" in message["failureReason"]
    assert world.metrics.total("ExpiredRequests", **VARIANT) == 1
    assert world.metrics.last("ApproximateBacklogSize", **QUEUE) == 0


def test_fails_a_request_whose_input_is_gone(world: World) -> None:
    world.create()
    world.objects.objects.clear()
    world.invoke()
    world.background.run()
    assert "does not exist" in world.messages[0][1]["failureReason"]
    assert world.metrics.total("RequestDownloadFailures", **VARIANT) == 1


def test_fails_a_request_whose_answer_cannot_be_written(world: World) -> None:
    world.create()
    world.objects.refused.add("s3://out/answers")
    world.invoke()
    world.background.run()
    assert world.messages[0][0] == ERROR
    assert world.metrics.total("ResponseUploadFailures", **VARIANT) == 1


def test_counts_a_message_that_nobody_takes(world: World) -> None:
    world.create()
    world.refuse_topics = True
    world.invoke()
    world.background.run()
    assert world.metrics.total("NotificationFailures", **VARIANT) == 1


def test_an_image_that_fails_on_request_is_the_servers_error(world: World) -> None:
    world.create()
    world.failing = True
    world.invoke()
    world.background.run()
    assert "server error (500)" in world.messages[0][1]["failureReason"]
    assert world.metrics.total("Invocation5XXErrors", **VARIANT) == 1


def test_a_model_server_that_is_gone_is_the_servers_error(world: World) -> None:
    world.create()
    world.url = "http://127.0.0.1:9"
    world.invoke()
    world.background.run()
    assert "server error (503)" in world.messages[0][1]["failureReason"]


def test_input_may_come_inline_and_names_may_be_chosen(world: World) -> None:
    world.create()
    headers = {"x-amzn-sagemaker-s3outputpathextension": "run-1", "x-amzn-sagemaker-filename": "a.json"}
    status, answered, _ = world.queue.answer(
        SCOPE, "/endpoints/async/async-invocations", headers, b'{"inline": true}'
    )
    assert (status, answered["x-amzn-sagemaker-outputlocation"]) == (202, "s3://out/answers/run-1/a.json")
    world.background.run()
    assert json.loads(world.objects.objects["s3://out/answers/run-1/a.json"]) == {"answer": {"inline": True}}
    assert "inputLocation" not in world.messages[0][1]["requestParameters"]


@pytest.mark.parametrize(
    ("path", "headers", "body", "said"),
    [
        ("/endpoints/gone/async-invocations", {}, b"{}", "Endpoint gone of account 000000000000 not found"),
        ("/endpoints/async/async-invocations", {}, b"", "InputLocation or as Body"),
        (
            "/endpoints/async/async-invocations",
            {"x-amzn-sagemaker-inputlocation": "here"},
            b"",
            "regular expression",
        ),
        (
            "/endpoints/async/async-invocations",
            {"x-amzn-sagemaker-inputlocation": INPUT, "x-amzn-sagemaker-requestttlseconds": "5"},
            b"",
            "RequestTTLSeconds, value: 5, valid min value: 60",
        ),
    ],
)
def test_fails_requests_that_the_service_refuses(
    world: World, path: str, headers: dict[str, str], body: bytes, said: str
) -> None:
    world.create()
    status, answered, document = world.queue.answer(SCOPE, path, headers, body)
    assert (status, answered["x-amzn-errortype"]) == (400, "ValidationError")
    assert said in json.loads(document)["Message"]


def test_an_endpoint_has_a_queue_or_it_has_none(world: World) -> None:
    world.create()
    refused = world.queue.refusal(SCOPE, "async")
    assert refused is not None
    assert "InvokeEndpointAsync" in refused.message
    world.control.call(
        SCOPE,
        "CreateEndpointConfig",
        {
            "EndpointConfigName": "plain",
            "ExecutionRoleArn": ROLE,
            "ProductionVariants": [variant(ModelName="m")],
        },
    )
    world.control.call(SCOPE, "CreateEndpoint", {"EndpointName": "plain", "EndpointConfigName": "plain"})
    assert world.queue.refusal(SCOPE, "plain") is None
    with pytest.raises(AwsError, match="not configured for asynchronous inference"):
        world.queue.enqueue(SCOPE, {"EndpointName": "plain", "InputLocation": INPUT})
