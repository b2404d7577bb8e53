"""The function that starts builds and answers CloudFormation, against CodeBuild's API over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from support_builds import PROJECT, STACK, Answers, FakeBuilds
from support_fake_aws import AwsError, FakeAws
from tokenmill_runtime import aws as aws_clients
from tokenmill_runtime import build_run

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTENT = {"Project": PROJECT, "Job": "abc", "Environment": {}, "Outputs": ["DIGEST"], "Properties": {}}


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAws]:
    fake = FakeAws()
    for name, value in {
        "AWS_ENDPOINT_URL": fake.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(build_run, "LOG_WAIT_SECONDS", 0)
    clients = (aws_clients.codebuild, aws_clients.logs)
    for client in clients:
        client.cache_clear()
    yield fake
    for client in clients:
        if client.cache_info().currsize:
            client().close()
        client.cache_clear()
    fake.close()


@pytest.fixture
def builds(service: FakeAws) -> FakeBuilds:
    return FakeBuilds(service)


@pytest.fixture
def answers() -> Iterator[Answers]:
    made = Answers()
    yield made
    made.close()


def request(answers: Answers, kind: str, number: str = "r1", **changes: Any) -> dict[str, Any]:
    """A request of CloudFormation; its answer goes to /number."""
    event = {
        "RequestType": kind,
        "RequestId": number,
        "StackId": STACK,
        "LogicalResourceId": "BuildRun",
        "ResourceType": build_run.RESOURCE_TYPE,
        "ResponseURL": f"{answers.url}/{number}",
        "ResourceProperties": {
            "ServiceToken": "arn:f",
            "ServiceTimeout": "3540",
            **CONTENT,
            **changes,
        },
    }
    if kind != "Create":
        event["PhysicalResourceId"] = "first"
    return event


def test_a_build_starts_and_its_end_answers(builds: FakeBuilds, answers: Answers) -> None:
    """Nothing is said until the build is over; its exported variables are the resource's attributes."""
    build_run.handler(request(answers, "Create"), None)
    assert answers.taken == []
    (build,) = builds.running
    build_run.handler(builds.end(build, DIGEST="sha256:aa"), None)
    ((path, answer),) = answers.taken
    assert (path, answer["Status"], answer["Data"]) == ("/r1", "SUCCESS", {"DIGEST": "sha256:aa"})
    assert (answer["RequestId"], answer["LogicalResourceId"]) == ("r1", "BuildRun")


def test_a_repeated_request_starts_nothing(builds: FakeBuilds, answers: Answers, service: FakeAws) -> None:
    """Lambda delivers at least once, and StartBuild's token is good for five minutes only."""
    build_run.handler(request(answers, "Create"), None)
    build_run.handler(request(answers, "Create"), None)
    assert service.operations("codebuild").count("StartBuild") == 1
    build_run.handler(builds.end(*builds.running, DIGEST="d"), None)
    build_run.handler(request(answers, "Create"), None)
    assert service.operations("codebuild").count("StartBuild") == 1
    assert [(path, answer["Status"]) for path, answer in answers.taken] == [("/r1", "SUCCESS")] * 2
    assert len({answer["PhysicalResourceId"] for _, answer in answers.taken}) == 1


def test_repeated_news_answers_alike(builds: FakeBuilds, answers: Answers) -> None:
    """EventBridge delivers at least once; the second answer says what the first said."""
    build_run.handler(request(answers, "Create"), None)
    event = builds.end(*builds.running, DIGEST="d")
    build_run.handler(event, None)
    build_run.handler(event, None)
    assert answers.taken[0] == answers.taken[1]


def test_an_update_without_new_content_builds_nothing(builds: FakeBuilds, answers: Answers) -> None:
    """The attributes come back as they were, because CloudFormation forgets those that are left out."""
    build_run.handler(request(answers, "Create"), None)
    build_run.handler(builds.end(*builds.running, DIGEST="d"), None)
    build_run.handler(request(answers, "Update", "r2", ServiceTimeout="1000"), None)
    assert builds.running == []
    path, answer = answers.taken[-1]
    assert (path, answer["Data"], answer["PhysicalResourceId"]) == ("/r2", {"DIGEST": "d"}, "first")


