"""`tokenmill jobs` under test: the command, and the state machines that it finds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer
from typer.testing import CliRunner

from support_fake_aws import ACCOUNT, AwsError
from tokenmill.cli import jobs
from tokenmill.core.errors import TokenmillError
from tokenmill_runtime.jobs import description_state

if TYPE_CHECKING:
    from click.testing import Result

    from support_fake_aws import FakeAws


def run_jobs(*arguments: str, input: str | None = None) -> Result:
    """Run `tokenmill jobs` with arguments."""
    app = typer.Typer()
    jobs.register(app)
    return CliRunner().invoke(app, ["jobs", *arguments], input=input)


def error_of(result: Result) -> str:
    """The sentence that a command was refused with."""
    assert isinstance(result.exception, TokenmillError), result.output
    return str(result.exception)


class StateMachines:
    """State machines with tags and their executions, as Step Functions would hold them."""

    run_seconds = 600

    def __init__(self, fake: FakeAws) -> None:
        self.fake = fake
        self.machines: dict[str, dict[str, Any]] = {}
        self.executions: dict[str, dict[str, Any]] = {}
        self.end: dict[str, Any] = {"status": "SUCCEEDED", "output": "{}"}
        for operation, answer in (
            ("ListStateMachines", self._machines),
            ("ListTagsForResource", self._tags),
            ("DescribeStateMachine", self._describe_machine),
            ("ListExecutions", self._executions),
            ("StartExecution", self._start),
            ("DescribeExecution", lambda asked: self.executions[asked["executionArn"]]),
        ):
            fake.answers["stepfunctions", operation] = answer

    def deploy(self, stack: str, description: dict[str, Any]) -> str:
        """Add a job as its construct would; return the state machine's ARN."""
        kind, name = description["kind"], description["name"]
        arn = f"arn:aws:states:us-east-1:{ACCOUNT}:stateMachine:{stack}-{name}"
        states = {"Job": description_state(description, following="Look")}
        self.machines[arn] = {
            "definition": json.dumps({"StartAt": "Job", "States": states}),
            "tags": {"tokenmill:job": kind, "tokenmill:job-name": name, "tokenmill:stack": stack},
        }
        return arn

    def ran(self, arn: str, name: str, status: str, **more: Any) -> None:
        execution = arn.replace("stateMachine", "execution") + f":{name}"
        stopped = {} if status == "RUNNING" else {"stopDate": 1_700_000_600}
        self.executions[execution] = {
            "executionArn": execution,
            "stateMachineArn": arn,
            "name": name,
            "status": status,
            "startDate": 1_700_000_000 + len(self.executions),
            **stopped,
            **more,
        }

    @property
    def starts(self) -> list[dict[str, Any]]:
        """What executions were asked for, those refused among them."""
        return [asked for _, operation, asked in self.fake.calls if operation == "StartExecution"]

    def finish(self) -> None:
        """Let what runs end, as time does."""
        for execution in self.executions.values():
            if execution["status"] == "RUNNING":
                execution.update(self.end, stopDate=execution["startDate"] + self.run_seconds)

    def _machines(self, asked: dict[str, Any]) -> dict[str, Any]:
        # One machine a page, so that a reader that forgets the next page is found out.
        order = list(self.machines)
        start = int(asked.get("nextToken", "0"))
        page = [
            {"stateMachineArn": arn, "name": arn, "type": "STANDARD", "creationDate": 0}
            for arn in order[start : start + 1]
        ]
        more = {"nextToken": str(start + 1)} if start + 1 < len(order) else {}
        return {"stateMachines": page, **more}

    def _tags(self, asked: dict[str, Any]) -> dict[str, Any]:
        tags = self.machines[asked["resourceArn"]]["tags"]
        return {"tags": [{"key": key, "value": value} for key, value in tags.items()]}

    def _describe_machine(self, asked: dict[str, Any]) -> dict[str, Any]:
        arn = asked["stateMachineArn"]
        return {"stateMachineArn": arn, "definition": self.machines[arn]["definition"]}

    def _executions(self, asked: dict[str, Any]) -> dict[str, Any]:
        mine = [run for run in self.executions.values() if run["stateMachineArn"] == asked["stateMachineArn"]]
        return {"executions": mine}

    def _start(self, asked: dict[str, Any]) -> dict[str, Any]:
        arn = asked["stateMachineArn"]
        if f"{arn.replace('stateMachine', 'execution')}:{asked['name']}" in self.executions:
            raise AwsError("ExecutionAlreadyExists")
        self.ran(arn, asked["name"], "RUNNING", input=asked["input"])
        return {"executionArn": list(self.executions)[-1], "startDate": 1_700_000_000}
