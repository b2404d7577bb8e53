"""The probes about components that go to no copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support_fake_aws import AwsError
from support_fake_services import Targets
from support_verify import only, probe
from tokenmill.verification import LINES, Verdict, zero_lines
from tokenmill.verification.line import Deployment

if TYPE_CHECKING:
    from pathlib import Path

    from support_fake_aws import Resources

ALL = [line.id for line in LINES if line.deployment is Deployment.ZERO_ENDPOINT]


class Idle:
    """A component with copies; the attributes say how AWS is to behave."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.targets = Targets(resources)
        self.copies = 1
        self.scales_in = self.schedules = self.refuses = True
        self.periods = {"GreaterThanThreshold": 3, "LessThanThreshold": 15}
        self.failures = 1.0
        self.activities: list[dict[str, Any]] = []
        self.refused_update: AwsError | None = None
        self.wakes = self.keeps = False
        self.specification: dict[str, Any] = {}
        answers = resources.fake.answers
        real = answers["sagemaker", "DescribeInferenceComponent"]
        answers["sagemaker", "DescribeInferenceComponent"] = lambda p: {
            **real(p),
            "Specification": self.specification,
            "RuntimeConfig": {"DesiredCopyCount": self.copies, "CurrentCopyCount": self.copies},
            "FailureReason": "",
        }
        answers["sagemaker", "UpdateInferenceComponent"] = self._update
        create = answers["sagemaker", "CreateInferenceComponent"]
        answers["sagemaker", "CreateInferenceComponent"] = lambda p: self._specify(p) or create(p)
        answers["sagemaker", "UpdateInferenceComponentRuntimeConfig"] = self._scale
        answers["sagemaker-runtime", "InvokeEndpoint"] = self._invoke
        answers["application-autoscaling", "PutScalingPolicy"] = lambda _: {
            "PolicyARN": "arn",
            "Alarms": [{"AlarmName": name, "AlarmARN": "arn"} for name in self.periods],
        }
        answers["application-autoscaling", "PutScheduledAction"] = self._schedule
        answers["application-autoscaling", "DescribeScalingActivities"] = lambda _: {
            "ScalingActivities": self.activities
        }
        answers["cloudwatch", "DescribeAlarms"] = lambda _: {
            "MetricAlarms": [
                {"AlarmName": name, "ComparisonOperator": name, "EvaluationPeriods": number}
                for name, number in self.periods.items()
            ]
        }
        answers["cloudwatch", "PutMetricData"] = self._measured
        answers["cloudwatch", "GetMetricStatistics"] = lambda _: {"Datapoints": [{"Sum": self.failures}]}

    def _specify(self, parameters: dict[str, Any]) -> None:
        self.specification = parameters["Specification"]

    def _update(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if self.refused_update is not None:
            raise self.refused_update
        assert (self.copies, parameters["RuntimeConfig"]) == (0, {"CopyCount": 0})
        if not self.keeps:
            self._specify(parameters)
        self.copies = int(self.wakes)
        return {"InferenceComponentArn": "arn:aws:sagemaker:us-east-1:123456789012:inference-component/c"}

    def _scale(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.copies = parameters["DesiredRuntimeConfig"]["CopyCount"]
        return {"InferenceComponentArn": "arn:aws:sagemaker:us-east-1:123456789012:inference-component/c"}

    def _invoke(self, _: dict[str, Any]) -> dict[str, Any]:
        if self.refuses and self.copies == 0:
            raise AwsError("ValidationError", "the component has no capacity to process your request")
        return {"Body": {"choices": [{"index": 0}]}}

    def _schedule(self, parameters: dict[str, Any]) -> dict[str, Any]:
        assert parameters["ScalableTargetAction"] == {"MinCapacity": 0, "MaxCapacity": 0}
        assert parameters["Schedule"].startswith("at(20")
        self.copies = 0 if self.schedules else self.copies
        return {}

    def _measured(self, _: dict[str, Any]) -> dict[str, Any]:
        self.copies = 0 if self.scales_in else self.copies
        return {}


@pytest.fixture
def idle(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> Idle:
    for name in ("_TRACKING_SECONDS", "_SCHEDULED_SECONDS"):
        monkeypatch.setattr(zero_lines, name, 0.05)
    return Idle(resources)


def test_an_aws_that_does_what_is_claimed_makes_every_line_hold(idle: Idle, tmp_path: Path) -> None:
    result = probe(tmp_path, *ALL)
    assert {piece.line: piece.verdict for piece in result.evidence} == dict.fromkeys(ALL, Verdict.HOLDS)
    assert {"Target", "InferenceComponent", "Endpoint"} <= idle.resources.ever
    assert (result.exit_code, idle.resources.left) == (0, set())
    config = next(p for _, operation, p in idle.resources.fake.calls if operation == "CreateEndpointConfig")
    assert config["ProductionVariants"][0]["ManagedInstanceScaling"]["MinInstanceCount"] == 0


def test_alarms_of_other_periods_fail(idle: Idle, tmp_path: Path) -> None:
    idle.periods["LessThanThreshold"] = 10
    evidence = only(probe(tmp_path, "tracking-alarm-periods"))
    assert evidence.verdict is Verdict.FAILS
    assert evidence.observations["periods"]["LessThanThreshold"] == (10, 10)


def test_a_policy_without_alarms_says_nothing(idle: Idle, tmp_path: Path) -> None:
    idle.periods = {}
    assert only(probe(tmp_path, "tracking-alarm-periods")).verdict is Verdict.UNCLEAR


def test_a_component_that_keeps_its_copy_fails(idle: Idle, tmp_path: Path) -> None:
    idle.scales_in = False
    evidence = only(probe(tmp_path, "tracking-scale-in-zero"))
    assert (evidence.verdict, evidence.observations["copies"]) == (Verdict.FAILS, 1)


@pytest.mark.parametrize(
    ("description", "verdict"),
    [("Setting max capacity to 0", Verdict.FAILS), ("Setting min capacity to 0", Verdict.UNCLEAR)],
)
def test_a_schedule_that_leaves_the_copy_fails_where_it_ran(
    idle: Idle, tmp_path: Path, description: str, verdict: Verdict
) -> None:
    idle.schedules = False
    idle.activities = [
        {
            "ActivityId": "a",
            "ServiceNamespace": "sagemaker",
            "ResourceId": "r",
            "ScalableDimension": "d",
            "Description": description,
            "Cause": "c",
            "StartTime": 1,
            "StatusCode": "Successful",
        }
    ]
    assert only(probe(tmp_path, "scheduled-zero")).verdict is verdict


def test_a_failed_request_that_is_not_counted_fails(idle: Idle, tmp_path: Path) -> None:
    idle.failures = 0.0
    assert only(probe(tmp_path, "no-capacity-metric")).verdict is Verdict.FAILS


def test_a_request_that_is_answered_says_nothing_and_a_schedule_is_not_needed(
    idle: Idle, tmp_path: Path
) -> None:
    idle.refuses = idle.schedules = False
    assert only(probe(tmp_path, "no-capacity-metric")).verdict is Verdict.UNCLEAR
    idle.refuses, idle.copies = True, 1
    assert only(probe(tmp_path, "no-capacity-metric")).verdict is Verdict.HOLDS
    assert idle.resources.left == set()


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, Verdict.HOLDS),
        ({"wakes": True}, Verdict.FAILS),
        ({"keeps": True}, Verdict.FAILS),
        ({"refused_update": AwsError("ValidationException", "copy count has to be 1")}, Verdict.FAILS),
        ({"refused_update": AwsError("ResourceLimitExceeded", "not now")}, Verdict.UNCLEAR),
    ],
)
def test_a_component_without_copies_is_changed_and_stays_so(
    idle: Idle, tmp_path: Path, change: dict[str, Any], verdict: Verdict
) -> None:
    for name, value in change.items():
        setattr(idle, name, value)
    evidence = only(probe(tmp_path, "update-without-copies"))
    assert evidence.verdict is verdict, evidence.observations
    assert idle.resources.left == set()
