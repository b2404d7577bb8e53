"""The batch jobs' state machines, run: every branch, by an interpreter that is not ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest

from support_batch import Context, FakeBatchCloud, running
from support_jobs import async_endpoint, inf2
from support_stack import REGION, make_app, of_type, only, template_of
from support_states import States, definition, flat
from tokenmill.batch import AsyncFanOut, BatchTransform, FanOut, TransformJob
from tokenmill_runtime import batch_fan_out, jobs

if TYPE_CHECKING:
    from collections.abc import Iterator

MACHINE = "AWS::StepFunctions::StateMachine"
GIVEN = {"input": "input/requests.jsonl", "output": "output/run"}
REFUSED = [
    {},
    {"input": "input/a"},
    {"output": "output/a"},
    {"input": 1, "output": "output/a"},
    {"input": "elsewhere/a", "output": "output/a"},
    {"input": "input/a", "output": "output/"},
    {"input": "input/a", "output": "input/a"},
]


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Both jobs, synthesized once."""
    app = make_app(tmp_path_factory.mktemp("jobs"))
    made = {}
    for name in ("transform", "fan-out"):
        stack = cdk.Stack(app, name, env=cdk.Environment(region=REGION))
        if name == "transform":
            BatchTransform(stack, "Job", serving=inf2(), job=TransformJob(instances=2, limit_hours=3))
        else:
            requests = FanOut(shard_records=2, tolerated_failure_percent=34)
            AsyncFanOut(stack, "Job", endpoint=async_endpoint(stack), requests=requests)
        made[name] = stack
    return {name: template_of(stack) for name, stack in made.items()}


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> States:
    return States(monkeypatch)


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, templates: dict[str, dict[str, Any]]) -> Iterator[FakeBatchCloud]:
    """S3 and the endpoint, which the function finds by its standard variables."""
    (function,) = of_type(templates["fan-out"], "AWS::Lambda::Function").values()
    environment = function["Properties"]["Environment"]["Variables"]["TOKENMILL_FAN_OUT"]
    settings = json.loads(flat(environment, {}))
    names = {"endpoint": "chat", "bucket": "files", "requests": "s3://mailbox/async/requests"}
    yield from running(monkeypatch, {**settings, **names})


def fan_out(templates: dict[str, dict[str, Any]]) -> dict[str, Any]:
    template = templates["fan-out"]
    # The other bucket is the endpoint's.
    (bucket,) = (name for name in of_type(template, "AWS::S3::Bucket") if name.startswith("Job"))
    return definition(only(template, MACHINE), {bucket: "files"})


def transform(templates: dict[str, dict[str, Any]]) -> dict[str, Any]:
    template = templates["transform"]
    names = {next(iter(of_type(template, "AWS::S3::Bucket"))): "files"}
    names[next(iter(of_type(template, "AWS::SageMaker::Model")))] = "the-model"
    return definition(only(template, MACHINE), names)


def answering(cloud: FakeBatchCloud, *, failing: tuple[int, ...] = (), after: int = 2) -> Any:
    """Return the function's handler before a queue that takes some turns; `failing` are requests' numbers."""
    turns = [0]

    def call(event: dict[str, Any]) -> dict[str, Any]:
        if event["step"] == "shard":
            turns[0] += 1
            if turns[0] > after:
                for taken in cloud.taken:
                    if taken.body["n"] in failing:
                        cloud.fail(taken, "refused")
                    else:
                        cloud.answer(taken, {"answer": taken.body["n"]})
        return batch_fan_out.handler(event, Context())

    return call


def upload(cloud: FakeBatchCloud, count: int) -> None:
    lines = (json.dumps({"n": index}) for index in range(count))
    cloud.put("files", GIVEN["input"], "\n".join(lines).encode())


