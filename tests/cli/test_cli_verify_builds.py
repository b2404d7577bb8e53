"""The probes about builds and about stacks that roll back."""

from __future__ import annotations

import datetime
import json
import runpy
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from support_fake_services import Builds, Mail, Stacks
from support_verify import only, probe
from tokenmill.verification import LINES, Verdict, build_lines
from tokenmill.verification.build_lines import EXPORTED, MARK
from tokenmill.verification.line import Deployment
from tokenmill_runtime.custom_resource import parse

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support_fake_aws import Resources

ALL = [line.id for line in LINES if line.deployment is Deployment.BUILD_REQUESTS]
UPDATE = [("Hold", "UPDATE_COMPLETE"), ("Copies", "UPDATE_COMPLETE"), ("Last", "UPDATE_FAILED")]
BEGIN = ("tokenmill", "UPDATE_ROLLBACK_IN_PROGRESS")
# When an address was signed, and when the function had it.
SOON, LATER = "20260101T120000Z 20260101T120002Z", "20260101T120012Z 20260101T120013Z"
BACK = [("Hold", "UPDATE_COMPLETE"), ("Copies", "UPDATE_COMPLETE")]


class Deployments:
    """Builds, stacks and the events about them; the attributes say how AWS is to behave."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.mail = Mail(resources)
        self.builds = Builds(resources)
        self.builds.end = self._end
        self.stacks = Stacks(resources, self._changed)
        self.stacks.ends["UPDATE"] = "UPDATE_ROLLBACK_COMPLETE"
        self.stacks.events = [*UPDATE, BEGIN, *BACK]
        self.build_status, self.timed_status = "SUCCEEDED", "TIMED_OUT"
        self.overrides_kept = self.exports_kept = True
        self.build_event = self.stack_event = True
        # What reads the hold has after the creation and after the rollback.
        self.attributes = ["1-first", "1-second"]
        # What the hold and the release told of their calls.
        self.times = {"Hold": SOON, "Release": LATER}
        answers = resources.fake.answers
        described = answers["cloudformation", "DescribeStacks"]
        answers["cloudformation", "DescribeStacks"] = lambda p: self._with_times(described(p))
        answers["cloudformation", "DescribeStackResource"] = self._resource
        answers["ssm", "GetParameter"] = lambda p: {
            "Parameter": {"Name": p["Name"], "Value": self.attributes.pop(0)}
        }

    def _changed(self, name: str, _: dict[str, Any]) -> None:
        if self.stack_event and self.stacks.status[name].startswith("UPDATE"):
            self.mail.post({"detail": {"status-details": {"status": self.stacks.status[name]}}})

    def _with_times(self, described: dict[str, Any]) -> dict[str, Any]:
        outputs = [{"OutputKey": key, "OutputValue": value} for key, value in self.times.items()]
        return {"Stacks": [{**stack, "Outputs": outputs} for stack in described["Stacks"]]}

    @staticmethod
    def _resource(parameters: dict[str, Any]) -> dict[str, Any]:
        common = {"LastUpdatedTimestamp": "2026-01-01T00:00:00Z", "ResourceType": "AWS::SSM::Parameter"}
        id_ = parameters["LogicalResourceId"]
        named = {"LogicalResourceId": id_, "PhysicalResourceId": f"physical-{id_}"}
        return {"StackResourceDetail": {**common, **named, "ResourceStatus": "CREATE_COMPLETE"}}

    def _end(self, asked: dict[str, Any]) -> dict[str, Any]:
        given = {item["name"]: item["value"] for item in asked["environmentVariablesOverride"]}
        if given["PAUSE"] != "1":
            if self.build_event:
                detail = {"build-id": f"arn:build/{asked['projectName']}:1", "build-status": "TIMED_OUT"}
                self.mail.post({"detail": detail})
            return {"buildStatus": self.timed_status}
        exported = [{"name": EXPORTED, "value": given[MARK]}] if self.exports_kept else []
        kept = asked["environmentVariablesOverride"] if self.overrides_kept else []
        return {
            "buildStatus": self.build_status,
            "environment": {"environmentVariables": kept, "type": "LINUX_CONTAINER", "image": "i"},
            "exportedEnvironmentVariables": exported,
        }


@pytest.fixture
def deployments(resources: Resources) -> Deployments:
    return Deployments(resources)


def test_an_aws_that_does_what_is_claimed_makes_every_line_hold(
    deployments: Deployments, tmp_path: Path
) -> None:
    result = probe(tmp_path, *ALL)
    assert {piece.line: piece.verdict for piece in result.evidence} == dict.fromkeys(ALL, Verdict.HOLDS)
    assert {"Stack", "Project", "Queue", "Rule", "Role"} <= deployments.resources.ever
    assert (result.exit_code, deployments.resources.left) == (0, set())
    longest = max(
        len(item["value"]) for item in deployments.builds.started[1]["environmentVariablesOverride"]
    )
    assert longest > 2000


@pytest.mark.parametrize("lost", ["overrides_kept", "exports_kept"])
def test_variables_that_do_not_come_back_fail(deployments: Deployments, tmp_path: Path, lost: str) -> None:
    setattr(deployments, lost, False)
    assert only(probe(tmp_path, "build-variables")).verdict is Verdict.FAILS


def test_a_build_that_fails_says_nothing_of_its_variables(deployments: Deployments, tmp_path: Path) -> None:
    deployments.build_status = "FAILED"
    assert only(probe(tmp_path, "build-variables")).verdict is Verdict.UNCLEAR


@pytest.mark.parametrize(
    ("event", "status", "verdict"),
    [(False, "TIMED_OUT", Verdict.FAILS), (True, "SUCCEEDED", Verdict.UNCLEAR)],
)
def test_a_timed_out_build_without_an_event_fails(
    deployments: Deployments, tmp_path: Path, event: bool, status: str, verdict: Verdict
) -> None:
    deployments.build_event, deployments.timed_status = event, status
    assert only(probe(tmp_path, "build-timeout-event")).verdict is verdict
    assert deployments.resources.left == set()


def test_a_rollback_without_an_event_fails(deployments: Deployments, tmp_path: Path) -> None:
    deployments.stack_event = False
    assert only(probe(tmp_path, "stack-rollback-event")).verdict is Verdict.FAILS


@pytest.mark.parametrize(
    ("back", "verdict"),
    [
        (BACK, Verdict.HOLDS),
        (BACK[::-1], Verdict.FAILS),
        (BACK[1:], Verdict.FAILS),
        ([], Verdict.UNCLEAR),
    ],
)
def test_the_order_of_a_rollback_is_read_from_its_own_events(
    deployments: Deployments, tmp_path: Path, back: list[tuple[str, str]], verdict: Verdict
) -> None:
    deployments.stacks.events = [*UPDATE, BEGIN, *back]
    assert only(probe(tmp_path, "rollback-holds-again")).verdict is verdict


@pytest.mark.parametrize(
    ("last", "verdict"),
    [
        ("1-second", Verdict.HOLDS),
        ("1-first", Verdict.FAILS),
        ("2-other", Verdict.UNCLEAR),
    ],
)
def test_an_answer_to_the_rollback_is_told_from_the_one_before(
    deployments: Deployments, tmp_path: Path, last: str, verdict: Verdict
) -> None:
    deployments.attributes = ["1-first", last]
    evidence = only(probe(tmp_path, "rollback-attribute"))
    assert (evidence.verdict, evidence.observations["after_rollback"]) == (verdict, last)
    assert deployments.resources.left == set()


@pytest.fixture
def answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], dict[str, str]]:
    """What the stack's function answers to a request with an address."""
    said: list[dict[str, str]] = []
    answering = SimpleNamespace(SUCCESS="SUCCESS", send=lambda *answer: said.append(answer[3]))
    monkeypatch.setitem(sys.modules, "cfnresponse", answering)
    path = tmp_path / "index.py"
    path.write_text(build_lines._FUNCTION, encoding="utf-8")
    handler = runpy.run_path(str(path))["handler"]

    def answer(request: str, url: str) -> dict[str, str]:
        event = {"ResourceProperties": {"Value": "1"}, "RequestId": request, "ResponseURL": url}
        handler(event, None)
        return said[-1]

    return answer


