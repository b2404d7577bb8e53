"""`tokenmill jobs`: finds jobs by their tags, runs each thing once, says the price and why one failed."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from support_fake_aws import AwsError, FakeAws
from support_jobs_command import StateMachines, error_of
from support_jobs_command import run_jobs as run
from tokenmill.core.compiled_artifact import CompiledArtifact

DIGEST = "sha256:" + "d" * 64
ARTIFACT = CompiledArtifact(
    image_digest=DIGEST,
    model="Qwen/Qwen3-8B",
    revision="a" * 40,
    accelerator="Trainium2",
    tensor_parallel=4,
    max_sequences=8,
    context_tokens=8192,
)
KEY = ARTIFACT.key
LIMIT = 4 * 3600


class StepFunctions(StateMachines):
    """Jobs that compile, whose image and artifacts are there or not."""

    run_seconds = 1200

    def __init__(self, fake: FakeAws) -> None:
        super().__init__(fake)
        self.objects: set[str] = set()
        self.end = {"status": "SUCCEEDED", "output": json.dumps({"key": KEY})}
        fake.answers["ecr", "DescribeImages"] = lambda _: {"imageDetails": [{"imageDigest": DIGEST}]}
        fake.answers["s3", "HeadObject"] = self._head
        fake.answers["ssm", "GetParametersByPath"] = lambda _: {"Parameters": []}

    def add(
        self, name: str = "Compiled", *, stack: str = "tokenmill-compile", kind: str = "compile", **about: Any
    ) -> str:
        document = ARTIFACT.to_json()
        del document["image_digest"]
        description = {
            "kind": kind,
            "name": name,
            "about": "compiles Qwen/Qwen3-8B for ml.trn2.48xlarge",
            "instance_type": "ml.trn2.48xlarge",
            "instance_count": 1,
            "limit_seconds": LIMIT,
            "bucket": "artifacts",
            "prefix": "compiled/",
            "repository": "images",
            "repository_uri": "images",
            "tag": "1",
            "artifact": document,
            **about,
        }
        return self.deploy(stack, description)

    @property
    def started(self) -> list[str]:
        return [asked["name"] for asked in self.starts]

    def _head(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if f"{parameters['Bucket']}/{parameters['Key']}" not in self.objects:
            raise AwsError("404", status=404)
        return {}


@pytest.fixture
def states(fake_aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> StepFunctions:
    """Step Functions in a region, and a clock whose every tick ends what runs."""
    made = StepFunctions(fake_aws)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(time, "sleep", lambda _: made.finish())
    return made


def test_list_shows_the_jobs_of_every_page_and_no_other_machine(states: StepFunctions) -> None:
    """A state machine without tokenmill's tags is somebody else's."""
    states.add()
    states.ran(states.add("Batch", stack="b", kind="transform", about="transforms"), "x-1", "SUCCEEDED")
    states.machines["arn:aws:states:us-east-1:1:stateMachine:other"] = {"definition": "{}", "tags": {}}
    document = json.loads(run("list", "--json").stdout)
    assert [(job["stack"], job["kind"], job["name"]) for job in document["jobs"]] == [
        ("b", "transform", "Batch"),
        ("tokenmill-compile", "compile", "Compiled"),
    ]
    assert [job["last"] and job["last"]["status"] for job in document["jobs"]] == ["SUCCEEDED", None]
    text = run("list").stdout
    assert "b  transform  Batch  succeeded, 10 min  transforms" in text
    assert "tokenmill-compile  compile  Compiled  never ran" in text


def test_list_says_when_there_is_none(states: StepFunctions) -> None:
    """An empty list names the construct that would fill it."""
    assert run("list").stdout == (
        "no jobs are deployed in us-east-1; a stack with a CompiledModel, a batch or a model import or "
        "customization makes some\n"
    )


def test_run_names_the_execution_by_the_artifact_and_waits(states: StepFunctions) -> None:
    """Two people who start the same compilation start one."""
    states.add()
    result = run("run", "compile", "--yes")
    assert result.exit_code == 0, result.output
    assert states.started == [f"{KEY[:32]}-1"]
    assert "succeeded after 20 min" in result.stdout


def test_run_says_the_price_before_it_spends(states: StepFunctions) -> None:
    """The most that it may cost is the limit's hours; an unknown price is said to be unknown."""
    states.add()
    assert "1 x ml.trn2.48xlarge, whose price in us-east-1 is not known; give --price" in (
        run("run", "compile", "--yes", "--no-wait").stdout
    )
    states.add("Other", instance_type="ml.trn1.32xlarge")
    known = run("run", "compile", "--name", "Other", "--yes", "--no-wait").stdout
    assert "28.50 USD an hour, at most 113.99 USD in 4.0 h at the hosting price of 2025-04-11" in known
    states.executions.clear()
    own = run("run", "compile", "--name", "Compiled", "--price", "ml.trn2.48xlarge=20", "--yes", "--no-wait")
    assert "20.00 USD an hour, at most 80.00 USD in 4.0 h\n" in own.stdout


