"""A CloudFormation that knows its documents and nothing of the handlers that it calls.

What it does and in which order is from the AWS CloudFormation User Guide: "Custom resource request types"
(the members of Create, Update and Delete; another physical id in the answer to an Update is a replacement,
and the old resource gets a Delete), "Update behaviors of stack resources", "Stack status codes" (rollback and
cleanup phases; a Delete of the cleanup that fails is tried again and then left), "Continue rolling back an
update", and "AWS::CloudFormation::CustomResource" (ServiceTimeout). Where the pages leave a choice, a
decision makes it.

Handlers are driven as the CDK's Provider framework drives them (README of aws-cdk-lib/custom-resources,
"Provider Framework": what onEvent returns is laid over the event for isComplete, an error of either is
FAILED, and a Create whose onEvent failed gets no Delete), or as our own waiter does, which repeats a step
that died.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from support_lambda_invocations import ACCOUNT, REGION, Context, Killed, Raising

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support_lambda_invocations import Function

POLL_SECONDS = 40.0
# A little more than the hour that ServiceTimeout allows at most.
MOST_POLLS = 100
CLEANUP_ATTEMPTS = 3
LAMBDA_ATTEMPTS = 3


@dataclass
class Decisions:
    """Choices that a page leaves open, drawn beforehand; when they run out, the first one is taken."""

    drawn: list[int] = field(default_factory=list)

    def one_of(self, *choices: Any) -> Any:
        return choices[(self.drawn.pop(0) if self.drawn else 0) % len(choices)]


@dataclass(frozen=True)
class Outcome:
    """How a request ended; `answered` is False where CloudFormation heard nothing until its time was over."""

    ok: bool
    physical_id: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    answered: bool = True


@dataclass
class Resource:
    """A resource that a stack has."""

    physical_id: str
    properties: dict[str, Any]
    data: dict[str, Any] = field(default_factory=dict)


class Failed(Exception):
    """An operation on a resource failed."""


class Stack:
    """One stack; its operations are generators that stop after every invocation of the function."""

    def __init__(self, name: str, function: Function, resource_type: str) -> None:
        self.name, self.function, self.resource_type = name, function, resource_type
        self.generation = 0
        self.resources: dict[str, Resource] = {}
        self.exists = False
        self.status = "DELETE_COMPLETE"
        self.requests = 0
        self.sent: list[dict[str, Any]] = []
        self.late: list[dict[str, Any]] = []
        self.decide = Decisions()
        self.clear_the_way: Callable[[], None] = lambda: None

    @property
    def id(self) -> str:
        unique = f"{self.generation:08d}-2222-3333-4444-555555555555"
        return f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{self.name}/{unique}"

    # Operations of a stack.

    def deploy(
        self, template: dict[str, dict[str, Any]], decide: Decisions, another_fails: bool = False
    ) -> Iterator[None]:
        """Create the stack, or update it to the template; undo it where a resource fails."""
        self.decide = decide
        if self.status == "ROLLBACK_COMPLETE":
            # "A stack in this state can only be deleted."
            self.exists = False
        creating = not self.exists
        if creating:
            self.generation += 1
            self.exists = True
        self.status = "CREATE_IN_PROGRESS" if creating else "UPDATE_IN_PROGRESS"
        before = {key: Resource(**vars(value)) for key, value in self.resources.items()}
        touched: list[tuple[str, str | None, Outcome]] = []
        try:
            yield from self._apply(template, touched)
            if another_fails:
                raise Failed
        except Failed:
            yield from self._undo(before, touched, creating)
            return
        self.status = "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"
        for logical in [key for key in before if key not in template]:
            gone = self.resources.pop(logical)
            yield from self._clean_up(logical, gone.physical_id, gone.properties)
        for logical, old_id, outcome in touched:
            if old_id is not None and outcome.physical_id != old_id:
                yield from self._clean_up(logical, old_id, before[logical].properties)
        self.status = "CREATE_COMPLETE" if creating else "UPDATE_COMPLETE"

    def delete(self, decide: Decisions) -> Iterator[None]:
        """Delete the stack; what fails stays for the next attempt."""
        self.decide = decide
        self.status = "DELETE_IN_PROGRESS"
        for logical in reversed(list(self.resources)):
            gone = self.resources[logical]
            outcome = yield from self._ask("Delete", logical, gone.properties, physical_id=gone.physical_id)
            if not outcome.ok:
                self.status = "DELETE_FAILED"
                return
            del self.resources[logical]
        self.exists = False
        self.status = "DELETE_COMPLETE"

    def _apply(
        self, template: dict[str, dict[str, Any]], touched: list[tuple[str, str | None, Outcome]]
    ) -> Iterator[None]:
        for logical, properties in template.items():
            current = self.resources.get(logical)
            if current is None:
                outcome = yield from self._ask("Create", logical, properties)
                touched.append((logical, None, outcome))
            elif current.properties != properties:
                outcome = yield from self._ask(
                    "Update",
                    logical,
                    properties,
                    physical_id=current.physical_id,
                    old=current.properties,
                )
                touched.append((logical, current.physical_id, outcome))
            else:
                continue
            if not outcome.ok:
                raise Failed
            self.resources[logical] = Resource(str(outcome.physical_id), properties, outcome.data)

    def _undo(
        self,
        before: dict[str, Resource],
        touched: list[tuple[str, str | None, Outcome]],
        creating: bool,
    ) -> Iterator[None]:
        self.function.injected["rollback"] += 1
        self.status = "ROLLBACK_IN_PROGRESS" if creating else "UPDATE_ROLLBACK_IN_PROGRESS"
        clean: list[tuple[str, str, dict[str, Any]]] = []
        for logical, old_id, outcome in reversed(touched):
            if old_id is None:
                made = self.resources.pop(logical, None)
                properties = made.properties if made else self.sent_properties(logical)
                left = self._id_of_failed_create(logical, outcome)
                if left is not None:
                    clean.append((logical, left, properties))
                continue
            yield from self._put_back(logical, before[logical], outcome, clean)
        self.status = "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS"
        for logical, physical_id, properties in clean:
            yield from self._clean_up(logical, physical_id, properties)
        self.status = "ROLLBACK_COMPLETE" if creating else "UPDATE_ROLLBACK_COMPLETE"

    def _put_back(
        self,
        logical: str,
        was: Resource,
        outcome: Outcome,
        clean: list[tuple[str, str, dict[str, Any]]],
    ) -> Iterator[None]:
        """Update a resource to what it was, as often as it takes ("Continue rolling back an update")."""
        failed_properties = self.sent_properties(logical)
        # No page says what becomes of a new id: aws-cdk's issue 17040 and pull request 29581 saw nothing but
        # the Delete of the new one; where the id stayed, or was not heard of, there is an Update back.
        known = outcome.physical_id if outcome.answered and outcome.physical_id else was.physical_id
        if known != was.physical_id and self.decide.one_of(False, True):
            self.function.injected["rollback of a replacement by its delete alone"] += 1
            self.resources[logical] = was
            clean.append((logical, known, failed_properties))
            return
        carried = known if outcome.ok else self.decide.one_of(known, was.physical_id)
        attempts = 0
        while True:
            again = yield from self._ask(
                "Update", logical, was.properties, physical_id=carried, old=failed_properties
            )
            if again.ok:
                break
            attempts += 1
            self.function.injected["rollback continued"] += 1
            self.status = "UPDATE_ROLLBACK_FAILED"
            if attempts > 1:
                self.clear_the_way()
            assert attempts < 6, f"the rollback of {logical} cannot be finished: {again.reason}"
        current = str(again.physical_id)
        self.resources[logical] = Resource(current, was.properties, again.data)
        for id in dict.fromkeys((known, carried, was.physical_id)):
            if id != current:
                clean.append((logical, id, failed_properties if id == known else was.properties))

    def _id_of_failed_create(self, logical: str, outcome: Outcome) -> str | None:
        if outcome.physical_id is not None:
            return outcome.physical_id
        if outcome.answered:
            # The Provider framework drops the Delete of a Create whose onEvent failed.
            return None
        self.function.injected["delete with an id of CloudFormation's own"] += 1
        return f"{self.name}-{logical}-1A2B3C4D5E6F"

    def _clean_up(self, logical: str, physical_id: str, properties: dict[str, Any]) -> Iterator[None]:
        self.function.injected["delete of the cleanup phase"] += 1
        if self.decide.one_of(False, False, False, True):
            # The function was throttled until CloudFormation gave up; Lambda keeps the event up to six hours.
            self.function.injected["delete that arrives late"] += 1
            self.late.append(self._event("Delete", logical, properties, physical_id, None))
            return
        for attempt in range(CLEANUP_ATTEMPTS):
            outcome = yield from self._ask(
                "Delete", logical, properties, physical_id=physical_id, last=attempt == CLEANUP_ATTEMPTS - 1
            )
            if outcome.ok:
                return

    def sent_properties(self, logical: str) -> dict[str, Any]:
        """The properties of the last request for a resource."""
        mine = [event for event in self.sent if event["LogicalResourceId"] == logical]
        return {key: value for key, value in mine[-1]["ResourceProperties"].items() if key != "ServiceToken"}

    # Requests.

    def _event(
        self,
        kind: str,
        logical: str,
        properties: dict[str, Any],
        physical_id: str | None,
        old: dict[str, Any] | None,
    ) -> dict[str, Any]:
        self.requests += 1
        event = {
            "RequestType": kind,
            "RequestId": f"{self.requests:08d}-aaaa-bbbb-cccc-{self.generation:012d}",
            "ResponseURL": "https://cloudformation-custom-resource-response.invalid/answer",
            "ServiceToken": Context.invoked_function_arn,
            "StackId": self.id,
            "LogicalResourceId": logical,
            "ResourceType": self.resource_type,
            "ResourceProperties": {"ServiceToken": Context.invoked_function_arn, **properties},
        }
        if physical_id is not None:
            event["PhysicalResourceId"] = physical_id
        if old is not None:
            event["OldResourceProperties"] = {"ServiceToken": Context.invoked_function_arn, **old}
        return event

    def _ask(
        self,
        kind: str,
        logical: str,
        properties: dict[str, Any],
        *,
        physical_id: str | None = None,
        old: dict[str, Any] | None = None,
        last: bool = False,
    ) -> Iterator[None]:
        event = self._event(kind, logical, properties, physical_id, old)
        self.sent.append(event)
        gives_up = self.decide.one_of(None, None, None, None, 1, 3, 6) if not last else None
        return (yield from self.deliver(event, gives_up, last=last))

    def deliver(
        self, event: dict[str, Any], gives_up: int | None = None, *, last: bool = False
    ) -> Iterator[None]:
        """Send a request and wait for its end; after `gives_up` looks the waiter is gone, if it is given.

        Nothing holds if the function dies in every attempt of the last Delete that CloudFormation sends, so
        that the `last` one is repeated until it has lived.
        """
        own = event.get("PhysicalResourceId")
        begun = yield from self._begin(event, own, last)
        if isinstance(begun, Outcome):
            return begun
        physical_id = begun.get("PhysicalResourceId") or own or event["RequestId"]
        assert event["RequestType"] != "Delete" or physical_id == own, "a Delete must keep the physical id"
        waiting = {**event, **begun, "PhysicalResourceId": physical_id}
        for polls in range(MOST_POLLS):
            if gives_up is not None and polls >= gives_up:
                self.function.injected["waiter gone"] += 1
                silent = self.decide.one_of(False, True)
                return Outcome(False, own if silent else physical_id, reason="time", answered=not silent)
            self.function.pass_time(POLL_SECONDS)
            yield
            try:
                with Raising() as raised:
                    done = self.function.step(waiting)
                    if self.decide.one_of(False, False, False, False, False, True):
                        self.function.injected["step repeated"] += 1
                        done = self.function.step(waiting)
            except Killed:
                if last or self.decide.one_of(True, True, False):
                    continue
                return Outcome(False, physical_id, reason="the function died")
            if raised.error is not None:
                return self._failed(physical_id, raised.error)
            if done["IsComplete"]:
                data = {**begun.get("Data", {}), **done.get("Data", {})}
                return Outcome(True, physical_id, data)
            assert not done.get("Data"), '"Data" is not allowed while "IsComplete" is false'
        return Outcome(False, physical_id, reason="timed out")

    def _begin(self, event: dict[str, Any], own: str | None, last: bool) -> Iterator[None]:
        """Deliver the event as often as Lambda does, and now and then twice."""
        for _ in range(MOST_POLLS if last else LAMBDA_ATTEMPTS):
            yield
            try:
                with Raising() as raised:
                    begun = self.function.begin(event)
                    if self.decide.one_of(False, False, False, True):
                        self.function.injected["request delivered twice"] += 1
                        begun = self.function.begin(event)
            except Killed:
                continue
            return self._failed(own, raised.error) if raised.error is not None else begun
        return Outcome(False, own, reason="no answer", answered=False)

    def _failed(self, physical_id: str | None, error: Exception) -> Outcome:
        self.function.reasons.append(str(error))
        return Outcome(False, physical_id, reason=str(error))
