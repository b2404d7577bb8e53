"""The guard of an endpoint's deployments: one function for what comes before, after and in the end.

Custom::TokenmillHold stands before a change: it suspends the fleet's scaling, waits until nothing is on its
way and returns the copies that run, which the change then asks for. Custom::TokenmillRelease stands after it:
it compares what runs with what was asked, sends a smoke prompt and resumes scaling. A stack that fails in
between never reaches the second, so EventBridge's "CloudFormation Stack Status Change" calls the same
function when the stack has settled ("Stack Status Change event detail", AWS CloudFormation user guide).
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime.custom_resource import Answer, Refused, Request, run
from tokenmill_runtime.deployment_check import DeploymentCheck, read_asked, read_smoke
from tokenmill_runtime.deployment_fleet import Fleet, FleetControl
from tokenmill_runtime.deployment_services import Services

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill_runtime.deployment_fleet import Live

HOLD_TYPE: Final = "Custom::TokenmillHold"
RELEASE_TYPE: Final = "Custom::TokenmillRelease"
STACK_VARIABLE: Final = "TOKENMILL_STACK"
FLEETS_VARIABLE: Final = "TOKENMILL_FLEETS"
COPIES_ATTRIBUTE: Final = "Copies"
INSTANCES_ATTRIBUTE: Final = "Instances"
HELD_ATTRIBUTE: Final = "Held"
EVENT_TYPE: Final = "CloudFormation Stack Status Change"

# A copy that is on its way compiles for an hour at worst; a deployment does not wait for it that long.
MOST_WAIT_SECONDS: Final = 600.0
# What is left of the function's time for resuming and answering.
SPARE_SECONDS: Final = 45.0
DEFAULT_SECONDS: Final = 900.0


def handler(event: Mapping[str, Any], context: Any) -> None:
    """Answer CloudFormation, or put things right when the stack has settled."""
    handle(event, context, Services())


def handle(event: Mapping[str, Any], context: Any, services: Services) -> None:
    """`handler` with its clients and its clock.

    Raises what AWS answers for an event of EventBridge, so that Lambda runs it again; a request of
    CloudFormation is always answered.
    """
    guard = DeploymentGuard(services, context)
    if event.get("detail-type") == EVENT_TYPE:
        guard.settled()
        return
    run(event, context, {HOLD_TYPE: guard.hold, RELEASE_TYPE: guard.release})


@dataclass(frozen=True, slots=True)
class StackStatus:
    """A status code of "Stack status codes" (AWS CloudFormation user guide)."""

    code: str

    @property
    def busy(self) -> bool:
        """Whether resources still change: not in the cleanup, which only deletes what was replaced."""
        return self.code.endswith("_IN_PROGRESS") and "CLEANUP" not in self.code

    @property
    def going_back(self) -> bool:
        """Whether the stack returns to what it was, where a failure would leave it stuck."""
        return "ROLLBACK" in self.code

    @property
    def failed(self) -> bool:
        """Whether the deployment did not reach what it was to reach."""
        return self.going_back or self.code.endswith("_FAILED")

    @property
    def deleting(self) -> bool:
        """Whether the stack goes away."""
        return self.code.startswith("DELETE")


class DeploymentGuard:
    """What the function does with a request or an event."""

    def __init__(self, services: Services, context: Any) -> None:
        self._services = services
        seconds = DEFAULT_SECONDS if context is None else context.get_remaining_time_in_millis() / 1000
        self._deadline = services.monotonic() + max(0.0, seconds - SPARE_SECONDS)

    def hold(self, request: Request) -> Answer:
        """Before a change: suspend, wait, and return the copies to deploy with."""
        fleet = Fleet.read(request.properties)
        status = self._stack()
        if request.kind == "Delete":
            self._let_go(fleet, status)
            return Answer(physical_id=request.physical_id or request.own_id)
        bounds = Bounds.read(request.properties)
        running = fleet if status.going_back else self._running(request, fleet)
        control, by = FleetControl(running, self._services), _short(request.request_id)
        live = control.live()
        if live is None:
            return _held(request, bounds.keep(bounds.declared), by)
        if not status.busy:
            # Delivered again after the stack had settled: nobody would resume what is suspended now.
            return _held(request, bounds.keep(live.desired), by)
        copies = control.suspend(live.desired, by)
        settled = control.wait(self._before_the_end())
        if settled is not None and not settled.settled and not status.going_back:
            raise Refused(
                f"{running.resource_id} is still {settled.status} after "
                f"{MOST_WAIT_SECONDS:.0f} s, and SageMaker changes nothing that is in progress; deploy again "
                "when it is InService"
            )
        if settled is not None:
            copies = control.suspend(max(copies, settled.desired), by)
        self._resume_settled(running)
        return _held(request, bounds.keep(copies), by)

    def release(self, request: Request) -> Answer:
        """After a change: compare, ask, resume.

        While a stack goes back nothing is compared, because a failure would leave it stuck, and nothing is
        resumed, because the fleet may change once more: `settled` does that.
        """
        physical_id = request.physical_id or request.own_id
        status = self._stack()
        if request.kind == "Delete" or status.going_back or not status.busy:
            return Answer(physical_id=physical_id)
        fleet = Fleet.read(request.properties)
        self._check(request, fleet)
        control = FleetControl(fleet, self._services)
        target = control.target()
        if target is not None and target.mark is not None and target.mark.by == _held_by(request):
            control.resume(target, restore=False, deadline=self._deadline)
        return Answer(physical_id=physical_id)

    def settled(self) -> None:
        """Resume whatever this stack's deployment left suspended; nothing while another one runs."""
        failures: list[Exception] = []
        for resource_id in json.loads(os.environ[FLEETS_VARIABLE]):
            failures += self._try_resume(Fleet.of_resource_id(resource_id))
        if failures:
            raise failures[0]

    def _try_resume(self, fleet: Fleet) -> list[Exception]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._resume_settled(fleet)
        except (BotoCoreError, ClientError, Refused) as error:
            print(f"{fleet.resource_id} could not be resumed: {error}", file=sys.stderr, flush=True)
            return [error]
        return []

    def _resume_settled(self, fleet: Fleet) -> None:
        """Resume a marked fleet unless its stack is busy or goes away.

        The target is read before the stack: a mark that a deployment sets after the stack was found settled
        is not the one that is resumed.
        """
        control = FleetControl(fleet, self._services)
        target = control.target()
        if target is None or target.mark is None:
            return
        status = self._stack()
        if not status.busy and not status.deleting:
            control.resume(target, restore=status.failed, deadline=self._before_the_end())

    def _let_go(self, fleet: Fleet, status: StackStatus) -> None:
        """Resume what this resource suspended, now that nobody stands before the fleet any more."""
        control = FleetControl(fleet, self._services)
        target = None if status.deleting else control.target()
        if target is not None:
            control.resume(target, restore=status.failed, deadline=self._before_the_end())

    def _check(self, request: Request, fleet: Fleet) -> None:
        properties, kept = request.properties, _kept(request)
        check = DeploymentCheck(
            endpoint=properties.get("EndpointName", ""), fleet=fleet, services=self._services
        )
        compared = "ConfigName" in properties
        if compared:
            check.configuration(properties["ConfigName"], self._deadline)
        live = check.specification(read_asked(properties.get("Asked", ())), self._deadline)
        if kept is not None:
            live = self._fit(fleet, live, Bounds.read(properties), kept)
        if kept is not None and compared:
            check.copies(live, kept)
        checks = [check, *self._adapter_checks(properties)]
        smoke = read_smoke(properties.get("Smoke"))
        if smoke is None:
            return
        if live.current == 0:
            print(f"{fleet.resource_id} stands at 0, so no smoke prompt was sent", flush=True)
            return
        for one in checks:
            one.answers(smoke, self._deadline)

    def _adapter_checks(self, properties: Mapping[str, Any]) -> list[DeploymentCheck]:
        """The checks of a component's adapters, after what each runs was compared."""
        checks = []
        for item in properties.get("Adapters", ()):
            check = DeploymentCheck(
                endpoint=properties.get("EndpointName", ""),
                fleet=Fleet.read(item),
                services=self._services,
            )
            check.specification(read_asked(item.get("Asked", ())), self._deadline)
            checks.append(check)
        return checks

    def _fit(self, fleet: Fleet, live: Live, bounds: Bounds, kept: int) -> Live:
        """Ask for copies that the update did not set or that it lost; never for fewer.

        A variant's count stays what it was before ("RetainAllVariantProperties", UpdateEndpoint), and where
        no scaling is registered nobody else moves it above a new minimum.
        """
        control = FleetControl(fleet, self._services)
        wanted = max(kept, live.desired)
        if control.target() is None:
            wanted = max(wanted, bounds.minimum)
        if wanted == live.desired:
            return live
        control.set_count(wanted)
        return control.wait(self._deadline) or live

    def _running(self, request: Request, fleet: Fleet) -> Fleet:
        """The fleet that serves now: of an endpoint that is being replaced, the old one."""
        if not request.old_properties:
            return fleet
        old = Fleet.read(request.old_properties)
        if old == fleet:
            return fleet
        return fleet if FleetControl(old, self._services).live() is None else old

    def _stack(self) -> StackStatus:
        stacks, name = self._services.stacks(), os.environ[STACK_VARIABLE]
        found = self._services.patiently(lambda: stacks.describe_stacks(StackName=name))["Stacks"]
        return StackStatus(found[0]["StackStatus"])

    def _before_the_end(self) -> float:
        return min(self._deadline, self._services.monotonic() + MOST_WAIT_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The copies that a template declares."""

    declared: int
    minimum: int
    maximum: int

    @classmethod
    def read(cls, properties: Mapping[str, Any]) -> Bounds:
        """The bounds of a custom resource's properties. Raises Refused where they are no numbers."""
        try:
            return cls(
                declared=int(properties["Declared"]),
                minimum=int(properties["Minimum"]),
                maximum=int(properties["Maximum"]),
            )
        except (KeyError, ValueError) as error:
            raise Refused(f"Declared, Minimum and Maximum must be whole numbers: {error}") from error

    def keep(self, live: int) -> int:
        """The copies to deploy with: those that run, inside what the template allows."""
        return min(max(live, self.minimum), self.maximum)


def _held(request: Request, copies: int, by: str) -> Answer:
    # A configuration begins with one instance at least, also where the fleet stands at none.
    data: dict[str, str | int] = {
        COPIES_ATTRIBUTE: copies,
        INSTANCES_ATTRIBUTE: max(1, copies),
        HELD_ATTRIBUTE: by,
    }
    return Answer(physical_id=request.physical_id or request.own_id, data=data)


def _held_by(request: Request) -> str | None:
    held = request.properties.get("Held")
    return None if held is None else str(held)


def _kept(request: Request) -> int | None:
    """The copies that this deployment's hold kept; None where it was not called for this deployment."""
    if _held_by(request) is None or request.old_properties.get("Held") == _held_by(request):
        return None
    return int(request.properties["Copies"])


def _short(request_id: str) -> str:
    return hashlib.sha256(request_id.encode()).hexdigest()[:12]
