"""How endpoints come up and move from one configuration to another.

* Created: Creating, then InService or Failed ("DescribeEndpoint", EndpointStatus).
* Blue/green, the default: a new fleet comes up beside the old one; traffic moves at once, in two steps
  (canary) or in several (linear); each step bakes under the alarms; the old fleet ends after the termination
  wait ("Blue/Green Deployments").
* Rolling: a batch of the new fleet comes up, takes its share, bakes, and as many old instances end ("Use
  rolling deployments"). When the old instances cannot be had again, the endpoint is left with both:
  UpdateRollbackFailed.
* A new fleet that cannot be had or does not answer, and an alarm: RollingBack, then InService with the old
  EndpointConfigName and a FailureReason. That UpdateEndpoint ends so without an error is reported in
  terraform-provider-aws #39099, #46663 and #48997; that RollingBack is seen on the way, in #49020.
* Other instance counts: Updating, then InService; without capacity RollingBack, then InService.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tokenmill.local.sagemaker.component_fleet import insufficient_capacity, loads_on
from tokenmill.local.sagemaker.components import ComponentOperations
from tokenmill.local.sagemaker.placement import fleet_of
from tokenmill.local.sagemaker.rollout import (
    alarms_of,
    bake,
    bake_seconds,
    batch_of,
    batches,
    traffic_steps,
)

if TYPE_CHECKING:
    from tokenmill.local.aws_requests import Params
    from tokenmill.local.sagemaker.records import Account, Endpoint, NewFleet, Variant

_ALL_AT_ONCE = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}


class EndpointRollouts(ComponentOperations):
    """The transitions of endpoints."""

    def launch(self, endpoint: Endpoint) -> None:
        """Launch a new endpoint's instances: Creating, then InService or Failed.

        Args:
            endpoint: The endpoint.
        """
        account = self.accounts[endpoint.scope]
        self.sleep(self.startup_seconds)
        with self.lock:
            failure = self._provision(account, endpoint, endpoint.variants)
        for variant in endpoint.variants:
            if failure is None and variant.serves_model:
                failure = self.launch_variant(endpoint, variant)
        with self.lock:
            endpoint.move("InService" if failure is None else "Failed", failure)
            if failure is None:
                self.fit_instances(account, endpoint)

    def deploy(self, endpoint: Endpoint, new: NewFleet) -> None:
        """Move an endpoint to another configuration: Updating, then InService with the new or the old one.

        Args:
            endpoint: The endpoint.
            new: Where it goes.
        """
        rolling = (endpoint.deployment or {}).get("RollingUpdatePolicy")
        if rolling:
            failure = self._roll_instances(endpoint, new, rolling)
        else:
            failure = self._shift(endpoint, new)
        if failure is None:
            self._finish(endpoint, new)
        else:
            self._roll_back(endpoint, new, failure)

    def change_instances(self, endpoint: Endpoint, before: list[tuple[Variant, int, float]]) -> None:
        """Bring an endpoint's variants to the instances and weights that they should have.

        Args:
            endpoint: The endpoint.
            before: Each changed variant with the instances and the weight that it had.
        """
        account = self.accounts[endpoint.scope]
        self.sleep(self.startup_seconds)
        for variant, _, _ in before:
            with self.lock:
                held = self._fleet(account, variant, variant.desired, variant.held)
                if held is not None:
                    variant.held = held
            if held is None:
                endpoint.move("RollingBack")
                self.sleep(self.startup_seconds)
                with self.lock:
                    for other, desired, weight in before:
                        other.desired, other.weight = desired, weight
                        other.held = self._fleet(account, other, desired, other.held) or other.held
                    endpoint.move("InService", insufficient_capacity(variant.types))
                return
            if variant.serves_model:
                self.fleet.resize(endpoint.key(variant), variant.desired)
        with self.lock:
            endpoint.move("InService")

    def _shift(self, endpoint: Endpoint, new: NewFleet) -> str | None:
        account = self.accounts[endpoint.scope]
        policy: Params = (endpoint.deployment or {}).get("BlueGreenUpdatePolicy") or {}
        routing: Params = policy.get("TrafficRoutingConfiguration") or _ALL_AT_ONCE
        _stage(new, "Creating")
        self.sleep(self.startup_seconds)
        with self.lock:
            failure = self._provision(account, endpoint, new.variants)
        for variant in new.variants:
            if failure is None and variant.serves_model:
                failure = self.launch_variant(endpoint, variant, key=endpoint.key(variant, new=True))
        if failure is not None:
            return failure
        for share in traffic_steps(routing, max(1, *(variant.desired for variant in new.variants))):
            failure = self._bake_traffic(endpoint, new, share, float(routing["WaitIntervalInSeconds"]))
            if failure is not None:
                return failure
        self._wait(float(policy.get("TerminationWaitInSeconds", 0)))
        return None

    def _roll_instances(self, endpoint: Endpoint, new: NewFleet, policy: Params) -> str | None:
        account = self.accounts[endpoint.scope]
        total = max(1, *(variant.desired for variant in new.variants))
        for done in batches(batch_of(policy["MaximumBatchSize"], total), total):
            _stage(new, "Creating")
            self.sleep(self.startup_seconds)
            for variant in new.variants:
                count = math.ceil(variant.desired * done / total)
                failure = self._grow(account, endpoint, variant, count)
                if failure is not None:
                    return failure
            failure = self._bake_traffic(endpoint, new, done / total, float(policy["WaitIntervalInSeconds"]))
            if failure is not None:
                return failure
            for variant in endpoint.variants:
                left = max(0, variant.desired - math.ceil(variant.desired * done / total))
                with self.lock:
                    variant.held = fleet_of(left, variant.types, variant.held, ()) or {}
                if variant.serves_model:
                    self.fleet.resize(endpoint.key(variant), left)
        return None

    def _grow(self, account: Account, endpoint: Endpoint, variant: Variant, count: int) -> str | None:
        with self.lock:
            held = self._fleet(account, variant, count, variant.held)
            if held is None:
                return insufficient_capacity(variant.types)
            variant.held = held
        if not variant.serves_model:
            return None
        key = endpoint.key(variant, new=True)
        if self.fleet.url(key) is None:
            return self.launch_variant(endpoint, variant, key=key, copies=count)
        self.fleet.resize(key, count)
        return None

    def _bake_traffic(self, endpoint: Endpoint, new: NewFleet, share: float, wait: float) -> str | None:
        with self.lock:
            _stage(new, "ActivatingTraffic")
            new.split.share = share
            _stage(new, "Baking")
        return bake(
            bake_seconds(wait, self.startup_seconds),
            alarms_of(endpoint.deployment),
            sleep=self.sleep,
            state=lambda name: self.alarm_state(endpoint.scope, name),
        )

    def _wait(self, seconds: float) -> None:
        if seconds:
            self.sleep(bake_seconds(seconds, self.startup_seconds))

    def _finish(self, endpoint: Endpoint, new: NewFleet) -> None:
        account = self.accounts[endpoint.scope]
        kept = {variant.name for variant in new.variants if variant.serves_model}
        for variant in new.variants:
            if variant.serves_model:
                self.fleet.promote(endpoint.key(variant, new=True), endpoint.key(variant))
        for variant in endpoint.variants:
            if variant.name not in kept:
                self.fleet.stop(endpoint.key(variant))
        with self.lock:
            _stage(new, None)
            endpoint.config_name, endpoint.variants, endpoint.pending = new.config_name, new.variants, None
            endpoint.move("InService")
            self.fit_instances(account, endpoint)

    def _roll_back(self, endpoint: Endpoint, new: NewFleet, failure: str) -> None:
        account = self.accounts[endpoint.scope]
        with self.lock:
            endpoint.move("RollingBack")
        self.sleep(self.startup_seconds)
        with self.lock:
            fleets = [
                self._fleet(account, variant, variant.desired, variant.held) for variant in endpoint.variants
            ]
            if None in fleets:
                endpoint.move("UpdateRollbackFailed", failure)
                return
            new.split.share = 0.0
            for variant, held in zip(endpoint.variants, fleets, strict=True):
                variant.held = held or {}
            endpoint.pending = None
        for variant in endpoint.variants:
            if variant.serves_model:
                self.fleet.resize(endpoint.key(variant), variant.desired)
        for variant in new.variants:
            self.fleet.stop(endpoint.key(variant, new=True))
        with self.lock:
            endpoint.move("InService", failure)

    def _provision(self, account: Account, endpoint: Endpoint, variants: list[Variant]) -> str | None:
        """Launch a whole fleet, large enough for the components that are there; return why there is none."""
        for variant in variants:
            loads = loads_on(account, endpoint, variant)
            if any(load.copies for load in loads):
                found = self.fit(account, variant, loads, {})
                if isinstance(found, str):
                    return found
                variant.desired = max(variant.desired, sum(found[0].values()))
            held = self._fleet(account, variant, variant.desired, {})
            if held is None:
                return insufficient_capacity(variant.types)
            variant.held = held
        return None

    def _fleet(
        self, account: Account, variant: Variant, count: int, held: dict[str, int]
    ) -> dict[str, int] | None:
        return fleet_of(count, variant.types, held, account.faults.insufficient_capacity)


def _stage(new: NewFleet, stage: str | None) -> None:
    for variant in new.variants:
        variant.stage = stage
