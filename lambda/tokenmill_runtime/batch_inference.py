"""The function behind a batch inference: steps of its state machine, and events of jobs that have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenmill_runtime.batch_inference_collate import collate
from tokenmill_runtime.batch_inference_contract import STOP_EVENT
from tokenmill_runtime.batch_inference_gather import gather
from tokenmill_runtime.batch_inference_job import await_end, on_event, submit
from tokenmill_runtime.batch_inference_plan import plan
from tokenmill_runtime.batch_inference_rest import ask
from tokenmill_runtime.batch_inference_review import review
from tokenmill_runtime.batch_inference_run import BatchRun, Part, Settings
from tokenmill_runtime.batch_inference_stop import on_stop
from tokenmill_runtime.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from tokenmill_runtime.batch_shard import LambdaContext

STEPS = ("plan", "submit", "await", "gather", "review", "ask", "collate")


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer a state machine's task or an event.

    Raises InputRefused for an input that no retry mends, SubmitLater where Bedrock takes no job now,
    ValueError for an unknown step.
    """
    settings = Settings.read()
    if event.get("detail-type") == STOP_EVENT:
        return on_stop(event, settings)
    if "detail-type" in event:
        return on_event(event, settings)
    step = event.get("step")
    if step not in STEPS:
        raise ValueError(f"step is {step!r}; it must be one of {', '.join(STEPS)}")
    run, round_number = BatchRun.read(event), int(event.get("round", 0))
    if step == "plan":
        return plan(run, settings)
    if step == "review":
        return review(run, settings, round_number=round_number, started=event["started"], clock=SYSTEM_CLOCK)
    if step == "ask":
        turns = int(event["turns"])
        found = ask(run, settings, round_number=round_number, turns=turns, context=context)
        return {**event, **found, "turns": turns + 1}
    if step == "collate":
        return collate(run, settings, round_number=round_number, left=int(event["left"]))
    return _of_part(run, settings, event, round_number)


def _of_part(run: BatchRun, settings: Settings, event: dict[str, Any], round_number: int) -> dict[str, Any]:
    part = Part(**event["part"])
    if event["step"] == "submit":
        return submit(run, settings, part, round_number=round_number)
    if event["step"] == "gather":
        return gather(run, settings, part, round_number=round_number)
    return await_end(run, settings, part, round_number=round_number, token=event["token"])
