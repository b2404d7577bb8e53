"""The probes about endpoint configurations, and the reservation that is asked for by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support_fake_aws import AwsError
from support_verify import only, probe
from tokenmill.verification import LINES, Verdict
from tokenmill.verification.line import Deployment
from tokenmill.verification.lines import unnamed

if TYPE_CHECKING:
    from pathlib import Path

    from support_commands import Run
    from support_fake_aws import Resources

LINES_HERE = [line.id for line in LINES if line.deployment is Deployment.CONFIG_REQUESTS]
WORDS = {
    "prefix-routing-components": "prefix-aware routing is not for inference components",
    "zero-managed-instances": "MinInstanceCount must be 1 or more",
    "async-config-fields": "MetricsConfig is not for AsyncInferenceConfig",
}
PLAN = {
    "TrainingPlanArn": "arn:aws:sagemaker:us-east-1:123456789012:training-plan/ours",
    "TrainingPlanName": "ours",
    "Status": "Active",
    "TargetResources": ["endpoint"],
    "ReservedCapacitySummaries": [{"InstanceType": "ml.p5.48xlarge"}],
}


def test_configurations_that_are_taken_hold_and_start_nothing(resources: Resources, tmp_path: Path) -> None:
    result = probe(tmp_path, *LINES_HERE)
    assert {piece.line: piece.verdict for piece in result.evidence} == dict.fromkeys(
        LINES_HERE, Verdict.HOLDS
    )
    assert "CreateEndpoint" not in resources.fake.operations("sagemaker")
    asked = [p for _, operation, p in resources.fake.calls if operation == "CreateEndpointConfig"]
    assert asked[0]["ProductionVariants"][0]["RoutingConfig"]["RoutingStrategy"] == "PREFIX_AWARE"
    assert asked[1]["ProductionVariants"][0]["ManagedInstanceScaling"]["MinInstanceCount"] == 0
    assert {"AsyncInferenceConfig", "MetricsConfig"} <= set(asked[2])
    assert (result.exit_code, resources.left) == (0, set())


@pytest.mark.parametrize("line", LINES_HERE)
@pytest.mark.parametrize("settled", [True, False])
def test_a_refusal_fails_a_line_only_for_what_it_claims(
    resources: Resources, tmp_path: Path, line: str, settled: bool
) -> None:
    def refuse(_: dict[str, Any]) -> dict[str, Any]:
        raise AwsError("ValidationException", WORDS[line] if settled else "the quota is used up")

    resources.fake.answers["sagemaker", "CreateEndpointConfig"] = refuse
    assert only(probe(tmp_path, line)).verdict is (Verdict.FAILS if settled else Verdict.UNCLEAR)
    assert resources.left == set()


def reserving(resources: Resources, used: int, *plans: dict[str, Any]) -> None:
    answers = resources.fake.answers
    answers["sagemaker", "ListTrainingPlans"] = lambda _: {"TrainingPlanSummaries": list(plans)}
    real = answers["sagemaker", "DescribeEndpoint"]
    reserved = {"MlReservationArn": PLAN["TrainingPlanArn"], "UsedByCurrentEndpoint": used}
    answers["sagemaker", "DescribeEndpoint"] = lambda p: {
        **real(p),
        "ProductionVariants": [{"VariantName": "probe", "CapacityReservationConfig": reserved}],
    }


@pytest.mark.parametrize(
    ("used", "plans", "verdict"),
    [
        (1, [PLAN], Verdict.HOLDS),
        (0, [PLAN], Verdict.FAILS),
        (1, [], Verdict.UNCLEAR),
        (1, [{**PLAN, "Status": "Expired"}], Verdict.UNCLEAR),
        (1, [{**PLAN, "TargetResources": ["training-job"]}], Verdict.UNCLEAR),
    ],
)
def test_a_reservation_is_read_from_what_the_endpoint_uses(
    resources: Resources, tmp_path: Path, used: int, plans: list[dict[str, Any]], verdict: Verdict
) -> None:
    reserving(resources, used, *plans)
    assert only(probe(tmp_path, "reserved-components")).verdict is verdict
    assert resources.left == set()


def test_an_endpoint_that_the_reservation_does_not_take_fails(resources: Resources, tmp_path: Path) -> None:
    reserving(resources, 0, PLAN)
    resources.status["reserved"] = "Failed"
    real = resources.fake.answers["sagemaker", "DescribeEndpoint"]
    resources.fake.answers["sagemaker", "DescribeEndpoint"] = lambda p: {
        **real(p),
        "FailureReason": "the reservation is not for components",
    }
    assert only(probe(tmp_path, "reserved-components")).verdict is Verdict.FAILS
    assert resources.left == set()


def test_lines_that_are_asked_for_by_name_are_in_no_run_of_all() -> None:
    left_out = {line.id for line in LINES} - {line.id for line in unnamed(LINES)}
    assert left_out == {"reserved-components", "trn2-thin-image", "trn2-artifact-reuse"}


@pytest.mark.usefixtures("project")
def test_a_price_that_is_not_known_stops_only_who_asks_for_its_line(run: Run) -> None:
    asked = run("verify", "--account", "--yes", "--line", "trn2-thin-image")
    assert "no price is known for ml.trn2.48xlarge" in str(asked.exception)
    everything = run("verify", "--account", "--yes")
    assert "these lines may cost" in str(everything.exception)
