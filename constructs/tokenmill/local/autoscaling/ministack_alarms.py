"""CloudWatch's alarms in MiniStack, as scaling and deployments use them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tokenmill.local.aws_requests import Params, Scope
    from tokenmill.local.ministack_seams import Ministack


class MinistackAlarms:
    """Metric alarms and composite alarms.

    Args:
        ministack: MiniStack's modules.
    """

    def __init__(self, ministack: Ministack) -> None:
        self._ministack = ministack

    def state(self, scope: Scope, name: str) -> str | None:
        """Return the state of a metric alarm or a composite alarm; nothing when there is none of the name.

        Args:
            scope: Whose.
            name: The alarm.
        """
        self._ministack.enter(scope)
        cloudwatch = self._ministack.cloudwatch
        alarm = cloudwatch._alarms.get(name) or cloudwatch._composite_alarms.get(name)
        return None if alarm is None else str(alarm["StateValue"])

    def put(self, scope: Scope, properties: Params) -> str:
        """Make a metric alarm, or change it; return its ARN.

        Args:
            scope: Whose.
            properties: Members of PutMetricAlarm.
        """
        self._ministack.enter(scope)
        name = properties["AlarmName"]
        arn = scope.arn("cloudwatch", f"alarm:{name}")
        known = self._ministack.cloudwatch._alarms.get(name) or {}
        now = int(time.time())
        record = {
            "OKActions": [],
            "InsufficientDataActions": [],
            "Dimensions": [],
            **properties,
            "AlarmArn": arn,
            "StateValue": known.get("StateValue", "INSUFFICIENT_DATA"),
            "StateReason": known.get("StateReason", "Unchecked: Initial alarm creation"),
            "StateUpdatedTimestamp": known.get("StateUpdatedTimestamp", now),
            "AlarmConfigurationUpdatedTimestamp": now,
        }
        self._ministack.cloudwatch.cloudformation_put_metric_alarm(record)
        return arn

    def delete(self, scope: Scope, name: str) -> None:
        """Delete an alarm; one that is gone is fine.

        Args:
            scope: Whose.
            name: The alarm.
        """
        self._ministack.enter(scope)
        if name in self._ministack.cloudwatch._alarms:
            self._ministack.cloudwatch.cloudformation_delete_metric_alarm(name, True)

    def on_action(self, listen: Callable[[Scope, Mapping[str, Any]], None]) -> None:
        """Call a listener when a metric alarm goes into another state, which MiniStack tells SNS alone.

        Args:
            listen: Takes the scope and the alarm with its new state.
        """
        cloudwatch = self._ministack.cloudwatch
        dispatch = cloudwatch._dispatch_alarm_actions

        def dispatch_and_tell(alarm: dict[str, Any], old_state: str, new_state: str, reason: str) -> None:
            dispatch(alarm, old_state, new_state, reason)
            if "ComparisonOperator" in alarm:
                listen(self._ministack.scope(), {**alarm, "StateValue": new_state})

        cloudwatch._dispatch_alarm_actions = dispatch_and_tell
