"""The probes about the account's own units, which buy and change nothing, and about what routers decide."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import pytest

import support_verify
from support_bedrock import PLENTY, SCOPE, Clock
from support_fake_aws import ACCOUNT, AwsError
from support_fake_bedrock import NOVA, PREFIX, BedrockWorld
from support_verify import only, probe
from tokenmill.local.bedrock import BedrockControl, Behaviour
from tokenmill.local.bedrock import provisioned as modelled
from tokenmill.verification import LINES, Verdict, bedrock_term_lines
from tokenmill.verification.aws import TAG, Pace
from tokenmill.verification.line import Deployment
from tokenmill.verification.lines import unnamed

if TYPE_CHECKING:
    from pathlib import Path

    from support_fake_aws import Resources

OWNED = [line.id for line in LINES if line.deployment is Deployment.COMMITTED_UNITS]
LIST = "ListProvisionedModelThroughputs"
ARN = f"{PREFIX}:{ACCOUNT}:provisioned-model/0123456789ab"
MODEL = f"{PREFIX}::foundation-model/{NOVA[0]}"
SMALL, LARGE = (f"{PREFIX}::foundation-model/{name}" for name in NOVA)


class Owned(BedrockWorld):
    """An account with units; the attributes say how old they are, when they end, what they say."""

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources)
        self.units: list[dict[str, Any]] = []
        self.refuses: AwsError | None = AwsError("ValidationException", "not for provisioned throughput")
        self.answers_more: dict[str, Any] = {}
        self.answers_plainly = True
        self.deletion = AwsError("ValidationException", "the commitment term is not over")
        self.fake.answers["bedrock", LIST] = lambda _: {"provisionedModelSummaries": self.units}
        self.fake.answers["bedrock", "ListTagsForResource"] = lambda _: {
            "tags": [{"key": TAG, "value": "delete"}]
        }
        self.fake.answers["bedrock", "DeleteProvisionedModelThroughput"] = self._delete

    def own(
        self, *, age: float, term: str = "OneMonth", days: float | None = 30.0, status: str = "InService"
    ) -> None:
        """Own units since some days, whose term ends so many days after the purchase."""
        created = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=age)
        names = ("modelArn", "desiredModelArn", "foundationModelArn")
        found: dict[str, Any] = {
            "provisionedModelName": "theirs",
            "provisionedModelArn": ARN,
            **dict.fromkeys(names, MODEL),
            "modelUnits": 1,
            "desiredModelUnits": 1,
            "status": status,
            "creationTime": created.isoformat(),
            "lastModifiedTime": created.isoformat(),
        }
        if days is not None:
            until = created + datetime.timedelta(days=days)
            found |= {"commitmentDuration": term, "commitmentExpirationTime": until.isoformat()}
        self.units.append(found)

    def _delete(self, _: dict[str, Any]) -> dict[str, Any]:
        raise self.deletion

    def converse(self, parameters: dict[str, Any]) -> dict[str, Any]:
        assert parameters["modelId"] == ARN
        if not self.answers_plainly:
            raise AwsError("ValidationException", "this model takes no messages")
        if not {"serviceTier", "performanceConfig"} & set(parameters):
            return self.said("yes")
        if self.refuses is not None:
            raise self.refuses
        return self.said("yes", **self.answers_more)


@pytest.fixture
def account(resources: Resources) -> Owned:
    return Owned(resources)


def test_an_aws_that_does_what_is_claimed_makes_every_line_hold(account: Owned, tmp_path: Path) -> None:
    account.own(age=3)
    account.own(age=200, term="SixMonths", days=180)
    account.own(age=40)
    result = probe(tmp_path, *OWNED)
    wrong = {piece.line: piece.observations for piece in result.evidence if piece.verdict != "holds"}
    assert (wrong, result.left) == ({}, ())


def test_nothing_is_bought_or_changed_and_all_is_by_name(account: Owned, tmp_path: Path) -> None:
    """Deletion alone is asked for, and only where the owner's tag allows it."""
    account.own(age=3)
    probe(tmp_path, *(line for line in OWNED if line != "committed-delete"))
    assert set(account.fake.operations("bedrock")) == {LIST}
    assert set(OWNED).isdisjoint(line.id for line in unnamed(LINES))


@pytest.mark.parametrize("line", [line for line in OWNED if line != "committed-delete"])
def test_an_account_without_such_units_says_nothing(account: Owned, tmp_path: Path, line: str) -> None:
    evidence = only(probe(tmp_path, line))
    assert (evidence.verdict, evidence.observations["units"]) == (Verdict.UNCLEAR, 0)


