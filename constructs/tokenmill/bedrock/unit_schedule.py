"""Units by the clock: bought in the morning and given up in the evening."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenmill.core._checks import text
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenmill.scaling.office_hours import OfficeHours

OPEN, CLOSE, WATCH, SCALE = "open", "close", "watch", "scale"
HOURLY, EVERY_FIVE_MINUTES = "rate(1 hour)", "rate(5 minutes)"
HOURS_A_WEEK = 168
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
    """

    id: str
    hours: OfficeHours
    units: int

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

    def mean_units(self) -> float:
        """Return the units as a mean over all hours of a week."""
        a_day = _hours(self.hours.end) - _hours(self.hours.start)
        return self.units * a_day * len(_days(self.hours.days)) / HOURS_A_WEEK


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
    if any(item.id == id for item in taken):
        raise TokenmillError(f"a schedule is called {id!r} already; give each its own id")
    if hours.copies != 1:
        raise TokenmillError(
            f"hours.copies is {hours.copies}, but units have no copies; say how many with units="
        )
