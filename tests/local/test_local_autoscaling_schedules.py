"""When scheduled actions are due."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tokenmill.local.autoscaling.schedule import check_schedule, is_due
from tokenmill.local.aws_requests import AwsError

CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def due(schedule: str, since: str, until: str, **members: Any) -> bool:
    """Whether an action is due between two times in UTC."""
    action = {"Schedule": schedule, "CreationTime": CREATED, **members}
    check_schedule(action)
    return is_due(action, *(datetime.fromisoformat(f"{time}+00:00").timestamp() for time in (since, until)))


@pytest.mark.parametrize(
    ("schedule", "day"),
    [
        ("cron(0 8 ? * MON-FRI *)", "2026-01-05"),
        ("cron(0 8 ? * 2 *)", "2026-01-05"),
        ("cron(0 8 5,6 JAN ? 2026)", "2026-01-05"),
        ("cron(0/30 8 * * ? *)", "2026-01-04"),
        ("cron(0 8 L * ? *)", "2026-02-28"),
        ("cron(0 0/8 ? 1-3 * *)", "2026-02-28"),
    ],
)
def test_cron_is_due_at_its_minute(schedule: str, day: str) -> None:
    assert due(schedule, f"{day}T07:59:58", f"{day}T08:00:03")
    assert not due(schedule, f"{day}T08:00:03", f"{day}T08:00:08"), "only once"
    assert not due(schedule, f"{day}T07:59:53", f"{day}T07:59:58")


@pytest.mark.parametrize(
    ("schedule", "day"),
    [
        ("cron(0 8 ? * MON-FRI *)", "2026-01-04"),
        ("cron(0 8 L * ? *)", "2026-02-27"),
        ("cron(0 8 1 * ? 2027)", "2026-01-01"),
    ],
)
def test_cron_is_not_due_on_another_day(schedule: str, day: str) -> None:
    assert not due(schedule, f"{day}T07:00:00", f"{day}T09:00:00")


@pytest.mark.parametrize(
    ("day", "hour"), [("2026-01-05", "07"), ("2026-07-06", "06")], ids=["winter", "summer"]
)
def test_a_time_zone_moves_with_daylight_saving(day: str, hour: str) -> None:
    """Eight o'clock in Berlin is seven or six in UTC."""
    schedule = "cron(0 8 ? * MON-FRI *)"
    assert due(schedule, f"{day}T{hour}:00:00", f"{day}T{hour}:00:05", Timezone="Europe/Berlin") is False
    before = int(hour) - 1
    assert due(schedule, f"{day}T{before:02}:59:58", f"{day}T{hour}:00:03", Timezone="Europe/Berlin")


def test_a_missed_minute_is_due_when_the_clock_looks_again() -> None:
    assert due("cron(30 8 * * ? *)", "2026-01-05T08:00:00", "2026-01-05T09:00:00")


def test_at_is_due_once_in_its_time_zone() -> None:
    schedule = "at(2026-07-01T08:00:00)"
    assert due(schedule, "2026-07-01T07:59:58", "2026-07-01T08:00:00")
    assert not due(schedule, "2026-07-01T08:00:00", "2026-07-01T08:00:05")
    assert due(schedule, "2026-07-01T05:59:58", "2026-07-01T06:00:03", Timezone="Europe/Berlin")


def test_a_rate_counts_from_the_start() -> None:
    schedule = "rate(5 minutes)"
    assert not due(schedule, "2026-01-01T00:00:00", "2026-01-01T00:04:59")
    assert due(schedule, "2026-01-01T00:04:58", "2026-01-01T00:05:03")
    start = datetime(2026, 1, 1, 0, 2, tzinfo=UTC)
    assert not due(schedule, "2026-01-01T00:04:58", "2026-01-01T00:05:03", StartTime=start)
    assert due(schedule, "2026-01-01T00:06:58", "2026-01-01T00:07:03", StartTime=start)


@pytest.mark.parametrize("members", [{"StartTime": "2026-01-06T00:00:00Z"}, {"EndTime": 1_767_571_200}])
def test_start_and_end_bound_a_recurring_schedule(members: dict[str, Any]) -> None:
    """1767571200 is 2026-01-05T00:00:00Z."""
    assert not due("cron(0 8 * * ? *)", "2026-01-05T07:59:58", "2026-01-05T08:00:03", **members)


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ({"Schedule": "every day"}, "none of at"),
        ({"Schedule": "rate(0 minutes)"}, "is not rate"),
        ({"Schedule": "rate(5 weeks)"}, "is not rate"),
        ({"Schedule": "at(tomorrow)"}, "is not at"),
        ({"Schedule": "cron(0 8 * * *)"}, "six fields"),
        ({"Schedule": "cron(0 8 * * MON *)"}, r"must be \?"),
        ({"Schedule": "cron(61 8 * * ? *)"}, "out of range"),
        ({"Schedule": "cron(0 8 ? * MON#1 *)"}, "'MON#1' is not evaluated"),
        ({"Schedule": "rate(1 day)", "Timezone": "Mars/Olympus"}, "is not a time zone"),
    ],
)
def test_fails_schedules_that_are_none(action: dict[str, Any], said: str) -> None:
    with pytest.raises(AwsError, match=said):
        check_schedule(action)
