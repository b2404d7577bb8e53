"""State machines of a template, run by MiniStack's interpreter of the Amazon States Language in this process.

The interpreter is not ours and is written against AWS's documents, so it checks the definitions apart from
our reading of them; what its tasks call is given by the test.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ministack.services import stepfunctions

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

ACCOUNT = "000000000000"


def flat(value: Any, names: dict[str, str]) -> str:
    """Return a template's text with references as the names that a deployment would give."""
    if isinstance(value, str):
        return value
    ((function, inner),) = value.items()
    if function == "Fn::Join":
        return inner[0].join(flat(part, names) for part in inner[1])
    if function == "Ref":
        return {"AWS::Partition": "aws", "AWS::Region": "us-east-1", "AWS::AccountId": ACCOUNT}.get(
            inner, names.get(inner, inner)
        )
    if function == "Fn::Select":
        separator, text = inner[1]["Fn::Split"]
        return flat(text, names).split(separator)[inner[0]]
    assert function == "Fn::GetAtt", value
    return names.get(inner[0], f"arn:aws:any:us-east-1:{ACCOUNT}:{'/'.join(inner)}")


def definition(machine: dict[str, Any], names: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the definition of a template's state machine."""
    document: dict[str, Any] = json.loads(flat(machine["Properties"]["DefinitionString"], names or {}))
    return document


class States:
    """MiniStack's interpreter with tasks that the test gives and waits that take no time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waited: list[float] = []
        monkeypatch.setattr(stepfunctions, "_scaled_sleep", self.waited.append)
        monkeypatch.setattr(stepfunctions, "_emit_execution_status_event", lambda execution: None)
        self._patch = monkeypatch

    def functions(self, call: Callable[[dict[str, Any]], Any]) -> None:
        """Let lambda:invoke call a function with the payload; what it raises becomes the task's error."""

        def invoke(_: str, payload: dict[str, Any]) -> Any:
            try:
                return json.loads(json.dumps(call(json.loads(json.dumps(payload)))))
            except Exception as error:
                raise stepfunctions._ExecutionError(type(error).__name__, str(error)) from error

        self._patch.setattr(stepfunctions, "_call_lambda", invoke)
        self._patch.setattr(stepfunctions, "_resolve_lambda_function_ref", lambda name, optimized: name)

    def integration(self, name: str, call: Callable[[dict[str, Any]], Any]) -> None:
        """Let an optimized integration, such as sagemaker:createTransformJob, call a function."""
        table = {
            **stepfunctions._SERVICE_DISPATCH,
            f"arn:aws:states:::{name}": lambda resource, parameters: call(parameters),
        }
        self._patch.setattr(stepfunctions, "_SERVICE_DISPATCH", table)

    def objects(self, read: Callable[[str, str], str]) -> None:
        """Let item readers read from somewhere."""
        self._patch.setattr(stepfunctions, "_s3_object_text", read)

    def run(self, document: dict[str, Any], given: object, *, name: str = "run-1") -> dict[str, Any]:
        """Run to the end and return status, output, error and cause."""
        machine = f"arn:aws:states:us-east-1:{ACCOUNT}:stateMachine:jobs"
        arn = f"arn:aws:states:us-east-1:{ACCOUNT}:execution:jobs:{name}"
        stepfunctions._state_machines[machine] = {"name": "jobs", "definition": json.dumps(document)}
        stepfunctions._executions[arn] = {
            "executionArn": arn,
            "stateMachineArn": machine,
            "name": name,
            "status": "RUNNING",
            "startDate": "2026-01-01T00:00:00Z",
            "input": json.dumps(given),
            "events": [],
            "definition": json.dumps(document),
        }
        stepfunctions._run_execution(arn)
        found: dict[str, Any] = stepfunctions._executions[arn]
        output = found.get("output")
        return {
            "status": found["status"],
            "output": None if output is None else json.loads(output),
            "error": found.get("error"),
            "cause": found.get("cause"),
            "states": [
                event["stateEnteredEventDetails"]["name"]
                for event in found["events"]
                if "stateEnteredEventDetails" in event
            ],
        }
