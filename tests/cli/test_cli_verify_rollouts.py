"""The probes about updates of components and of variants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support_fake_aws import AwsError
from support_fake_services import Stacks, Targets
from support_verify import only, probe
from tokenmill.verification import LINES, Verdict
from tokenmill.verification.line import Deployment

if TYPE_CHECKING:
    from pathlib import Path

    from support_fake_aws import Resources

OF_COMPONENTS = [line.id for line in LINES if line.deployment is Deployment.ROLLOUT_ENDPOINT]
OF_VARIANTS = [line.id for line in LINES if line.deployment is Deployment.VARIANT_ENDPOINT]
DIGEST = "registry/image@sha256:" + "a" * 64


class FullInstance:
    """A stack's component on an instance without room; the attributes say how AWS is to behave."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.stacks = Stacks(resources, self._changed)
        self.rolling = ("1", "Not enough hardware resources")
        self.plain = ("3", "")
        self.specification: dict[str, Any] = {}
        self.generation, self.reason = "1", ""
        resources.fake.answers["sagemaker", "DescribeInferenceComponent"] = self._describe

    def _changed(self, _: str, made: dict[str, Any]) -> None:
        properties = made["Component"]["Properties"]
        assert properties["RuntimeConfig"] == {"CopyCount": 2}
        if self.specification:
            rolling = "DeploymentConfig" in properties
            self.generation, self.reason = self.rolling if rolling else self.plain
        self.specification = properties["Specification"]

    def _describe(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if parameters["InferenceComponentName"] not in self.resources.live["Stack"]:
            raise AwsError("ValidationException", "Could not find inference component")
        container = {**self.specification["Container"], "Environment": {"GENERATION": self.generation}}
        return {
            "InferenceComponentStatus": "InService",
            "FailureReason": self.reason,
            "RuntimeConfig": {"DesiredCopyCount": 2, "CurrentCopyCount": 2},
            "Specification": {**self.specification, "Container": container},
        }


@pytest.fixture
def full(resources: Resources) -> FullInstance:
    return FullInstance(resources)


def test_components_that_do_what_is_claimed_make_every_line_hold(full: FullInstance, tmp_path: Path) -> None:
    result = probe(tmp_path, *OF_COMPONENTS)
    assert {piece.line: piece.verdict for piece in result.evidence} == dict.fromkeys(
        OF_COMPONENTS, Verdict.HOLDS
    )
    assert (result.exit_code, full.resources.left) == (0, set())


@pytest.mark.parametrize(
    ("end", "verdict"),
    [(("2", ""), Verdict.FAILS), (("1", "the container did not start"), Verdict.UNCLEAR)],
)
def test_a_rolling_update_that_goes_through_fails(
    full: FullInstance, tmp_path: Path, end: tuple[str, str], verdict: Verdict
) -> None:
    full.rolling = end
    assert only(probe(tmp_path, "rolling-needs-room")).verdict is verdict


def test_a_stack_that_fails_with_its_component_fails_the_claim(full: FullInstance, tmp_path: Path) -> None:
    full.stacks.ends["UPDATE"] = "UPDATE_ROLLBACK_COMPLETE"
    assert only(probe(tmp_path, "stack-hides-component-rollback")).verdict is Verdict.FAILS
    full.specification, full.generation, full.rolling = {}, "1", ("2", "")
    assert only(probe(tmp_path, "stack-hides-component-rollback")).verdict is Verdict.UNCLEAR
    assert full.resources.left == set()


def test_an_update_without_a_policy_that_needs_room_fails(full: FullInstance, tmp_path: Path) -> None:
    full.plain = ("1", "Not enough hardware resources")
    assert only(probe(tmp_path, "plain-update-ends-first")).verdict is Verdict.FAILS


class Variant:
    """A stack's endpoint with a variant; the attributes say how AWS is to behave."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.stacks = Stacks(resources, self._changed)
        self.targets = Targets(resources)
        self.refuses = {
            "canary": "CanarySize is larger than 50 percent",
            "type": "scalable target registered",
        }
        self.count, self.config, self.status, self.reason = 1, "config-1", "InService", ""
        self.retains = self.rolls_back = True
        self.image = DIGEST
        answers = resources.fake.answers
        answers["sagemaker", "DescribeEndpoint"] = self._describe
        answers["sagemaker", "DescribeEndpointConfig"] = lambda _: {
            "ProductionVariants": [{"VariantName": "probe", "ModelName": "m", "InstanceType": "ml.m5.xlarge"}]
        }
        answers["sagemaker", "UpdateEndpoint"] = self._update
        answers["sagemaker", "UpdateEndpointWeightsAndCapacities"] = self._scale
        answers["cloudwatch", "PutMetricAlarm"] = lambda p: resources.create("Alarm", p["AlarmName"]) or {}
        answers["cloudwatch", "DeleteAlarms"] = lambda p: resources.live["Alarm"].clear() or {}
        answers["cloudwatch", "PutMetricData"] = lambda _: {}

    def _changed(self, _: str, made: dict[str, Any]) -> None:
        endpoint = made["Endpoint"]["Properties"]
        assert endpoint["RetainAllVariantProperties"] is True
        config = endpoint["EndpointConfigName"]["Fn::GetAtt"][0]
        if "DeploymentConfig" in endpoint:
            self.status = "Updating"
            self.config, self.reason = (
                (self.config, "an alarm was raised") if self.rolls_back else (config, "")
            )
        else:
            self.config = config
        self.count = self.count if self.retains else 1

    def _describe(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if not self.resources.live["Stack"]:
            raise AwsError("ValidationException", "Could not find endpoint")
        status, self.status = self.status, "InService"
        variant = {
            "VariantName": "probe",
            "DesiredInstanceCount": self.count,
            "CurrentInstanceCount": self.count,
            "DeployedImages": [{"SpecifiedImage": "registry/image:1", "ResolvedImage": self.image}],
        }
        return {
            "EndpointName": parameters["EndpointName"],
            "EndpointConfigName": self.config,
            "EndpointStatus": status,
            "FailureReason": self.reason,
            "ProductionVariants": [variant],
        }

    def _update(self, parameters: dict[str, Any]) -> dict[str, Any]:
        message = self.refuses[parameters["EndpointConfigName"].rpartition("-")[2]]
        if message:
            raise AwsError("ValidationException", message)
        return {"EndpointArn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint/e"}

    def _scale(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.count = parameters["DesiredWeightsAndCapacities"][0]["DesiredInstanceCount"]
        return {"EndpointArn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint/e"}


@pytest.fixture
def variant(resources: Resources) -> Variant:
    return Variant(resources)


def test_variants_that_do_what_is_claimed_make_every_line_hold(variant: Variant, tmp_path: Path) -> None:
    result = probe(tmp_path, *OF_VARIANTS)
    assert {piece.line: piece.verdict for piece in result.evidence} == dict.fromkeys(
        OF_VARIANTS, Verdict.HOLDS
    )
    assert {"Alarm", "Target", "Stack", "EndpointConfig"} <= variant.resources.ever
    assert (result.exit_code, variant.resources.left) == (0, set())


def test_an_image_without_a_digest_fails(variant: Variant, tmp_path: Path) -> None:
    variant.image = "registry/image:1"
    assert only(probe(tmp_path, "variant-image-digest")).verdict is Verdict.FAILS


@pytest.mark.parametrize(
    ("line", "suffix"), [("canary-one-instance", "canary"), ("registered-type-change", "type")]
)
@pytest.mark.parametrize(
    ("message", "verdict"), [("", Verdict.FAILS), ("something else is wrong", Verdict.UNCLEAR)]
)
def test_an_update_that_is_taken_fails(
    variant: Variant, tmp_path: Path, line: str, suffix: str, message: str, verdict: Verdict
) -> None:
    variant.refuses[suffix] = message
    assert only(probe(tmp_path, line)).verdict is verdict
    assert variant.resources.left == set()


def test_instances_that_an_update_sets_back_fail(variant: Variant, tmp_path: Path) -> None:
    variant.retains = False
    evidence = only(probe(tmp_path, "retained-variant-count"))
    assert evidence.verdict is Verdict.FAILS
    assert (evidence.observations["before"], evidence.observations["after"]) == (2, 1)


def test_instances_that_never_came_say_nothing(variant: Variant, tmp_path: Path) -> None:
    variant.resources.fake.answers["sagemaker", "UpdateEndpointWeightsAndCapacities"] = lambda _: {
        "EndpointArn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint/e"
    }
    assert only(probe(tmp_path, "retained-variant-count")).verdict is Verdict.UNCLEAR


def test_an_update_that_an_alarm_does_not_take_back_says_nothing(variant: Variant, tmp_path: Path) -> None:
    variant.rolls_back = False
    result = probe(tmp_path, "alarm-rollback-reason", "stack-hides-endpoint-rollback")
    assert {piece.verdict for piece in result.evidence} == {Verdict.UNCLEAR}


def test_a_rollback_that_the_stack_reports_fails_the_claim(variant: Variant, tmp_path: Path) -> None:
    variant.stacks.ends["UPDATE"] = "UPDATE_ROLLBACK_COMPLETE"
    assert only(probe(tmp_path, "stack-hides-endpoint-rollback")).verdict is Verdict.FAILS


def test_an_endpoint_whose_stack_fails_leaves_nothing(variant: Variant, tmp_path: Path) -> None:
    variant.stacks.ends["CREATE"] = "ROLLBACK_COMPLETE"
    assert only(probe(tmp_path, "variant-image-digest")).verdict is Verdict.UNCLEAR
    assert variant.resources.left == set()
