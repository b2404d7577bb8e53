"""How inference components come up and change.

* Created: Creating, then InService or Failed.
* Other copies: Updating, then InService; copies that cannot be had leave the number as it was.
* Another specification with a rolling policy: a batch of new copies starts on capacity of its own, takes its
  share of the requests, bakes under the alarms, and then as many old copies end ("Use rolling deployments";
  API Reference, "InferenceComponentRollingUpdatePolicy"). What fails, or an alarm, brings the old ones back.
  An example of AWS's shows the instance that is launched for it (ic_rolling_deployment.ipynb of
  aws-samples/sagemaker-genai-hosting-examples: 2 copies on 2 instances, 3 during the update); without room
  for it below MaxInstanceCount the update fails here, which AWS does not document.
* Another specification without a policy: the old copies end before the new ones start. AWS does not say what
  it does then; this is the worse of the two.

After a rollback the component is InService with the old specification and a FailureReason, as
terraform-provider-aws #39099 and #48997 report it for endpoints.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tokenmill.local.sagemaker.component_fleet import ComponentFleet
from tokenmill.local.sagemaker.records import Split, load_of, new_key
from tokenmill.local.sagemaker.rollout import alarms_of, bake, bake_seconds, batch_of, batches

if TYPE_CHECKING:
    from tokenmill.local.aws_requests import Params
    from tokenmill.local.sagemaker.fleet import Launch
    from tokenmill.local.sagemaker.records import Component


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What an update asks of a component.

    Args:
        specifications: What is to run.
        copies: How many copies.
        copies_before: How many were desired before.
        deployment: The deployment configuration.
    """

    specifications: list[Params]
    copies: int
    copies_before: int
    deployment: Params | None = None