@pytest.mark.parametrize(
    ("term", "days", "verdict"),
    [
        ("OneMonth", 30.01, Verdict.HOLDS),
        ("OneMonth", 31.0, Verdict.FAILS),
        ("OneMonth", 28.0, Verdict.FAILS),
        ("SixMonths", 180.0, Verdict.HOLDS),
        ("SixMonths", 184.0, Verdict.FAILS),
        # Of a second term, the days since the purchase say nothing.
        ("OneMonth", 60.0, Verdict.UNCLEAR),
        ("OneMonth", None, Verdict.UNCLEAR),
    ],
)
def test_the_days_of_a_term_are_read_from_what_is_owned(
    account: Owned, tmp_path: Path, term: str, days: float | None, verdict: Verdict
) -> None:
    account.own(age=1, term=term, days=days)
    assert only(probe(tmp_path, "commitment-days")).verdict is verdict


def test_the_days_are_those_of_the_local_cloud(resources: Resources, tmp_path: Path) -> None:
    """The probe reads in the modelled service what the model is to be checked for."""
    assert bedrock_term_lines.TERM_DAYS == modelled.TERM_DAYS
    account = Owned(resources)
    clock = Clock(datetime.datetime.now(datetime.UTC).timestamp())
    control = BedrockControl(clock=clock, behaviour=Behaviour(), quotas=PLENTY)
    for duration in modelled.TERM_DAYS:
        asked = {"provisionedModelName": duration, "modelId": "amazon.titan-embed-text-v1:2:8k"}
        control.call(
            SCOPE,
            "CreateProvisionedModelThroughput",
            {**asked, "modelUnits": 1, "commitmentDuration": duration},
        )
    account.units = [
        {
            key: value.isoformat() if isinstance(value, datetime.datetime) else value
            for key, value in found.items()
        }
        for found in control.call(SCOPE, LIST, {})["provisionedModelSummaries"]
    ]
    evidence = only(probe(tmp_path, "commitment-days"))
    assert evidence.verdict is Verdict.HOLDS, evidence.observations
    assert len(evidence.observations["first_terms"]) == 2


@pytest.mark.parametrize(
    ("age", "days", "status", "verdict"),
    [
        (40, 30, "InService", Verdict.HOLDS),
        (40, 60, "InService", Verdict.FAILS),
        (40, 30, "Failed", Verdict.FAILS),
        (20, 30, "InService", Verdict.UNCLEAR),
        # Ended yesterday by one calendar and not by another: too early to tell.
        (31, 30, "InService", Verdict.UNCLEAR),
    ],
)
def test_a_second_term_is_read_from_an_end_that_has_moved(
    account: Owned, tmp_path: Path, age: float, days: float, status: str, verdict: Verdict
) -> None:
    account.own(age=age, days=days, status=status)
    assert only(probe(tmp_path, "commitment-renewal")).verdict is verdict


@pytest.mark.parametrize(
    ("refusal", "more", "verdict"),
    [
        (None, {}, Verdict.HOLDS),
        (None, {"serviceTier": {"type": "default"}}, Verdict.HOLDS),
        (None, {"performanceConfig": {"latency": "standard"}}, Verdict.HOLDS),
        (None, {"serviceTier": {"type": "priority"}}, Verdict.FAILS),
        (None, {"performanceConfig": {"latency": "optimized"}}, Verdict.FAILS),
        (AwsError("AccessDeniedException", "no", 403), {}, Verdict.UNCLEAR),
    ],
)
def test_an_option_that_units_obey_fails(
    account: Owned, tmp_path: Path, refusal: AwsError | None, more: dict[str, Any], verdict: Verdict
) -> None:
    account.own(age=1, days=None)
    account.refuses, account.answers_more = refusal, more
    assert only(probe(tmp_path, "unit-call-options")).verdict is verdict


@pytest.mark.parametrize(("plainly", "status"), [(False, "InService"), (True, "Creating")])
def test_units_that_answer_no_question_say_nothing_of_options(
    account: Owned, tmp_path: Path, plainly: bool, status: str
) -> None:
    account.own(age=1, days=None, status=status)
    account.answers_plainly = plainly
    evidence = only(probe(tmp_path, "unit-call-options"))
    assert evidence.verdict is Verdict.UNCLEAR
    assert set(evidence.observations["not_asked"]) == {ARN}