def test_fails_to_spend_when_nobody_is_there_to_ask(states: StepFunctions) -> None:
    """A pipeline agrees with --yes or not at all."""
    states.add()
    assert "nobody is there to ask; agree with --yes" in error_of(run("run", "compile"))
    assert states.started == []


@pytest.mark.parametrize(("answer", "started"), [("y\n", 1), ("n\n", 0)])
def test_run_asks_a_person(
    states: StepFunctions, monkeypatch: pytest.MonkeyPatch, answer: str, started: int
) -> None:
    """No means that nothing starts."""
    states.add()
    monkeypatch.setattr("tokenmill.cli.jobs._somebody_is_there", lambda: True)
    result = run("run", "compile", input=answer)
    assert len(states.started) == started
    if not started:
        assert error_of(result) == "not agreed, nothing was started"


def test_a_key_that_is_built_is_not_built_again(states: StepFunctions) -> None:
    """The manifest of the key is there: nothing is asked and nothing starts."""
    states.add()
    states.objects.add(f"artifacts/compiled/{KEY}/manifest.json")
    result = run("run", "compile")
    assert result.exit_code == 0
    assert f"is compiled already, key {KEY[:16]}; nothing was started" in result.stdout
    document = json.loads(run("run", "compile", "--json").stdout)
    assert (document["already_built"], document["key"], document["run"]) == (True, KEY, None)
    assert states.started == []


def test_another_image_is_another_key(states: StepFunctions) -> None:
    """What one image compiled is no reason not to compile with the next."""
    states.add()
    states.objects.add(f"artifacts/compiled/{KEY}/manifest.json")
    other = "sha256:" + "e" * 64
    states.fake.answers["ecr", "DescribeImages"] = lambda _: {"imageDetails": [{"imageDigest": other}]}
    assert run("run", "compile", "--yes").exit_code == 0
    assert states.started == [f"{ARTIFACT.with_image(other).key[:32]}-1"]


def test_a_run_that_is_under_way_is_joined_without_asking(states: StepFunctions) -> None:
    """It is paid for already; the second person waits with the first."""
    arn = states.add()
    states.ran(arn, f"{KEY[:32]}-1", "RUNNING")
    result = run("run", "compile")
    assert result.exit_code == 0, result.output
    assert "running already: compile Compiled" in result.stdout
    assert states.started == []


def test_a_run_after_a_failure_has_the_next_number(states: StepFunctions) -> None:
    """Step Functions never takes a name twice."""
    arn = states.add()
    states.ran(arn, f"{KEY[:32]}-1", "FAILED")
    assert run("run", "compile", "--yes").exit_code == 0
    assert states.started == [f"{KEY[:32]}-2"]


def test_a_start_that_lost_the_race_joins_the_winner(states: StepFunctions) -> None:
    """Between the look and the start somebody else started the same name."""
    arn = states.add()
    states.fake.answers["stepfunctions", "ListExecutions"] = lambda _: {"executions": []}
    states.ran(arn, f"{KEY[:32]}-1", "RUNNING")
    result = run("run", "compile", "--yes")
    assert result.exit_code == 0, result.output
    assert "running already" in result.stdout


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (
            json.dumps({"FailureReason": "AlgorithmError: vllm ended with exit code 1"}),
            "vllm ended with exit",
        ),
        (json.dumps({"errorMessage": "training job x left no manifest"}), "left no manifest"),
        ("plain words\nof a service", "plain words of a service"),
    ],
)
def test_a_failed_run_exits_1_with_its_reason(states: StepFunctions, cause: str, reason: str) -> None:
    """The reason is the job's own, in one line, not a document."""
    states.add()
    states.end = {"status": "FAILED", "error": "States.TaskFailed", "cause": cause}
    result = run("run", "compile", "--yes")
    assert result.exit_code == 1
    assert "failed after 20 min: " in result.stderr
    assert reason in result.stderr
    assert json.loads(run("wait", "compile", "--json").stdout)["run"]["status"] == "FAILED"


