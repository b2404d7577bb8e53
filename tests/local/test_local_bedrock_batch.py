"""Batch inference in a running cloud: jobs whose records are really answered, from S3 to S3."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from support_local import ACCOUNT, REGION, ROLE, client
from support_local_workflows import get, keys, new_bucket, put
from tokenmill.local.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenmill.local.cloud_process import CloudProcess

MODEL = "amazon.nova-lite-v1:0"
ENDED = ("Completed", "PartiallyCompleted", "Failed", "Stopped", "Expired")
SECONDS = 20.0


def record(number: int, text: str = "Hello", **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": [{"text": f"{text} {number}"}]}]
    config = {"inferenceConfig": {"maxTokens": 5}}
    return {"recordId": f"{number:011}", "modelInput": {"messages": messages, **config, **more}}


def lines(records: list[Any]) -> bytes:
    return b"".join(
        (json.dumps(entry) if not isinstance(entry, str) else entry).encode() + b"\n" for entry in records
    )


def start(cloud: CloudProcess, bucket: str, *, source: str = "in/part.jsonl", **more: Any) -> str:
    asked = {
        "jobName": f"job-{uuid4().hex[:8]}",
        "roleArn": ROLE,
        "modelId": MODEL,
        "inputDataConfig": {
            "s3InputDataConfig": {"s3Uri": f"s3://{bucket}/{source}", "s3InputFormat": "JSONL"}
        },
        "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": f"s3://{bucket}/out/"}},
        "modelInvocationType": "Converse",
    }
    made = client(cloud.endpoint, "bedrock").create_model_invocation_job(**asked | more)
    return str(made["jobArn"])


def ended(cloud: CloudProcess, arn: str, seconds: float = SECONDS) -> dict[str, Any]:
    bedrock = client(cloud.endpoint, "bedrock")

    def over() -> bool:
        return bedrock.get_model_invocation_job(jobIdentifier=arn)["status"] in ENDED

    assert wait_until(over, seconds)
    return dict(bedrock.get_model_invocation_job(jobIdentifier=arn))


def results(cloud: CloudProcess, bucket: str, arn: str, name: str = "part.jsonl") -> list[Any]:
    key = f"out/{arn.rsplit('/', 1)[-1]}/{name}.out"
    body = client(cloud.endpoint, "s3").get_object(Bucket=bucket, Key=key)["Body"]
    return [json.loads(line) for line in body.iter_lines()]


@pytest.fixture
def no_faults(cloud: CloudProcess) -> Iterator[None]:
    yield
    cloud.admin("faults", {"account": ACCOUNT, "region": REGION, "bedrock_batch": {}})


def test_every_record_is_answered_and_a_bad_one_has_its_error(cloud: CloudProcess) -> None:
    """Answers are Converse's, in another order; a record that Converse refuses is an error, not the job's."""
    bucket = new_bucket(cloud)
    records: list[Any] = [record(number) for number in range(120)]
    text = {"recordId": "Y", "modelInput": {"messages": [{"role": "user", "content": "text, not blocks"}]}}
    put(cloud, bucket, "in/part.jsonl", lines([*records, {"recordId": "X", "modelInput": {}}, text]))
    job = ended(cloud, arn := start(cloud, bucket))
    assert job["status"] == "Completed"
    assert (job["totalRecordCount"], job["successRecordCount"], job["errorRecordCount"]) == (122, 120, 2)
    found = results(cloud, bucket, arn)
    good = {entry["recordId"]: entry for entry in found if "error" not in entry}
    assert set(good) == {entry["recordId"] for entry in records}
    assert [entry["recordId"] for entry in found[:120]] != [entry["recordId"] for entry in records]
    answer = good["00000000007"]["modelOutput"]
    assert good["00000000007"]["modelInput"] == records[7]["modelInput"]
    assert answer["usage"]["outputTokens"] == 5
    assert answer["output"]["message"]["content"][0]["text"].startswith('You asked "')
    assert {entry["error"]["errorCode"] for entry in found if "error" in entry} == {400}
    manifest = get(cloud, bucket, f"out/{arn.rsplit('/', 1)[-1]}/manifest.json.out")
    assert manifest["processedRecordCount"] == 122
    assert manifest["outputTokenCount"] == 600
    assert manifest["inputTokenCount"] == sum(e["modelOutput"]["usage"]["inputTokens"] for e in good.values())


def test_invoke_model_jobs_take_the_providers_bodies(cloud: CloudProcess) -> None:
    """Without a type a job's records are InvokeModel's: Claude's in, Claude's out."""
    bucket, version = new_bucket(cloud), "bedrock-2023-05-31"
    given = {"anthropic_version": version, "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
    records = [{"recordId": f"{number:011}", "modelInput": given} for number in range(100)]
    put(cloud, bucket, "in/part.jsonl", lines(records))
    model = "anthropic.claude-3-haiku-20240307-v1:0"
    job = ended(cloud, arn := start(cloud, bucket, modelInvocationType="InvokeModel", modelId=model))
    assert job["status"] == "Completed"
    answer = results(cloud, bucket, arn)[0]["modelOutput"]
    assert answer["usage"]["output_tokens"] == 5
    assert set(answer) == {"id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"}


def test_a_folder_of_files_is_one_job(cloud: CloudProcess) -> None:
    """Every .jsonl file under a folder is answered into a file of its own name."""
    bucket = new_bucket(cloud)
    for part in range(2):
        put(cloud, bucket, f"in/p{part}.jsonl", lines([record(number) for number in range(60)]))
    put(cloud, bucket, "in/deep/p0.jsonl", lines([record(0)]))
    put(cloud, bucket, "in/notes.txt", b"no record")
    put(cloud, bucket, "inside/other.jsonl", b"no record")
    for source in ("in/", "in"):
        job = ended(cloud, arn := start(cloud, bucket, source=source))
        assert (job["status"], job["totalRecordCount"]) == ("Completed", 121)
        lengths = [
            len(results(cloud, bucket, arn, name)) for name in ("p0.jsonl", "p1.jsonl", "deep/p0.jsonl")
        ]
        assert lengths == [60, 60, 1]


def test_only_jsonl_files_are_input(cloud: CloudProcess) -> None:
    """A file of another name is refused, even when it is the one that the job names."""
    bucket = new_bucket(cloud)
    put(cloud, bucket, "in/part.json", lines([record(number) for number in range(100)]))
    job = ended(cloud, start(cloud, bucket, source="in/part.json"))
    assert (job["status"], job["message"]) == (
        "Failed",
        f"there is no .jsonl file at s3://{bucket}/in/part.json",
    )


def test_files_from_other_systems_are_read(cloud: CloudProcess) -> None:
    """A byte order mark, CRLF and blank lines do no harm; ids that come twice or not at all are answered."""
    bucket = new_bucket(cloud)
    records = [record(number) for number in range(98)]
    without = {"modelInput": record(1)["modelInput"]}
    texts = [json.dumps(entry) for entry in (*records, records[0], without, without)]
    body = b"\xef\xbb\xbf" + "\r\n\r\n".join(texts).encode()
    put(cloud, bucket, "in/part.jsonl", body)
    job = ended(cloud, arn := start(cloud, bucket))
    assert (job["status"], job["totalRecordCount"], job["successRecordCount"]) == ("Completed", 101, 101)
    identities = [entry["recordId"] for entry in results(cloud, bucket, arn)]
    assert identities.count("00000000000") == 2
    made = set(identities) - {entry["recordId"] for entry in records}
    assert len(made) == 2
    assert all(len(identity) == 11 and identity.isalnum() for identity in made)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("not json", "Expecting value"),
        ('{"recordId": "A"}', "no modelInput"),
        ('{"recordId": "A", "modelInput": "text"}', "no modelInput that is a JSON object"),
        ('{"recordId": 7, "modelInput": {}}', "recordId is 7"),
        ("[]", "no modelInput"),
    ],
)
def test_a_line_that_is_no_record_fails_the_job_before_it_answers(
    cloud: CloudProcess, line: str, why: str
) -> None:
    """Validation names the file, the line and the reason, and nothing is written."""
    bucket = new_bucket(cloud)
    put(cloud, bucket, "in/part.jsonl", lines([record(number) for number in range(100)] + [line]))
    job = ended(cloud, start(cloud, bucket))
    assert job["status"] == "Failed"
    assert job["message"].startswith(f"line 101 of s3://{bucket}/in/part.jsonl is no record: ")
    assert why in job["message"]
    assert keys(cloud, bucket) == ["in/part.jsonl"]


def test_half_a_surrogate_pair_is_answered(cloud: CloudProcess) -> None:
    """Text that UTF-8 cannot hold, as a JavaScript client cuts it, comes back as the escape that it was."""
    bucket = new_bucket(cloud)
    put(cloud, bucket, "in/part.jsonl", lines([record(number, "cut \ud83d") for number in range(100)]))
    job = ended(cloud, arn := start(cloud, bucket))
    assert (job["status"], job["successRecordCount"]) == ("Completed", 100)
    assert "\ud83d" in results(cloud, bucket, arn)[0]["modelInput"]["messages"][0]["content"][0]["text"]


@pytest.mark.parametrize(
    ("model", "given"),
    [
        ("anthropic.claude-3-haiku-20240307-v1:0", {"max_tokens": "many"}),
        ("amazon.nova-lite-v1:0", {"inferenceConfig": "short"}),
        ("amazon.nova-lite-v1:0", {"messages": [{"role": "user", "content": [{"guardContent": "x"}]}]}),
    ],
)
def test_bodies_of_wrong_types_are_the_callers_errors(
    cloud: CloudProcess, model: str, given: dict[str, Any]
) -> None:
    """InvokeModel refuses a body whose members have other types, as a request and as a record."""
    claude = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 5} if "claude" in model else {}
    body = {**claude, "messages": [{"role": "user", "content": [{"text": "Hi"}]}], **given}
    with pytest.raises(ClientError) as refused:
        client(cloud.endpoint, "bedrock-runtime").invoke_model(modelId=model, body=json.dumps(body))
    assert refused.value.response["Error"]["Code"] == "ValidationException"
    bucket = new_bucket(cloud)
    put(cloud, bucket, "in/part.jsonl", lines([{"modelInput": body}] * 100))
    job = ended(cloud, start(cloud, bucket, modelInvocationType="InvokeModel", modelId=model))
    assert (job["status"], job["errorRecordCount"]) == ("Completed", 100)


def test_a_job_of_too_few_records_fails_with_the_numbers(cloud: CloudProcess) -> None:
    """The minimum of a job is the service's."""
    bucket = new_bucket(cloud)
    put(cloud, bucket, "in/part.jsonl", lines([record(1)]))
    job = ended(cloud, start(cloud, bucket))
    assert job["status"] == "Failed"
    assert "contains less records (1) than the required minimum of: 100" in job["message"]
    assert ended(cloud, start(cloud, bucket, source="nowhere/"))["message"].startswith(
        "there is no .jsonl file"
    )


