"""What acts on policies, ranges and schedules: the capacity that each asks for, cooldowns, activities.

Sources: Application Auto Scaling User Guide, "How step scaling for Application Auto Scaling works" and "How
target tracking scaling for Application Auto Scaling works" (cooldown: while one of scale-out lasts, the
capacity that it added counts, so that only a larger step acts; one of scale-in blocks further scale-in, and a
scale-out ends it), "Scheduled scaling" (ignores cooldowns), "Suspend and resume scaling", "Scaling
activities"; Amazon CloudWatch User Guide, "Using Amazon CloudWatch alarms" (an Auto Scaling action is invoked
once a minute while the alarm stays in its state).
"""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from tokenmill.local.autoscaling.records import (
    IN_SUSPENDED,
    OUT_SUSPENDED,
    SCHEDULED_SUSPENDED,
    Account,
    Activity,
    Cooldown,
)
from tokenmill.local.autoscaling.schedule import is_due
from tokenmill.local.autoscaling.steps import adjustment_for, aggregated, capacity_after
from tokenmill.local.autoscaling.tracking import wanted_capacity
from tokenmill.local.aws_requests import AwsError, Scope
from tokenmill.local.cloudwatch.alarms import datapoints

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tokenmill.local.autoscaling.records import Alarms, Capacities, Capacity, TargetKey
    from tokenmill.local.aws_requests import Params
    from tokenmill.local.cloudwatch.alarms import MetricQuery

REPEAT_SECONDS = 60.0
DEFAULT_COOLDOWN_SECONDS = 300
_TRACKING, _STEPS = "TargetTrackingScalingPolicyConfiguration", "StepScalingPolicyConfiguration"


