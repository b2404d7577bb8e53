"""The probes on accelerated instances: memory, bodies, environments, a plan against its measurements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support_fake_aws import AwsError
from support_verify import answering, created, described, only, probe
from tokenmill.core.instances import instance_type
from tokenmill.core.plan import Plan
from tokenmill.verification import Verdict, planned_load
from tokenmill.verification.line import Deployment
from tokenmill.verification.lines import FOOTPRINTS

if TYPE_CHECKING:
    from support_fake_aws import Resources

ROOT = Path(__file__).parents[2]
PRICED = FOOTPRINTS[Deployment.PLANNED_ENDPOINT].instance
EMPTY = {"SM_ON_ALLOW_NON_CACHED_MODEL": ""}


def memory_of(parameters: dict[str, Any]) -> int:
    return int(parameters["Specification"]["ComputeResourceRequirements"]["MinMemoryRequiredInMb"])


def test_the_whole_share_of_the_host_is_asked_for_first(resources: Resources, tmp_path: Path) -> None:
    assert only(probe(tmp_path, "host-memory-share")).verdict is Verdict.HOLDS
    (asked,) = created(resources)
    assert memory_of(asked) == instance_type("ml.inf2.xlarge").host_room_mib


@pytest.mark.parametrize(
    ("reason", "verdict", "tries"),
    [
        ("Not enough memory on the instance", Verdict.FAILS, 2),
        ("The container did not pass the health check", Verdict.UNCLEAR, 1),
    ],
)
def test_a_share_without_room_fails_and_the_other_lines_go_on_with_less(
    resources: Resources, tmp_path: Path, reason: str, verdict: Verdict, tries: int
) -> None:
    real = resources.fake.answers["sagemaker", "DescribeInferenceComponent"]
    resources.status["device"] = "Failed"
    resources.fake.answers["sagemaker", "DescribeInferenceComponent"] = lambda p: {
        **real(p),
        "FailureReason": reason,
    }
    share, driver = sorted(
        probe(tmp_path, "host-memory-share", "neuron-image-driver").evidence, key=lambda piece: piece.line
    )
    assert share.verdict is verdict
    assert driver.verdict is (Verdict.HOLDS if tries == 2 else Verdict.FAILS)
    asked = [memory_of(parameters) for parameters in created(resources)]
    assert len(asked) == tries
    assert asked == sorted(asked, reverse=True)
    assert resources.left == set()


@pytest.mark.parametrize(
    ("code", "verdict"), [("ModelError", Verdict.FAILS), ("AccessDeniedException", Verdict.UNCLEAR)]
)
def test_a_body_without_model_that_the_container_refuses_fails(
    resources: Resources, tmp_path: Path, code: str, verdict: Verdict
) -> None:
    real = resources.fake.answers["sagemaker-runtime", "InvokeEndpoint"]
    asked: list[int] = []

    def answer(parameters: dict[str, Any]) -> dict[str, Any]:
        # The image-driver line asks first, with a model.
        asked.append(1)
        if len(asked) == 1:
            return real(parameters)
        raise AwsError(code, "no")

    assert only(probe(tmp_path, "chat-without-model")).verdict is Verdict.HOLDS
    resources.fake.answers["sagemaker-runtime", "InvokeEndpoint"] = answer
    assert only(probe(tmp_path, "chat-without-model")).verdict is verdict


def test_a_body_without_model_has_none(resources: Resources, tmp_path: Path) -> None:
    probe(tmp_path, "chat-without-model")
    asked = [p for _, operation, p in resources.fake.calls if operation == "InvokeEndpoint"]
    bodies = [json.loads(parameters["Body"]) for parameters in asked]
    assert ["model" in body for body in bodies] == [True, False]


@pytest.mark.parametrize(
    ("environment", "log", "status", "verdict"),
    [
        (EMPTY, "serve --allow_non_cached_model", "InService", Verdict.HOLDS),
        ({}, "serve", "InService", Verdict.FAILS),
        (EMPTY, "serve", "InService", Verdict.UNCLEAR),
        (EMPTY, "not cached: pass --allow_non_cached_model", "Failed", Verdict.UNCLEAR),
    ],
)
def test_an_empty_value_is_seen_in_the_command_of_a_container_that_serves(
    resources: Resources,
    tmp_path: Path,
    environment: dict[str, str],
    log: str,
    status: str,
    verdict: Verdict,
) -> None:
    resources.status["device"] = status
    described(resources, Specification={"Container": {"Environment": environment}}, FailureReason="health")
    resources.fake.answers["logs", "FilterLogEvents"] = lambda _: {"events": [{"message": log}]}
    assert only(probe(tmp_path, "empty-environment-value")).verdict is verdict


def planned(folder: Path, *, instance: str = PRICED, **candidate: float) -> Plan:
    """Write this repository's plan with some numbers changed."""
    document = json.loads((ROOT / "chat.plan.json").read_text(encoding="utf-8"))
    document["candidates"][0] |= {"instance_type": instance, **candidate}
    (folder / "chat.plan.json").write_text(json.dumps(document), encoding="utf-8")
    return Plan.read(folder / "chat.plan.json")


