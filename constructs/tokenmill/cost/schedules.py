"""How many copies or instances a scalable target keeps, over the hours of a week.

Source: "Scheduled scaling for Application Auto Scaling": an action sets the bounds when its time comes, and
they stay until the next one; cron(minutes hours day month weekday year), in the action's time zone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tokenmill.cost.assembly import NotKnownError, as_object

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tokenmill.cost.assembly import Resource

HOURS_A_WEEK = 168
Week = tuple[tuple[int, int], ...]
"""Minutes of the week, from Sunday 00:00, at which the number changes, with the number from then on."""

_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_MINUTES_A_DAY = 24 * 60
_MINUTES_A_WEEK = 7 * _MINUTES_A_DAY
_CRON = re.compile(r"cron\((\d+) (\d+) [?*] \* ([A-Z0-9,*?-]+) \*\)")


def fewest_over_a_week(target: Resource) -> Week:
    """Return the fewest copies or instances of a scalable target.

    Args:
        target: The target.

    Raises:
        NotKnownError: A schedule is not one of hours and days of the week.
        TokenmillError: A number is malformed.
    """
    steps: dict[int, int] = {}
    for item in target.items("ScheduledActions"):
        action = as_object(item, "ScheduledActions")
        bounds = as_object(action.get("ScalableTargetAction", {}), "ScalableTargetAction")
        if "MinCapacity" in bounds:
            fewest = int(target.number("MinCapacity", within=bounds))
            steps |= dict.fromkeys(_minutes(action.get("Schedule")), fewest)
    return tuple(sorted(steps.items())) or constant(int(target.number("MinCapacity")))


def constant(number: int) -> Week:
    """Return a week in which nothing changes.

    Args:
        number: Copies or instances.
    """
    return ((0, number),)


def time_zones(target: Resource) -> set[str]:
    """Return the time zones of a target's schedules.

    Args:
        target: The target.
    """
    return {str(item.get("Timezone", "UTC")) for item in target.items("ScheduledActions")}


def parts_of_a_week(weeks: Sequence[Week]) -> Iterator[tuple[float, tuple[int, ...]]]:
    """Yield stretches in which none of several numbers changes: its hours, and the numbers.

    Args:
        weeks: The numbers over the week.
    """
    edges = sorted({0, _MINUTES_A_WEEK, *(minute for week in weeks for minute, _ in week)})
    for start, end in zip(edges, edges[1:], strict=False):
        yield (end - start) / 60, tuple(_at(week, start) for week in weeks)


def _at(week: Week, minute: int) -> int:
    # before the week's first change the last one of the week before holds
    return next((number for start, number in reversed(week) if start <= minute), week[-1][1])


def _minutes(schedule: object) -> list[int]:
    match = _CRON.fullmatch(str(schedule))
    if match is None:
        raise NotKnownError(f"schedule {schedule!r:.60} is not one of hours and days of the week")
    minute, hour, days = match.groups()
    return [day * _MINUTES_A_DAY + int(hour) * 60 + int(minute) for day in _weekdays(days)]


def _weekdays(text: str) -> set[int]:
    if text in ("*", "?"):
        return set(range(7))
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        start, end = _weekday(first), _weekday(last or first)
        # FRI-MON goes over the end of the week
        found |= {day % 7 for day in range(start, end + 1 if end >= start else end + 8)}
    return found


def _weekday(text: str) -> int:
    if text in _DAYS:
        return _DAYS.index(text)
    if text.isdigit() and 1 <= int(text) <= 7:
        return int(text) - 1
    raise NotKnownError(f"{text!r} is no day of the week")
