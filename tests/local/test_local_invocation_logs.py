"""Invocation logs in a running cloud: what a call leaves in S3 and CloudWatch Logs once logging is on."""

from __future__ import annotations

import gzip
import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from support_local import ACCOUNT, REGION, ROLE, client
from support_local_workflows import keys, new_bucket
from tokenmill.local.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenmill.local.cloud_process import CloudProcess

MODEL = "amazon.nova-lite-v1:0"
STREAM = "aws/bedrock/modelinvocations"
SHORT = {"maxTokens": 4}
SECONDS = 20.0
WITHOUT_BODY = {
    "inputContentType",
    "inputTokenCount",
    "cacheReadInputTokenCount",
    "cacheWriteInputTokenCount",
}
FOLDER = f"AWSLogs/{ACCOUNT}/BedrockModelInvocationLogs/{REGION}"


def said(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"text": text}]}]


class Logging:
    """A log group and a bucket of one test, and the setting that names them."""

    def __init__(self, cloud: CloudProcess) -> None:
        self.cloud = cloud
        self.bucket = new_bucket(cloud)
        self.group = f"/bedrock/{uuid4().hex[:8]}"
        self.logs = client(cloud.endpoint, "logs")
        self.logs.create_log_group(logGroupName=self.group)
        self.runtime = client(cloud.endpoint, "bedrock-runtime")

    def turn_on(self, *, s3: Any = None, stream: Any = None, **more: Any) -> None:
        places = {"s3Config": s3, "cloudWatchConfig": stream}
        given = {name: place for name, place in places.items() if place is not None}
        control = client(self.cloud.endpoint, "bedrock")
        control.put_model_invocation_logging_configuration(loggingConfig=given | more)

    def to_stream(self, **more: Any) -> dict[str, Any]:
        return {"logGroupName": self.group, "roleArn": ROLE, **more}

    def events(self) -> list[Any]:
        try:
            found = self.logs.get_log_events(logGroupName=self.group, logStreamName=STREAM)["events"]
        except self.logs.exceptions.ResourceNotFoundException:
            return []
        return [json.loads(event["message"]) for event in found]

    def event(self) -> Any:
        assert wait_until(lambda: bool(self.events()), SECONDS)
        [event] = self.events()
        return event

    def object(self, key: str) -> Any:
        body = client(self.cloud.endpoint, "s3").get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return json.loads(gzip.decompress(body))

    def delivered(self, metric: str) -> bool:
        cloudwatch, now = client(self.cloud.endpoint, "cloudwatch"), datetime.now(UTC)
        found = cloudwatch.get_metric_statistics(
            Namespace="AWS/Bedrock",
            MetricName=f"ModelInvocation{metric}",
            StartTime=now - timedelta(minutes=10),
            EndTime=now + timedelta(minutes=1),
            Period=60,
            Statistics=["Sum"],
        )
        return bool(found["Datapoints"])


@pytest.fixture
def logging(cloud: CloudProcess) -> Iterator[Logging]:
    yield Logging(cloud)
    client(cloud.endpoint, "bedrock").delete_model_invocation_logging_configuration()


def test_a_call_leaves_the_documented_entry_in_both_places(logging: Logging) -> None:
    """Members are those of "Log entry format", and S3 has a gzipped batch in the folder of its policy."""
    logging.turn_on(s3={"bucketName": logging.bucket, "keyPrefix": "kept"}, stream=logging.to_stream())
    request = {"messages": said("Hello"), "inferenceConfig": SHORT, "requestMetadata": {"team": "search"}}
    answer = logging.runtime.converse(modelId=f"us.{MODEL}", **request)
    entry = logging.event()
    when = datetime.strptime(entry.pop("timestamp"), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - when) < timedelta(minutes=1)
    usage = answer["usage"]
    body = {name: answer[name] for name in ("output", "stopReason", "usage", "metrics")}
    assert entry == {
        "schemaType": "ModelInvocationLog",
        "schemaVersion": "1.0",
        "accountId": ACCOUNT,
        "region": REGION,
        "requestId": answer["ResponseMetadata"]["RequestId"],
        "operation": "Converse",
        "modelId": f"us.{MODEL}",
        "identity": {"arn": f"arn:aws:iam::{ACCOUNT}:root"},
        "requestMetadata": {"team": "search"},
        "input": {
            "inputContentType": "application/json",
            "inputBodyJson": request,
            "inputTokenCount": usage["inputTokens"],
            "cacheReadInputTokenCount": 0,
            "cacheWriteInputTokenCount": 0,
        },
        "output": {
            "outputContentType": "application/json",
            "outputBodyJson": body,
            "outputTokenCount": usage["outputTokens"],
        },
    }
    [key] = keys(logging.cloud, logging.bucket)
    assert re.fullmatch(rf"kept/{FOLDER}/\d{{4}}/\d\d/\d\d/\d\d/[0-9TZ_a-f]+\.json\.gz", key)
    assert logging.object(key).items() >= entry.items()
    assert wait_until(lambda: logging.delivered("LogsS3DeliverySuccess"), SECONDS)
    assert wait_until(lambda: logging.delivered("LogsCloudWatchDeliverySuccess"), SECONDS)


