"""The steps of a deployment: what it may ask for, how traffic moves, how long each step bakes.

Sources: Amazon SageMaker API Reference, "BlueGreenUpdatePolicy", "TrafficRoutingConfig",
"RollingUpdatePolicy", "InferenceComponentRollingUpdatePolicy", "AutoRollbackConfig"; Amazon SageMaker AI
developer guide, "Blue/Green Deployments", "Use rolling deployments", "Auto-Rollback Configuration and
Monitoring".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tokenmill.local.aws_requests import AwsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.local.aws_requests import Params

# A minute of waiting takes as long here as the launch of an instance or a copy does, which on AWS is minutes.
SECONDS_A_STARTUP = 60.0
# Alarms are evaluated every five seconds when a launch takes one, so that each bake sees one evaluation.
FEWEST_STARTUPS_A_BAKE = 6.0
LOOKS_A_BAKE = 6
_COUNTS = ("INSTANCE_COUNT", "COPY_COUNT")


def bake_seconds(wait_seconds: float, startup_seconds: float) -> float:
    """Return how long a waiting time takes here.

    Args:
        wait_seconds: The policy's waiting time, in seconds.
        startup_seconds: How long a launch takes here, in seconds.
    """
    if not wait_seconds:
        return 0.0
    return max(wait_seconds / SECONDS_A_STARTUP, FEWEST_STARTUPS_A_BAKE) * startup_seconds


def batch_of(size: Params, total: int) -> int:
    """Return how many instances or copies a batch has, at least one.

    Args:
        size: A `CapacitySize`.
        total: All of them.
    """
    value = int(size["Value"])
    return value if size["Type"] in _COUNTS else max(1, math.floor(total * value / 100))


def check_batch(size: Params, total: int, *, name: str, fewest: float, most: float, of: str) -> None:
    """Refuse a batch that is too small or too large a part of the whole.

    Args:
        size: A `CapacitySize`.
        total: All instances or copies.
        name: The member that is checked.
        fewest: Smallest percentage.
        most: Largest percentage.
        of: What the whole is called.

    Raises:
        AwsError: It is out of its bounds.
    """
    percent = float(size["Value"])
    if size["Type"] in _COUNTS:
        percent = 100.0 * batch_of(size, total) / total if total else most
    if not fewest <= percent <= most or (total and batch_of(size, total) * 100.0 / total > most):
        raise AwsError(
            "ValidationException",
            f"{name} {size['Value']} {size['Type']} is out of range: it must be between {fewest:g}% and "
            f"{most:g}% of the {of}, which is {total}.",
        )


def check_deployment(config: Params, instances: int) -> None:
    """Refuse a deployment configuration of an endpoint that contradicts itself.

    Args:
        config: A `DeploymentConfig`.
        instances: Instances of the smallest variant.

    Raises:
        AwsError: It does.
    """
    blue_green, rolling = config.get("BlueGreenUpdatePolicy"), config.get("RollingUpdatePolicy")
    if blue_green and rolling:
        raise AwsError("ValidationException", "Only one update policy should be used in DeploymentConfig")
    of = "variant's total instance count"
    if rolling:
        check_batch(rolling["MaximumBatchSize"], instances, name="MaximumBatchSize", fewest=5, most=50, of=of)
    routing = (blue_green or {}).get("TrafficRoutingConfiguration") or {"Type": "ALL_AT_ONCE"}
    needed = {"CANARY": "CanarySize", "LINEAR": "LinearStepSize"}.get(routing["Type"])
    if needed is None:
        return
    if needed not in routing:
        raise AwsError("ValidationException", f"{needed} is required when Type is {routing['Type']}")
    fewest = 10.0 if needed == "LinearStepSize" else 0.0
    check_batch(routing[needed], instances, name=needed, fewest=fewest, most=50, of=of)


def traffic_steps(routing: Params, instances: int) -> list[float]:
    """Return the new fleet's shares of the traffic, step by step, the last of which is everything.

    Args:
        routing: A `TrafficRoutingConfig`.
        instances: Instances of the variant.
    """
    if routing["Type"] == "CANARY":
        return [batch_of(routing["CanarySize"], instances) / instances, 1.0]
    if routing["Type"] == "LINEAR":
        step = batch_of(routing["LinearStepSize"], instances)
        return [done / instances for done in batches(step, instances)]
    return [1.0]


def batches(batch: int, total: int) -> list[int]:
    """Return how many instances or copies are done after each batch.

    Args:
        batch: Largest batch.
        total: All of them.
    """
    return [min(total, batch * number) for number in range(1, math.ceil(total / batch) + 1)]


def alarms_of(config: Params | None) -> list[str]:
    """Return the alarms that roll a deployment back.

    Args:
        config: A deployment configuration.
    """
    rollback: Params = (config or {}).get("AutoRollbackConfiguration") or {}
    return [alarm["AlarmName"] for alarm in rollback.get("Alarms") or [] if "AlarmName" in alarm]


def bake(
    seconds: float, alarms: list[str], *, sleep: Callable[[float], None], state: Callable[[str], str | None]
) -> str | None:
    """Wait and watch the alarms; return why the deployment is to be rolled back.

    Args:
        seconds: How long.
        alarms: Names of the alarms.
        sleep: Waits.
        state: Gives an alarm's state; nothing when there is no such alarm.
    """
    looks = LOOKS_A_BAKE if seconds and alarms else 1
    for _ in range(looks):
        if seconds:
            sleep(seconds / looks)
        for name in alarms:
            if state(name) == "ALARM":
                return f"The deployment was rolled back: alarm {name} was in ALARM while the new fleet baked."
    return None