def test_a_fan_out_answers_every_line(
    templates: dict[str, dict[str, Any]], states: States, cloud: FakeBatchCloud
) -> None:
    """Plan, shards that wait for answers, one file in the order of the lines, and the counts as output."""
    upload(cloud, 5)
    states.functions(answering(cloud))
    states.objects(cloud.text)
    found = states.run(fan_out(templates), GIVEN)
    assert (found["status"], found["error"], found["cause"]) == ("SUCCEEDED", None, None)
    assert (found["output"]["records"], found["output"]["failed"]) == (5, 0)
    results = cloud.lines("files", "output/run/results.jsonl")
    assert [item["response"]["answer"] for item in results] == [0, 1, 2, 3, 4]
    assert states.waited and set(states.waited) <= {15, 22}
    assert found["states"] == ["Job", "CheckInput", "Plan", "Shards", "Collate", "Tolerated", "Answered"]


def test_a_fan_out_tolerates_what_the_template_says(
    templates: dict[str, dict[str, Any]], states: States, cloud: FakeBatchCloud
) -> None:
    """One of three is under 34 percent, two are not; the answers are there in both cases."""
    upload(cloud, 3)
    states.objects(cloud.text)
    states.functions(answering(cloud, failing=(1,)))
    assert states.run(fan_out(templates), GIVEN)["status"] == "SUCCEEDED"
    states.functions(answering(cloud, failing=(1, 2)))
    cloud.put("files", "input/more.jsonl", b'{"n": 0}\n{"n": 1}\n{"n": 2}\n')
    given = {"input": "input/more.jsonl", "output": "output/other"}
    found = states.run(fan_out(templates), given, name="run-2")
    assert (found["status"], found["error"]) == ("FAILED", "TooManyFailed")
    assert found["cause"].startswith("2 of 3 records failed")
    assert len(cloud.lines("files", "output/other/results.jsonl")) == 1


def test_a_fan_out_says_why_its_shards_ended(
    templates: dict[str, dict[str, Any]], states: States, cloud: FakeBatchCloud
) -> None:
    """An endpoint that is gone fails the shards; what was answered before is collected all the same."""
    upload(cloud, 4)
    cloud.refusals = [(400, "ValidationError")] * 4
    states.functions(answering(cloud))
    states.objects(cloud.text)
    found = states.run(fan_out(templates), GIVEN)
    assert (found["status"], found["error"]) == ("FAILED", "TooManyFailed")
    assert "the shards ended early: States.ExceedToleratedFailureThreshold" in found["cause"]
    assert len(cloud.lines("files", "output/run/errors.jsonl")) == 4


def test_a_fan_out_refuses_a_bad_line_without_another_try(
    templates: dict[str, dict[str, Any]], states: States, cloud: FakeBatchCloud
) -> None:
    """With the line's number as the execution's cause, and nothing sent."""
    cloud.put("files", GIVEN["input"], b'{"n": 0}\nnothing\n')
    states.functions(answering(cloud))
    found = states.run(fan_out(templates), GIVEN)
    assert (found["status"], found["error"]) == ("FAILED", "InputRefused")
    assert found["cause"].startswith("line 2 is not JSON")
    assert (cloud.taken, states.waited) == ([], [])


def test_a_turn_that_lambda_dropped_is_run_again(
    templates: dict[str, dict[str, Any]], states: States, cloud: FakeBatchCloud
) -> None:
    """Lambda's own errors pass, and a request is sent once all the same."""
    upload(cloud, 1)
    states.objects(cloud.text)
    real, dropped = answering(cloud, after=1), ["first", "second"]
    kind = type("Lambda.TooManyRequestsException", (Exception,), {})

    def call(event: dict[str, Any]) -> Any:
        found = real(event)
        if event["step"] == "shard" and dropped:
            raise kind(dropped.pop(0))
        return found

    states.functions(call)
    assert states.run(fan_out(templates), GIVEN)["status"] == "SUCCEEDED"
    assert len(cloud.taken) == 1


