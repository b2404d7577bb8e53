"""CloudFormation handlers of scaling, alarms and tables.

What `Ref` and `Fn::GetAtt` give is that of the CloudFormation Template Reference of each type.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError
from tokenmill.local.aws_requests import Params, ServiceShapes
from tokenmill.local.cloudformation.common import Outcome, call, call_if_there, only
from tokenmill.local.cloudwatch.alarms import check_alarm

if TYPE_CHECKING:
    from tokenmill.local.autoscaling import AutoScaling
    from tokenmill.local.ministack_seams import Ministack


class ScalableTargetHandler:
    """Scalable targets with their scheduled actions.

    Args:
        ministack: MiniStack's modules.
        autoscaling: The API.
    """

    def __init__(self, ministack: Ministack, autoscaling: AutoScaling) -> None:
        self._ministack = ministack
        self._autoscaling = autoscaling

    def create(self, logical_id: str, properties: Params, stack: str) -> Outcome:
        """Register the target."""
        scope = self._ministack.scope()
        params = {k: v for k, v in properties.items() if k not in ("ScheduledActions", "Tags")}
        if properties.get("Tags"):
            params["Tags"] = {tag["Key"]: tag["Value"] for tag in properties["Tags"]}
        call(self._autoscaling, scope, "RegisterScalableTarget", params)
        key = only(properties, "ServiceNamespace", "ResourceId", "ScalableDimension")
        for action in properties.get("ScheduledActions") or []:
            call(self._autoscaling, scope, "PutScheduledAction", {**action, **key})
        identity = "|".join((key["ResourceId"], key["ScalableDimension"], key["ServiceNamespace"]))
        return identity, {"Id": identity}

    def update(self, physical_id: str, before: Params, after: Params, stack: str, logical_id: str) -> Outcome:
        """Register the target again with what changed."""
        kept = {action["ScheduledActionName"] for action in after.get("ScheduledActions") or []}
        identity, attributes = self.create(logical_id, after, stack)
        if identity == physical_id:
            key = only(after, "ServiceNamespace", "ResourceId", "ScalableDimension")
            for action in before.get("ScheduledActions") or []:
                if action["ScheduledActionName"] not in kept:
                    params = {**key, "ScheduledActionName": action["ScheduledActionName"]}
                    call(self._autoscaling, self._ministack.scope(), "DeleteScheduledAction", params)
        return identity, attributes

    def delete(self, physical_id: str, properties: Params) -> None:
        """Deregister the target; one that is gone is fine."""
        resource, dimension, namespace = physical_id.rsplit("|", 2)
        params = {"ServiceNamespace": namespace, "ResourceId": resource, "ScalableDimension": dimension}
        call_if_there(self._autoscaling, self._ministack.scope(), "DeregisterScalableTarget", params)


class ScalingPolicyHandler:
    """Scaling policies.

    Args:
        ministack: MiniStack's modules.
        autoscaling: The API.
    """

    def __init__(self, ministack: Ministack, autoscaling: AutoScaling) -> None:
        self._ministack = ministack
        self._autoscaling = autoscaling

    def create(self, logical_id: str, properties: Params, stack: str) -> Outcome:
        """Put the policy."""
        params = {k: v for k, v in properties.items() if k != "ScalingTargetId"} | target_of(properties)
        answer = call(self._autoscaling, self._ministack.scope(), "PutScalingPolicy", params)
        return answer["PolicyARN"], {"Arn": answer["PolicyARN"]}

    def update(self, physical_id: str, before: Params, after: Params, stack: str, logical_id: str) -> Outcome:
        """Put the policy again; another name or target makes another policy."""
        return self.create(logical_id, after, stack)

    def delete(self, physical_id: str, properties: Params) -> None:
        """Delete the policy; one that is gone is fine."""
        params = target_of(properties) | {"PolicyName": properties["PolicyName"]}
        call_if_there(self._autoscaling, self._ministack.scope(), "DeleteScalingPolicy", params)


class AlarmHandler:
    """Alarms, with metric math, refused when they cannot be evaluated.

    Args:
        ministack: MiniStack's modules.
    """

    shapes = ServiceShapes("cloudwatch")

    def __init__(self, ministack: Ministack) -> None:
        self._ministack = ministack

    def create(self, logical_id: str, properties: Params, stack: str) -> Outcome:
        """Put the alarm."""
        longest = 255
        name = properties.get("AlarmName") or self._ministack.physical_name(
            stack, logical_id, longest=longest
        )
        wanted = {k: v for k, v in properties.items() if k != "Tags"} | {"AlarmName": name}
        alarm = self.shapes.coerce("PutMetricAlarm", wanted)
        self.shapes.check("PutMetricAlarm", alarm)
        check_alarm(alarm)
        arn = self._ministack.scope().arn("cloudwatch", f"alarm:{name}")
        known = self._ministack.cloudwatch._alarms.get(name) or {}
        now = int(time.time())
        record = {
            "ActionsEnabled": True,
            "TreatMissingData": "missing",
            **alarm,
            "AlarmArn": arn,
            "StateValue": known.get("StateValue", "INSUFFICIENT_DATA"),
            "StateReason": known.get("StateReason", "Unchecked: Initial alarm creation"),
            "StateUpdatedTimestamp": known.get("StateUpdatedTimestamp", now),
            "AlarmConfigurationUpdatedTimestamp": now,
        }
        self._ministack.cloudwatch.cloudformation_put_metric_alarm(record)
        return name, {"Arn": arn}

    def update(self, physical_id: str, before: Params, after: Params, stack: str, logical_id: str) -> Outcome:
        """Put the alarm again; its state and history stay."""
        return self.create(logical_id, after, stack)

    def delete(self, physical_id: str, properties: Params) -> None:
        """Delete the alarm."""
        self._ministack.cloudwatch.cloudformation_delete_metric_alarm(physical_id, True)


class Wrapped:
    """A type that MiniStack makes, with something added.

    Args:
        ministack: MiniStack's modules.
        inner: MiniStack's own handler.
    """

    def __init__(self, ministack: Ministack, inner: dict[str, Any]) -> None:
        self._ministack = ministack
        self._inner = inner

    def delete(self, physical_id: str, properties: Params) -> None:
        """Delete the resource."""
        self._inner["delete"](physical_id, properties)

    def _updated(
        self, physical_id: str, before: Params, after: Params, stack: str, logical_id: str
    ) -> Outcome:
        arguments: list[Any] = [physical_id, before, after, stack]
        if self._inner.get("update_with_logical_id"):
            arguments.append(logical_id)
        outcome: Outcome = self._inner["update"](*arguments)
        return outcome


class TimeToLive(Wrapped):
    """DynamoDB tables with their TimeToLiveSpecification, which MiniStack drops."""

    def create(self, logical_id: str, properties: Params, stack: str) -> Outcome:
        """Create the table and set its TTL."""
        outcome: Outcome = self._inner["create"](logical_id, properties, stack)
        if properties.get("TimeToLiveSpecification"):
            self._apply(outcome[0], properties["TimeToLiveSpecification"])
        return outcome

    def update(self, physical_id: str, before: Params, after: Params, stack: str, logical_id: str) -> Outcome:
        """Update the table and its TTL."""
        outcome = self._updated(physical_id, before, after, stack, logical_id)
        wanted, had = after.get("TimeToLiveSpecification"), before.get("TimeToLiveSpecification")
        if (wanted or had) and (wanted != had or outcome[0] != physical_id):
            self._apply(outcome[0], wanted or {**(had or {}), "Enabled": False})
        return outcome

    def _apply(self, table: str, specification: Params) -> None:
        enabled = specification.get("Enabled") in (True, "true")
        request = {"TableName": table, "TimeToLiveSpecification": {**specification, "Enabled": enabled}}
        status, _, body = self._ministack.dynamodb._update_ttl(request)
        if status >= 400:
            raise TokenmillError(f"DynamoDB table {table}: time to live is refused: {body!r}")


class VpcAttributes(Wrapped):
    """VPCs with the CidrBlock that `Fn::GetAtt` of a VPC gives, which MiniStack leaves out."""

    def create(self, logical_id: str, properties: Params, stack: str) -> Outcome:
        """Create the VPC."""
        identity, attributes = self._inner["create"](logical_id, properties, stack)
        return identity, {"CidrBlock": properties.get("CidrBlock"), **attributes}

    def update(self, physical_id: str, before: Params, after: Params, stack: str, logical_id: str) -> Outcome:
        """Update the VPC."""
        identity, attributes = self._updated(physical_id, before, after, stack, logical_id)
        return identity, {"CidrBlock": after.get("CidrBlock"), **attributes}


def target_of(properties: Params) -> Params:
    """Return the scalable target that a policy's properties name, one way or the other.

    Args:
        properties: The policy's properties.
    """
    if properties.get("ScalingTargetId"):
        resource, dimension, namespace = properties["ScalingTargetId"].rsplit("|", 2)
        return {"ResourceId": resource, "ScalableDimension": dimension, "ServiceNamespace": namespace}
    return only(properties, "ResourceId", "ScalableDimension", "ServiceNamespace")
