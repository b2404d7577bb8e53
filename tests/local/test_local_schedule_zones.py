"""EventBridge Scheduler in the local cloud: time zones, and rates that begin at once."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from support_local import ACCOUNT, ROLE, client
from tokenmill.local.ministack_schedules import (
    ZonedExpression,
    begin_at_once,
    zoned_at,
    zoned_fields,
    zoned_next_fire,
)

if TYPE_CHECKING:
    from tokenmill.local.cloud_process import CloudProcess


@pytest.mark.parametrize(
    ("after", "fires"),
    [
        (datetime(2026, 1, 14, 3, tzinfo=UTC), datetime(2026, 1, 14, 7, tzinfo=UTC)),
        (datetime(2026, 7, 15, 3, tzinfo=UTC), datetime(2026, 7, 15, 6, tzinfo=UTC)),
        (datetime(2026, 1, 16, 8, tzinfo=UTC), datetime(2026, 1, 19, 7, tzinfo=UTC)),
    ],
)
def test_office_hours_follow_the_time_zone_and_its_summer(after: datetime, fires: datetime) -> None:
    """Eight o'clock in Berlin is seven in winter and six in summer, in UTC; weekends are skipped."""
    events = importlib.import_module("ministack.services.eventbridge")
    expression = ZonedExpression("cron(0 8 ? * MON-FRI *)", "Europe/Berlin")
    fields = zoned_fields(events._parse_cron_fields)(expression)
    assert zoned_next_fire(events._cron_next_fire)(fields, after) == fires


def test_expressions_without_a_zone_stay_in_utc() -> None:
    """What carries no time zone is MiniStack's own."""
    scheduler = importlib.import_module("ministack.services.scheduler")
    plain = "at(2026-01-14T08:00:00)"
    utc = zoned_at(scheduler._at_time_epoch)(plain)
    tokyo = zoned_at(scheduler._at_time_epoch)(ZonedExpression(plain, "Asia/Tokyo"))
    assert utc == datetime(2026, 1, 14, 8, tzinfo=UTC).timestamp()
    assert tokyo is not None
    assert utc - tokyo == 9 * 3600


@pytest.mark.parametrize("zone", ["Europe/Berln", "../etc/passwd", "Europe"])
def test_a_zone_that_is_none_is_refused(cloud: CloudProcess, zone: str) -> None:
    """The schedule is not made, nor changed to it: it would keep every other one from firing."""
    scheduler, name = client(cloud.endpoint, "scheduler"), f"zone-{uuid4().hex[:8]}"
    schedule = {
        "Name": name,
        "ScheduleExpression": "cron(0 8 ? * MON-FRI *)",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": {"Arn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:none", "RoleArn": ROLE},
    }
    told = "is no time zone of the IANA database"
    with pytest.raises(ClientError, match=told):
        scheduler.create_schedule(**schedule, ScheduleExpressionTimezone=zone)
    scheduler.create_schedule(**schedule, ScheduleExpressionTimezone="Europe/Berlin")
    with pytest.raises(ClientError, match=told):
        scheduler.update_schedule(**schedule, ScheduleExpressionTimezone=zone)
    assert scheduler.get_schedule(Name=name)["ScheduleExpressionTimezone"] == "Europe/Berlin"
    scheduler.delete_schedule(Name=name)


class Ticking:
    """MiniStack's module of EventBridge Scheduler, as far as its clock goes."""

    def __init__(self, **expressions: str) -> None:
        self._schedules = SimpleNamespace(
            _data={name: {"ScheduleExpression": text} for name, text in expressions.items()}
        )
        self._schedule_last_fired = {"gone": 5.0}
        self.ticks = 0

    def _tick_schedules(self) -> None:
        self.ticks += 1


def test_a_rate_begins_when_it_is_made_and_forgets_what_was_deleted() -> None:
    """A rate is overdue at once; a cron expression is not, and a name that was deleted begins anew."""
    events = importlib.import_module("ministack.services.eventbridge")
    scheduler = Ticking(hourly="rate(1 hour)", daily="cron(0 8 ? * MON-FRI *)", later="rate(1 hour)")
    scheduler._schedules._data["later"]["StartDate"] = 2.0e9
    begin_at_once(scheduler, events)
    scheduler._tick_schedules()
    assert scheduler._schedule_last_fired == {"hourly": 0.0}
    assert scheduler.ticks == 1
