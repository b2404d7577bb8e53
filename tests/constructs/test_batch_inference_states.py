"""A batch inference's state machine, run: rounds of jobs, lost events, records one by one, and its schema."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from ministack.services import stepfunctions

from support_batch import Context
from support_batch_inference import PREFIX, FakeBatchInference, running_inference
from support_stack import REGION, make_app, of_type, only, template_of
from support_states import States, definition, flat
from tokenmill.batch import BatchInference, BatchQuota, InferenceJobs
from tokenmill_runtime import batch_inference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MACHINE = "AWS::StepFunctions::StateMachine"
GIVEN = {"input": "input/requests.jsonl", "output": "output/run"}
QUOTA = BatchQuota(minimum_records=3, records_per_job=6, jobs_at_once=2)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A batch inference with small quotas."""
    app = make_app(tmp_path_factory.mktemp("batch"))
    stack = cdk.Stack(app, "batch", env=cdk.Environment(region=REGION))
    jobs = InferenceJobs(quota=QUOTA, tolerated_failure_percent=10)
    BatchInference(stack, "Job", model="amazon.nova-lite-v1:0", jobs=jobs)
    return template_of(stack)


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> States:
    return States(monkeypatch)


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, template: dict[str, Any]) -> Iterator[FakeBatchInference]:
    (function,) = of_type(template, "AWS::Lambda::Function").values()
    environment = function["Properties"]["Environment"]["Variables"]["TOKENMILL_BATCH_INFERENCE"]
    settings = json.loads(flat(environment, {}))
    names = {"bucket": "files", "job_prefix": PREFIX, "role": "arn:aws:iam::000000000000:role/jobs"}
    yield from running_inference(monkeypatch, {**settings, **names}, whole=True)


def machine(template: dict[str, Any]) -> dict[str, Any]:
    return definition(only(template, MACHINE), {next(iter(of_type(template, "AWS::S3::Bucket"))): "files"})


def upload(cloud: FakeBatchInference, count: int) -> None:
    lines = (json.dumps({"messages": [{"role": "user", "content": f"question {n}"}]}) for n in range(count))
    cloud.put("files", GIVEN["input"], "\n".join(lines).encode())


class Bedrock:
    """Ends jobs when somebody waits for them, and hands the function's answers to the waiting tasks."""

    def __init__(self, cloud: FakeBatchInference, end: Callable[[str], dict[str, Any]]) -> None:
        self._cloud, self._end = cloud, end
        self._lock = threading.Lock()
        self._handed = 0
        self.looks = 0

    def call(self, event: dict[str, Any]) -> dict[str, Any]:
        """The function, and what happens in the cloud while nothing of ours runs."""
        found = batch_inference.handler(event, Context())
        if event.get("step") == "await":
            with self._lock:
                self.looks += 1
                waiting = [arn for arn, job in self._cloud.jobs.items() if job["status"] == "Submitted"]
                for arn in waiting:
                    batch_inference.handler(self._end(arn), Context())
                self.hand_over()
        return found

    def hand_over(self) -> None:
        for token, output in self._cloud.answered[self._handed :]:
            task = stepfunctions._task_tokens.get(token)
            if task is not None:
                task["result"] = json.dumps(output)
                task["event"].set()
                self._handed += 1


def run(
    template: dict[str, Any], states: States, cloud: FakeBatchInference, bedrock: Bedrock
) -> dict[str, Any]:
    states.functions(bedrock.call)
    states.objects(cloud.text)
    return states.run(machine(template), GIVEN)


def test_every_line_is_answered(template: dict[str, Any], states: States, cloud: FakeBatchInference) -> None:
    """Two jobs wait for their events at once; the output says how many, and what they cost."""
    upload(cloud, 10)
    found = run(template, states, cloud, Bedrock(cloud, cloud.end))
    assert (found["status"], found["error"], found["cause"]) == ("SUCCEEDED", None, None)
    assert (found["output"]["records"], found["output"]["failed"], found["output"]["jobs"]) == (10, 0, 2)
    assert found["output"]["report"]["tiers"]["batch"]["usd"] == pytest.approx(
        10 * (3 * 0.03 + 2 * 0.12) / 1e6
    )
    assert [item["index"] for item in cloud.lines("files", "output/run/results.jsonl")] == list(range(10))
    assert found["states"][:4] == ["Job", "CheckInput", "Plan", "Route"]
    assert found["states"][-5:] == ["Review", "Route", "Collate", "Tolerated", "Answered"]


def test_failed_records_go_through_another_round(
    template: dict[str, Any], states: States, cloud: FakeBatchInference
) -> None:
    """A second job for five, then one of them by itself, which is too few for a third."""
    upload(cloud, 6)

    def end(arn: str) -> dict[str, Any]:
        first = len(cloud.jobs) == 1
        return cloud.end(arn, errors={0: 500, 1: 429, 2: 500, 4: 503, 5: 500} if first else {4: 500})

    found = run(template, states, cloud, Bedrock(cloud, end))
    assert found["status"] == "SUCCEEDED"
    assert (found["output"]["succeeded"], found["output"]["jobs"]) == (6, 2)
    assert found["states"].count("Parts") == 2
    assert "Ask" in found["states"]
    assert len(cloud.conversed) == 1


