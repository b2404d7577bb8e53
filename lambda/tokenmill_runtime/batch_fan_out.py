"""The function behind a fan-out's state machine: ``step`` says which of its three steps an event is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenmill_runtime.batch_collate import collate
from tokenmill_runtime.batch_plan import plan
from tokenmill_runtime.batch_run import Run, Settings, Shard
from tokenmill_runtime.batch_shard import turn
from tokenmill_runtime.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from tokenmill_runtime.batch_shard import LambdaContext


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer a state machine's task.

    Raises InputRefused for an input that no retry mends, LedgerTaken when two runs write to one folder,
    ValueError for an unknown step.
    """
    settings, run, step = Settings.read(), Run.read(event), event.get("step")
    if step == "plan":
        return plan(run, settings)
    if step == "shard":
        shard, turns = Shard(**event["shard"]), int(event["turns"])
        found = turn(run, settings, shard, turns=turns, clock=SYSTEM_CLOCK, context=context)
        return {**event, **found, "turns": turns + 1}
    if step == "collate":
        return collate(run, settings, failure=event["failure"])
    raise ValueError(f"step is {step!r}; it must be plan, shard or collate")
