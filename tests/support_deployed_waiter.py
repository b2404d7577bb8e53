"""The deployed function of custom resources: asynchronous invocations, its waiter's executions, its answers.

Time is a heap of things that are due. Sources: "How Lambda handles errors and retries with asynchronous
invocation" (AWS Lambda Developer Guide: two more attempts, a minute and two later, and up to six hours in the
queue while the function is throttled); "StartExecution" (AWS Step Functions API reference); "Error handling
in Step Functions workflows"; "Custom resource request objects" (ResponseURL takes one document). The state
machine is the deployed one, read from its definition.
"""

from __future__ import annotations

import heapq
import itertools
import json
import re
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore import xform_name
from botocore.exceptions import ClientError

from support_lambda_invocations import ACCOUNT, REGION, Context, Function, Killed, Raising
from support_parameters import Executions, Parameters
from tokenmill_runtime import waited_resource

if TYPE_CHECKING:
    from collections.abc import Callable

    from support_bedrock import Clock

LAMBDA_ATTEMPTS = 3
WAITER = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:waiter"


class DeployedFunction(Function):
    """A function, what is due for it, and what it answered CloudFormation."""

    def __init__(self, handler: Callable[..., Any], clock: Clock, definition: dict[str, Any]) -> None:
        super().__init__(handler, handler)
        self.clock, self.definition = clock, definition
        self.pass_time = clock.pass_
        self.due: list[tuple[float, int, Callable[[], None]]] = []
        self.numbers = itertools.count()
        self.executions: dict[str, Execution] = {}
        self.answers: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.answer_faults: list[str] = []
        self.problems: list[str] = []

    def call(self, event: dict[str, Any]) -> Any:
        return self._invoke(lambda: self.on_event(json.loads(json.dumps(event)), Context()))

    def attempt(self, event: dict[str, Any]) -> tuple[Any, bool]:
        """Call the function: what it returned, and whether it came to its end.

        What it raises beside errors that pass nobody reads, and CloudFormation waits an hour.
        """
        try:
            with Raising() as raised:
                return self.call(event), True
        except Killed:
            return None, False
        if not (isinstance(raised.error, OSError) or waited_resource.is_passing(raised.error)):
            self.problems.append(f"the function raised {raised.error!r}")
        return None, False

    def later(self, seconds: float, run: Callable[[], None]) -> None:
        heapq.heappush(self.due, (self.clock() + seconds, next(self.numbers), run))

    def hurry(self) -> None:
        """Let whatever is due later come within seconds."""
        soon = self.clock() + 5.0
        self.due = sorted((min(at, soon), number, run) for at, number, run in self.due)

    def run_next(self) -> None:
        """Do what is due next, at its time or at once where that is over."""
        at, _, run = heapq.heappop(self.due)
        self.clock.now = max(self.clock.now, at)
        run()

    def invoke_later(
        self, event: dict[str, Any], seconds: float = 0.0, *, attempts: int = LAMBDA_ATTEMPTS
    ) -> None:
        """Queue an asynchronous invocation."""

        def run(attempt: int = 1) -> None:
            _, ended = self.attempt(event)
            if ended:
                return
            if attempt < attempts:
                self.later(60.0 * min(attempt, 2), lambda: run(attempt + 1))
            else:
                self.injected["request that Lambda dropped"] += 1

        self.later(seconds, run)

    def put(self, url: str, body: bytes) -> None:
        """Take an answer for CloudFormation, which believes the first and ignores what follows."""
        fault = self.answer_faults.pop(0) if self.answer_faults else ""
        if fault:
            self.injected[f"answer {fault}"] += 1
        if fault == "refused":
            raise OSError("the bucket did not take it")
        request_id = re.fullmatch(r"https://answers\.invalid/([^?]+)\?.+", url)
        assert request_id is not None, url
        self.answers[request_id[1]].append(json.loads(body))
        if fault == "lost":
            raise TimeoutError("nobody knows whether the bucket took it")

    def waiter_starts(self, name: str, text: str) -> None:
        self.executions[name] = Execution(self, json.loads(text))
        self.later(0.0, self.executions[name].run)