def test_a_lost_event_costs_a_wait_and_no_answer(
    template: dict[str, Any], states: States, cloud: FakeBatchInference
) -> None:
    """The task times out, the job is looked at again, and its answers are there."""
    upload(cloud, 6)

    class Deaf(Bedrock):
        def call(self, event: dict[str, Any]) -> dict[str, Any]:
            if event.get("step") == "await" and not self.looks:
                self.looks += 1
                found = batch_inference.handler(event, Context())
                for arn in cloud.jobs:
                    cloud.end(arn)
                return found
            found = batch_inference.handler(event, Context())
            self.hand_over()
            return found

    document = machine(template)
    # A wait of an hour ends at once here, whether an event came or not.
    document["States"]["Parts"]["ItemProcessor"]["States"]["Await"]["TimeoutSeconds"] = 0.05
    states.functions(Deaf(cloud, cloud.end).call)
    states.objects(cloud.text)
    found = states.run(document, GIVEN)
    assert (found["status"], found["output"]["succeeded"]) == ("SUCCEEDED", 6)


def test_a_job_too_many_waits_for_the_others(
    template: dict[str, Any], states: States, cloud: FakeBatchInference
) -> None:
    """The quota of jobs at once is the account's; the part asks again."""
    upload(cloud, 4)
    cloud.refusals = [(400, "ServiceQuotaExceededException")] * 3
    found = run(template, states, cloud, Bedrock(cloud, cloud.end))
    assert (found["status"], found["output"]["succeeded"]) == ("SUCCEEDED", 4)
    assert len(states.waited) == 3
    assert max(states.waited) <= 600


def test_too_few_lines_for_a_job_are_asked_one_by_one(
    template: dict[str, Any], states: States, cloud: FakeBatchInference
) -> None:
    """At the standard price, which the report says; a throttled one after a wait."""
    upload(cloud, 2)
    cloud.converse_refusals = {"question 1": [(429, "ThrottlingException")] * 2}
    found = run(template, states, cloud, Bedrock(cloud, cloud.end))
    assert (found["status"], found["output"]["succeeded"], cloud.jobs) == ("SUCCEEDED", 2, {})
    assert list(found["output"]["report"]["tiers"]) == ["standard"]
    assert states.waited == [30, 30]


def test_a_refused_model_fails_the_run_with_its_reason(
    template: dict[str, Any], states: States, cloud: FakeBatchInference
) -> None:
    """The cause is Bedrock's own words."""
    upload(cloud, 4)
    cloud.refusals = [(400, "ValidationException")]
    found = run(template, states, cloud, Bedrock(cloud, cloud.end))
    assert (found["status"], found["error"]) == ("FAILED", "TooManyFailed")
    assert "Bedrock refused a job: ValidationException: ValidationException of the test" in found["cause"]


def test_a_bad_line_fails_before_a_job_is_paid_for(
    template: dict[str, Any], states: States, cloud: FakeBatchInference
) -> None:
    """The last line is as much checked as the first."""
    good = json.dumps({"messages": [{"role": "user", "content": "hello"}]})
    bad = json.dumps({"messages": [{"role": "user", "content": "hello"}], "tools": []})
    cloud.put("files", GIVEN["input"], f"{good}\n{good}\n{good}\n{bad}\n".encode())
    found = run(template, states, cloud, Bedrock(cloud, cloud.end))
    assert (found["status"], found["error"], cloud.jobs) == ("FAILED", "InputRefused", {})
    assert "line 4 has tools" in found["cause"]


@pytest.mark.parametrize("given", [{}, {"input": "input/a"}, {"input": "input/a", "output": "input/b"}])
def test_an_input_outside_the_folders_is_refused(
    template: dict[str, Any], states: States, given: dict[str, str]
) -> None:
    """Before the function is called."""
    states.functions(lambda event: pytest.fail(f"called with {event}"))
    found = states.run(machine(template), given)
    assert (found["status"], found["error"]) == ("FAILED", "InputRefused")


def test_the_definition_is_the_states_language_by_cfn_lint(template: dict[str, Any]) -> None:
    """Its schema refuses unknown fields and states that lead nowhere."""
    document = machine(template)
    resource = {
        "Type": MACHINE,
        "Properties": {"RoleArn": "arn:aws:iam::123456789012:role/r", "Definition": document},
    }
    assert _complaints(resource) == []
    document["States"]["Parts"]["ItemProcessor"]["States"]["Await"].pop("Resource")
    assert _complaints(resource) != []


def _complaints(resource: dict[str, Any]) -> list[str]:
    from cfnlint.api import lint_all

    found = lint_all(json.dumps({"Resources": {"Machine": resource}}))
    return [f"{item.rule.id} {item.message} {item.path}" for item in found if item.rule.id != "I4010"]