def test_no_two_answers_of_the_hold_are_alike(answered: Callable[[str, str], dict[str, str]]) -> None:
    """Otherwise the old answer and the new one for the same value could not be told apart."""
    assert [answered(request, "https://a.example/")["Copies"] for request in "ab"] == ["1-a", "1-b"]


def test_what_the_calls_told_is_read_from_the_stack_s_outputs(
    deployments: Deployments, tmp_path: Path
) -> None:
    probe(tmp_path, "response-url-date")
    (made,) = [p for _, operation, p in deployments.resources.fake.calls if operation == "CreateStack"]
    assert json.loads(made["TemplateBody"])["Outputs"] == {
        key: {"Value": {"Fn::GetAtt": [key, "Times"]}} for key in deployments.times
    }


def test_of_the_address_the_function_tells_its_date_alone(
    answered: Callable[[str, str], dict[str, str]],
) -> None:
    """Who has the whole address may answer for the resource; the date is read as the runtime reads it."""
    signed = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    date = f"{signed:%Y%m%dT%H%M%SZ}"
    url = f"https://a.example/key?X-Amz-Algorithm=A&X-Amz-Date={date}&X-Amz-Expires=7200&X-Amz-Signature=5ec"
    told = answered("a", url)
    assert [told["Times"].partition(" ")[0], *told] == [date, "Copies", "Times"]
    whose = {"ResponseURL": url, "StackId": "s", "RequestId": "r", "LogicalResourceId": "l"}
    request = parse({**whose, "RequestType": "Create", "ResourceType": "Custom::T", "ResourceProperties": {}})
    assert request.sent == signed.timestamp()
    old = "https://a.example/key?AWSAccessKeyId=A&Expires=1767268800&Signature=5ec"
    assert answered("a", old)["Times"].startswith("absent ")