def test_a_stream_is_logged_as_the_answer_that_it_was(logging: Logging) -> None:
    """The text of the deltas, the reason and the tokens make one answer, as Converse would have given it."""
    logging.turn_on(stream=logging.to_stream())
    answer = logging.runtime.converse_stream(modelId=MODEL, messages=said("Hi"), inferenceConfig=SHORT)
    events = list(answer["stream"])
    text = "".join(
        event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event
    )
    [told] = [event["metadata"] for event in events if "metadata" in event]
    entry = logging.event()
    assert (entry["operation"], entry["requestId"]) == (
        "ConverseStream",
        answer["ResponseMetadata"]["RequestId"],
    )
    assert entry["output"]["outputBodyJson"] == {
        "output": {"message": {"role": "assistant", "content": [{"text": text}]}},
        "stopReason": "max_tokens",
        **told,
    }
    assert entry["output"]["outputTokenCount"] == 4


def test_invoke_model_is_logged_with_the_providers_bodies(logging: Logging) -> None:
    """Bodies are the native ones; the metadata of a header is that of the entry."""
    logging.turn_on(stream=logging.to_stream())
    body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 4, "messages": said("Hi")}
    body["messages"][0]["content"][0]["type"] = "text"
    answer = logging.runtime.invoke_model(
        modelId="anthropic.claude-3-haiku-20240307-v1:0",
        body=json.dumps(body),
        requestMetadata=json.dumps({"team": "search"}),
    )
    native, entry = json.loads(answer["body"].read()), logging.event()
    assert (entry["operation"], entry["requestMetadata"]) == ("InvokeModel", {"team": "search"})
    assert (entry["input"]["inputBodyJson"], entry["output"]["outputBodyJson"]) == (body, native)
    assert entry["input"]["inputTokenCount"] == native["usage"]["input_tokens"]


def test_a_guardrail_does_not_mask_what_is_logged_of_the_input(logging: Logging) -> None:
    """The input is the caller's own; a blocked call is an answered one."""
    control = client(logging.cloud.endpoint, "bedrock")
    made = control.create_guardrail(
        name=f"g-{uuid4().hex[:8]}",
        blockedInputMessaging="NO",
        blockedOutputsMessaging="NO",
        wordPolicyConfig={"wordsConfig": [{"text": "forbidden"}]},
        sensitiveInformationPolicyConfig={"piiEntitiesConfig": [{"type": "EMAIL", "action": "ANONYMIZE"}]},
    )
    guarded = {"guardrailIdentifier": made["guardrailId"], "guardrailVersion": "DRAFT"}
    logging.turn_on(stream=logging.to_stream())
    for text in ("write to a@example.com", "forbidden"):
        logging.runtime.converse(
            modelId=MODEL, messages=said(text), inferenceConfig=SHORT, guardrailConfig=guarded
        )
    assert wait_until(lambda: len(logging.events()) == 2, SECONDS)
    asked = [entry["input"]["inputBodyJson"]["messages"] for entry in logging.events()]
    assert asked == [said("write to a@example.com"), said("forbidden")]
    assert logging.events()[1]["output"]["outputBodyJson"]["stopReason"] == "guardrail_intervened"