def test_a_transform_job_is_what_the_construct_says(
    templates: dict[str, dict[str, Any]], states: States
) -> None:
    """Its parameters pass botocore's check of CreateTransformJob; the name is new in every execution."""
    import botocore.session
    from botocore.validate import ParamValidator

    asked: list[dict[str, Any]] = []

    def create(parameters: dict[str, Any]) -> dict[str, Any]:
        asked.append(parameters)
        return {"TransformJobName": parameters["TransformJobName"], "TransformJobStatus": "Completed"}

    states.integration("sagemaker:createTransformJob", create)
    first = states.run(transform(templates), GIVEN)
    assert (first["status"], first["cause"]) == ("SUCCEEDED", None)
    states.run(transform(templates), GIVEN, name="run-2")
    model = botocore.session.get_session().get_service_model("sagemaker")
    shape = model.operation_model("CreateTransformJob").input_shape
    assert ParamValidator().validate(asked[0], shape).generate_report() == ""
    names = {parameters.pop("TransformJobName") for parameters in asked}
    assert len(names) == 2
    assert max(len(name) for name in names) <= 63
    assert asked[0] == asked[1]
    assert asked[0]["ModelName"] == "the-model"
    assert asked[0]["TransformInput"]["DataSource"]["S3DataSource"] == {
        "S3DataType": "S3Prefix",
        "S3Uri": "s3://files/input/requests.jsonl",
    }
    assert asked[0]["TransformOutput"] == {
        "Accept": "application/json",
        "AssembleWith": "Line",
        "S3OutputPath": "s3://files/output/run",
    }
    assert asked[0]["TransformResources"] == {"InstanceType": "ml.inf2.8xlarge", "InstanceCount": 2}
    assert (asked[0]["BatchStrategy"], asked[0]["TransformInput"]["SplitType"]) == ("SingleRecord", "Line")
    assert (asked[0]["MaxConcurrentTransforms"], asked[0]["MaxPayloadInMB"]) == (8, 6)
    assert first["output"]["transform"]["status"] == "Completed"


def test_a_failed_transform_job_fails_the_execution_with_its_reason(
    templates: dict[str, dict[str, Any]], states: States
) -> None:
    """Error and cause are SageMaker's own."""
    from ministack.services import stepfunctions

    def create(_: dict[str, Any]) -> dict[str, Any]:
        raise stepfunctions._ExecutionError("States.TaskFailed", "ClientError: 400 from the algorithm")

    states.integration("sagemaker:createTransformJob", create)
    found = states.run(transform(templates), GIVEN)
    assert (found["status"], found["error"]) == ("FAILED", "States.TaskFailed")
    assert found["cause"] == "ClientError: 400 from the algorithm"


@pytest.mark.parametrize("given", REFUSED)
@pytest.mark.parametrize("kind", ["transform", "fan-out"])
def test_fails_for_input_of_another_form(
    templates: dict[str, dict[str, Any]], states: States, kind: str, given: dict[str, Any]
) -> None:
    """Before anything costs money, with the form that it must have."""
    found = states.run(definition(only(templates[kind], MACHINE)), given)
    assert (found["status"], found["error"]) == ("FAILED", "InputRefused")
    assert '{"input": "input/...", "output": "output/..."}' in found["cause"]


@pytest.mark.parametrize("kind", ["transform", "fan-out"])
def test_jobs_describe_themselves(templates: dict[str, dict[str, Any]], kind: str) -> None:
    """Tags to find the state machine by, a first state to read what it does."""
    machine = only(templates[kind], MACHINE)
    tags = {item["Key"]: item["Value"] for item in machine["Properties"]["Tags"]}
    assert tags == {jobs.JOB_TAG: kind, jobs.NAME_TAG: "Job", jobs.STACK_TAG: kind}
    described = jobs.read_description(json.dumps(definition(machine)))
    assert (described["kind"], described["instance_type"]) == (kind, "ml.inf2.8xlarge")


@pytest.mark.parametrize("kind", ["transform", "fan-out"])
def test_definitions_are_the_states_language_by_cfn_lint(
    templates: dict[str, dict[str, Any]], kind: str
) -> None:
    """The schema of CloudFormation's own linter, on the definition as an object."""
    from cfnlint.api import lint_all

    machine = {"Type": MACHINE, "Properties": {"RoleArn": "arn:aws:iam::000000000000:role/run"}}
    machine["Properties"]["Definition"] = definition(only(templates[kind], MACHINE))
    found = lint_all(json.dumps({"Resources": {"Machine": machine}}))
    assert [f"{item.rule.id} {item.message} {item.path}" for item in found if item.rule.id != "I4010"] == []
