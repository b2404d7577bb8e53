"""Units by the clock: bought when hours begin, given up when they end.

Whether units are to be had in the morning is up to the service. Where there are none the handle names the
fallback, the metric UnitsMissing says so, and every watch within the hours tries again.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime.custom_resource import Refused
from tokenmill_runtime.metric_contract import UNITS_MISSING
from tokenmill_runtime.units_plan import SCHEDULED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tokenmill_runtime.units_tasks import Task

DAYS: Final = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")

Hours = dict[str, str]


def slot_for(hours: Mapping[str, str]) -> str:
    """The slot of hours: two digits tell the hours of one resource apart."""
    return SCHEDULED + hashlib.sha256(hours["Id"].encode()).hexdigest()[:2]


def all_hours(properties: Mapping[str, Any]) -> list[Hours]:
    """The hours of a resource's properties. Raises ValueError where they are not of their form."""
    text = properties.get("Hours")
    if not text:
        return []
    try:
        return [{key: str(hours[key]) for key in _KEYS} for hours in json.loads(text)]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"Hours must be a JSON list of objects with {', '.join(_KEYS)}, got {text!r}"
        ) from error


_KEYS: Final = ("Id", "Start", "End", "Days", "TimeZone", "Units")


def is_within(hours: Mapping[str, str], epoch: float) -> bool:
    """Whether hours last at a moment, in their own time zone.

    Raises ValueError for a zone that is unknown.
    """
    import zoneinfo

    try:
        zone = zoneinfo.ZoneInfo(hours["TimeZone"])
    except zoneinfo.ZoneInfoNotFoundError as error:
        raise ValueError(
            f"time zone {hours['TimeZone']!r} is not known here; the schedule itself opens and closes the "
            "hours"
        ) from error
    now = datetime.fromtimestamp(epoch, zone)
    return DAYS[now.weekday()] in days_of(hours["Days"]) and hours["Start"] <= f"{now:%H:%M}" < hours["End"]


def days_of(text: str) -> set[str]:
    """The days that cron's "MON-FRI" or "MON,WED" names."""
    return {day for part in text.split(",") for day in _days_of_part(part)}


def _days_of_part(part: str) -> Iterator[str]:
    first, _, last = part.partition("-")
    start, end = DAYS.index(first), DAYS.index(last or first)
    for step in range((end - start) % len(DAYS) + 1):
        yield DAYS[(start + step) % len(DAYS)]


def open_hours(task: Task, event: Mapping[str, Any]) -> bool:
    """Own the units of hours that begin; whether they are in service, or cannot be had.

    A call that comes after the end buys nothing; where the time zone is unknown, the schedule is believed.
    """
    hours = event["Schedule"]
    try:
        lasting = is_within(hours, task.clock.wall())
    except ValueError as error:
        print(error, flush=True)
        lasting = True
    if not lasting:
        print(f"hours {hours['Id']} do not last now; nothing is bought", flush=True)
        return True
    return ensure(task, hours)


def ensure(task: Task, hours: Mapping[str, str]) -> bool:
    """Own the units of hours; whether they are in service, or cannot be had for now."""
    slot, units = slot_for(hours), int(hours["Units"])
    held = task.held()
    mine = next((each for each in held if task.slot(each) == slot), None)
    if not task.is_current:
        # Hours that outlive their resource buy nothing, and give up what they bought.
        return mine is None or task.give_up(mine)
    if mine is None:
        try:
            task.buy(slot, units)
        except Refused as refused:
            return _missing(task, units, str(refused))
        return False
    if mine.status == "Failed":
        return task.give_up(mine) and _missing(task, units, mine.failure)
    if mine.busy:
        return False
    task.tell_callers(held)
    task.publish({UNITS_MISSING: 0})
    return True


def close_hours(task: Task, event: Mapping[str, Any]) -> bool:
    """Give the units of hours up, callers first; whether they are gone."""
    slot, held = slot_for(event["Schedule"]), task.held()
    if task.is_current:
        task.tell_callers([units for units in held if task.slot(units) != slot])
    gone = all([task.give_up(units) for units in held if task.slot(units) == slot])
    if gone:
        task.publish({UNITS_MISSING: 0})
    return gone


def _missing(task: Task, units: int, why: str) -> bool:
    print(
        f"no {units} units of {task.wanted.model} for these hours: {why}; callers use the fallback",
        flush=True,
    )
    task.tell_callers(task.held())
    task.publish({UNITS_MISSING: units})
    return True