class Scaler:
    """Moves capacities; `AutoScaling` adds the API.

    Args:
        capacities: The resources that are scaled.
        alarms: The alarms that target tracking makes.
        statistic: Gives one statistic of one metric.
        clock: Gives the time, in seconds since 1970.
    """

    def __init__(
        self,
        *,
        capacities: Capacities,
        alarms: Alarms,
        statistic: Callable[[MetricQuery], float | None],
        clock: Callable[[], float],
    ) -> None:
        self.accounts: defaultdict[Scope, Account] = defaultdict(Account)
        self._capacities = capacities
        self._alarms = alarms
        self._statistic = statistic
        self._clock = clock
        self.lock = threading.RLock()

    def alarm_evaluated(self, scope: Scope, alarm: Mapping[str, Any]) -> None:
        """Execute the policies among an alarm's actions, at once and then every minute that it stays.

        Args:
            scope: Whose alarm.
            alarm: The alarm with its state.
        """
        with self.lock:
            self._act_on(scope, alarm)

    def _act_on(self, scope: Scope, alarm: Mapping[str, Any]) -> None:
        account, now = self.accounts[scope], self._clock()
        for arn in alarm.get("AlarmActions") or []:
            key = (str(alarm["AlarmName"]), arn)
            if alarm["StateValue"] != "ALARM" or not alarm.get("ActionsEnabled", True):
                account.executed.pop(key, None)
                continue
            found = account.policy_of(arn)
            if found is None or now - account.executed.get(key, -REPEAT_SECONDS) < REPEAT_SECONDS:
                continue
            account.executed[key] = now
            points = datapoints(alarm, self._statistic, now)
            self._execute(scope, *found, alarm, points)

    def tick(self) -> None:
        """Run the scheduled actions that are due, and end the activities that are fulfilled."""
        now = self._clock()
        with self.lock:
            for scope, account in list(self.accounts.items()):
                for identity, action in list(account.schedules.items()):
                    since = account.checked.get(identity, now)
                    account.checked[identity] = now
                    due = is_due(action, since, now)
                    if due and not account.suspended(identity[0], SCHEDULED_SUSPENDED):
                        self._run_schedule(scope, identity[0], action)
                self._follow(scope, account)

    def move_into_range(self, scope: Scope, key: TargetKey, cause: str) -> None:
        """Bring a resource's capacity into its target's range, when it is active and outside.

        Args:
            scope: Whose.
            key: The target.
            cause: Why.
        """
        capacity = self._capacities.read(scope, key)
        if capacity is None or not capacity.active:
            return
        wanted = self._in_range(scope, key, capacity.desired)
        if wanted != capacity.desired:
            self._write(scope, key, capacity, wanted, cause)

    def _execute(
        self, scope: Scope, key: TargetKey, policy: Params, alarm: Mapping[str, Any], points: list[float]
    ) -> None:
        capacity = self._capacities.read(scope, key)
        if capacity is None:
            return
        steps = policy.get(_STEPS)
        if steps is not None:
            wanted = self._stepped(scope, policy, steps, alarm, points, capacity.desired)
        else:
            wanted = self._tracked(scope, key, policy, alarm, points, capacity.desired)
        if wanted is None:
            return
        name = policy["PolicyName"]
        cause = f"monitor alarm {alarm['AlarmName']} in state ALARM triggered policy {name}"
        limited = self._in_range(scope, key, wanted)
        account = self.accounts[scope]
        if limited == capacity.desired:
            self._not_scaled(account, key, wanted, capacity, cause)
        elif not account.suspended(key, OUT_SUSPENDED if limited > capacity.desired else IN_SUSPENDED):
            if self._write(scope, key, capacity, limited, cause):
                self._cool_down(account, policy, capacity.desired, limited)

    def _stepped(
        self,
        scope: Scope,
        policy: Params,
        config: Params,
        alarm: Mapping[str, Any],
        points: list[float],
        current: int,
    ) -> int | None:
        value = aggregated(points, config.get("MetricAggregationType"))
        # An alarm that was set by hand has no data: it counts as at its threshold.
        breach = 0.0 if value is None else value - float(alarm["Threshold"])
        above = str(alarm["ComparisonOperator"]).startswith("Greater")
        adjustment = adjustment_for(config["StepAdjustments"], breach, above=above)
        if adjustment is None:
            return None
        cooldown = self.accounts[scope].cooldowns.get(policy["PolicyARN"], Cooldown())
        seconds = float(config.get("Cooldown", DEFAULT_COOLDOWN_SECONDS))
        if self._within(cooldown.out_at, seconds):
            larger = capacity_after(cooldown.base, adjustment, config)
            return larger if larger > current else None
        wanted = capacity_after(current, adjustment, config)
        if wanted < current and self._within(cooldown.in_at, seconds):
            return None
        return wanted

    def _tracked(
        self,
        scope: Scope,
        key: TargetKey,
        policy: Params,
        alarm: Mapping[str, Any],
        points: list[float],
        current: int,
    ) -> int | None:
        if not points:
            return None
        account, config = self.accounts[scope], policy[_TRACKING]
        wanted = wanted_capacity(current, points[-1], float(config["TargetValue"]))
        cooldown = account.cooldowns.get(policy["PolicyARN"], Cooldown())
        if wanted > current:
            lasts = self._within(cooldown.out_at, _seconds(config, "ScaleOutCooldown"))
            return None if lasts and wanted <= cooldown.reached else wanted
        blocked = self._within(cooldown.in_at, _seconds(config, "ScaleInCooldown"))
        low = str(alarm["ComparisonOperator"]).startswith("Less")
        if not low or blocked or not self._all_want_less(scope, key, policy):
            return None
        return wanted

    def _all_want_less(self, scope: Scope, key: TargetKey, policy: Params) -> bool:
        """Whether every other tracking policy that may take capacity away wants to."""
        for (other, name), each in self.accounts[scope].policies.items():
            config = each.get(_TRACKING)
            if other != key or name == policy["PolicyName"] or config is None or config.get("DisableScaleIn"):
                continue
            lows = [made["AlarmName"] for made in each["Alarms"] if "-AlarmLow-" in made["AlarmName"]]
            if any(self._alarms.state(scope, alarm) != "ALARM" for alarm in lows):
                return False
        return True

    def _run_schedule(self, scope: Scope, key: TargetKey, action: Params) -> None:
        account = self.accounts[scope]
        target = account.targets[key]
        change: Params = action.get("ScalableTargetAction") or {}
        low, high = ({**target, **change}[name] for name in ("MinCapacity", "MaxCapacity"))
        name = action["ScheduledActionName"]
        cause = f"scheduled action name {name} was triggered"
        activity = Activity(
            key=key, description=f"Setting min capacity to {low} and max capacity to {high}", cause=cause
        )
        account.activities.insert(0, activity)
        if low > high:
            activity.end("Failed", f"Min capacity {low} is above max capacity {high}.")
            return
        target.update(MinCapacity=low, MaxCapacity=high)
        activity.end("Successful", f"Successfully set min capacity to {low} and max capacity to {high}")
        self.move_into_range(scope, key, cause)

    def _write(self, scope: Scope, key: TargetKey, capacity: Capacity, wanted: int, cause: str) -> bool:
        what = f"desired {capacity.unit} to {wanted}"
        activity = Activity(key=key, description=f"Setting {what}.", cause=cause, wanted=wanted)
        self.accounts[scope].activities.insert(0, activity)
        try:
            self._capacities.write(scope, key, wanted)
        except AwsError as error:
            activity.end("Failed", f"Failed to set {what}. Reason: {error.message}")
            return False
        activity.message = f"Successfully set {what}. Waiting for change to be fulfilled by {key[0]}."
        return True

    def _follow(self, scope: Scope, account: Account) -> None:
        for activity in account.activities:
            if activity.status != "InProgress":
                continue
            capacity = self._capacities.read(scope, activity.key)
            if capacity is None:
                activity.end("Failed", f"{activity.key[1]} is gone.")
            elif capacity.active and capacity.desired == activity.wanted:
                what = f"desired {capacity.unit} to {activity.wanted}"
                fulfilled = f"Change successfully fulfilled by {activity.key[0]}."
                activity.end("Successful", f"Successfully set {what}. {fulfilled}")
            elif capacity.active:
                activity.end("Unfulfilled", f"{activity.key[1]} stays at {capacity.desired}.")

    def _not_scaled(
        self, account: Account, key: TargetKey, wanted: int, capacity: Capacity, cause: str
    ) -> None:
        target = account.targets[key]
        code = "AlreadyAtDesiredCapacity"
        if wanted > target["MaxCapacity"]:
            code = "AlreadyAtMaxCapacity"
        elif wanted < target["MinCapacity"]:
            code = "AlreadyAtMinCapacity"
        activity = Activity(key=key, description="Attempting to scale due to alarm triggered", cause=cause)
        activity.not_scaled = {
            "Code": code,
            "MinCapacity": target["MinCapacity"],
            "MaxCapacity": target["MaxCapacity"],
            "CurrentCapacity": capacity.desired,
        }
        activity.end("Unfulfilled", "Unable to scale")
        account.activities.insert(0, activity)

    def _cool_down(self, account: Account, policy: Params, before: int, after: int) -> None:
        cooldown = account.cooldowns.setdefault(policy["PolicyARN"], Cooldown())
        if after < before:
            cooldown.in_at = self._clock()
            return
        config: Params = policy.get(_STEPS) or {}
        if not self._within(cooldown.out_at, float(config.get("Cooldown", DEFAULT_COOLDOWN_SECONDS))):
            cooldown.base = before
        cooldown.out_at, cooldown.reached, cooldown.in_at = self._clock(), after, None

    def _within(self, since: float | None, seconds: float) -> bool:
        return since is not None and self._clock() - since < seconds

    def _in_range(self, scope: Scope, key: TargetKey, wanted: int) -> int:
        target = self.accounts[scope].targets[key]
        return max(int(target["MinCapacity"]), min(wanted, int(target["MaxCapacity"])))


def _seconds(config: Params, name: str) -> float:
    return float(config.get(name, DEFAULT_COOLDOWN_SECONDS))
