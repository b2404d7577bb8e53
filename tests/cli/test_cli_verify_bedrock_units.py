"""The probes about model units: bought by the hour, only by name, never committed, and always given back."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import pytest

import support_verify
from support_bedrock import PLENTY, SCOPE, Clock
from support_fake_aws import ACCOUNT, AwsError
from support_fake_bedrock import PREFIX, BedrockWorld
from support_verify import only, probe
from tokenmill.core.errors import TokenmillError
from tokenmill.local.aws_requests import AwsError as ControlError
from tokenmill.local.bedrock import BedrockControl, Behaviour
from tokenmill.verification import LINES, Verdict, bedrock_teardown
from tokenmill.verification.aws import TAG, Pace
from tokenmill.verification.line import Deployment
from tokenmill.verification.lines import FOOTPRINTS, find_lines, price_at_most, unnamed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support_commands import Run
    from support_fake_aws import Resources

ALL = [line.id for line in LINES if line.deployment is Deployment.BEDROCK_UNITS]
MODEL = FOOTPRINTS[Deployment.BEDROCK_UNITS].unit_model
OPERATIONS = (
    "CreateProvisionedModelThroughput", "GetProvisionedModelThroughput", "ListProvisionedModelThroughputs",
    "DeleteProvisionedModelThroughput", "ListTagsForResource",
)  # fmt: skip
SECONDS_A_LOOK = 4.0


class Units(BedrockWorld):
    """The modelled control plane behind the probe's clients; time passes with every look."""

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources)
        self.clock = Clock(datetime.datetime.now(datetime.UTC).timestamp())
        self.control = BedrockControl(clock=self.clock, behaviour=Behaviour(), quotas=PLENTY)
        self.creating = AwsError("ModelNotReadyException", "not ready", 429)
        self.gone = AwsError("ValidationException", "The provided model identifier is invalid.")
        self.on_the_model = False
        for operation in OPERATIONS:
            self.fake.answers["bedrock", operation] = self._of_control(operation)
        self.fake.answers["bedrock-runtime", "InvokeModel"] = self._invoke
        self.fake.answers["bedrock-runtime", "Converse"] = self._invoke

    @property
    def asked(self) -> list[dict[str, Any]]:
        """Every purchase that was asked for."""
        return [p for _, operation, p in self.fake.calls if operation == OPERATIONS[0]]

    @property
    def owned(self) -> list[str]:
        return [model.name for model in self.control.provisioned.owned(SCOPE)]

    def _of_control(self, operation: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        def answer(parameters: dict[str, Any]) -> dict[str, Any]:
            if operation == OPERATIONS[0]:
                model = f"{PREFIX}::foundation-model/{parameters['modelId']}"
                self.require("bedrock:CreateProvisionedModelThroughput", model)
            self.clock.pass_(SECONDS_A_LOOK)
            try:
                return _texts(self.control.call(SCOPE, operation, parameters))
            except ControlError as error:
                raise AwsError(error.code, str(error)) from error

        return answer

    def _invoke(self, parameters: dict[str, Any]) -> dict[str, Any]:
        arn = parameters["modelId"]
        found = self.control.provisioned.find(SCOPE, arn)
        if found is None:
            raise self.gone
        if found.status(self.clock()) == "Creating":
            raise self.creating
        self.invoke(f"{PREFIX}::foundation-model/any" if self.on_the_model else arn)
        self.count(arn)
        return {"body": {}}


def _texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _texts(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_texts(inner) for inner in value]
    return value.isoformat() if isinstance(value, datetime.datetime) else value


@pytest.fixture
def units(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> Units:
    # No source has the price, so that a run needs the user's.
    monkeypatch.setattr(
        support_verify, "run_lines", lambda *a, **k: _RUN(*a, **{**k, "prices": {MODEL: 20.0}})
    )
    monkeypatch.setattr(support_verify, "HURRIED", Pace(poll_seconds=0.01, settle_seconds=0.05))
    return Units(resources)


_RUN = support_verify.run_lines


def test_an_aws_that_does_what_is_claimed_makes_every_line_hold(units: Units, tmp_path: Path) -> None:
    result = probe(tmp_path, *ALL)
    wrong = {piece.line: piece.observations for piece in result.evidence if piece.verdict != "holds"}
    assert (wrong, units.resources.left, result.left, units.owned) == ({}, set(), (), [])
    assert result.evidence[0].usd_at_most == pytest.approx(160.05)


def test_no_purchase_is_committed_or_of_more_than_one_unit(units: Units, tmp_path: Path) -> None:
    probe(tmp_path, *ALL)
    assert {(p["modelUnits"], p["modelId"], p.get("commitmentDuration")) for p in units.asked} == {
        (1, MODEL, None)
    }
    assert len({p["clientRequestToken"] for p in units.asked}) == FOOTPRINTS[Deployment.BEDROCK_UNITS].units


def test_units_are_probed_by_name_only_and_with_a_price_only() -> None:
    """What a unit costs by the hour stands nowhere, and a probe without a price would defeat the cap."""
    assert not {*ALL, "committed-delete"} & {line.id for line in unnamed(LINES)}
    lines = find_lines(tuple(ALL))
    with pytest.raises(
        TokenmillError, match=rf"by the hour in us-east-1; give yours with --price {MODEL}=USD"
    ):
        price_at_most(lines, region="us-east-1", prices={})
    hours = FOOTPRINTS[Deployment.BEDROCK_UNITS].unit_hours
    assert hours == 8
    assert price_at_most(lines, region="us-east-1", prices={MODEL: 20.0}) == pytest.approx(20 * hours + 0.05)


@pytest.mark.usefixtures("project")
def test_the_price_stands_against_the_cap_before_anything_is_bought(run: Run) -> None:
    refused = run("verify", "--account", "--yes", "--line", ALL[0], "--price", f"{MODEL}=20")
    assert isinstance(refused.exception, TokenmillError)
    assert "these lines may cost 160.05 USD" in str(refused.exception)


@pytest.mark.parametrize(
    ("line", "behaviour"),
    [
        ("unit-visible-at-once", {"list_lag_seconds": 30.0}),
        ("unit-visible-at-once", {"get_lag_seconds": 30.0}),
        ("unit-token-after-delete", {"token_after_delete": "anew"}),
        ("unit-client-token", {"token_seconds": 0.0}),
        ("unit-name-freed", {"held_name_seconds": 3600.0}),
    ],
)
def test_another_behaviour_fails_and_nothing_is_left(
    units: Units, tmp_path: Path, line: str, behaviour: dict[str, Any]
) -> None:
    for name, value in behaviour.items():
        setattr(units.control.behaviour, name, value)
    evidence = only(probe(tmp_path, line))
    assert evidence.verdict is Verdict.FAILS, evidence.observations
    assert (units.owned, units.resources.left) == ([], set())


def test_a_name_that_is_sold_twice_fails_and_both_are_given_back(units: Units, tmp_path: Path) -> None:
    units.control.provisioned._check_name = lambda *_: None
    assert only(probe(tmp_path, "unit-name-taken")).verdict is Verdict.FAILS
    assert (units.owned, units.resources.left) == ([], set())


@pytest.mark.parametrize(
    ("line", "change"),
    [
        ("unit-creating-call", {"creating": AwsError("ValidationException", "not yet")}),
        ("unit-gone-error", {"gone": AwsError("InternalServerException", "what is that")}),
        ("unit-metric-id", {"counts_as": lambda arn: arn.rpartition("/")[2]}),
        ("unit-invoke-rights", {"on_the_model": True}),
    ],
)
def test_another_answer_to_a_call_fails(
    units: Units, tmp_path: Path, line: str, change: dict[str, Any]
) -> None:
    for name, value in change.items():
        setattr(units, name, value)
    evidence = only(probe(tmp_path, line))
    assert evidence.verdict is Verdict.FAILS, evidence.observations
    assert units.owned == []


def test_a_role_that_may_not_buy_fails_and_the_rest_is_still_looked_at(units: Units, tmp_path: Path) -> None:
    real = units.require
    units.require = lambda action, resource, **context: real(f"{action}Otherwise", resource, **context)
    result = probe(tmp_path, "unit-purchase-rights", "unit-client-token")
    verdicts = {piece.line: piece.verdict for piece in result.evidence}
    assert verdicts == {"unit-purchase-rights": Verdict.FAILS, "unit-client-token": Verdict.HOLDS}


def test_an_account_without_quota_learns_nothing_and_pays_nothing(units: Units, tmp_path: Path) -> None:
    units.control.quotas.base = 0
    try:
        evidence = only(probe(tmp_path, "unit-client-token"))
    finally:
        units.control.quotas.base = 100
    assert evidence.verdict is Verdict.UNCLEAR
    assert "ServiceQuotaExceededException" in evidence.observations["error"]
    assert (units.owned, units.resources.left) == ([], set())


def test_units_that_lists_show_late_are_deleted_all_the_same(units: Units, tmp_path: Path) -> None:
    units.control.behaviour.list_lag_seconds = 3 * SECONDS_A_LOOK
    units.control.behaviour.creating_seconds = 10 * SECONDS_A_LOOK
    assert bedrock_teardown._LOOKS > 3
    probe(tmp_path, "unit-client-token")
    assert units.owned == []


class Committed(Units):
    """An account with committed units; the tag says whether a probe may try to delete them."""

    def own(self, tag: str) -> str:
        made = self.control.call(
            SCOPE,
            OPERATIONS[0],
            {
                "provisionedModelName": "theirs",
                "modelId": MODEL,
                "modelUnits": 1,
                "commitmentDuration": "OneMonth",
                "tags": [{"key": TAG, "value": tag}],
            },
        )
        self.clock.pass_(120)
        return str(made["provisionedModelArn"])


@pytest.mark.parametrize("code", ["ValidationException", "ConflictException"])
def test_committed_units_that_stay_hold_with_the_error_kept(
    resources: Resources, tmp_path: Path, code: Any
) -> None:
    committed = Committed(resources)
    committed.control.behaviour.early_delete = code
    arn = committed.own("delete")
    evidence = only(probe(tmp_path, "committed-delete"))
    assert (evidence.verdict, evidence.observations["code"]) == (Verdict.HOLDS, code)
    assert evidence.observations["units"] == arn
    assert committed.asked == []


def test_committed_units_that_nobody_has_tagged_are_left_alone(resources: Resources, tmp_path: Path) -> None:
    committed = Committed(resources)
    committed.own("something else")
    evidence = only(probe(tmp_path, "committed-delete"))
    assert evidence.verdict is Verdict.UNCLEAR
    assert evidence.observations == {"committed": 1, "tagged_for_it": 0}
    assert "DeleteProvisionedModelThroughput" not in committed.fake.operations("bedrock")
    assert ACCOUNT == SCOPE.account


def test_committed_units_that_go_fail(resources: Resources, tmp_path: Path) -> None:
    committed = Committed(resources)
    committed.own("delete")
    committed.fake.answers["bedrock", "DeleteProvisionedModelThroughput"] = lambda _: {}
    assert only(probe(tmp_path, "committed-delete")).verdict is Verdict.FAILS
