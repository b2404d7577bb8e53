"""The probes about inference components: each verdict, from an AWS that behaves so or otherwise."""

from __future__ import annotations

import json
import runpy
from typing import TYPE_CHECKING, Any

import pytest

from support_fake_aws import AwsError
from support_fake_components import Components
from support_verify import HURRIED, only, probe, session
from tokenmill.verification import Verdict, clean_up, endpoints, looking
from tokenmill.verification.ledger import Ledger
from tokenmill.verification.line import Deployment
from tokenmill.verification.lines import LINES

if TYPE_CHECKING:
    from pathlib import Path

    from support_fake_aws import Resources


@pytest.fixture
def components(resources: Resources) -> Components:
    return Components(resources)


def test_an_aws_that_does_what_is_claimed_makes_every_line_hold(
    components: Components, tmp_path: Path
) -> None:
    ids = [line.id for line in LINES if line.deployment is Deployment.COMPONENT_ENDPOINT]
    result = probe(tmp_path, *ids)
    assert {piece.line: piece.verdict for piece in result.evidence} == dict.fromkeys(ids, Verdict.HOLDS)
    assert (result.exit_code, components.resources.left) == (0, set())
    assert {"Stack", "Bucket", "Endpoint", "Role"} <= components.resources.ever


@pytest.mark.parametrize(
    ("line", "operation"),
    [
        ("endpoint-config-role", "CreateEndpointConfig"),
        ("copy-count-zero", "CreateInferenceComponent"),
        ("endpoint-delete-refused", "DeleteEndpoint"),
    ],
)
@pytest.mark.parametrize(
    ("message", "verdict"),
    [("", Verdict.FAILS), ("something else is wrong with it", Verdict.UNCLEAR)],
)
def test_a_call_that_goes_through_fails_the_claim_and_another_refusal_settles_nothing(
    components: Components, tmp_path: Path, line: str, operation: str, message: str, verdict: Verdict
) -> None:
    components.refuses[operation] = message
    assert only(probe(tmp_path, line)).verdict is verdict
    if message == "":
        assert components.resources.left == set()


def test_a_configuration_without_role_is_tried_without_an_instance(
    components: Components, tmp_path: Path
) -> None:
    assert only(probe(tmp_path, "endpoint-config-role")).verdict is Verdict.HOLDS
    assert "CreateEndpoint" not in components.resources.fake.operations("sagemaker")


def test_an_arn_in_lower_case_names_no_component(components: Components, tmp_path: Path) -> None:
    components.lower_case_arn = True
    evidence = only(probe(tmp_path, "component-arn-name"))
    assert evidence.verdict is Verdict.FAILS
    assert evidence.observations["created_as"].endswith("-Stacked")


def test_an_arn_in_lower_case_that_is_found_still_is_not_the_name(
    components: Components, tmp_path: Path
) -> None:
    components.lower_case_arn = components.finds_any_case = True
    evidence = only(probe(tmp_path, "component-arn-name"))
    assert evidence.verdict is Verdict.FAILS
    assert evidence.observations["described_as"] == evidence.observations["created_as"]


@pytest.mark.parametrize("silent", ["/aws/sagemaker/Endpoints", "/aws/sagemaker/InferenceComponents"])
def test_metrics_have_to_arrive_in_both_namespaces(
    components: Components, tmp_path: Path, silent: str
) -> None:
    answers = components.resources.fake.answers
    answers["cloudwatch", "ListMetrics"] = lambda p: {
        "Metrics": [] if p["Namespace"] == silent else [{"MetricName": "CPUUtilization"}]
    }
    evidence = only(probe(tmp_path, "metrics-role"))
    assert evidence.verdict is Verdict.FAILS
    assert evidence.observations["metrics"][silent] == []


