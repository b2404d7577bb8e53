"""Hours in which a model runs at all: development endpoints are off at night."""

from __future__ import annotations

import re
import zoneinfo
from dataclasses import dataclass

from tokenmill.core._checks import as_whole, text
from tokenmill.core.errors import TokenmillError

_TIME = re.compile(r"^([01]\d|2[0-3]):([0-5]\d)$")
_DAY_NAMES = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_DAY = "|".join(_DAY_NAMES)
_DAYS = re.compile(rf"(?:{_DAY})(?:-(?:{_DAY}))?(?:,(?:{_DAY})(?:-(?:{_DAY}))?)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficeHours:
    """When copies run; outside of it there are none, and no request starts one.

    Args:
        start: First minute with copies, "HH:MM".
        end: First minute without, "HH:MM", on the same day.
        days: Days of the week as cron writes them, such as "MON-FRI" or "MON,WED".
        timezone: A name of the IANA time zone database, such as "Europe/Berlin"; daylight saving follows it.
        copies: Fewest copies within the hours; 0 lets the first request of the day wake the model.

    Raises:
        TokenmillError: If a time, a day, the zone or the copies are none.
    """

    start: str
    end: str
    days: str = "MON-FRI"
    timezone: str = "Etc/UTC"
    copies: int = 1

    def __post_init__(self) -> None:
        for name in ("start", "end", "days", "timezone"):
            text(name, getattr(self, name))
        as_whole(self, "copies")
        for name, value in (("start", self.start), ("end", self.end)):
            if not _TIME.match(value):
                raise TokenmillError(f"{name} is {value!r}; give a time from '00:00' to '23:59'")
        if self.end <= self.start:
            raise TokenmillError(
                f"end is {self.end!r}, which is not after start {self.start!r}; hours end on the day that "
                "they start, so give a later end"
            )
        if not _DAYS.fullmatch(self.days):
            raise TokenmillError(
                f"days is {self.days!r}; give {', '.join(_DAY_NAMES)} joined by '-' or ',', such as 'MON-FRI'"
            )
        if not _loads(self.timezone):
            known = zoneinfo.available_timezones()
            # A machine without a time zone database cannot tell; the service checks the name then.
            if known and self.timezone not in known:
                raise TokenmillError(
                    f"timezone is {self.timezone!r}; give a name of the IANA time zone database, such as "
                    "'Europe/Berlin' or 'Etc/UTC'"
                )
        if self.copies < 0:
            raise TokenmillError(f"copies is {self.copies}; it must be 0 or more")

    def schedule(self, time: str) -> str:
        """Return when a time of the day comes, as Application Auto Scaling writes it.

        Source: "Scheduled scaling for Application Auto Scaling": cron(minutes hours day month weekday year).

        Args:
            time: `start` or `end`.
        """
        hours, minutes = time.split(":")
        return f"cron({int(minutes)} {int(hours)} ? * {self.days} *)"


def _loads(zone: str) -> bool:
    """Return whether a zone can be read by its name; a list of all names reads hundreds of files."""
    if zone.startswith(("posix", "right/")):  # copies of zones, which stand beside the names
        return False
    try:
        zoneinfo.ZoneInfo(zone)
    except (KeyError, OSError, ValueError):
        return False
    return True
