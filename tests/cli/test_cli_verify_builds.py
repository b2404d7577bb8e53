"""The probes about builds and about stacks that roll back."""

from __future__ import annotations

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

if TYPE_CHECKING:
    from pathlib import Path

    from support_fake_aws import Resources

ALL = [line.id for line in LINES if line.deployment is Deployment.BUILD_REQUESTS]
UPDATE = [("Hold", "UPDATE_COMPLETE"), ("Copies", "UPDATE_COMPLETE"), ("Last", "UPDATE_FAILED")]
BEGIN = ("tokenmill", "UPDATE_ROLLBACK_IN_PROGRESS")
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
        answers = resources.fake.answers
        answers["cloudformation", "DescribeStackResource"] = self._resource
        answers["ssm", "GetParameter"] = lambda p: {
            "Parameter": {"Name": p["Name"], "Value": self.attributes.pop(0)}
        }

    def _changed(self, name: str, _: dict[str, Any]) -> None:
        if self.stack_event and self.stacks.status[name].startswith("UPDATE"):
            self.mail.post({"detail": {"status-details": {"status": self.stacks.status[name]}}})

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


def test_no_two_answers_of_the_hold_are_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the old answer and the new one for the same value could not be told apart."""
    said: list[dict[str, str]] = []
    answering = SimpleNamespace(SUCCESS="SUCCESS", send=lambda *answer: said.append(answer[3]))
    monkeypatch.setitem(sys.modules, "cfnresponse", answering)
    path = tmp_path / "index.py"
    path.write_text(build_lines._FUNCTION, encoding="utf-8")
    handler = runpy.run_path(str(path))["handler"]
    for request in ("a", "b"):
        handler({"ResourceProperties": {"Value": "1"}, "RequestId": request}, None)
    assert said == [{"Copies": "1-a"}, {"Copies": "1-b"}]


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
