"""What provisioned units cost without a request, from the template alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support_cost import cost, resource
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from pathlib import Path

KIND = "Custom::TokenmillProvisionedThroughput"
LITE = "amazon.nova-lite-v1:0:24k"
OFFICE = {
    "Id": "Office",
    "Start": "08:00",
    "End": "18:00",
    "Days": "MON-FRI",
    "TimeZone": "Europe/Berlin",
    "Units": "3",
}


def units(**changes: Any) -> dict[str, Any]:
    """Return two units at 20 USD an hour with some properties changed."""
    return resource(
        KIND, **{"ModelId": LITE, "ModelUnits": "2", "Commitment": "NONE", "HourlyUsd": "20.0", **changes}
    )


def test_units_cost_around_the_clock(tmp_path: Path) -> None:
    """Two units at 20 USD an hour, 730 hours, whoever asks them."""
    report = cost(tmp_path, U=units())
    assert report.missing == ()
    assert report.unknown == ()
    assert report.usd_per_month == pytest.approx(2 * 20 * 730)
    [line] = report.lines
    assert line.source == "stated in the template"


def test_scheduled_units_cost_their_hours(tmp_path: Path) -> None:
    """Ten hours on five days are 50 of the week's 168."""
    report = cost(tmp_path, U=units(Scheduled="true", Hours=json.dumps([OFFICE])))
    assert report.usd_per_month == pytest.approx(3 * 50 / 168 * 20 * 730)
    assert "Europe/Berlin" in report.lines[0].note


def test_units_of_a_schedule_come_on_top(tmp_path: Path) -> None:
    """Those that are always there cost at night as well."""
    report = cost(tmp_path, U=units(Hours=json.dumps([OFFICE])))
    assert report.usd_per_month == pytest.approx((2 + 3 * 50 / 168) * 20 * 730)


def test_a_missing_price_is_said_to_be_missing(tmp_path: Path) -> None:
    """No source states a unit of Nova Lite without commitment, and the report says how to give it."""
    without = {key: value for key, value in units()["Properties"].items() if key != "HourlyUsd"}
    report = cost(tmp_path, U=resource(KIND, **without))
    [line] = report.missing
    assert f"--price unit.{LITE}=USD a hour" in line.note
    given = cost(tmp_path, {f"unit.{LITE}": 7}, U=resource(KIND, **without))
    assert given.usd_per_month == pytest.approx(2 * 7 * 730)


def test_a_price_on_the_command_line_goes_before_the_template_s(tmp_path: Path) -> None:
    """Whoever asks knows better than what was deployed."""
    assert cost(tmp_path, {f"unit.{LITE}": 7}, U=units()).usd_per_month == pytest.approx(2 * 7 * 730)


def test_a_declared_commitment_and_scaling_are_said(tmp_path: Path) -> None:
    """The floor is what a deployment buys; what may come besides stands beside it."""
    scaling = {"Ceiling": "5", "DailyUsd": "3000.00"}
    [line] = cost(tmp_path, U=units(Commitment="SIX_MONTHS", Scaling=json.dumps(scaling))).lines
    assert "commit-units` buys SIX_MONTHS" in line.note
    assert "up to 5 units and 3000.00 USD a day" in line.note


def test_the_floor_of_a_scaling_is_paid_for_without_a_token(tmp_path: Path) -> None:
    """Two of their own, three more by day, four at any time: five in 50 hours, four in the other 118."""
    scaling = {"Floor": "4", "Ceiling": "6", "DailyUsd": "3000.00"}
    report = cost(tmp_path, U=units(Hours=json.dumps([OFFICE]), Scaling=json.dumps(scaling)))
    assert report.usd_per_month == pytest.approx((4 * 118 + 5 * 50) / 168 * 20 * 730)
    [quota] = report.quotas
    assert (quota.at_floor, quota.at_most) == (5, 3 + 6)
    [alone] = cost(tmp_path, U=units(Scaling=json.dumps(scaling))).quotas
    assert alone.at_floor == 4


def test_a_custom_model_costs_what_its_base_does(tmp_path: Path) -> None:
    """Its ARN carries the base; a model that only the deployment knows is named so."""
    arn = f"arn:aws:bedrock:us-east-1:111122223333:custom-model/{LITE}/abcdefghij12"
    [line] = cost(tmp_path, U=units(ModelId=arn)).lines
    assert line.item == f"unit.{LITE}"
    [unknown] = cost(tmp_path, U=units(ModelId={"Fn::GetAtt": ["M", "Arn"]})).lines
    assert unknown.item == "unit.a-model-of-the-deployment"


def test_a_number_of_the_deployment_is_not_counted(tmp_path: Path) -> None:
    """A parameter without a default is no number."""
    assert cost(tmp_path, U=units(ModelUnits={"Ref": "P"})).missing[0].quantity is None
    assert cost(tmp_path, U=units(Hours={"Ref": "P"})).missing[0].quantity is None


@pytest.mark.parametrize("hours", ["{", '[{"Id": "x"}]', json.dumps([{**OFFICE, "Units": "many"}])])
def test_fails_for_hours_that_are_none(tmp_path: Path, hours: str) -> None:
    """A template that was edited by hand is named, not skipped."""
    with pytest.raises(TokenmillError, match="synthesize again"):
        cost(tmp_path, U=units(Hours=hours))


def test_the_quota_is_that_of_units_without_commitment(tmp_path: Path) -> None:
    """At the most: hours besides, the ceiling in place of the own units, and both sets while one replaces."""
    scaling = {"Ceiling": "5", "DailyUsd": "3000.00"}
    changes = {"Hours": json.dumps([OFFICE]), "Scaling": json.dumps(scaling)}
    [quota] = cost(tmp_path, U=units(Replacement="MAKE_BEFORE_BREAK", **changes)).quotas
    assert quota.name == "Model units no-commitment Provisioned Throughputs across base models"
    assert (quota.at_floor, quota.at_most) == (2 + 3, 5 + 3 + 2)
    arn = f"arn:aws:bedrock:us-east-1:111122223333:custom-model/{LITE}/abcdefghij12"
    [own] = cost(tmp_path / "custom", U=units(ModelId=arn)).quotas
    assert own.name.endswith("across custom models")
    assert (own.at_floor, own.at_most) == (2, 2)