def test_the_role_of_the_metrics_is_the_library_s(components: Components, tmp_path: Path) -> None:
    probe(tmp_path, "metrics-role")
    policy = next(p for _, operation, p in components.resources.fake.calls if operation == "PutRolePolicy")
    allowed = json.loads(policy["PolicyDocument"])["Statement"]
    of_metrics = [rule for rule in allowed if "cloudwatch:PutMetricData" in rule["Action"]]
    assert [rule["Condition"] for rule in of_metrics] == [
        {"StringLike": {"cloudwatch:namespace": "/aws/sagemaker/*"}}
    ]


def test_a_stack_update_that_sets_the_copies_back_fails(components: Components, tmp_path: Path) -> None:
    components.update_resets_copies = True
    evidence = only(probe(tmp_path, "copies-survive-update"))
    assert evidence.verdict is Verdict.FAILS
    seen = evidence.observations
    assert (seen["before"]["DesiredCopyCount"], seen["after"]["DesiredCopyCount"]) == (2, 1)


def test_copies_that_never_came_say_nothing_about_an_update(components: Components, tmp_path: Path) -> None:
    answers = components.resources.fake.answers
    answers["sagemaker", "UpdateInferenceComponentRuntimeConfig"] = lambda _: {"InferenceComponentArn": "arn"}
    assert only(probe(tmp_path, "copies-survive-update")).verdict is Verdict.UNCLEAR


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (("InService", "it did not start"), Verdict.HOLDS),
        (("Failed", "it did not start"), Verdict.FAILS),
        (("InService", ""), Verdict.UNCLEAR),
        (("Updating", ""), Verdict.UNCLEAR),
    ],
)
def test_a_failed_update_is_read_from_status_and_reason(
    components: Components,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: tuple[str, str],
    verdict: Verdict,
) -> None:
    from tokenmill.verification import teardown

    monkeypatch.setattr(teardown, "_SECONDS", 0.05)
    components.after_failed_update = state
    assert only(probe(tmp_path, "failed-update-status")).verdict is verdict


def test_a_component_that_rolls_back_in_silence_has_no_reason(components: Components, tmp_path: Path) -> None:
    components.after_failed_update, components.rolls_back = ("InService", ""), True
    assert only(probe(tmp_path, "failed-update-status")).verdict is Verdict.FAILS


def test_a_stack_that_does_not_pass_its_copies_on_fails(components: Components, tmp_path: Path) -> None:
    components.stack_sets_copies = False
    evidence = only(probe(tmp_path, "copies-by-stack"))
    assert evidence.verdict is Verdict.FAILS
    seen = evidence.observations
    assert (seen["before"], seen["asked"], seen["after"]) == (1, 2, 1)


def test_copies_of_another_component_fail(components: Components, tmp_path: Path) -> None:
    components.stays_itself = False
    assert only(probe(tmp_path, "copies-by-stack")).verdict is Verdict.FAILS


def test_one_copy_more_is_asked_for_than_scaling_has_set(components: Components, tmp_path: Path) -> None:
    """The line before it leaves two copies, and the template at one."""
    result = probe(tmp_path, "copies-survive-update", "copies-by-stack")
    assert {piece.verdict for piece in result.evidence} == {Verdict.HOLDS}
    seen = {piece.line: piece.observations for piece in result.evidence}["copies-by-stack"]
    assert (seen["before"], seen["after"]) == (2, 3)


@pytest.mark.parametrize(("arriving", "verdict"), [(12, Verdict.FAILS), (None, Verdict.HOLDS)])
def test_variables_are_counted_where_they_arrive(
    components: Components, tmp_path: Path, arriving: int | None, verdict: Verdict
) -> None:
    components.arriving = arriving
    evidence = only(probe(tmp_path, "component-variables"))
    assert (evidence.verdict, evidence.observations["variables"]) == (verdict, 100)
    assert components.resources.left == set()


@pytest.mark.parametrize(
    ("message", "verdict"),
    [
        ("Member must have length less than or equal to 16", Verdict.FAILS),
        ("the quota is used up", Verdict.UNCLEAR),
    ],
)
def test_variables_that_are_refused_fail_for_their_number_only(
    components: Components, tmp_path: Path, message: str, verdict: Verdict
) -> None:
    def refuse(_: dict[str, Any]) -> dict[str, Any]:
        raise AwsError("ValidationException", message)

    components.resources.fake.answers["sagemaker", "CreateInferenceComponent"] = refuse
    assert only(probe(tmp_path, "component-variables")).verdict is verdict


