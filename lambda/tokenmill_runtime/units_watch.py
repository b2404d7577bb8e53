"""Every hour somebody looks at a resource's units: what is owned, declared, kept and idle, and what it costs.

The look also mends: hours that last own their units, a commitment that is in service needs no uncommitted
units beside it, and callers read what there is.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime.metric_contract import (
    DAILY_USD,
    DAYS_TO_EXPIRY,
    IDLE_UNITS,
    UNITS_DECLARED,
    UNITS_MISSING,
    UNITS_OWNED,
    UNITS_RETAINED,
)
from tokenmill_runtime.units_plan import BASE, COMMITTED, EXTRA
from tokenmill_runtime.units_scaling import use_of
from tokenmill_runtime.units_schedule import all_hours, ensure, is_within, slot_for
from tokenmill_runtime.units_tasks import is_too_late

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill_runtime.units_plan import Units
    from tokenmill_runtime.units_schedule import Hours
    from tokenmill_runtime.units_tasks import Task

SECONDS_A_DAY: Final = 86400
HOURS_A_DAY: Final = 24


def watch(task: Task, event: Mapping[str, Any]) -> bool:
    """Look, mend and publish; whether nothing is left to be done."""
    if not task.is_current:
        return True
    lasting = _lasting(task, all_hours(event["Properties"]))
    opened = all([ensure(task, hours) for hours in lasting])
    held = task.held()
    mended = _one_of_two(task, held)
    task.tell_callers(held)
    done = opened and mended
    if done or is_too_late(event):
        # Units on their way are not missing; whoever waits for them looks again.
        task.publish(figures(task, held, lasting))
    return done


def figures(task: Task, held: list[Units], lasting: list[Hours]) -> dict[str, float]:
    """The metrics of a resource's units, as `tokenmill_runtime.metric_contract` names them."""
    owned = sum(units.units for units in held)
    slots = {slot_for(hours) for hours in lasting}
    declared = sum(int(hours["Units"]) for hours in lasting)
    declared += 0 if task.wanted.scheduled else task.wanted.units
    declared += sum(units.units for units in held if task.slot(units).startswith(EXTRA))
    serving = sum(
        units.units
        for units in held
        if units.status == "InService" and (task.slot(units) in slots or not task.slot(units).startswith("s"))
    )
    values: dict[str, float] = {
        UNITS_OWNED: owned,
        UNITS_DECLARED: declared,
        UNITS_MISSING: max(0, declared - serving),
        UNITS_RETAINED: sum(units.units for units in task.market.all() if units.retained),
        DAILY_USD: round(owned * task.wanted.hourly_usd * HOURS_A_DAY, 2),
        IDLE_UNITS: _idle(task, held),
    }
    ends = [units.expires for units in held if units.expires is not None]
    if ends:
        now = datetime.fromtimestamp(task.clock.wall(), UTC)
        values[DAYS_TO_EXPIRY] = max(0.0, (min(ends) - now).total_seconds() / SECONDS_A_DAY)
    return values


def _idle(task: Task, held: list[Units]) -> int:
    """Units that were in service and processed no token in the last hour."""
    serving = [units for units in held if units.status == "InService"]
    now = task.clock.wall()
    return sum(
        units.units
        for units in serving
        if not any(use.input_tokens or use.output_tokens for use in use_of([units], now))
    )


def _lasting(task: Task, hours: list[Hours]) -> list[Hours]:
    try:
        return [each for each in hours if is_within(each, task.clock.wall())]
    except ValueError as error:
        print(error, flush=True)
        return []


def _one_of_two(task: Task, held: list[Units]) -> bool:
    """Give up uncommitted units beside committed ones in service: a purchase that was not carried through."""
    slots = {task.slot(units): units for units in held}
    committed, base = slots.get(COMMITTED), slots.get(BASE)
    if committed is None or base is None or committed.status != "InService":
        return True
    held.remove(base)
    task.tell_callers(held)
    return task.give_up(base)
