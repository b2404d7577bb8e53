"""What EventBridge Scheduler does and MiniStack does not: time zones, and a rate that begins at once.

A schedule's expression carries its time zone through MiniStack's own functions: `at` and `cron` are read in
it. Source: EventBridge Scheduler User Guide, "Schedule types in EventBridge Scheduler"
(ScheduleExpressionTimezone; "If you do not provide a StartDate for a rate-based schedule, your schedule
starts invoking the target immediately").
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    NextFire = Callable[[Any, datetime], datetime | None]


class ZonedExpression(str):
    """An expression with its time zone.

    Args:
        expression: `cron(...)` or `at(...)`.
        zone: IANA name of the time zone.
    """

    __slots__ = ("zone",)
    zone: str

    def __new__(cls, expression: str, zone: str) -> ZonedExpression:
        """Make one."""
        made = super().__new__(cls, expression)
        made.zone = zone
        return made


class ZonedFields(tuple[Any, ...]):
    """The fields of a cron expression with its time zone."""

    zone: str


def zoned_at(at_epoch: Callable[[str], float | None]) -> Callable[[str], float | None]:
    """Return a reader of `at` expressions that follows a time zone.

    Args:
        at_epoch: Reads an expression as UTC: seconds since 1970, or nothing for one of another kind.
    """

    def read(expression: str) -> float | None:
        epoch = at_epoch(expression)
        if epoch is None or not isinstance(expression, ZonedExpression):
            return epoch
        shown = datetime.fromtimestamp(epoch, UTC).replace(tzinfo=ZoneInfo(expression.zone))
        return shown.timestamp()

    return read


def zoned_fields(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a reader of cron expressions whose fields know their time zone.

    Args:
        parse: Reads an expression's fields; nothing for one of another kind.
    """

    def read(expression: str) -> Any:
        fields = parse(expression)
        if fields is None or not isinstance(expression, ZonedExpression):
            return fields
        made = ZonedFields(fields)
        made.zone = expression.zone
        return made

    return read


def zoned_next_fire(next_fire: NextFire) -> NextFire:
    """Return what finds the next time of a cron expression, in its time zone.

    Args:
        next_fire: Finds it in UTC.
    """

    def find(fields: Any, after: datetime) -> datetime | None:
        if not isinstance(fields, ZonedFields):
            return next_fire(fields, after)
        zone = ZoneInfo(fields.zone)
        found = next_fire(tuple(fields), after.astimezone(zone).replace(tzinfo=UTC))
        return None if found is None else found.replace(tzinfo=zone).astimezone(UTC)

    return find


def zone_checked(scheduler: Any, write: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """Return what writes a schedule unless its time zone is none: nothing would fire beside such a one.

    Args:
        scheduler: MiniStack's module of EventBridge Scheduler.
        write: Creates or updates a schedule: its name and the request's members in, an HTTP answer out.
    """

    def checked(name: str, body: Any) -> Any:
        zone = body.get("ScheduleExpressionTimezone") or "UTC"
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            told = f"ScheduleExpressionTimezone {zone} is no time zone of the IANA database"
            return scheduler._error(400, "ValidationException", told)
        return write(name, body)

    return checked


def follow_time_zones(scheduler: Any, events: Any) -> None:
    """Let the scheduler follow the time zones of its schedules.

    Args:
        scheduler: MiniStack's module of EventBridge Scheduler.
        events: MiniStack's module of EventBridge, whose functions the scheduler uses.
    """
    tick = scheduler._tick_schedules
    scheduler._create_schedule = zone_checked(scheduler, scheduler._create_schedule)
    scheduler._update_schedule = zone_checked(scheduler, scheduler._update_schedule)
    scheduler._at_time_epoch = zoned_at(scheduler._at_time_epoch)
    events._parse_cron_fields = zoned_fields(events._parse_cron_fields)
    events._cron_next_fire = zoned_next_fire(events._cron_next_fire)

    def tick_in_zones() -> None:
        for schedule in list(scheduler._schedules._data.values()):
            zone, expression = (
                schedule.get("ScheduleExpressionTimezone") or "UTC",
                schedule["ScheduleExpression"],
            )
            if zone != "UTC" and getattr(expression, "zone", None) != zone:
                schedule["ScheduleExpression"] = ZonedExpression(expression, zone)
        tick()

    scheduler._tick_schedules = tick_in_zones


def begin_at_once(scheduler: Any, events: Any) -> None:
    """Let schedules with a rate fire when they are made, also under the name of one that was deleted.

    Args:
        scheduler: MiniStack's module of EventBridge Scheduler.
        events: MiniStack's module of EventBridge, whose functions the scheduler uses.
    """
    tick = scheduler._tick_schedules

    def tick_from_the_beginning() -> None:
        schedules, fired = dict(scheduler._schedules._data), scheduler._schedule_last_fired
        for key in fired.keys() - schedules.keys():
            del fired[key]
        for key, schedule in schedules.items():
            interval = events._parse_rate_seconds(schedule["ScheduleExpression"])
            if interval is not None and schedule.get("StartDate") is None:
                fired.setdefault(key, 0.0)
        tick()

    scheduler._tick_schedules = tick_from_the_beginning
