"""Units by the clock and by the tokens."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from support_stack import of_type, template_of
from support_unit_stack import inputs, make_units, unit_properties
from tokenmill.bedrock import Commitment, UnitCapacity
from tokenmill.core.errors import TokenmillError
from tokenmill.scaling import OfficeHours

if TYPE_CHECKING:
    import aws_cdk as cdk

OFFICE = OfficeHours(start="08:00", end="18:30", timezone="Europe/Berlin")
CAPACITY = UnitCapacity(input_tokens_per_minute=100_000, output_tokens_per_minute=20_000)
GUARD = {"capacity": CAPACITY, "floor": 2, "ceiling": 4, "daily_usd": 1500}


def test_hours_open_and_close_in_their_time_zone(stack: cdk.Stack) -> None:
    """EventBridge Scheduler follows daylight saving by the zone's name."""
    make_units(stack).add_schedule("Office", OFFICE)
    tasks = inputs(template_of(stack))
    assert tasks["openOffice"]["ScheduleExpression"] == "cron(0 8 ? * MON-FRI *)"
    assert tasks["closeOffice"]["ScheduleExpression"] == "cron(30 18 ? * MON-FRI *)"
    for key in ("openOffice", "closeOffice"):
        assert tasks[key]["ScheduleExpressionTimezone"] == "Europe/Berlin"
        assert tasks[key]["event"]["Schedule"] == json.loads(unit_properties(stack)["Hours"])[0]


def test_giving_up_is_tried_for_a_day_and_buying_for_minutes(stack: cdk.Stack) -> None:
    """Units that stay cost on; a purchase that comes late would be for hours that are over."""
    make_units(stack).add_schedule("Office", OFFICE)
    tasks = inputs(template_of(stack))
    age = {key: tasks[key]["Target"]["RetryPolicy"]["MaximumEventAgeInSeconds"] for key in tasks}
    assert age["closeOffice"] == 86_400
    assert age["openOffice"] <= 900


def test_own_units_in_hours_are_not_bought_by_a_deployment_at_night(stack: cdk.Stack) -> None:
    """The function reads that they are scheduled, and when."""
    make_units(stack).add_schedule("Office", OFFICE)
    properties = unit_properties(stack)
    assert properties["Scheduled"] == "true"
    assert json.loads(properties["Hours"])[0]["Units"] == "2"


def test_scheduled_units_have_no_alarm_on_an_arn_that_changes_every_morning(stack: cdk.Stack) -> None:
    """CloudWatch refuses an empty dimension, which it would be at night; overflow tells of throttles."""
    units = make_units(stack)
    units.add_schedule("Office", OFFICE)
    names = [
        alarm["Properties"]["MetricName"]
        for alarm in of_type(template_of(stack), "AWS::CloudWatch::Alarm").values()
    ]
    assert "InvocationThrottles" not in names
    assert "Overflow" in names
    assert units.alarms.throttles is None


def test_more_units_in_hours_leave_the_own_ones_alone(stack: cdk.Stack) -> None:
    """Two always, three more by day."""
    units = make_units(stack)
    units.add_schedule("Office", OFFICE, units=3)
    properties = unit_properties(stack)
    assert "Scheduled" not in properties
    assert json.loads(properties["Hours"])[0]["Units"] == "3"
    assert units.fewest_monthly_usd == pytest.approx((2 + 3 * 52.5 / 168) * 20 * 730)


def test_every_schedule_says_what_was_added_after_it(stack: cdk.Stack) -> None:
    """The hourly watch, made first, knows the hours too."""
    units = make_units(stack)
    units.add_schedule("Office", OFFICE, units=1)
    units.scale_on_tokens(**GUARD)
    tasks = inputs(template_of(stack))
    known = {json.dumps(task["event"]["Properties"], sort_keys=True) for task in tasks.values()}
    assert len(known) == 1
    assert {"Hours", "Scaling"} <= json.loads(known.pop()).keys()


def test_a_schedule_that_fires_at_the_end_of_the_week_is_counted(stack: cdk.Stack) -> None:
    """FRI-MON goes over the end of the week: four days."""
    units = make_units(stack)
    units.add_schedule("Weekend", OfficeHours(start="00:00", end="12:00", days="FRI-MON"))
    assert units.fewest_monthly_usd == pytest.approx(2 * 48 / 168 * 20 * 730)


def test_scaling_says_capacity_bounds_and_guard(stack: cdk.Stack) -> None:
    """Every five minutes, since a purchase takes minutes itself."""
    make_units(stack).scale_on_tokens(**GUARD)
    scale = inputs(template_of(stack))["scale"]
    assert scale["ScheduleExpression"] == "rate(5 minutes)"
    assert scale["event"]["Scaling"] == {
        "InputTokensPerMinute": "100000",
        "OutputTokensPerMinute": "20000",
        "Floor": "2",
        "Ceiling": "4",
        "DailyUsd": "1500.00",
    }
    assert json.loads(unit_properties(stack)["Scaling"]) == scale["event"]["Scaling"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"floor": 1}, "floor is 1, but the resource owns 2 all the time"),
        ({"floor": 0}, "floor is 0; it must be 1 or more"),
        ({"floor": 3, "ceiling": 2}, "ceiling is 2, which is below floor 3"),
        ({"floor": 2.5}, "floor must be a whole number"),
        ({"daily_usd": 900}, "floor 2 costs 960.00 USD a day at 20 USD an hour each, over the spend guard"),
        ({"daily_usd": 0}, "daily_usd is 0"),
        ({"daily_usd": None}, "daily_usd is None"),
    ],
)
def test_fails_for_a_scaling_that_cannot_be(stack: cdk.Stack, changes: dict[str, float], says: str) -> None:
    """Nothing is made of it."""
    units = make_units(stack)
    with pytest.raises(TokenmillError, match=re.escape(says)):
        units.scale_on_tokens(**{**GUARD, **changes})
    assert set(inputs(template_of(stack))) == {"watch"}


