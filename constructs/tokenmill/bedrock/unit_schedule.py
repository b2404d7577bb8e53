"""Units by the clock: bought in the morning and given up in the evening."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from tokenmill.core._checks import text
from tokenmill.core.errors import TokenmillError
from tokenmill.scaling.office_hours import OfficeHours
from tokenmill_runtime.units_schedule import slot_for

if TYPE_CHECKING:
    from collections.abc import Sequence

OPEN, CLOSE, WATCH, SCALE = "open", "close", "watch", "scale"
HOURLY, EVERY_FIVE_MINUTES = "rate(1 hour)", "rate(5 minutes)"
HOURS_A_DAY, HOURS_A_WEEK = 24, 168
# Units that could not be given up cost on, so that is tried for a day, the most that EventBridge Scheduler
# takes; the others come again by themselves, and a late purchase would be for hours that are over.
RETRY_SECONDS = {OPEN: 900, CLOSE: 86_400, WATCH: 300, SCALE: 60}
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitHours:
    """Hours in which units are owned.

    Args:
        id: The schedule's id, unique in its units.
        hours: When they begin and end.
        units: How many.
        own: Whether they are the resource's own units, and not further ones.
    """

    id: str
    hours: OfficeHours
    units: int
    own: bool = False

    def document(self) -> dict[str, str]:
        """Return the hours as the function reads them."""
        return {
            "Id": self.id,
            "Start": self.hours.start,
            "End": self.hours.end,
            "Days": self.hours.days,
            "TimeZone": self.hours.timezone,
            "Units": str(self.units),
        }


def unit_hours(schedules: Sequence[UnitHours], *, always: float, floor: float = 0) -> tuple[float, ...]:
    """Return the unit hours of each weekday without a token, Sunday first.

    Args:
        schedules: Hours in which there are more; taken as of one time zone.
        always: Units that are there all the time.
        floor: Fewest units at any time, all of them together.
    """
    days = ([item for item in schedules if day in _days(item.hours.days)] for day in range(len(_DAYS)))
    return tuple(_of_day(lasting, always, floor) for lasting in days)


def _of_day(schedules: Sequence[UnitHours], always: float, floor: float) -> float:
    spans = [(_hours(item.hours.start), _hours(item.hours.end), item.units) for item in schedules]
    edges = sorted({0.0, float(HOURS_A_DAY), *(edge for start, end, _ in spans for edge in (start, end))})
    return sum(
        (later - now) * max(floor, always + sum(units for start, end, units in spans if start <= now < end))
        for now, later in pairwise(edges)
    )


def check_apart(made: UnitHours, taken: Sequence[UnitHours]) -> None:
    """Refuse hours that would own the resource's own units twice; further units add up as they should.

    Args:
        made: The hours.
        taken: Hours that are there already.

    Raises:
        TokenmillError: If they overlap; hours of two time zones are not compared.
    """
    for other in taken:
        one, two = made.hours, other.hours
        days = one.timezone == two.timezone and _days(one.days) & _days(two.days)
        if made.own and other.own and days and one.start < two.end and two.start < one.end:
            raise TokenmillError(
                f"schedules {other.id!r} and {made.id!r} overlap, and both own the resource's own units, "
                "which would be bought twice; give one of them units= of its own, or let them not overlap"
            )


def _hours(time: str) -> float:
    hours, minutes = time.split(":")
    return int(hours) + int(minutes) / 60


def _days(text: str) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        start, end = _DAYS.index(first), _DAYS.index(last or first)
        # FRI-MON goes over the end of the week
        found |= {day % 7 for day in range(start, end + 1 if end >= start else end + 8)}
    return found


def hours_text(schedules: Sequence[UnitHours]) -> str | None:
    """Return all hours in one text, or None where there are none.

    Args:
        schedules: The hours.
    """
    return json.dumps([item.document() for item in schedules]) if schedules else None


def check_hours(id: str, hours: OfficeHours, taken: Sequence[UnitHours]) -> None:
    """Check hours before anything is made of them.

    Args:
        id: The schedule's id.
        hours: The hours.
        taken: Hours that are there already.

    Raises:
        TokenmillError: If the id is taken, or the hours speak of copies.
    """
    text("id", id)
    if not isinstance(hours, OfficeHours):
        raise TokenmillError(f"hours is {hours!r:.80}; give OfficeHours(start=…, end=…, timezone=…)")
    # CDK writes -- for the slash in an id.
    if any(item.id.replace("/", "--") == id.replace("/", "--") for item in taken):
        raise TokenmillError(f"a schedule is called {id!r} already; give each its own id")
    # The function tells the units of several hours apart by two digits of their ids.
    same = next((item.id for item in taken if slot_for({"Id": item.id}) == slot_for({"Id": id})), None)
    if same is not None:
        raise TokenmillError(
            f"the units of schedule {id!r} cannot be told from those of {same!r}, whose id has the same "
            "short digest; give it another id"
        )
    if hours.copies != 1:
        raise TokenmillError(
            f"hours.copies is {hours.copies}, but units have no copies; say how many with units="
        )