def test_wait_waits_for_the_newest_run(states: StepFunctions) -> None:
    """A run that somebody else started ends for this terminal too."""
    arn = states.add()
    states.ran(arn, "old-1", "FAILED")
    states.ran(arn, "new-1", "RUNNING")
    document = json.loads(run("wait", "compile", "--json").stdout)
    assert (document["run"]["name"], document["run"]["status"]) == ("new-1", "SUCCEEDED")
    assert document["run"]["output"] == {"key": KEY}


def test_fails_to_wait_for_what_never_ran(states: StepFunctions) -> None:
    """The message is the command that runs it."""
    states.add()
    assert error_of(run("wait", "compile")) == (
        "compile Compiled of tokenmill-compile never ran; run it with: tokenmill jobs run compile "
        "--stack tokenmill-compile --name Compiled"
    )


def test_fails_for_a_job_that_is_not_deployed(states: StepFunctions) -> None:
    """The message says what there is instead."""
    states.add("Batch", stack="b", kind="transform")
    message = error_of(run("run", "compile", "--stack", "nowhere"))
    assert message.startswith(
        "no job of kind 'compile' in stack 'nowhere' is deployed in us-east-1; there are"
    )
    assert "transform Batch in b" in message


def test_fails_when_several_jobs_are_meant(states: StepFunctions) -> None:
    """Each choice is a pair of options to paste."""
    states.add("One")
    states.add("Two")
    assert error_of(run("run", "compile")) == (
        "2 jobs of kind compile are deployed, say which: --stack tokenmill-compile --name One; "
        "--stack tokenmill-compile --name Two"
    )
    assert run("run", "compile", "--name", "Two", "--yes", "--no-wait").exit_code == 0


def test_fails_when_the_image_is_not_built(states: StepFunctions) -> None:
    """The stack that builds it is named."""

    def missing(_: dict[str, Any]) -> dict[str, Any]:
        raise AwsError("ImageNotFoundException")

    states.add()
    states.fake.answers["ecr", "DescribeImages"] = missing
    assert error_of(run("run", "compile")) == (
        "repository images has no image 1; build it with: npx cdk deploy tokenmill-compile"
    )


def test_a_job_without_instances_is_not_asked_about(states: StepFunctions) -> None:
    """Its input names the run, so that another input is another run."""
    states.add("Fan", kind="fan-out", instance_type="")
    assert run("run", "fan-out", "--input", '{"b": 1, "a": 2}').exit_code == 0
    assert run("run", "fan-out", "--input", '{"a":2,"b":1}').exit_code == 0
    assert run("run", "fan-out", "--input", "{}").exit_code == 0
    first, again, other = states.started
    assert first[:-1] == again[:-1] != other[:-1]
    assert (first[-2:], again[-2:]) == ("-1", "-2")


@pytest.mark.parametrize("text", ["[]", "{", "3"])
def test_fails_for_input_that_is_no_object(states: StepFunctions, text: str) -> None:
    """Step Functions would take it, and the job would fail later."""
    states.add()
    assert "it must be a JSON object" in error_of(run("run", "compile", "--input", text))


@pytest.mark.parametrize("text", ["ml.trn2.48xlarge", "ml.trn2.48xlarge=free", "ml.trn2.48xlarge=0"])
def test_fails_for_a_price_of_another_form(states: StepFunctions, text: str) -> None:
    """A price that cannot be read must not count as none."""
    states.add()
    assert "must be TYPE=USD" in error_of(run("run", "compile", "--price", text))


def test_fails_for_a_state_machine_of_another_version(states: StepFunctions) -> None:
    """Its definition does not say what it makes, so nothing is started."""
    arn = states.add()
    states.machines[arn]["definition"] = json.dumps({"StartAt": "Look", "States": {"Look": {}}})
    assert "does not begin with a Job state" in error_of(run("list"))


@pytest.mark.usefixtures("project")
def test_fails_without_a_region() -> None:
    """Jobs are looked for in one region, and it is not guessed."""
    assert "no region is configured; give --region" in error_of(run("list"))


@pytest.mark.usefixtures("project")
def test_fails_without_credentials_with_one_sentence() -> None:
    """The doctor says what is missing."""
    assert "tokenmill doctor" in error_of(run("list", "--region", "us-east-1"))


def test_the_region_is_that_of_aws_region_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 reads AWS_DEFAULT_REGION only."""
    from tokenmill.cli._session import session_in

    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    assert session_in("").region_name == "eu-west-3"
    assert session_in("us-east-2").region_name == "us-east-2"