@pytest.fixture
def few(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> Resources:
    monkeypatch.setattr(planned_load, "REQUESTS", 4)
    resources.fake.answers["cloudwatch", "GetMetricStatistics"] = lambda _: {
        "Datapoints": [{"Maximum": 61.0}, {"Maximum": 72.5}]
    }
    return resources


@pytest.mark.parametrize(
    ("status", "reason", "verdict"),
    [
        ("InService", "", Verdict.HOLDS),
        ("Failed", "out of memory while compiling", Verdict.FAILS),
        ("Failed", "InsufficientInstanceCapacity", Verdict.UNCLEAR),
    ],
)
def test_the_planned_copy_is_what_the_plan_says_and_starts_or_not(
    few: Resources, tmp_path: Path, status: str, reason: str, verdict: Verdict
) -> None:
    plan = planned(tmp_path)
    few.status["copy"] = status
    described(few, FailureReason=reason)
    evidence = only(probe(tmp_path, "planned-start"))
    assert evidence.verdict is verdict
    assert evidence.observations["memory_utilization_percent"] == 72.5
    (asked,) = created(few)
    needs = asked["Specification"]["ComputeResourceRequirements"]
    assert needs["NumberOfAcceleratorDevicesRequired"] == plan.chosen.chips_per_copy
    assert needs["MinMemoryRequiredInMb"] == plan.chosen.host_memory_mib
    assert asked["Specification"]["Container"]["Environment"]["SM_ON_MODEL"] == plan.model.id
    assert few.left == set()


def test_a_plan_for_another_instance_type_deploys_nothing(few: Resources, tmp_path: Path) -> None:
    planned(tmp_path, instance="ml.inf2.48xlarge")
    evidence = only(probe(tmp_path, "planned-start"))
    assert evidence.verdict is Verdict.UNCLEAR
    assert f"priced for {PRICED}" in evidence.observations["error"]
    assert few.ever == set()


WIDE = {"ttft_ms_low": 0.0, "ttft_ms_high": 60_000.0, "itl_ms_low": 0.0, "itl_ms_high": 60_000.0}


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ({}, Verdict.HOLDS),
        ({"ttft_ms_high": 40.0}, Verdict.FAILS),
        ({"itl_ms_high": 20.0}, Verdict.FAILS),
        ({"ttft_ms_low": 50_000.0}, Verdict.FAILS),
        ({"itl_ms_low": 50_000.0}, Verdict.FAILS),
    ],
)
def test_both_latencies_have_to_lie_in_the_plan_s_intervals(
    few: Resources, tmp_path: Path, interval: dict[str, float], verdict: Verdict
) -> None:
    planned(tmp_path, **(WIDE | interval))
    few.fake.raw["/endpoints/"] = answering(first=0.06, between=0.03)
    evidence = only(probe(tmp_path, "planned-timing"))
    assert evidence.verdict is verdict
    assert evidence.observations["answers"] == 4
    assert evidence.observations["ttft_ms"]["measured"] >= 60
    assert 30 <= evidence.observations["itl_ms"]["measured"] < 60_000


def test_the_planned_copy_has_the_variables_that_its_split_needs(few: Resources, tmp_path: Path) -> None:
    planned(tmp_path)
    path = tmp_path / "chat.plan.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["candidates"][0]["environment"] = {"OPTION_OF_THE_PLAN": "1"}
    path.write_text(json.dumps(document), encoding="utf-8")
    probe(tmp_path, "planned-start")
    (asked,) = created(few)
    assert asked["Specification"]["Container"]["Environment"]["OPTION_OF_THE_PLAN"] == "1"


def test_a_load_with_errors_measures_nothing(few: Resources, tmp_path: Path) -> None:
    planned(tmp_path, **WIDE)
    evidence = only(probe(tmp_path, "planned-timing"))
    assert evidence.verdict is Verdict.UNCLEAR
    assert len(evidence.observations["errors"]) == 5
    assert evidence.observations["answers"] == 0


@pytest.mark.parametrize(("percent", "value"), [(50, 2.0), (95, 4.0), (100, 4.0), (1, 1.0)])
def test_a_percentile_is_a_value_that_was_measured(percent: float, value: float) -> None:
    assert planned_load._percentile([4.0, 1.0, 3.0, 2.0], percent) == value
