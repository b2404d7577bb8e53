"""Whatever happens around a deployment, it takes no copies away and leaves no scaling suspended.

A small CloudFormation deploys, fails and goes back, in the order and with the requests of "How does
CloudFormation work" and "Custom resource request types" (AWS CloudFormation user guide), over the real
handler. Between any two steps a fleet scales, users suspend and resume, requests are delivered again, calls
are throttled and the function is killed between two calls; Lambda runs a killed request twice more ("How
Lambda handles errors and retries with asynchronous invocation").
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from support_deployment import ALL, NONE, SETTLED, STACK_ID, AwsError, Component, Target, World, request
from tokenmill_runtime import custom_resource, deployment
from tokenmill_runtime.deployment_fleet import MARK

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "chat"
RESOURCE = f"inference-component/{NAME}"
HOLD, RELEASE = deployment.HOLD_TYPE, deployment.RELEASE_TYPE
LAMBDA_ATTEMPTS = 3


class Killed(BaseException):
    """The function's environment went away between two calls."""


@dataclass(frozen=True)
class Template:
    """What the stack asks for."""

    image: str = "repo:1"
    minimum: int = 1
    maximum: int = 8
    scaled: bool = True


class Failed(Exception):
    """A resource of the stack failed."""


class Cloud(RuleBasedStateMachine):
    """The stack, and everything that happens to it."""

    resolves_again = True

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setenv(deployment.STACK_VARIABLE, STACK_ID)
        self.patch.setenv(deployment.FLEETS_VARIABLE, json.dumps([RESOURCE]))
        self.patch.setattr(custom_resource, "_put", self._put)
        self.world = World()
        self.world.stack_status = "CREATE_COMPLETE"
        self.world.before = self._before
        self.world.counted = self._counted
        self.world.components[NAME] = Component()
        self.world.targets[RESOURCE] = Target()
        self.template = Template()
        self.hold = {"Copies": "2", "Held": "none", **self._hold_properties(self.template)}
        self.release = self._release_properties(self.template, self.hold)
        self.answers: dict[str, dict[str, Any]] = {}
        self.delivered: list[dict[str, Any]] = []
        self.events = 0
        self.steps: Iterator[None] | None = None
        self.requests = 0
        self.throttles = 0
        self.kills: list[int] = []
        self.users = NONE
        self.floor: int | None = None
        self.at_hold = 0
        # Collected here, because the handler answers an exception, also an assertion's.
        self.taken: list[str] = []

    def teardown(self) -> None:
        self.throttles, self.kills = 0, []
        while self.steps is not None:
            self._step()
        while self.events:
            self._deliver()
        self.patch.undo()
        self._check_settled()
        assert self.taken == []

    # What happens to the stack.

    @precondition(lambda self: self.steps is None)
    @rule(
        image=st.sampled_from(["repo:1", "repo:2", "repo:3"]),
        bounds=st.sampled_from([(1, 8), (0, 8), (3, 8), (1, 4), (2, 2)]),
        trouble=st.sampled_from(["", "", "", "component", "silent", "smoke", "other"]),
    )
    def deploy(self, image: str, bounds: tuple[int, int], trouble: str) -> None:
        new = replace(self.template, image=image, minimum=bounds[0], maximum=bounds[1])
        self.steps = self._update(new, trouble)

    @precondition(lambda self: self.steps is not None)
    @rule(count=st.integers(1, 12), kill_after=st.one_of(st.none(), st.none(), st.integers(0, 9)))
    def go_on(self, count: int, kill_after: int | None) -> None:
        if kill_after is not None:
            self.kills = [kill_after]
        for _ in range(count):
            if self.steps is not None:
                self._step()

    @precondition(lambda self: self.events)
    @rule()
    def deliver_event(self) -> None:
        self._deliver()

    @rule()
    def deliver_event_twice(self) -> None:
        self._invoke_event()

    @precondition(lambda self: self.delivered)
    @rule(back=st.integers(1, 6), copies=st.integers(0, 10))
    def deliver_request_again(self, back: int, copies: int) -> None:
        """One of the last requests comes once more, and if that resumed scaling, the fleet scales."""
        self._invoke(self.delivered[-min(back, len(self.delivered))])
        self.scale(copies, 0)

    @rule(copies=st.integers(0, 10), polls=st.integers(0, 3))
    def scaling_acts(self, copies: int, polls: int) -> None:
        self.scale(copies, polls)

    def scale(self, copies: int, polls: int) -> None:
        """Application Auto Scaling acts, unless it is suspended or the component is on its way."""
        target, component = self.world.targets[RESOURCE], self.world.components[NAME]
        wanted = min(max(copies, target.minimum), target.maximum)
        suspended = target.suspended[1] if wanted > component.desired else target.suspended[0]
        if not suspended and component.status == "InService":
            component.begin(polls, desired=wanted)

    @precondition(lambda self: MARK not in self.world.targets[RESOURCE].tags)
    @rule(flags=st.sampled_from([NONE, ALL, (True, False, False), (False, False, True)]))
    def user_suspends(self, flags: tuple[bool, bool, bool]) -> None:
        self.users = self.world.targets[RESOURCE].suspended = flags

    @rule(count=st.integers(1, 5))
    def throttle(self, count: int) -> None:
        self.throttles = count

    @rule(after=st.lists(st.integers(0, 12), min_size=1, max_size=2))
    def kill(self, after: list[int]) -> None:
        self.kills = list(after)

    @invariant()
    def marked_when_suspended_by_us(self) -> None:
        """What is not as users left it has a mark, so that an event can always put it right."""
        target = self.world.targets[RESOURCE]
        assert target.suspended == self.users or MARK in target.tags

    @invariant()
    def no_copies_taken(self) -> None:
        """A deployment asks for no fewer copies than run, inside the bounds that it deploys."""
        assert self.taken == []

    @invariant()
    def settled_stacks_scale(self) -> None:
        if self.steps is None and not self.events:
            self._check_settled()

    def _check_settled(self) -> None:
        target = self.world.targets[RESOURCE]
        assert target.suspended == self.users, f"left {target.suspended}, users had {self.users}"
        assert target.tags == {}

    # CloudFormation.

    def _update(self, new: Template, trouble: str) -> Iterator[None]:
        old, old_hold, old_release = self.template, self.hold, self.release
        world = self.world
        world.stack_status = "UPDATE_IN_PROGRESS"
        changed: list[str] = []
        yield
        try:
            wanted = self._hold_properties(new)
            if self._differ(wanted, old_hold):
                changed.append("hold")
                self.at_hold = world.components[NAME].desired
                self.hold = wanted | self._ask(HOLD, wanted, old_hold)
                yield
            if new.image != old.image or self.hold["Copies"] != old_hold["Copies"]:
                changed.append("component")
                yield from self._component(new, self.hold["Copies"], trouble)
            if (new.minimum, new.maximum) != (old.minimum, old.maximum):
                changed.append("target")
                self._register(new)
                yield
            world.answer = lambda: {} if trouble == "smoke" else {"choices": [{}]}
            wanted = self._release_properties(new, self.hold)
            if self._differ(wanted, old_release):
                changed.append("release")
                self._ask(RELEASE, wanted, old_release)
                self.release = wanted
                yield
            if trouble == "other":
                raise Failed("another resource of the stack")
        except Failed:
            yield from self._rollback(old, old_hold, old_release, changed)
            return
        self.template = new
        world.stack_status = "UPDATE_COMPLETE"
        self.events += 1

    def _rollback(
        self, old: Template, old_hold: dict[str, str], old_release: dict[str, str], changed: list[str]
    ) -> Iterator[None]:
        world, failed_hold, failed_release = self.world, self.hold, self.release
        world.stack_status = "UPDATE_ROLLBACK_IN_PROGRESS"
        yield
        copies = old_hold["Copies"]
        self.hold = old_hold
        if "hold" in changed:
            properties = {key: old_hold[key] for key in self._hold_properties(old)}
            self.hold = properties | self._ask(HOLD, properties, failed_hold)
            copies = self.hold["Copies"] if self.resolves_again else copies
            yield
        if "component" in changed:
            yield from self._component(old, copies, "")
        if "target" in changed:
            self._register(old)
            yield
        if "release" in changed:
            properties = self._release_properties(old, self.hold)
            self._ask(RELEASE, properties, failed_release)
            self.release = properties
            yield
        else:
            self.release = old_release
        world.stack_status = "UPDATE_ROLLBACK_COMPLETE"
        self.events += 1

    def _component(self, new: Template, copies: str, trouble: str) -> Iterator[None]:
        component = self.world.components[NAME]
        before, image = component.desired, component.image
        if self.resolves_again:
            self._floor(component, int(copies), new.maximum)
        try:
            component.begin(2, desired=int(copies))
        except AwsError as error:
            raise Failed(str(error)) from error
        yield
        if trouble in ("component", "silent"):
            component.desired, component.image = before, image
        else:
            component.image = new.image
        while component.status == "Updating":
            component.tick()
            yield
        if trouble == "component":
            raise Failed("the component's new copies did not start")

    def _register(self, template: Template) -> None:
        """RegisterScalableTarget moves the capacity of an active resource into the new range at once."""
        target, component = self.world.targets[RESOURCE], self.world.components[NAME]
        target.minimum, target.maximum = template.minimum, template.maximum
        wanted = min(max(component.desired, template.minimum), template.maximum)
        if component.status == "InService" and wanted != component.desired:
            component.begin(1, desired=wanted)

    def _ask(self, resource: str, properties: dict[str, Any], old: dict[str, Any]) -> dict[str, str]:
        self.requests += 1
        id = f"request-{self.requests}"
        event = request("Update", resource, properties, old=old, id=id)
        self.delivered.append(event)
        for _ in range(LAMBDA_ATTEMPTS):
            self._invoke(event)
            if id in self.answers:
                break
        answer = self.answers.get(id)
        if answer is None or answer["Status"] == "FAILED":
            if "ROLLBACK" in self.world.stack_status:
                # The stack is stuck until somebody continues the rollback; the event comes all the same.
                return {key: str(old[key]) for key in ("Copies", "Held") if key in old}
            raise Failed(str(answer))
        return {key: str(value) for key, value in answer["Data"].items()}

    @staticmethod
    def _differ(new: dict[str, str], old: dict[str, str]) -> bool:
        return any(old.get(key) != value for key, value in new.items())

    @staticmethod
    def _hold_properties(template: Template) -> dict[str, str]:
        bounds = {"Minimum": str(template.minimum), "Maximum": str(template.maximum)}
        return {"Component": NAME, "Declared": "2", **bounds, "Watched": template.image}

    def _release_properties(self, template: Template, hold: dict[str, str]) -> dict[str, Any]:
        return {
            **{key: value for key, value in self._hold_properties(template).items() if key != "Watched"},
            "EndpointName": "ep",
            "ConfigName": "config-1",
            "Asked": [{"image": template.image}],
            "Smoke": {"prompt": "ready?", "max_tokens": "8", "wait_seconds": "60"},
            "Copies": hold["Copies"],
            "Held": hold["Held"],
        }

    # Lambda and the network.

    def _step(self) -> None:
        if self.steps is not None and next(self.steps, self) is self:
            self.steps = None

    def _deliver(self) -> None:
        for _ in range(LAMBDA_ATTEMPTS):
            if self._invoke_event():
                self.events -= 1
                return
        # EventBridge and the dead-letter queue keep what Lambda could not run.
        self.kills, self.throttles = [], 0

    def _invoke_event(self) -> bool:
        try:
            deployment.handle(SETTLED, None, self.world.services())
        except (Killed, ClientError):
            return False
        return True

    def _invoke(self, event: dict[str, Any]) -> None:
        try:
            deployment.handle(event, None, self.world.services())
        except Killed:
            return

    def _before(self, operation: str) -> None:
        if self.kills:
            self.kills[0] -= 1
            if self.kills[0] < 0:
                self.kills.pop(0)
                raise Killed
        if self.throttles:
            self.throttles -= 1
            raise AwsError("ThrottlingException", "Rate exceeded")

    def _put(self, url: str, body: bytes) -> None:
        document = json.loads(body)
        self.answers.setdefault(document["RequestId"], document)

    def _counted(self, component: Component, count: int) -> None:
        self._floor(component, count, self.world.targets[RESOURCE].maximum)

    def _floor(self, component: Component, count: int, maximum: int) -> None:
        if count < min(component.desired, maximum):
            self.taken.append(f"{component.desired} copies became {count}")


NORMAL = settings(
    max_examples=200,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

TestDeployments = Cloud.TestCase
TestDeployments.settings = NORMAL


class ForgetfulCloud(Cloud):
    """CloudFormation that goes back to the value of Copies that the stack had before.

    No page says whether Fn::GetAtt is resolved again in a rollback. If it is not, the component is asked for
    fewer copies in between; the settled stack has them back.
    """

    resolves_again = False

    def _rollback(self, *arguments: Any) -> Iterator[None]:
        lowest = min(self.at_hold, self.world.components[NAME].desired, self.template.maximum)
        held = MARK in self.world.targets[RESOURCE].tags
        yield from super()._rollback(*arguments)
        self.floor = lowest if held else None

    def _invoke_event(self) -> bool:
        handled = super()._invoke_event()
        if handled and self.floor is not None and self.world.stack_status == "UPDATE_ROLLBACK_COMPLETE":
            assert self.world.components[NAME].desired >= self.floor
            self.floor = None
        return handled


TestForgetfulDeployments = ForgetfulCloud.TestCase
TestForgetfulDeployments.settings = settings(NORMAL, max_examples=60)
