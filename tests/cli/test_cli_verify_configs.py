"""The probes about endpoint configurations, and the reservation that is asked for by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support_fake_aws import AwsError
from support_fake_services import Machines
from support_verify import created, only, probe
from tokenmill.security import actions
from tokenmill.verification import LINES, Verdict, looking, request_lines
from tokenmill.verification.line import Deployment
from tokenmill.verification.lines import unnamed

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler
    from pathlib import Path

    from support_commands import Run
    from support_fake_aws import FakeAws, Resources

ALL = [line.id for line in LINES if line.deployment is Deployment.CONFIG_REQUESTS]
LINES_HERE = [
    "prefix-routing-components", "zero-managed-instances", "async-config-fields", "zero-instance-pools",
]  # fmt: skip
FIRST, LAST = "a" * 40, "b" * 40
CARD = "---\nlicense: {}\n---\n# A model\n"
WORDS = {
    "prefix-routing-components": "prefix-aware routing is not for inference components",
    "zero-managed-instances": "MinInstanceCount must be 1 or more",
    "async-config-fields": "MetricsConfig is not for AsyncInferenceConfig",
    "zero-instance-pools": "InstancePools need a MinInstanceCount of 1 or more",
}
PLAN = {
    "TrainingPlanArn": "arn:aws:sagemaker:us-east-1:123456789012:training-plan/ours",
    "TrainingPlanName": "ours",
    "Status": "Active",
    "TargetResources": ["endpoint"],
    "ReservedCapacitySummaries": [{"InstanceType": "ml.p5.48xlarge"}],
}


class Hub:
    """A model's two revisions; `described` and `cards` are its licences by revision."""

    def __init__(self, fake: FakeAws) -> None:
        self.described = {FIRST: "", LAST: "apache-2.0"}
        self.cards = {LAST: "apache-2.0"}
        fake.raw["/api/models/"] = self._answer
        fake.raw["/Qwen/"] = self._card

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        last = request.path.rpartition("/")[2]
        if last == "main":
            self._send(request, json.dumps([{"id": LAST}, {"id": FIRST}]))
        else:
            said = self.described[last]
            self._send(request, json.dumps({"sha": last, "cardData": {"license": said} if said else None}))

    def _card(self, request: BaseHTTPRequestHandler) -> None:
        found = self.cards.get(request.path.split("/")[4])
        self._send(request, CARD.format(found) if found else "no such file", 200 if found else 404)

    def _send(self, request: BaseHTTPRequestHandler, text: str, status: int = 200) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(text)))
        request.end_headers()
        request.wfile.write(text.encode())


