"""When scheduled actions are due: at, rate and cron expressions in a time zone.

Source: Application Auto Scaling API Reference, "PutScheduledAction" (Schedule, Timezone, StartTime, EndTime);
User Guide, "Schedule recurring scaling actions using cron expressions".
"""

from __future__ import annotations

import calendar
import re
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tokenmill.local.aws_requests import AwsError

if TYPE_CHECKING:
    from tokenmill.local.aws_requests import Params

_FORM = re.compile(r"^(at|rate|cron)\((.+)\)$")
_UNITS = {"minute": 60, "hour": 3600, "day": 86400}
_RATE = re.compile(r"^([1-9]\d*) (minute|hour|day)s?$")
_MONTHS = {name.upper(): number for number, name in enumerate(calendar.month_abbr) if name}
_DAYS = {name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"), 1)}
_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (1, 7), (1970, 2199))
_LAST = "L"


def check_schedule(action: Params) -> None:
    """Refuse an expression or a time zone that is none.

    Args:
        action: A scheduled action.

    Raises:
        AwsError: It is none.
    """
    zone(action.get("Timezone"))
    kind, text = _parts(action["Schedule"])
    if kind == "at":
        _at(text)
    elif kind == "rate":
        _seconds(text)
    else:
        cron_fields(text)


def is_due(action: Params, since: float, until: float) -> bool:
    """Whether a scheduled action is due after one time and not after another.

    Args:
        action: The scheduled action.
        since: Seconds since 1970, exclusive.
        until: Seconds since 1970, inclusive.
    """
    began, ends = _time(action.get("StartTime")), _time(action.get("EndTime"))
    since = max(since, began - 1e-6) if began is not None else since
    until = min(until, ends) if ends is not None else until
    if until <= since:
        return False
    kind, text = _parts(action["Schedule"])
    where = zone(action.get("Timezone"))
    if kind == "at":
        return since < _at(text).replace(tzinfo=where).timestamp() <= until
    if kind == "rate":
        start = began if began is not None else action["CreationTime"].timestamp()
        period = _seconds(text)
        number = int((until - start) // period)
        return number >= 1 and start + number * period > since
    minute = datetime.fromtimestamp(until, UTC).replace(second=0, microsecond=0)
    while minute.timestamp() > since:
        if _matches(cron_fields(text), minute.astimezone(where)):
            return True
        minute -= timedelta(minutes=1)
    return False


def zone(name: str | None) -> ZoneInfo:
    """Return a time zone.

    Args:
        name: Its name in the IANA database; UTC otherwise.

    Raises:
        AwsError: There is none of that name.
    """
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise AwsError("ValidationException", f"{name!r} is not a time zone of the IANA database") from error


@cache
def cron_fields(text: str) -> tuple[frozenset[int | str], ...]:
    """Return the values that the six fields of a cron expression allow.

    Args:
        text: Minutes, hours, day of month, month, day of week (1 is Sunday) and year.

    Raises:
        AwsError: It is no such expression, or uses W or #, which are not evaluated here.
    """
    fields = text.upper().split()
    if len(fields) != len(_RANGES):
        raise AwsError("ValidationException", f"cron({text}) must have six fields")
    if "?" not in (fields[2], fields[4]):
        raise AwsError("ValidationException", f"cron({text}): one of day of month and day of week must be ?")
    names: tuple[dict[str, int], ...] = ({}, {}, {}, _MONTHS, _DAYS, {})
    return tuple(
        _field(field, bounds, known, text)
        for field, bounds, known in zip(fields, _RANGES, names, strict=True)
    )


def _field(field: str, bounds: tuple[int, int], names: dict[str, int], text: str) -> frozenset[int | str]:
    allowed: set[int | str] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        low, dash, high = span.partition("-")
        try:
            if span == _LAST:
                allowed.add(_LAST)
                continue
            if span in ("*", "?"):
                first, last = bounds
            else:
                first = names.get(low) or int(low)
                last = (names.get(high) or int(high)) if dash else (bounds[1] if step else first)
            every = int(step) if step else 1
        except ValueError as error:
            raise AwsError("ValidationException", f"cron({text}): {part!r} is not evaluated") from error
        if not bounds[0] <= first <= last <= bounds[1] or every < 1:
            raise AwsError("ValidationException", f"cron({text}): {part!r} is out of range {bounds}")
        allowed.update(range(first, last + 1, every))
    return frozenset(allowed)


def _matches(fields: tuple[frozenset[int | str], ...], when: datetime) -> bool:
    weekday = when.isoweekday() % 7 + 1
    values = (when.minute, when.hour, when.day, when.month, weekday, when.year)
    last_day = when.day == calendar.monthrange(when.year, when.month)[1]
    for number, (allowed, value) in enumerate(zip(fields, values, strict=True)):
        if value in allowed or (number == 2 and _LAST in allowed and last_day):
            continue
        return False
    return True


def _parts(expression: str) -> tuple[str, str]:
    match = _FORM.match(expression.strip())
    if match is None:
        raise AwsError("ValidationException", f"{expression!r} is none of at(...), rate(...), cron(...)")
    return match.group(1), match.group(2).strip()


def _at(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S")
    except ValueError as error:
        raise AwsError("ValidationException", f"at({text}) is not at(yyyy-mm-ddThh:mm:ss)") from error


def _seconds(text: str) -> int:
    match = _RATE.match(text)
    if match is None:
        raise AwsError("ValidationException", f"rate({text}) is not rate(NUMBER minutes|hours|days)")
    return int(match.group(1)) * _UNITS[match.group(2)]


def _time(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, str):
        return datetime.fromisoformat(value).timestamp()
    return float(str(value))