def test_a_rollback_takes_the_outputs_of_the_old_content(builds: FakeBuilds, answers: Answers) -> None:
    """A failed update is followed by an update back, which must not build again."""
    build_run.handler(request(answers, "Create"), None)
    build_run.handler(builds.end(*builds.running, DIGEST="old"), None)
    build_run.handler(request(answers, "Update", "r2", Job="new"), None)
    build_run.handler(builds.end(*builds.running, "FAILED"), None)
    assert answers.taken[-1][1]["Status"] == "FAILED"
    build_run.handler(request(answers, "Update", "r3"), None)
    assert builds.running == []
    assert answers.taken[-1][1]["Data"] == {"DIGEST": "old"}


def test_a_rollback_in_the_middle_stops_the_new_build(builds: FakeBuilds, answers: Answers) -> None:
    """The stopped build's news goes to the request that is over, not to the one that is waited for."""
    build_run.handler(request(answers, "Create"), None)
    build_run.handler(builds.end(*builds.running, DIGEST="old"), None)
    build_run.handler(request(answers, "Update", "r2", Job="new"), None)
    (new,) = builds.running
    build_run.handler(request(answers, "Update", "r3", Job="newer"), None)
    (newest,) = builds.running
    assert builds.builds[new]["buildStatus"] == "STOPPED"
    build_run.handler(builds.event(new, "STOPPED"), None)
    assert answers.taken[-1][0] == "/r2"
    build_run.handler(builds.end(newest, DIGEST="n"), None)
    assert (answers.taken[-1][0], answers.taken[-1][1]["Status"]) == ("/r3", "SUCCESS")


def test_a_delete_stops_the_build_and_succeeds(builds: FakeBuilds, answers: Answers) -> None:
    """A stack that goes must not pay for a build that nobody waits for."""
    build_run.handler(request(answers, "Create"), None)
    build_run.handler(request(answers, "Delete", "r2"), None)
    assert builds.running == []
    assert [(path, answer["Status"]) for path, answer in answers.taken] == [("/r2", "SUCCESS")]


def test_a_delete_succeeds_where_the_project_is_gone(builds: FakeBuilds, answers: Answers) -> None:
    """A project that somebody deleted by hand must not hold the stack."""
    builds.projects.clear()
    build_run.handler(request(answers, "Delete"), None)
    assert answers.taken[-1][1]["Status"] == "SUCCESS"


def test_other_resources_builds_are_left_alone(builds: FakeBuilds, answers: Answers) -> None:
    """Only builds of this stack's resource are stopped."""
    event = request(answers, "Create", "other")
    event["StackId"] = f"{STACK}-other"
    build_run.handler(event, None)
    build_run.handler(request(answers, "Delete", "r2"), None)
    assert len(builds.running) == 1


@pytest.mark.parametrize(
    ("status", "phases", "log", "reason"),
    [
        ("STOPPED", [], [], "was stopped"),
        ("TIMED_OUT", [], [], "longer than its 50 minutes"),
        ("FAULT", [], [], "ended FAULT"),
        (
            "FAILED",
            [
                {
                    "phaseType": "BUILD",
                    "phaseStatus": "FAILED",
                    "contexts": [{"statusCode": "COMMAND_EXECUTION_ERROR", "message": "exit status 1"}],
                }
            ],
            ["compiling"],
            "ended FAILED: BUILD exit status 1",
        ),
        (
            "FAILED",
            [],
            ["x", "TOKENMILL_FAILED: the licence is other", "bye"],
            "the licence is other",
        ),
        (
            "TIMED_OUT",
            [],
            ["TOKENMILL_FAILED: copied 3 of 9 GB; deploy again"],
            "copied 3 of 9 GB; deploy again",
        ),
    ],
)
def test_fails_with_the_build_s_reason(
    builds: FakeBuilds, answers: Answers, status: str, phases: Any, log: Any, reason: str
) -> None:
    """Stopped, timed out and failed builds fail the deployment in plain words, never silently."""
    build_run.handler(request(answers, "Create"), None)
    (build,) = builds.running
    builds.builds[build]["phases"] = phases
    builds.log = log
    build_run.handler(builds.end(build, status), None)
    answer = answers.taken[-1][1]
    assert answer["Status"] == "FAILED"
    assert reason in answer["Reason"]


