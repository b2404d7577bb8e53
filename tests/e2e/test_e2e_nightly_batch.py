"""examples/nightly_batch in the local cloud: a night's records through real jobs, events and rounds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from support_examples import Examples
from tokenmill.local.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

NIGHTLY = bool(os.environ.get("TOKENMILL_NIGHTLY"))
RECORDS = 100_000 if NIGHTLY else 3_000
SECONDS = 300


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Examples]:
    examples = Examples(tmp_path_factory.mktemp("night"))
    examples.start("nightly_batch")
    try:
        yield examples
    finally:
        examples.stop()


@pytest.fixture(scope="module")
def outputs(examples: Examples) -> dict[str, str]:
    return examples.deployed("nightly_batch")


def upload(examples: Examples, bucket: str, count: int) -> str:
    """Make records as the example's reader does, and put them where runs find them."""
    path = examples.folder / f"{count}.jsonl"
    program = examples.folder / "nightly_batch" / "make_records.py"
    subprocess.run([sys.executable, str(program), str(count), str(path)], check=True, capture_output=True)
    examples.client("s3").upload_file(str(path), bucket, f"input/{path.name}")
    return f"input/{path.name}"


def run(examples: Examples, machine: str, given: dict[str, str]) -> dict[str, Any]:
    states = examples.client("stepfunctions")
    arn = states.start_execution(stateMachineArn=machine, input=json.dumps(given))["executionArn"]

    def ended() -> bool:
        return states.describe_execution(executionArn=arn)["status"] != "RUNNING"

    assert wait_until(ended, SECONDS), examples.log
    return dict(states.describe_execution(executionArn=arn))


def lines(examples: Examples, bucket: str, key: str) -> list[dict[str, Any]]:
    body = examples.client("s3").get_object(Bucket=bucket, Key=key)["Body"]
    return [json.loads(line) for line in body.iter_lines()]


def test_a_night_s_records_are_answered_in_order(examples: Examples, outputs: dict[str, str]) -> None:
    """Every line with its name and a word, in the order of the lines; the bill is of the batch tier."""
    given = {"input": upload(examples, outputs["Files"], RECORDS), "output": "output/night"}
    done = examples.run("jobs", "run", "batch", "--input", json.dumps(given))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{RECORDS:,} of {RECORDS:,} records are answered, for " in done.stdout
    [job] = json.loads(examples.run("jobs", "list", "--json").stdout)["jobs"]
    told = job["last"]["output"]
    assert (told["records"], told["failed"]) == (RECORDS, 0)
    assert told["jobs"] == -(-RECORDS // 50_000)
    assert list(told["report"]["tiers"]) == ["batch"]
    results = lines(examples, outputs["Files"], "output/night/results.jsonl")
    assert [item["index"] for item in results] == list(range(RECORDS))
    assert results[-1]["custom_id"] == f"ticket-{RECORDS - 1:06d}"
    tokens = sum(item["response"]["usage"]["completion_tokens"] for item in results)
    assert told["report"]["tiers"]["batch"]["tokens"]["output"] == tokens


def test_records_that_are_throttled_go_through_another_round(
    examples: Examples, outputs: dict[str, str]
) -> None:
    """A tenth of them in a second job, what is left of them one by one; in order all the same."""
    given = {"input": upload(examples, outputs["Files"], 2_000), "output": "output/throttled"}
    examples.fail(bedrock_batch={"errors": {"429": 0.1}})
    try:
        found = run(examples, outputs["StateMachine"], given)
    finally:
        examples.fail(bedrock_batch={})
    assert found["status"] == "SUCCEEDED", found
    told = json.loads(found["output"])
    assert (told["records"], told["failed"], told["jobs"]) == (2_000, 0, 2)
    assert sorted(told["report"]["tiers"]) == ["batch", "standard"]
    results = lines(examples, outputs["Files"], "output/throttled/results.jsonl")
    assert [item["index"] for item in results] == list(range(2_000))


def test_records_that_are_refused_end_as_errors(examples: Examples, outputs: dict[str, str]) -> None:
    """The run fails, because none is tolerated, and says where they stand; the others are answered."""
    given = {"input": upload(examples, outputs["Files"], 500), "output": "output/refused"}
    examples.fail(bedrock_batch={"errors": {"400": 0.05}})
    try:
        found = run(examples, outputs["StateMachine"], given)
    finally:
        examples.fail(bedrock_batch={})
    assert (found["status"], found["error"]) == ("FAILED", "TooManyFailed")
    errors = lines(examples, outputs["Files"], "output/refused/errors.jsonl")
    assert {item["error"]["code"] for item in errors} == {400}
    results = lines(examples, outputs["Files"], "output/refused/results.jsonl")
    assert sorted(item["index"] for item in [*errors, *results]) == list(range(500))


def test_a_line_that_is_no_record_costs_nothing(examples: Examples, outputs: dict[str, str]) -> None:
    """It is refused by its number before a job is started."""
    s3 = examples.client("s3")
    s3.put_object(Bucket=outputs["Files"], Key="input/bad.jsonl", Body=b'{"messages": []}\n')
    given = {"input": "input/bad.jsonl", "output": "output/bad"}
    before = len(examples.client("bedrock").list_model_invocation_jobs()["invocationJobSummaries"])
    found = run(examples, outputs["StateMachine"], given)
    assert found["status"] == "FAILED"
    assert "line 1 has no messages" in found["cause"]
    assert len(examples.client("bedrock").list_model_invocation_jobs()["invocationJobSummaries"]) == before


def test_a_stopped_run_takes_its_job_along(examples: Examples, outputs: dict[str, str]) -> None:
    """Step Functions says that the execution was aborted, and the job ends before its records do."""
    states, bedrock = examples.client("stepfunctions"), examples.client("bedrock")

    def jobs() -> list[dict[str, Any]]:
        return list(bedrock.list_model_invocation_jobs(maxResults=1000)["invocationJobSummaries"])

    before = {job["jobArn"] for job in jobs()}
    given = {"input": upload(examples, outputs["Files"], 20_000), "output": "output/stopped"}
    started = states.start_execution(stateMachineArn=outputs["StateMachine"], input=json.dumps(given))
    assert wait_until(lambda: len(jobs()) > len(before), SECONDS), examples.log
    (arn,) = {job["jobArn"] for job in jobs()} - before
    states.stop_execution(executionArn=started["executionArn"])

    def status() -> str:
        return str(bedrock.get_model_invocation_job(jobIdentifier=arn)["status"])

    assert wait_until(lambda: status() in ("Stopped", "Completed"), SECONDS), examples.log
    assert status() == "Stopped"