@pytest.mark.usefixtures("no_faults")
def test_errors_that_are_asked_for_meet_a_share_of_the_records(cloud: CloudProcess) -> None:
    """Shares are kept roughly, another job draws again, and the ending is the one asked for."""
    bucket = new_bucket(cloud)
    put(cloud, bucket, "in/part.jsonl", lines([record(number) for number in range(400)]))
    wanted = {
        "errors": {"429": 0.2, "400": 0.05},
        "status": "PartiallyCompleted",
        "message": "the cloud says so",
    }
    cloud.admin("faults", {"account": ACCOUNT, "region": REGION, "bedrock_batch": wanted})
    first, second = start(cloud, bucket), start(cloud, bucket)
    job = ended(cloud, first)
    ended(cloud, second)
    assert (job["status"], job["message"]) == ("PartiallyCompleted", "the cloud says so")
    codes = [entry["error"]["errorCode"] for entry in results(cloud, bucket, first) if "error" in entry]
    assert 50 < codes.count(429) < 110
    assert 5 < codes.count(400) < 40
    failed = [{e["recordId"] for e in results(cloud, bucket, arn) if "error" in e} for arn in (first, second)]
    assert failed[0] != failed[1]


def test_states_are_events_of_the_default_bus(cloud: CloudProcess) -> None:
    """A rule of the job's name gets one event a status, with the members of the documented sample."""
    bucket, name = new_bucket(cloud), f"events-{uuid4().hex[:8]}"
    sqs, events = client(cloud.endpoint, "sqs"), client(cloud.endpoint, "events")
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    pattern = {
        "source": ["aws.bedrock"],
        "detail": {"batchJobName": [{"prefix": name}], "status": ["Completed"]},
    }
    events.put_rule(Name=name, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=name, Targets=[{"Id": "q", "Arn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"}])
    put(cloud, bucket, "in/part.jsonl", lines([record(number) for number in range(100)]))
    arn = start(cloud, bucket, jobName=f"{name}-1")
    received: list[Any] = []

    def got() -> bool:
        received.extend(sqs.receive_message(QueueUrl=queue).get("Messages", []))
        return bool(received)

    assert wait_until(got, SECONDS)
    event = json.loads(received[0]["Body"])
    assert event["detail-type"] == "Batch Inference Job State Change"
    assert event["resources"] == [arn]
    assert set(event["detail"]) >= {"accountId", "batchJobName", "batchJobArn", "batchModelId", "status"}


def test_a_large_job_takes_seconds(cloud: CloudProcess) -> None:
    """Twenty thousand records are answered in the time of a few (measured: 2,500 a second)."""
    bucket = new_bucket(cloud)
    put(cloud, bucket, "in/part.jsonl", lines([record(number, "word " * 20) for number in range(20_000)]))
    began = time.monotonic()
    job = ended(cloud, start(cloud, bucket), seconds=120)
    assert (job["status"], job["successRecordCount"]) == ("Completed", 20_000)
    assert time.monotonic() - began < 90
