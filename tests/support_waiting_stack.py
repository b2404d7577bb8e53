"""A CloudFormation that waits for answers to its requests, and may be asked what a stack has.

Requests reach the deployed function (`support_deployed_waiter`) at once, twice, late or after CloudFormation
gave up on them, which it does when the ServiceTimeout is over ("AWS::CloudFormation::CustomResource").
Sources besides those of `support_custom_stack`: "DescribeStacks", "DescribeStackResource" (AWS CloudFormation
API reference).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from support_custom_stack import CLEANUP_ATTEMPTS, Outcome, Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support_deployed_waiter import DeployedFunction

SERVICE_TIMEOUT = 3600.0
# When the first delivery comes: mostly at once, late, and after CloudFormation gave up, while it rolls back,
# goes on with the next deployment, or long after.
DELAYS = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 900.0, 3_630.0, 3_700.0, 9_000.0)
# When a second delivery comes, if one does.
REPEATS = (None, None, None, 0.0, 20.0, 4_000.0)


class WaitingStack(Stack):
    """One stack after the other, with the same name."""

    function: DeployedFunction

    def __init__(self, name: str, function: DeployedFunction, resource_type: str) -> None:
        super().__init__(name, function, resource_type)
        self.orderly = False
        self.shown: dict[str, dict[str, tuple[str, str]]] = {}
        self.statuses: dict[str, str] = {}

    # What it is asked.

    def describe_stacks(self, *, StackName: str) -> dict[str, Any]:
        return {
            "Stacks": [{"StackStatus": self.status if StackName == self.id else "DELETE_COMPLETE"}],
        }

    def describe_stack_resource(self, *, StackName: str, LogicalResourceId: str) -> dict[str, Any]:
        found = self.shown.get(StackName, {}).get(LogicalResourceId)
        if found is None:
            message = f"Resource {LogicalResourceId} does not exist for stack {StackName}"
            raise ClientError({"Error": {"Code": "ValidationError", "Message": message}}, "x")
        return {"StackResourceDetail": {"ResourceStatus": found[0], "PhysicalResourceId": found[1]}}

    def _show(self, logical: str, status: str) -> None:
        """Show a resource with the id that the stack has for it."""
        here = self.shown.setdefault(self.id, {})
        known = self.resources.get(logical)
        here[logical] = (status, known.physical_id if known else here.get(logical, ("", ""))[1])

    # What it sends.

    def _event(self, *given: Any) -> dict[str, Any]:
        event = super()._event(*given)
        sent = datetime.fromtimestamp(self.function.clock(), UTC)
        event["ResponseURL"] = (
            f"https://answers.invalid/{event['RequestId']}?X-Amz-Algorithm=AWS4-HMAC-SHA256"
            f"&X-Amz-Date={sent:%Y%m%dT%H%M%SZ}&X-Amz-Expires=7200&X-Amz-Signature=0123456789abcdef"
        )
        return event

    def _ask(self, kind: str, logical: str, properties: dict[str, Any], **more: Any) -> Iterator[None]:
        if self.status == "UPDATE_ROLLBACK_FAILED":
            self.status = "UPDATE_ROLLBACK_IN_PROGRESS"
        known = self.resources.get(logical)
        # A cleanup's Delete of replaced units does not show: the resource lives on.
        aside = kind == "Delete" and known is not None and known.physical_id != more.get("physical_id")
        verb = kind.upper()
        if not aside:
            self._show(logical, f"{verb}_IN_PROGRESS")
        event = self._event(kind, logical, properties, more.get("physical_id"), more.get("old"))
        self.sent.append(event)
        outcome = yield from self.deliver(event, last=more.get("last", False))
        if not aside:
            self._show(logical, f"{verb}_{'COMPLETE' if outcome.ok else 'FAILED'}")
            if outcome.ok and kind != "Delete":
                self.shown[self.id][logical] = (f"{verb}_COMPLETE", str(outcome.physical_id))
        return outcome

    def _put_back(self, logical: str, was: Any, outcome: Any, clean: list[Any]) -> Iterator[None]:
        yield from super()._put_back(logical, was, outcome, clean)
        self._show(logical, "UPDATE_COMPLETE")

    def _clean_up(self, logical: str, physical_id: str, properties: dict[str, Any]) -> Iterator[None]:
        self.function.injected["delete of the cleanup phase"] += 1
        for attempt in range(CLEANUP_ATTEMPTS):
            last = attempt == CLEANUP_ATTEMPTS - 1
            outcome = yield from self._ask("Delete", logical, properties, physical_id=physical_id, last=last)
            if outcome.ok:
                return

    def deliver(
        self, event: dict[str, Any], gives_up: int | None = None, *, last: bool = False
    ) -> Iterator[None]:
        """Send a request and wait for its answer; the `last` one comes at once, and is tried until it ran."""
        function, own = self.function, event.get("PhysicalResourceId")
        given_up = function.clock() + SERVICE_TIMEOUT
        self._send(event, last)
        while not function.answers[event["RequestId"]]:
            if not function.due or function.due[0][0] > given_up:
                function.clock.now = max(function.clock.now, given_up)
                function.injected["request without an answer in time"] += 1
                return Outcome(False, own, reason="no answer", answered=False)
            function.run_next()
            yield
        answer = function.answers[event["RequestId"]][0]
        id, ok = answer["PhysicalResourceId"], answer["Status"] == "SUCCESS"
        assert event["RequestType"] != "Delete" or id == own, "a Delete must keep the physical id"
        if not ok:
            function.reasons.append(answer["Reason"])
        return Outcome(ok, id, answer["Data"], answer["Reason"])

    def _send(self, event: dict[str, Any], last: bool) -> None:
        if last or self.orderly:
            self.function.invoke_later(event, attempts=1_000)
            return
        delay, again = self.decide.one_of(*DELAYS), self.decide.one_of(*REPEATS)
        if delay:
            late = "after CloudFormation gave up" if delay > SERVICE_TIMEOUT else "late"
            self.function.injected[f"request delivered first {late}"] += 1
        if again is not None:
            self.function.injected["request delivered twice"] += 1
            self.function.invoke_later(event, delay + again)
        self.function.invoke_later(event, delay)
