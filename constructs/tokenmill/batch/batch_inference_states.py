"""The state machine of a batch inference: rounds of jobs, what is left one by one, and the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenmill.batch.tasks import (
    PASSING,
    RESULTS,
    TIMEOUT,
    caught,
    function_task,
    lines_map,
    result_states,
    retry,
)
from tokenmill.security.place import place_of

if TYPE_CHECKING:
    from constructs import Construct

    from tokenmill.batch.job import States

MAP_LABEL = "Parts"
# Events of a job's end can get lost ("Monitor Amazon Bedrock job state changes using Amazon EventBridge":
# best effort), so the job itself is looked at every hour.
LOOK_SECONDS = 3600
ROUND = ("next", "round", "records", "parts", "parts_key", "left")
OF_RUN = {"input.$": "$.input", "output.$": "$.output"}


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceStates:
    """The states of one batch inference.

    Args:
        scope: The construct.
        function_arn: The function behind the steps.
        function_seconds: The function's longest run, in seconds.
        bucket: The bucket's name.
        jobs_at_once: Jobs under way at once.
    """

    scope: Construct
    function_arn: str
    function_seconds: int
    bucket: str
    jobs_at_once: int

    def definition(self) -> States:
        """Return the definition."""
        return {
            "Comment": "Batch inference jobs on Bedrock over the lines of a file",
            "StartAt": "Plan",
            "States": {
                "Plan": {
                    **self._step("plan"),
                    **_round("Route"),
                },
                "Route": {
                    "Type": "Choice",
                    "Choices": [
                        {"Variable": "$.plan.next", "StringEquals": "jobs", "Next": MAP_LABEL},
                        {"Variable": "$.plan.next", "StringEquals": "on-demand", "Next": "Begin"},
                    ],
                    "Default": "Collate",
                },
                MAP_LABEL: self._parts(),
                "Review": {
                    **self._step(
                        "review", {"round.$": "$.plan.round", "started.$": "$$.Execution.StartTime"}
                    ),
                    **_round("Route"),
                },
                **self._one_by_one(),
                **result_states(
                    self._step("collate", {"round.$": "$.plan.round", "left.$": "$.plan.left"}),
                    reported=(*RESULTS, "cost", "jobs", "report"),
                ),
            },
        }

    def _parts(self) -> States:
        children = lines_map(
            self.scope,
            label=MAP_LABEL,
            bucket=self.bucket,
            key_path="$.plan.parts_key",
            item={
                **OF_RUN,
                "part.$": "$$.Map.Item.Value",
                "round.$": "$.plan.round",
                "execution.$": "$$.Execution.Id",
            },
            at_once=self.jobs_at_once,
            # What a part's steps leave undone is sent again, or its records become errors.
            tolerated_failure_percent=100,
            start="Submit",
            states=self._part(),
        )
        return {**children, "ResultPath": "$.parts", "Catch": [caught("Failed")], "Next": "Review"}

    def _part(self) -> States:
        """Return the states of one part: a job is submitted, waited for without cost, and gathered."""
        of_part = {"part.$": "$.part", "round.$": "$.round", "execution.$": "$.execution", **OF_RUN}
        submit = self._task({"Payload": {"step": "submit", **of_part}})
        awaited = {"step": "await", "token.$": "$$.Task.Token", **of_part}
        return {
            "Submit": {
                **submit,
                "Retry": [_until_taken(), *submit["Retry"]],
                "ResultSelector": {"submitted.$": "$.Payload.submitted"},
                "ResultPath": "$.submit",
                "Next": "Submitted",
            },
            "Submitted": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.submit.submitted", "BooleanEquals": True, "Next": "Await"}],
                "Default": "PartSettled",
            },
            "Await": {
                "Type": "Task",
                "Resource": f"arn:{self._partition}:states:::lambda:invoke.waitForTaskToken",
                "Parameters": {"FunctionName": self.function_arn, "Payload": awaited},
                "TimeoutSeconds": LOOK_SECONDS,
                "Retry": [retry(PASSING)],
                "Catch": [caught("Await", "$.looked", (TIMEOUT,))],
                "ResultPath": "$.ended",
                "Next": "Gather",
            },
            "Gather": {
                **self._task({"Payload": {"step": "gather", **of_part}}),
                "ResultPath": "$.gathered",
                "Next": "PartSettled",
            },
            # The results of all children together must fit into a state's output.
            "PartSettled": {"Type": "Pass", "Result": {}, "End": True},
        }

    def _one_by_one(self) -> States:
        """Return the states that ask for what is too few for a job: turns of the function and waits."""
        return {
            "Begin": {"Type": "Pass", "Result": {"turns": 0}, "ResultPath": "$.asked", "Next": "Ask"},
            "Ask": {
                **self._step("ask", {"round.$": "$.plan.round", "turns.$": "$.asked.turns"}),
                "ResultSelector": {
                    f"{name}.$": f"$.Payload.{name}" for name in ("settled", "wait_seconds", "turns")
                },
                "ResultPath": "$.asked",
                "Catch": [caught("Failed")],
                "Next": "Settled",
            },
            "Settled": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.asked.settled", "BooleanEquals": True, "Next": "Collate"}],
                "Default": "Wait",
            },
            "Wait": {"Type": "Wait", "SecondsPath": "$.asked.wait_seconds", "Next": "Ask"},
        }

    @property
    def _partition(self) -> str:
        return place_of(self.scope).partition

    def _task(self, payload: States) -> States:
        return function_task(self.scope, self.function_arn, payload, seconds=self.function_seconds)

    def _step(self, name: str, more: States | None = None) -> States:
        payload = {"step": name, **OF_RUN, "execution.$": "$$.Execution.Id", **(more or {})}
        return self._task({"Payload": payload})


def _round(following: str) -> States:
    """Return what a step does with the round that it found."""
    return {
        "ResultSelector": {f"{name}.$": f"$.Payload.{name}" for name in ROUND},
        "ResultPath": "$.plan",
        "Catch": [caught("Failed")],
        "Next": following,
    }


def _until_taken() -> States:
    """Return the retrier for a job that Bedrock does not take now: others of the account are under way."""
    return {
        "ErrorEquals": ["SubmitLater"],
        "IntervalSeconds": 30,
        "MaxAttempts": 1000,
        "BackoffRate": 1.5,
        "MaxDelaySeconds": 600,
        "JitterStrategy": "FULL",
    }
