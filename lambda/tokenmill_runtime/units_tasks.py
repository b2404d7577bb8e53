"""What happens to model units between deployments: hours begin and end, tokens ask for more, somebody looks.

EventBridge Scheduler calls with ``{"UnitsTask": "open" | "close" | "scale" | "watch", "PhysicalResourceId",
"StackId", "LogicalResourceId", "Properties", "Schedule" | "Scaling"}``. A task that has to wait is handed to
the waiter, which sends the same event back until nothing is left to be done.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime import aws
from tokenmill_runtime.clock import SYSTEM_CLOCK
from tokenmill_runtime.custom_resource import Refused
from tokenmill_runtime.emf import emf_line
from tokenmill_runtime.units_handle import Handles
from tokenmill_runtime.units_ledger import Ledger
from tokenmill_runtime.units_market import Market
from tokenmill_runtime.units_plan import Units, UnitsId, Wanted, own_tags, slot_of
from tokenmill_runtime.units_stack import Stack
from tokenmill_runtime.waited_resource import WAITER_VARIABLE, is_passing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill_runtime.clock import Clock

TASK: Final = "UnitsTask"
# Units are there or refused within minutes; the next hour's watch looks again.
MOST_SECONDS: Final = 3000


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task, and what it needs to know of its resource."""

    id: UnitsId
    stack_id: str
    logical_id: str
    wanted: Wanted
    market: Market
    clock: Clock = SYSTEM_CLOCK
    ledger: Ledger = field(default_factory=Ledger.from_environment)
    handles: Handles = field(default_factory=Handles)
    stack: Stack = field(default_factory=Stack.from_environment)

    @classmethod
    def read(cls, event: Mapping[str, Any]) -> Task:
        """Read a schedule's event. Raises ValueError or Refused for one that is not of its form."""
        id = UnitsId.parse(str(event["PhysicalResourceId"]))
        if id is None:
            raise ValueError(
                f"PhysicalResourceId is {event['PhysicalResourceId']!r:.200}, which no units have"
            )
        return cls(
            id=id,
            stack_id=str(event["StackId"]),
            logical_id=str(event["LogicalResourceId"]),
            wanted=Wanted.read(event["Properties"]),
            market=Market(),
        )

    @property
    def target(self) -> str:
        """What the metrics of the units are published for."""
        return self.wanted.handle or str(self.id)

    @property
    def is_current(self) -> bool:
        """Whether the stack still declares the resource."""
        return self.stack.still_declares(self.stack_id, self.logical_id, str(self.id))

    def held(self) -> list[Units]:
        """All units of the resource, in every slot."""
        found = self.market.held(self.id.owner, (self.wanted.generation,), (self.wanted.name,))
        mine = [units for units in found if units.resource == str(self.id) and not units.retained]
        return [units for units in mine if slot_of(units.name, self._key) is not None]

    def slot(self, units: Units) -> str:
        """The slot that units are in."""
        return slot_of(units.name, self._key) or ""

    @property
    def _key(self) -> str:
        return self.wanted.key(self.id.owner)

    def buy(self, slot: str, units: int) -> None:
        """Buy units without commitment for a slot; a name is taken once, and the same minute buys once.

        Raises Refused where the service sells none.
        """
        minute = int(self.clock.wall() // 60)
        token = hashlib.sha256(f"{self.id}\n{slot}\n{units}\n{minute}".encode()).hexdigest()[:48]
        tags = own_tags(self.id, self.stack_id, self.wanted)
        name = self.wanted.slot(self.id.owner, slot)
        self.market.buy(self.wanted, name, tags, token, units=units, commitment="NONE")

    def give_up(self, units: Units) -> bool:
        """Delete units; whether they are gone."""
        return self.market.give_up(units.arn).outcome in ("gone", "missing")

    def tell_callers(self, held: list[Units]) -> None:
        """Write the handle anew: what serves now."""
        serving = [units for units in held if units.status == "InService"]
        self.handles.refresh(self.wanted, str(self.id), serving)

    def publish(self, values: Mapping[str, float]) -> None:
        """Print metrics of the units."""
        line = emf_line(values, target=self.target, publisher="units", timestamp=self.clock.wall())
        print(line, flush=True)


def run(event: Mapping[str, Any], context: Any) -> dict[str, bool]:
    """Run a task; the waiter calls again where it answers ``{"Again": true}``.

    Raises what the task raises, so that whoever called tries again.
    """
    again = not _once(event)
    if again and "Since" not in event:
        _wait(event, context)
    return {"Again": again and not is_too_late(event)}


def _once(event: Mapping[str, Any]) -> bool:
    """Take a step of a task; whether nothing is left to be done."""
    from tokenmill_runtime import units_scaling, units_schedule, units_watch

    tasks = {
        "open": units_schedule.open_hours,
        "close": units_schedule.close_hours,
        "scale": units_scaling.scale,
        "watch": units_watch.watch,
    }
    name = event[TASK]
    if name not in tasks:
        raise ValueError(f"{TASK} is {name!r}; allowed are {', '.join(tasks)}")
    try:
        return tasks[name](Task.read(event), event)
    except Refused:
        raise
    except Exception as error:
        if not is_passing(error):
            raise
        print(f"{name} is called again after {error}", flush=True)
        return False


def _wait(event: Mapping[str, Any], context: Any) -> None:
    """Hand a task to the waiter, once for a call; Lambda's own second try of it has the same id."""
    client = aws.step_functions()
    text = json.dumps(dict(event), sort_keys=True)
    digest = hashlib.sha256(f"{text}{context.aws_request_id}".encode()).hexdigest()[:40]
    try:
        client.start_execution(
            stateMachineArn=os.environ[WAITER_VARIABLE],
            name=f"{event[TASK]}-{digest}",
            input=json.dumps({"Function": context.invoked_function_arn, "Waiting": dict(event)}),
        )
    except client.exceptions.ExecutionAlreadyExists:
        print(f"{event[TASK]} is waited for already", flush=True)


def is_too_late(event: Mapping[str, Any]) -> bool:
    """Whether a task that the waiter calls has to end."""
    from datetime import datetime

    since = event.get("Since")
    return (
        since is not None and SYSTEM_CLOCK.wall() - datetime.fromisoformat(since).timestamp() > MOST_SECONDS
    )