@pytest.fixture
def hub(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setattr(request_lines, "HUB", resources.fake.url)
    return Hub(resources.fake)


@pytest.fixture
def machines(resources: Resources) -> Machines:
    return Machines(resources, lambda _: {"status": "SUCCEEDED"})


@pytest.mark.usefixtures("hub", "machines")
def test_an_aws_that_does_what_is_claimed_makes_every_line_hold_and_starts_nothing(
    resources: Resources, tmp_path: Path
) -> None:
    result = probe(tmp_path, *ALL)
    assert {piece.line: piece.verdict for piece in result.evidence} == dict.fromkeys(ALL, Verdict.HOLDS)
    assert "CreateEndpoint" not in resources.fake.operations("sagemaker")
    asked = [p for _, operation, p in resources.fake.calls if operation == "CreateEndpointConfig"]
    assert asked[0]["ProductionVariants"][0]["RoutingConfig"]["RoutingStrategy"] == "PREFIX_AWARE"
    assert asked[1]["ProductionVariants"][0]["ManagedInstanceScaling"]["MinInstanceCount"] == 0
    assert {"AsyncInferenceConfig", "MetricsConfig"} <= set(asked[2])
    (pooled,) = asked[3]["ProductionVariants"]
    assert [pool["Priority"] for pool in pooled["InstancePools"]] == [1, 2]
    assert (pooled["ManagedInstanceScaling"]["MinInstanceCount"], "InstanceType" in pooled) == (0, False)
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


@pytest.mark.parametrize(
    ("described", "cards", "verdict"),
    [
        ({FIRST: "apache-2.0", LAST: "apache-2.0"}, {LAST: "apache-2.0"}, Verdict.FAILS),
        ({FIRST: "mit", LAST: "mit"}, {FIRST: "mit", LAST: "mit"}, Verdict.UNCLEAR),
        ({FIRST: "mit", LAST: "apache-2.0"}, {FIRST: "mit", LAST: "apache-2.0"}, Verdict.HOLDS),
    ],
)
def test_a_revision_s_licence_is_that_of_its_own_card(
    hub: Hub, tmp_path: Path, described: dict[str, str], cards: dict[str, str], verdict: Verdict
) -> None:
    hub.described, hub.cards = described, cards
    assert only(probe(tmp_path, "hub-revision-card")).verdict is verdict


def test_a_hub_that_cannot_be_reached_settles_nothing(
    resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_lines, "HUB", resources.fake.url.rpartition(":")[0] + ":1")
    assert only(probe(tmp_path, "hub-revision-card")).verdict is Verdict.UNCLEAR


@pytest.mark.parametrize(
    ("error", "verdict"),
    [("AccessDeniedException", Verdict.FAILS), ("States.ItemReaderFailed", Verdict.UNCLEAR)],
)
def test_a_map_that_stays_denied_fails(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str, verdict: Verdict
) -> None:
    monkeypatch.setattr(request_lines, "DENIED_SECONDS", 0.05)
    machines.end = lambda _: {"status": "FAILED", "error": error, "cause": "it did not run"}
    assert only(probe(tmp_path, "map-policies")).verdict is verdict
    assert machines.resources.left == set()


def test_rights_that_are_not_known_yet_are_waited_for(machines: Machines, tmp_path: Path) -> None:
    ends = [{"status": "FAILED", "error": "AccessDenied"}, {"status": "SUCCEEDED"}]
    machines.end = lambda _: ends.pop(0)
    assert only(probe(tmp_path, "map-policies")).verdict is Verdict.HOLDS
    assert ends == []


def test_the_map_s_role_is_the_library_s(machines: Machines, tmp_path: Path) -> None:
    """The rights on the state machine are those of AsyncFanOut, in the same actions."""
    probe(tmp_path, "map-policies")
    put = [p for _, operation, p in machines.resources.fake.calls if operation == "PutRolePolicy"]
    (policy,) = (p for p in put if p["RoleName"].endswith("-map"))
    statements = json.loads(policy["PolicyDocument"])["Statement"]
    of_states = [rule["Action"] for rule in statements if str(rule["Action"]).find("states:") >= 0]
    library = (actions.MAP_RUN_START, actions.MAP_RUN_WATCH, actions.MAP_RUN_REDRIVE)
    assert of_states == [list(some) for some in library]


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("engine with config: revision=main, quantization=None", Verdict.HOLDS),
        ("engine with config: revision=None, quantization=None", Verdict.FAILS),
        ("something else", Verdict.UNCLEAR),
    ],
)
def test_a_revision_is_read_from_the_engine_s_log(
    resources: Resources,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    verdict: Verdict,
) -> None:
    monkeypatch.setattr(looking, "LOG_SECONDS", 0.05)
    resources.fake.answers["logs", "FilterLogEvents"] = lambda _: {"events": [{"message": line}]}
    assert only(probe(tmp_path, "neuron-revision")).verdict is verdict
    (asked,) = created(resources)
    assert asked["Specification"]["Container"]["Environment"]["SM_ON_REVISION"] == "main"
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
    """They cost much, change a setting of the whole account, or need what an account may not have."""
    left_out = {line.deployment for line in LINES} - {line.deployment for line in unnamed(LINES)}
    assert left_out == {
        "reserved-endpoint", "trainium-endpoint", "bedrock-logging", "bedrock-import", "bedrock-deployments",
        "bedrock-units", "committed-units",
    }  # fmt: skip


@pytest.mark.usefixtures("project")
def test_a_price_that_is_not_known_stops_only_who_asks_for_its_line(run: Run) -> None:
    asked = run("verify", "--account", "--yes", "--line", "trn2-thin-image")
    assert "no price is known for ml.trn2.48xlarge" in str(asked.exception)
    everything = run("verify", "--account", "--yes")
    assert "these lines may cost" in str(everything.exception)