def test_a_container_that_prints_nothing_says_nothing_of_its_variables(
    components: Components, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "LOG_SECONDS", 0.05)
    components.resources.fake.answers["logs", "FilterLogEvents"] = lambda _: {"events": []}
    assert only(probe(tmp_path, "component-variables")).verdict is Verdict.UNCLEAR


def test_the_printed_count_is_that_of_the_container_s_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The program that the probe uploads prints it; it is run here as the container runs it."""
    for number in range(7):
        monkeypatch.setenv(f"{endpoints.FILLER}{number}", "filler")
    monkeypatch.setenv("TOKENMILL_RUN", "r")
    path = tmp_path / "inference.py"
    path.write_text(endpoints.printing_model(), encoding="utf-8")
    program = runpy.run_path(str(path))
    monkeypatch.setattr(program["time"], "sleep", _stop)
    with pytest.raises(StopIteration):
        program["say"]()
    assert json.loads(capsys.readouterr().out)[endpoints.FILLERS] == 7


def _stop(_: float) -> None:
    raise StopIteration


def test_what_is_captured_is_looked_for_after_a_request(
    components: Components, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "METRIC_SECONDS", 0.05)
    components.captures = False
    evidence = only(probe(tmp_path, "component-capture"))
    assert (evidence.verdict, evidence.observations["objects"]) == (Verdict.FAILS, [])
    (config,) = configs(components)
    assert config["DataCaptureConfig"]["DestinationS3Uri"].endswith("/captured")
    assert components.resources.left == set()


def test_an_endpoint_is_captured_from_only_where_that_is_asked(
    components: Components, tmp_path: Path
) -> None:
    probe(tmp_path, "component-arn-name")
    assert "DataCaptureConfig" not in configs(components)[0]


def test_a_capture_that_is_refused_fails_and_the_other_lines_go_on(
    components: Components, tmp_path: Path
) -> None:
    real = components.resources.fake.answers["sagemaker", "CreateEndpointConfig"]

    def refuse(parameters: dict[str, Any]) -> dict[str, Any]:
        if "DataCaptureConfig" in parameters:
            raise AwsError("ValidationException", "Data capture is not supported for inference components")
        return real(parameters)

    components.resources.fake.answers["sagemaker", "CreateEndpointConfig"] = refuse
    result = probe(tmp_path, "component-capture", "component-arn-name")
    verdicts = {piece.line: piece.verdict for piece in result.evidence}
    assert verdicts == {"component-capture": Verdict.FAILS, "component-arn-name": Verdict.HOLDS}
    assert components.resources.left == set()


def configs(components: Components) -> list[dict[str, Any]]:
    return [p for _, operation, p in components.resources.fake.calls if operation == "CreateEndpointConfig"]


def test_a_stack_that_fails_leaves_its_lines_unclear_and_nothing_behind(
    components: Components, tmp_path: Path
) -> None:
    components.stack_status = "_FAILED"
    evidence = only(probe(tmp_path, "component-arn-name"))
    assert evidence.verdict is Verdict.UNCLEAR
    assert "is CREATE_FAILED" in evidence.observations["error"]
    assert components.resources.left == set()


def test_a_stack_that_hangs_is_deleted_by_another_try(
    components: Components, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokenmill.verification import teardown

    monkeypatch.setattr(teardown, "_SECONDS", 0.05)
    components.stack_status = "_IN_PROGRESS"
    result = probe(tmp_path, "component-arn-name")
    assert result.exit_code == 1
    assert [entry.kind for entry in Ledger(tmp_path / "verify-ledger.json").entries][-1] == "stack"
    components.stack_status = "_COMPLETE"
    assert clean_up(session=session(), state=tmp_path, pace=HURRIED) == ()
    assert components.resources.left == set()
