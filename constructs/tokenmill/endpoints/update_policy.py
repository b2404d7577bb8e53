"""How a change reaches a running model: the mechanism by mode, and what guards it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aws_cdk import aws_sagemaker as sagemaker

from tokenmill.core.errors import TokenmillError
from tokenmill.endpoints.smoke_test import SmokeTest
from tokenmill.endpoints.update_strategy import (
    DEFAULT_WAIT_SECONDS,
    LONGEST_LIMIT_SECONDS,
    BlueGreen,
    Rolling,
    Share,
    copies_size,
    instances_size,
)

if TYPE_CHECKING:
    import aws_cdk as cdk
    from aws_cdk import aws_cloudwatch as cloudwatch

    from tokenmill.core.workload import Capacity

# "AutoRollbackConfig" (Amazon SageMaker API Reference).
MOST_ALARMS = 10
FEWEST_TO_ROLL = 2
ONE_COPY = (
    "a rolling update replaces at most 50 percent of the copies, so one copy cannot roll; give minimum=2 "
    "or more, or UpdatePolicy() for an update that is a downtime, or serve the new version as a second "
    "component (add_component) and switch the gateway to it"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatePolicy:
    """How an endpoint changes under traffic; `tokenmill.endpoints.update_changes` has the whole table.

    Args:
        strategy: The mechanism; None takes rolling where a component's capacity allows it, and a second
            fleet that takes all traffic at once for a variant.
        alarms: Alarms that turn a deployment back, at most 10.
        keep_copies: Whether a deployment keeps the copies that scaling has reached, and suspends scaling
            meanwhile.
        check: What is verified after a deployment; None for nothing.

    Raises:
        TokenmillError: If there are more alarms than SageMaker watches.
    """

    strategy: Rolling | BlueGreen | None = None
    alarms: tuple[cloudwatch.IAlarm, ...] = ()
    keep_copies: bool = True
    check: SmokeTest | None = field(default_factory=SmokeTest)

    def __post_init__(self) -> None:
        if not isinstance(self.alarms, list | tuple) or any(isinstance(item, str) for item in self.alarms):
            raise TokenmillError(
                f"alarms is {self.alarms!r:.80}; give a tuple of CloudWatch alarms, such as (alarm,)"
            )
        # SageMaker takes each name once.
        object.__setattr__(self, "alarms", tuple(dict.fromkeys(self.alarms)))
        if len(self.alarms) > MOST_ALARMS:
            raise TokenmillError(
                f"alarms has {len(self.alarms)}; SageMaker watches at most {MOST_ALARMS}, so combine some in "
                "a composite alarm"
            )

    @classmethod
    def rolling(
        cls,
        *,
        batch_percent: int | None = None,
        batch_count: int | None = None,
        wait: cdk.Duration | None = None,
        limit: cdk.Duration | None = None,
        rollback_percent: int | None = None,
        alarms: tuple[cloudwatch.IAlarm, ...] = (),
    ) -> UpdatePolicy:
        """Return a policy that replaces copies (or a variant's instances) batch by batch.

        Args:
            batch_percent: What is replaced at once, 5 to 50 percent; one of the fewest otherwise.
            batch_count: The same in copies or instances.
            wait: How long alarms are watched after a batch, at most 1 hour.
            limit: After how long the update is given up, 10 minutes to 8 hours.
            rollback_percent: What is put back at once, 1 to 100 percent.
            alarms: Alarms that turn the deployment back.

        Raises:
            TokenmillError: If a value is outside what SageMaker allows.
        """
        back = None if rollback_percent is None else Share(percent=rollback_percent)
        strategy = Rolling(
            batch=_share(batch_percent, batch_count), **_times(wait=wait, limit=limit), rollback_batch=back
        )
        return cls(strategy=strategy, alarms=tuple(alarms))

    @classmethod
    def blue_green(
        cls,
        *,
        wait: cdk.Duration | None = None,
        keep_old: cdk.Duration | None = None,
        limit: cdk.Duration | None = None,
        alarms: tuple[cloudwatch.IAlarm, ...] = (),
    ) -> UpdatePolicy:
        """Return a policy that makes a second fleet and moves all traffic at once (variants only).

        Args:
            wait: How long alarms are watched after the move, at most 1 hour.
            keep_old: How long the old fleet stays afterwards, at most 1 hour.
            limit: After how long the update is given up, 10 minutes to 8 hours.
            alarms: Alarms that turn the deployment back.

        Raises:
            TokenmillError: If a value is outside what SageMaker allows.
        """
        times = _times(wait=wait, limit=limit, keep_old=keep_old)
        return cls(strategy=BlueGreen(routing="ALL_AT_ONCE", **times), alarms=tuple(alarms))

    @classmethod
    def canary(
        cls,
        *,
        percent: int | None = None,
        count: int | None = None,
        wait: cdk.Duration | None = None,
        keep_old: cdk.Duration | None = None,
        limit: cdk.Duration | None = None,
        alarms: tuple[cloudwatch.IAlarm, ...] = (),
    ) -> UpdatePolicy:
        """Return a policy that makes a second fleet and tries it on a small part first (variants only).

        Args:
            percent: The small part, 1 to 50 percent of the instances; 10 otherwise.
            count: The same in instances.
            wait: How long alarms are watched after each of the two moves, at most 1 hour.
            keep_old: How long the old fleet stays afterwards, at most 1 hour.
            limit: After how long the update is given up, 10 minutes to 8 hours.
            alarms: Alarms that turn the deployment back.

        Raises:
            TokenmillError: If a value is outside what SageMaker allows.
        """
        step = _share(percent, count) or Share(percent=10)
        times = _times(wait=wait, limit=limit, keep_old=keep_old)
        return cls(strategy=BlueGreen(routing="CANARY", step=step, **times), alarms=tuple(alarms))

    @classmethod
    def linear(
        cls,
        *,
        step_percent: int | None = None,
        step_count: int | None = None,
        wait: cdk.Duration | None = None,
        keep_old: cdk.Duration | None = None,
        limit: cdk.Duration | None = None,
        alarms: tuple[cloudwatch.IAlarm, ...] = (),
    ) -> UpdatePolicy:
        """Return a policy that makes a second fleet and moves the traffic in equal steps (variants only).

        Args:
            step_percent: A step, 10 to 50 percent of the instances; 25 otherwise.
            step_count: The same in instances.
            wait: How long alarms are watched after each step, at most 1 hour.
            keep_old: How long the old fleet stays afterwards, at most 1 hour.
            limit: After how long the update is given up, 10 minutes to 8 hours.
            alarms: Alarms that turn the deployment back.

        Raises:
            TokenmillError: If a value is outside what SageMaker allows.
        """
        step = _share(step_percent, step_count) or Share(percent=25)
        times = _times(wait=wait, limit=limit, keep_old=keep_old)
        return cls(strategy=BlueGreen(routing="LINEAR", step=step, **times), alarms=tuple(alarms))

    @classmethod
    def unguarded(cls) -> UpdatePolicy:
        """Return a policy without a function: a deployment sets the declared copies and checks nothing."""
        return cls(keep_copies=False, check=None)

    @property
    def guarded(self) -> bool:
        """Whether a deployment has anything to do before or after."""
        return self.keep_copies or self.check is not None

    def check_components(self, capacity: Capacity) -> None:
        """Refuse what a component of this capacity cannot do; called before any child exists.

        Args:
            capacity: Fewest, most and first copies.

        Raises:
            TokenmillError: In one sentence, with the way out.
        """
        strategy = self.strategy
        if isinstance(strategy, BlueGreen):
            raise TokenmillError(
                f"update is {strategy.routing}, but blue/green, canary and linear belong to an endpoint "
                "configuration and a component has none; use UpdatePolicy.rolling(), or VariantEndpoint"
            )
        if capacity.minimum < FEWEST_TO_ROLL:
            if strategy is not None:
                raise TokenmillError(
                    f"update is rolling, but capacity.minimum is {capacity.minimum}: {ONE_COPY}"
                )
            if self.alarms:
                raise TokenmillError(
                    f"alarms are given, but capacity.minimum is {capacity.minimum}, and SageMaker watches "
                    f"them in a rolling update only: {ONE_COPY}"
                )
            return
        _refuse((strategy or Rolling()).problem(capacity, "copies"))

    def check_variant(self, capacity: Capacity) -> None:
        """Refuse what a variant of this capacity cannot do; called before any child exists.

        Args:
            capacity: Fewest, most and first instances.

        Raises:
            TokenmillError: In one sentence, with the way out.
        """
        strategy = self.strategy
        if isinstance(strategy, Rolling):
            if capacity.minimum < FEWEST_TO_ROLL:
                raise TokenmillError(
                    f"update is rolling, but capacity.minimum is {capacity.minimum}: a batch is at most 50 "
                    "percent of the instances, so one instance cannot roll; give minimum=2 or more, or "
                    "UpdatePolicy.blue_green()"
                )
            _refuse(strategy.problem(capacity, "instances"))
        if isinstance(strategy, BlueGreen):
            _refuse(strategy.problem(capacity))

    def component_deployment(
        self, capacity: Capacity
    ) -> sagemaker.CfnInferenceComponent.InferenceComponentDeploymentConfigProperty | None:
        """Return a component's DeploymentConfig, or None where one copy cannot roll.

        Args:
            capacity: Fewest, most and first copies.
        """
        rolling = self._rolling(capacity)
        if rolling is None:
            return None
        cfn = sagemaker.CfnInferenceComponent
        batch = rolling.chosen(capacity)
        names = [cfn.AlarmProperty(alarm_name=alarm.alarm_name) for alarm in self.alarms]
        alarms = cfn.AutoRollbackConfigurationProperty(alarms=names) if names else None
        return cfn.InferenceComponentDeploymentConfigProperty(
            rolling_update_policy=cfn.InferenceComponentRollingUpdatePolicyProperty(
                maximum_batch_size=copies_size(batch),
                wait_interval_in_seconds=rolling.wait_seconds,
                maximum_execution_timeout_in_seconds=rolling.limit_seconds,
                # All at once would need instances for twice the copies, more than the fleet may have.
                rollback_maximum_batch_size=copies_size(rolling.rollback_batch or batch),
            ),
            auto_rollback_configuration=alarms,
        )

    def endpoint_deployment(self, capacity: Capacity) -> sagemaker.CfnEndpoint.DeploymentConfigProperty:
        """Return a variant endpoint's DeploymentConfig.

        Args:
            capacity: Fewest, most and first instances.
        """
        cfn = sagemaker.CfnEndpoint
        names = [cfn.AlarmProperty(alarm_name=alarm.alarm_name) for alarm in self.alarms]
        alarms = cfn.AutoRollbackConfigProperty(alarms=names) if names else None
        if isinstance(self.strategy, Rolling):
            return cfn.DeploymentConfigProperty(
                rolling_update_policy=_rolling_instances(self.strategy, capacity),
                auto_rollback_configuration=alarms,
            )
        at_once = BlueGreen(routing="ALL_AT_ONCE", wait_seconds=DEFAULT_WAIT_SECONDS if names else 0)
        return cfn.DeploymentConfigProperty(
            blue_green_update_policy=(self.strategy or at_once).render(), auto_rollback_configuration=alarms
        )

    def downtime(self, capacity: Capacity) -> str | None:
        """Return the announcement where an update of a component is a downtime, or None.

        Args:
            capacity: Fewest, most and first copies.
        """
        if self._rolling(capacity) is not None:
            return None
        return (
            f"with {capacity.minimum} copies at the fewest, an update of the component is a downtime; give "
            "min_copies = 2 in the limits for rolling updates, or serve the new version as a second "
            "component and switch the gateway to it"
        )

    def extra_copies(self, capacity: Capacity) -> int:
        """Return the most copies that an update of a component runs beside the fleet.

        Args:
            capacity: Fewest, most and first copies.
        """
        rolling = self._rolling(capacity)
        if rolling is None:
            return 0
        forward = rolling.chosen(capacity)
        return max(share.of(capacity.maximum) for share in (forward, rolling.rollback_batch or forward))

    def _rolling(self, capacity: Capacity) -> Rolling | None:
        if capacity.minimum < FEWEST_TO_ROLL or isinstance(self.strategy, BlueGreen):
            return None
        return self.strategy or Rolling()


def _rolling_instances(
    rolling: Rolling, capacity: Capacity
) -> sagemaker.CfnEndpoint.RollingUpdatePolicyProperty:
    back = rolling.rollback_batch
    return sagemaker.CfnEndpoint.RollingUpdatePolicyProperty(
        maximum_batch_size=instances_size(rolling.chosen(capacity)),
        wait_interval_in_seconds=rolling.wait_seconds,
        maximum_execution_timeout_in_seconds=rolling.limit_seconds,
        rollback_maximum_batch_size=None if back is None else instances_size(back),
    )


def _share(percent: int | None, count: int | None) -> Share | None:
    return None if percent is None and count is None else Share(percent=percent, count=count)


def _times(
    *, wait: cdk.Duration | None, limit: cdk.Duration | None, keep_old: cdk.Duration | None = None
) -> dict[str, Any]:
    times = {
        "wait_seconds": _seconds("wait", wait, DEFAULT_WAIT_SECONDS),
        "limit_seconds": _seconds("limit", limit, LONGEST_LIMIT_SECONDS),
    }
    if keep_old is not None:
        times["keep_old_seconds"] = _seconds("keep_old", keep_old, 0)
    return times


def _seconds(name: str, duration: cdk.Duration | None, default: int) -> int:
    if duration is None:
        return default
    if not hasattr(duration, "is_unresolved"):
        raise TokenmillError(f"{name} is {duration!r:.80}; give a Duration, such as Duration.minutes(2)")
    if duration.is_unresolved():
        raise TokenmillError(
            f"{name} is a token, whose value only the deployment knows; give a Duration of a number"
        )
    seconds = duration.to_milliseconds() / 1000
    if seconds != int(seconds):
        raise TokenmillError(f"{name} is {seconds} s; give whole seconds")
    return int(seconds)


def _refuse(problem: str | None) -> None:
    if problem is not None:
        raise TokenmillError(problem)