def test_fails_where_an_output_is_missing(builds: FakeBuilds, answers: Answers) -> None:
    """A template that reads DIGEST would otherwise fail with CloudFormation's words, far from the cause."""
    build_run.handler(request(answers, "Create"), None)
    build_run.handler(builds.end(*builds.running), None)
    assert "did not export DIGEST" in answers.taken[-1][1]["Reason"]


def test_fails_where_outputs_are_longer_than_an_answer(builds: FakeBuilds, answers: Answers) -> None:
    """CloudFormation takes 4,096 bytes; a longer answer is a failure that is told."""
    build_run.handler(request(answers, "Create"), None)
    build_run.handler(builds.end(*builds.running, DIGEST="x" * 5000), None)
    assert "4096" in answers.taken[-1][1]["Reason"]


def test_fails_at_once_where_codebuild_starts_nothing(
    builds: FakeBuilds, answers: Answers, service: FakeAws
) -> None:
    """An account's limit of builds is CloudFormation's reason, not a time-out an hour later."""

    def refuse(_: dict[str, Any]) -> dict[str, Any]:
        raise AwsError("AccountLimitExceededException", "Cannot have more than 0 builds in queue")

    service.answers["codebuild", "StartBuild"] = refuse
    build_run.handler(request(answers, "Create"), None)
    answer = answers.taken[-1][1]
    assert answer["Status"] == "FAILED"
    assert "more than 0 builds" in answer["Reason"]


def test_an_unreadable_log_does_not_keep_cloudformation_waiting(
    builds: FakeBuilds, answers: Answers, service: FakeAws
) -> None:
    """The phases still say what failed."""

    def refuse(_: dict[str, Any]) -> dict[str, Any]:
        raise AwsError("ResourceNotFoundException", "no such stream")

    service.answers["logs", "GetLogEvents"] = refuse
    build_run.handler(request(answers, "Create"), None)
    build_run.handler(builds.end(*builds.running, "FAILED"), None)
    assert answers.taken[-1][1]["Status"] == "FAILED"


def test_news_that_come_too_early_are_run_again(builds: FakeBuilds, answers: Answers) -> None:
    """An exception makes Lambda repeat the event; swallowing it would leave the stack waiting."""
    build_run.handler(request(answers, "Create"), None)
    (build,) = builds.running
    with pytest.raises(RuntimeError, match="calls it running"):
        build_run.handler(builds.event(build, "SUCCEEDED"), None)
    assert answers.taken == []


def test_a_build_started_by_hand_is_nobody_s(builds: FakeBuilds, answers: Answers) -> None:
    """Somebody presses "Start build" in the console."""
    build_run.codebuild().start_build(
        projectName=PROJECT, idempotencyToken="hand", environmentVariablesOverride=[]
    )
    build_run.handler(builds.end(*builds.running), None)
    assert answers.taken == []


def test_an_answer_is_put_again_where_s3_is_busy(
    builds: FakeBuilds, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One 503 of S3 must not cost an hour."""
    monkeypatch.setattr("tokenmill_runtime.custom_resource.time.sleep", lambda _: None)
    answers.refuse = 2
    build_run.handler(request(answers, "Create"), None)
    build_run.handler(builds.end(*builds.running, DIGEST="d"), None)
    assert len(answers.taken) == 1


def test_every_call_names_the_project_or_a_build(
    builds: FakeBuilds, answers: Answers, service: FakeAws
) -> None:
    """The function may do nothing else, so nothing else is called."""
    build_run.handler(request(answers, "Create"), None)
    build_run.handler(builds.end(*builds.running, DIGEST="d"), None)
    build_run.handler(request(answers, "Delete", "r2"), None)
    assert set(service.operations("codebuild")) <= {
        "StartBuild",
        "StopBuild",
        "ListBuildsForProject",
        "BatchGetBuilds",
    }


def test_the_module_imports_fast_and_without_boto3() -> None:
    """A cold start pays for boto3 only when a call is made."""
    code = "import sys, json; import tokenmill_runtime.build_run; print(json.dumps('boto3' in sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) is False