def test_large_bodies_go_to_the_data_prefix_or_nowhere(logging: Logging) -> None:
    """Over 100 KB, an entry says where the body is; a log group without a bucket for it has none."""
    long = said("word " * 25_000)
    logging.turn_on(stream=logging.to_stream())
    logging.runtime.converse(modelId=MODEL, messages=long, inferenceConfig=SHORT)
    assert set(logging.event()["input"]) == WITHOUT_BODY
    logging.turn_on(stream=logging.to_stream(largeDataDeliveryS3Config={"bucketName": logging.bucket}))
    answer = logging.runtime.converse(modelId=MODEL, messages=long, inferenceConfig=SHORT)
    assert wait_until(lambda: len(logging.events()) == 2, SECONDS)
    entry = logging.events()[1]
    [key] = keys(logging.cloud, logging.bucket)
    assert entry["input"]["inputBodyS3Path"] == f"s3://{logging.bucket}/{key}"
    assert key.startswith(f"{FOLDER}/")
    assert key.endswith(f"/data/{answer['ResponseMetadata']['RequestId']}_input.json.gz")
    assert logging.object(key)["messages"] == long
    assert "outputBodyJson" in entry["output"]


def test_cached_tokens_stand_beside_the_others(logging: Logging) -> None:
    """What the prompt cache wrote and read is counted on its own."""
    logging.turn_on(stream=logging.to_stream())
    prompt = [{"text": f"{uuid4().hex} " + "word " * 2_000}, {"cachePoint": {"type": "default"}}]
    for _ in range(2):
        logging.runtime.converse(modelId=MODEL, messages=said("Hi"), system=prompt, inferenceConfig=SHORT)
    assert wait_until(lambda: len(logging.events()) == 2, SECONDS)
    wrote, read = (entry["input"] for entry in logging.events())
    assert wrote["cacheWriteInputTokenCount"] == read["cacheReadInputTokenCount"] > 1_000
    assert wrote["cacheReadInputTokenCount"] == read["cacheWriteInputTokenCount"] == 0


def test_text_may_be_left_out(logging: Logging) -> None:
    """Without the delivery of text, an entry has its tokens and no bodies."""
    logging.turn_on(stream=logging.to_stream(), textDataDeliveryEnabled=False)
    logging.runtime.converse(modelId=MODEL, messages=said("secret"), inferenceConfig=SHORT)
    entry = logging.event()
    assert set(entry["input"]) == WITHOUT_BODY
    assert set(entry["output"]) == {"outputContentType", "outputTokenCount"}


def test_a_place_that_is_gone_is_a_metric_and_no_callers_error(logging: Logging) -> None:
    """A failed delivery is counted; the call is answered, and the other place gets its entry."""
    logging.turn_on(s3={"bucketName": f"gone-{uuid4().hex[:8]}"}, stream=logging.to_stream())
    logging.runtime.converse(modelId=MODEL, messages=said("Hi"), inferenceConfig=SHORT)
    assert logging.event()["operation"] == "Converse"
    assert wait_until(lambda: logging.delivered("LogsS3DeliveryFailure"), SECONDS)


def test_refused_calls_and_calls_without_logging_leave_nothing(logging: Logging) -> None:
    """Only an answered call is logged, and only while the setting stands."""
    ask = {"modelId": MODEL, "messages": said("Hi"), "inferenceConfig": SHORT}
    logging.runtime.converse(**ask)
    logging.turn_on(stream=logging.to_stream())
    with pytest.raises(ClientError):
        logging.runtime.converse(**ask | {"modelId": "no.such:model/at-all"})
    with pytest.raises(ClientError) as refused:
        logging.runtime.invoke_model(modelId=MODEL, body="{}", requestMetadata="no json")
    assert "X-Amzn-Bedrock-Request-Metadata is not JSON" in refused.value.response["Error"]["Message"]
    logging.runtime.count_tokens(modelId=MODEL, input={"converse": {"messages": said("Hi")}})
    answer = logging.runtime.converse(**ask)
    assert logging.event()["requestId"] == answer["ResponseMetadata"]["RequestId"]