@pytest.mark.parametrize(
    ("times", "verdict"),
    [
        ({"Hold": SOON, "Release": LATER}, Verdict.HOLDS),
        ({"Hold": f"absent {SOON.split()[1]}", "Release": LATER}, Verdict.FAILS),
        # Both signed when the operation began, before the hold had answered.
        ({"Hold": SOON, "Release": f"{SOON.split()[0]} {LATER.split()[1]}"}, Verdict.FAILS),
        # The end of its validity in place of its beginning.
        ({"Hold": "20260101T140000Z 20260101T120002Z", "Release": LATER}, Verdict.FAILS),
        # Perhaps signed early, perhaps delivered late.
        ({"Hold": SOON, "Release": "20260101T120012Z 20260101T120513Z"}, Verdict.UNCLEAR),
        ({}, Verdict.UNCLEAR),
    ],
)
def test_a_date_of_the_sending_is_told_from_others(
    deployments: Deployments, tmp_path: Path, times: dict[str, str], verdict: Verdict
) -> None:
    deployments.times = times
    assert only(probe(tmp_path, "response-url-date")).verdict is verdict
    assert deployments.resources.left == set()


def test_an_update_that_does_not_roll_back_says_nothing(deployments: Deployments, tmp_path: Path) -> None:
    deployments.stacks.ends["UPDATE"] = "UPDATE_COMPLETE"
    result = probe(tmp_path, "stack-rollback-event", "rollback-holds-again")
    assert {piece.verdict for piece in result.evidence} == {Verdict.UNCLEAR}


def test_a_stack_that_cannot_be_made_leaves_nothing(deployments: Deployments, tmp_path: Path) -> None:
    deployments.stacks.ends["CREATE"] = "ROLLBACK_COMPLETE"
    evidence = only(probe(tmp_path, "stack-rollback-event"))
    assert evidence.verdict is Verdict.UNCLEAR
    assert "is ROLLBACK_COMPLETE" in evidence.observations["error"]
    assert deployments.resources.left == set()