class Routers(BedrockWorld):
    """Routers that answer with the cheaper model; the attributes say what else they do."""

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources)
        self.takes: dict[str, str] = {}
        self.traced = True
        self._fallbacks: dict[str, str] = {}
        self.answer("bedrock", "CreatePromptRouter", self._create)
        self.answer("bedrock", "ListPromptRouters", self._list)
        self.answer("bedrock", "DeletePromptRouter", lambda p: self.drop("Router", p["promptRouterArn"]))

    def _create(self, parameters: dict[str, Any]) -> dict[str, Any]:
        assert {entry["modelArn"] for entry in parameters["models"]} == {SMALL, LARGE}
        arn = self.make("Router", parameters["promptRouterName"], resource="prompt-router")
        self._fallbacks[arn] = parameters["fallbackModel"]["modelArn"]
        return {"promptRouterArn": arn}

    def _list(self, _: dict[str, Any]) -> dict[str, Any]:
        common = {
            "models": [{"modelArn": SMALL}],
            "fallbackModel": {"modelArn": SMALL},
            "routingCriteria": {"responseQualityDifference": 10.0},
            "status": "AVAILABLE",
            "type": "custom",
        }
        return {
            "promptRouterSummaries": [
                {**common, "promptRouterName": name, "promptRouterArn": arn}
                for arn, name in self.named["Router"].items()
            ]
        }

    def converse(self, parameters: dict[str, Any]) -> dict[str, Any]:
        taken = self.takes.get(self._fallbacks[parameters["modelId"]], SMALL)
        trace = {"promptRouter": {"invokedModelId": taken}}
        return self.said("yes", **({"trace": trace} if self.traced else {}))


@pytest.fixture
def routers(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> Routers:
    monkeypatch.setattr(support_verify, "HURRIED", Pace(poll_seconds=0.01, settle_seconds=0.05))
    return Routers(resources)


def test_easy_questions_hold_where_both_routers_take_the_cheaper_model(
    routers: Routers, tmp_path: Path
) -> None:
    result = probe(tmp_path, "router-cheaper-model", "router-trace-model")
    assert {piece.verdict for piece in result.evidence} == {Verdict.HOLDS}
    assert {"Router"} == routers.resources.ever
    assert (result.left, routers.resources.left) == ((), set())


@pytest.mark.parametrize("fallback", [SMALL, LARGE])
def test_a_router_that_takes_the_dearer_model_with_either_fallback_fails(
    routers: Routers, tmp_path: Path, fallback: str
) -> None:
    routers.takes = {fallback: LARGE}
    result = probe(tmp_path, "router-cheaper-model", "router-trace-model")
    verdicts = {piece.line: piece.verdict for piece in result.evidence}
    assert verdicts == {"router-cheaper-model": Verdict.FAILS, "router-trace-model": Verdict.HOLDS}
    assert routers.resources.left == set()


def test_a_trace_by_another_arn_fails_and_still_tells_the_model(routers: Routers, tmp_path: Path) -> None:
    profile = f"{PREFIX}:{ACCOUNT}:inference-profile/us.{NOVA[0]}"
    routers.takes = dict.fromkeys((SMALL, LARGE), profile)
    result = probe(tmp_path, "router-cheaper-model", "router-trace-model")
    verdicts = {piece.line: piece.verdict for piece in result.evidence}
    assert verdicts == {"router-cheaper-model": Verdict.HOLDS, "router-trace-model": Verdict.FAILS}


def test_without_a_trace_nobody_knows_which_model_answered(routers: Routers, tmp_path: Path) -> None:
    routers.traced = False
    result = probe(tmp_path, "router-cheaper-model", "router-trace-model")
    verdicts = {piece.line: piece.verdict for piece in result.evidence}
    assert verdicts == {"router-cheaper-model": Verdict.UNCLEAR, "router-trace-model": Verdict.FAILS}


def test_a_router_that_cannot_be_made_settles_neither(routers: Routers, tmp_path: Path) -> None:
    def refuse(_: dict[str, Any]) -> dict[str, Any]:
        raise AwsError("ServiceQuotaExceededException", "too many routers")

    routers.fake.answers["bedrock", "CreatePromptRouter"] = refuse
    result = probe(tmp_path, "router-cheaper-model", "router-trace-model")
    assert {piece.verdict for piece in result.evidence} == {Verdict.UNCLEAR}