class Execution:
    """One execution of the waiter; `ended` says how, once it has."""

    def __init__(self, function: DeployedFunction, data: dict[str, Any]) -> None:
        self.function, self.data = function, data
        self.definition = function.definition
        self.started = function.clock()
        self.state = self.definition["StartAt"]
        self.retried = 0
        self.ended = ""

    def run(self) -> None:
        """Run states until one has to wait."""
        while not self.ended:
            if self.function.clock() - self.started > self.definition["TimeoutSeconds"]:
                self.ended = "TIMED_OUT"
                return
            state = self.definition["States"][self.state]
            if state["Type"] == "Wait":
                self.state = state["Next"]
                self.function.later(state["Seconds"], self.run)
                return
            if state["Type"] == "Succeed":
                self.ended = "SUCCEEDED"
            elif state["Type"] == "Choice":
                self.state = self._chosen(state)
            elif not self._task(state):
                return

    def _task(self, state: dict[str, Any]) -> bool:
        """Call the function; whether to go on at once."""
        assert self._filled(state["Parameters"]["FunctionName.$"]) == Context.invoked_function_arn
        payload = {
            key.removesuffix(".$"): self._filled(path) for key, path in state["Parameters"]["Payload"].items()
        }
        answer, ended = self.function.attempt(payload)
        if not ended:
            [retry] = state["Retry"]
            self.retried += 1
            if self.retried > retry["MaxAttempts"]:
                self.ended = "FAILED"
                return False
            self.function.injected["task of the waiter retried"] += 1
            pause = retry["IntervalSeconds"] * retry["BackoffRate"] ** (self.retried - 1)
            self.function.later(min(pause, retry["MaxDelaySeconds"]), self.run)
            return False
        self.retried = 0
        given = json.loads(json.dumps({"Payload": answer}))
        if "ResultSelector" in state:
            selected = state["ResultSelector"].items()
            given = {key.removesuffix(".$"): _at(given, path) for key, path in selected}
        if state["ResultPath"] is not None:
            self.data = {**self.data, state["ResultPath"].removeprefix("$."): given}
        self.state = state["Next"]
        return True

    def _chosen(self, state: dict[str, Any]) -> str:
        for choice in state["Choices"]:
            asked = {key: value for key, value in choice.items() if key not in ("Variable", "Next")}
            if asked == {"IsPresent": True}:
                holds = _is_there(self.data, choice["Variable"])
            else:
                [(kind, wanted)] = asked.items()
                assert kind == "BooleanEquals", kind
                holds = _at(self.data, choice["Variable"]) is wanted
            if holds:
                return str(choice["Next"])
        return str(state["Default"])

    def _filled(self, path: str) -> Any:
        if path == "$$.Execution.StartTime":
            return f"{datetime.fromtimestamp(self.started, UTC):%Y-%m-%dT%H:%M:%S.000Z}"
        return _at(self.data, path)


def _at(data: Any, path: str) -> Any:
    assert path.startswith("$."), path
    for part in path[2:].split("."):
        data = data[part]
    return data


def _is_there(data: Any, path: str) -> bool:
    try:
        _at(data, path)
    except (KeyError, TypeError):
        return False
    return True


class ParameterStore(Parameters):
    """Parameter Store as its clients ask it, a page at a time."""

    def get_parameters_by_path(self, **asked: Any) -> dict[str, Any]:
        return {"Parameters": [found for page in self.paginate(**asked) for found in page["Parameters"]]}


class Waiters(Executions):
    """Step Functions, whose executions a function's waiter runs."""

    function: DeployedFunction

    def start_execution(self, **asked: Any) -> dict[str, Any]:
        name = asked["name"]
        running = name in self.started and not self.function.executions[name].ended
        if not (running and self.started[name] == asked["input"]):
            super().start_execution(**asked)
            self.function.waiter_starts(name, asked["input"])
        return {"executionArn": f"{asked['stateMachineArn']}:{name}", "startDate": self.function.clock()}


class JsonService:
    """A service of a JSON protocol over HTTP, answered by an object with its operations.

    Args:
        service: The object.
        problems: Takes what is wrong with a request.
    """

    def __init__(self, service: Any) -> None:
        self.service = service
        self.faults: list[str] = []
        self.problems: list[str] = []

    def __call__(self, scope: Any, request: Any) -> tuple[int, dict[str, str], bytes] | None:
        operation = request.headers["x-amz-target"].rpartition(".")[2]
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "throttled":
            return _json(400, {"__type": "ThrottlingException", "message": "Rate exceeded"})
        if fault == "dropped":
            return None
        try:
            answer = getattr(self.service, xform_name(operation))(**json.loads(request.body))
        except ClientError as error:
            named = error.response["Error"]
            return _json(400, {"__type": named["Code"], "message": named["Message"]})
        except AssertionError as error:
            self.problems.append(f"{operation}: {error}")
            raise
        return None if fault == "lost" else _json(200, answer)


def _json(status: int, body: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    return status, {"content-type": "application/x-amz-json-1.1"}, json.dumps(body).encode()