class ComponentRollouts(ComponentFleet):
    """The transitions of inference components."""

    def bring_up(self, component: Component) -> None:
        """Start a new component's copies: Creating, then InService or Failed.

        Args:
            component: The component.
        """
        account = self.accounts[component.scope]
        self.sleep(self.startup_seconds)
        with self.lock:
            failure = self._base_problem(component) or self._room(component)
        if failure is None and component.base is None:
            failure = self._started(component, component.name, component.specifications, component.desired)
        with self.lock:
            if component.status == "Deleting":
                self.fleet.stop(component.name)
                return
            if failure is None:
                component.current = component.desired
            component.move("InService" if failure is None else "Failed", failure)
            self.fit_instances(account, account.endpoints[component.endpoint])

    def change_copies(self, component: Component, before: int) -> None:
        """Bring a component to the copies that it should have: Updating, then InService.

        Args:
            component: The component.
            before: Copies that it should have had until now.
        """
        self.sleep(self.startup_seconds)
        with self.lock:
            failure = self._room(component) if component.desired > component.current else None
        if failure is None and component.base is None:
            if self.fleet.url(component.name) is not None:
                self.fleet.resize(component.name, component.desired)
            else:
                copies = component.desired
                failure = self._started(component, component.name, component.specifications, copies)
        self._settle(component, failure, copies=component.desired if failure is None else before)

    def change_specification(self, component: Component, change: Change) -> None:
        """Bring a component to another specification: Updating, then InService with the new or the old one.

        Args:
            component: The component.
            change: What is asked.
        """
        if component.base is not None:
            self.sleep(self.startup_seconds)
            component.specifications = change.specifications
            self._settle(component, self._base_problem(component), copies=change.copies)
        elif (change.deployment or {}).get("RollingUpdatePolicy") and component.current:
            self._roll(component, change)
        else:
            self._swap(component, change)

    def _swap(self, component: Component, change: Change) -> None:
        specifications, served, launch = component.specifications, component.current, component.launch
        with self.lock:
            component.current = 0
            component.specifications = change.specifications
        self.fleet.stop(component.name)
        self.sleep(self.startup_seconds)
        with self.lock:
            failure = self._room(component)
        if failure is None:
            failure = self._started(component, component.name, change.specifications, change.copies)
        if failure is None:
            self._settle(component, None, copies=change.copies)
            return
        with self.lock:
            component.specifications, component.launch = specifications, launch
        again = self._restart(component.name, launch, served)
        with self.lock:
            component.current = 0 if again else served
        self._settle(component, f"{failure} {again or ''}".strip(), copies=change.copies_before)

    def _roll(self, component: Component, change: Change) -> None:
        policy: Params = (change.deployment or {})["RollingUpdatePolicy"]
        total, served = max(1, change.copies), component.current
        key, before = new_key(component.name), component.launch
        wait = bake_seconds(float(policy["WaitIntervalInSeconds"]), self.startup_seconds)
        failure, kept = None, served
        for done in batches(batch_of(policy["MaximumBatchSize"], total), total):
            self.sleep(self.startup_seconds)
            with self.lock:
                component.kept, component.surge = kept, load_of(key, change.specifications, done)
                failure = self._room(component)
            if failure is None and self.fleet.url(key) is None:
                failure = self._started(component, key, change.specifications, done)
            elif failure is None:
                self.fleet.resize(key, done)
            if failure is None:
                with self.lock:
                    component.split.share = done / (done + kept)
                    component.current = done + kept
                failure = self._bake(component, change, wait)
            if failure is not None:
                break
            kept = min(kept, total - done)
            # Requests go elsewhere before the copies end.
            with self.lock:
                component.current = done + kept
                component.split.share = done / (done + kept)
            self.fleet.resize(component.name, kept)
        if failure is None:
            self._take_over(component, change)
        else:
            with self.lock:
                component.launch = before
            self._take_back(component, change, served, kept, failure)

    def _bake(self, component: Component, change: Change, wait: float) -> str | None:
        return bake(
            wait,
            alarms_of(change.deployment),
            sleep=self.sleep,
            state=lambda name: self.alarm_state(component.scope, name),
        )

    def _take_over(self, component: Component, change: Change) -> None:
        self.fleet.promote(new_key(component.name), component.name)
        if change.copies == 0:
            self.fleet.resize(component.name, 0)
        with self.lock:
            component.specifications = change.specifications
            component.surge, component.kept, component.split = None, None, Split()
        self._settle(component, None, copies=change.copies)

    def _take_back(self, component: Component, change: Change, served: int, kept: int, failure: str) -> None:
        """Bring all old copies back at once, which is the default of RollbackMaximumBatchSize."""
        with self.lock:
            component.split.share = 0.0
        self.sleep(self.startup_seconds)
        with self.lock:
            component.surge, component.kept, component.split = None, None, Split()
            component.desired = served
            again = self._room(component)
        self.fleet.stop(new_key(component.name))
        if again is None:
            self.fleet.resize(component.name, served)
        with self.lock:
            component.current = served if again is None else kept
        self._settle(component, f"{failure} {again or ''}".strip(), copies=change.copies_before)

    def _settle(self, component: Component, failure: str | None, *, copies: int) -> None:
        account = self.accounts[component.scope]
        with self.lock:
            if component.status == "Deleting":
                self.fleet.stop(component.name)
                return
            component.desired = copies
            if failure is None:
                component.current = copies
            component.move("InService", failure)
            self.fit_instances(account, account.endpoints[component.endpoint])

    def _room(self, component: Component) -> str | None:
        if component.base is not None:
            return None
        return self.make_room(self.accounts[component.scope], component)

    def _base_problem(self, component: Component) -> str | None:
        """Return why an adapter cannot be there: its base component must be in service."""
        if component.base is None:
            return None
        base = self.accounts[component.scope].components.get(component.base)
        if base is not None and base.status == "InService":
            return None
        state = f"is {base.status}" if base is not None else "is gone"
        return f"base inference component {component.base} {state}, not InService"

    def _started(
        self, component: Component, key: str, specifications: list[Params], copies: int
    ) -> str | None:
        started = self.start_copies(component, specifications, key, copies)
        if isinstance(started, str):
            return started
        with self.lock:
            component.launch = started
        return None

    def _restart(self, key: str, launch: Launch | None, copies: int) -> str | None:
        if launch is None:
            return None
        return self.try_start(key, replace(launch, copies=copies))