def test_fails_for_scheduled_units_over_the_spend_guard(stack: cdk.Stack) -> None:
    """In either order: the guard is over all units of a day, and the busiest weekday counts."""
    first, second = make_units(stack, "First"), make_units(stack, "Second")
    weekend = OfficeHours(start="08:00", end="18:30", days="SAT-SUN")
    first.add_schedule("Office", OFFICE, units=2)
    first.add_schedule("Weekend", weekend, units=2)
    with pytest.raises(TokenmillError, match="floor 2 with the scheduled units costs 1,380.00 USD"):
        first.scale_on_tokens(**{**GUARD, "daily_usd": 1379})
    first.scale_on_tokens(**{**GUARD, "daily_usd": 1380})
    second.scale_on_tokens(**{**GUARD, "daily_usd": 1379})
    with pytest.raises(TokenmillError, match="over the spend guard daily_usd=1379"):
        second.add_schedule("Office", OFFICE, units=2)
    assert {"openOffice", "openWeekend"} <= set(inputs(template_of(stack)))
    assert len(of_type(template_of(stack), "AWS::Scheduler::Schedule")) == 6 + 2


def test_scheduled_units_count_for_the_floor(stack: cdk.Stack) -> None:
    """Two of their own and two by day are the floor of four by day; at night the floor buys two."""
    units = make_units(stack)
    units.add_schedule("Office", OFFICE, units=2)
    with pytest.raises(TokenmillError, match=re.escape("costs 1,920.00 USD")):
        units.scale_on_tokens(**{**GUARD, "floor": 4, "daily_usd": 1919})
    units.scale_on_tokens(**{**GUARD, "floor": 4, "daily_usd": 1920})


def test_the_floor_of_a_scaling_is_part_of_the_monthly_floor(stack: cdk.Stack) -> None:
    """Extra units up to the floor are bought without a token."""
    units = make_units(stack)
    units.scale_on_tokens(**{**GUARD, "floor": 3, "daily_usd": 1440})
    assert units.fewest_monthly_usd == pytest.approx(3 * 20 * 730)


def test_fails_without_a_price_to_guard(stack: cdk.Stack) -> None:
    """Money is guarded by a price, and no source states this one."""
    with pytest.raises(TokenmillError, match="give hourly_usd"):
        make_units(stack, hourly_usd=None).scale_on_tokens(**GUARD)


@pytest.mark.parametrize("tokens", [0, -1, float("nan"), float("inf"), "many"])
def test_fails_for_a_capacity_of_nothing(tokens: float) -> None:
    """A unit that processes nothing would be bought without end."""
    with pytest.raises(TokenmillError, match="input_tokens_per_minute"):
        UnitCapacity(input_tokens_per_minute=tokens, output_tokens_per_minute=1)


def test_fails_for_a_second_scaling(stack: cdk.Stack) -> None:
    """Two would buy against each other."""
    units = make_units(stack)
    units.scale_on_tokens(**GUARD)
    with pytest.raises(TokenmillError, match="already"):
        units.scale_on_tokens(**GUARD)


def test_fails_where_units_follow_the_clock_and_the_tokens(stack: cdk.Stack) -> None:
    """In either order: at night there is no floor."""
    first, second = make_units(stack, "First"), make_units(stack, "Second")
    first.add_schedule("Office", OFFICE)
    with pytest.raises(TokenmillError, match="no floor"):
        first.scale_on_tokens(**GUARD)
    second.scale_on_tokens(**GUARD)
    with pytest.raises(TokenmillError, match="floor of scale_on_tokens"):
        second.add_schedule("Office", OFFICE)
    assert len(of_type(template_of(stack), "AWS::Scheduler::Schedule")) == 2 + 2 + 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"commitment": Commitment.SIX_MONTHS}, "committed units are paid for at night too"),
        ({"protected": True}, "they are protected"),
    ],
)
def test_fails_for_own_units_that_cannot_be_given_up(
    stack: cdk.Stack, changes: dict[str, object], says: str
) -> None:
    """Further units in the hours are fine all the same."""
    units = make_units(stack, **changes)
    with pytest.raises(TokenmillError, match=says):
        units.add_schedule("Office", OFFICE)
    units.add_schedule("Office", OFFICE, units=1)


def test_fails_for_hours_that_speak_of_copies_or_take_an_id(stack: cdk.Stack) -> None:
    """Units are said with units=, and an id is one schedule's."""
    units = make_units(stack)
    copies = OfficeHours(start="08:00", end="18:00", copies=3)
    with pytest.raises(TokenmillError, match="say how many with units="):
        units.add_schedule("Office", copies)
    units.add_schedule("Office", OFFICE)
    with pytest.raises(TokenmillError, match="'Office' already"):
        units.add_schedule("Office", OFFICE)
    with pytest.raises(TokenmillError, match="units is 0"):
        units.add_schedule("Night", OFFICE, units=0)
