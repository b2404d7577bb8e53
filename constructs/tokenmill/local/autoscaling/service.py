"""The API of Application Auto Scaling.

Source: Application Auto Scaling API Reference, "RegisterScalableTarget" (a new range moves the capacity into
it at once), "DeregisterScalableTarget" (deletes the target's policies and scheduled actions),
"PutScalingPolicy", "PutScheduledAction" (without start and end times the old ones are deleted),
"DescribeScalingActivities", "TagResource".
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from tokenmill.local.autoscaling.records import KEY_MEMBERS
from tokenmill.local.autoscaling.scaler import Scaler
from tokenmill.local.autoscaling.schedule import check_schedule
from tokenmill.local.autoscaling.steps import check_steps
from tokenmill.local.autoscaling.tracking import alarms_of
from tokenmill.local.aws_requests import AwsError, ModelledService, Params, Scope, ServiceShapes

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.local.autoscaling.records import Alarms, Capacities, TargetKey
    from tokenmill.local.aws_requests import Operation
    from tokenmill.local.cloudwatch.alarms import MetricQuery


class AutoScaling(Scaler, ModelledService):
    """The API, and what acts on what it was told.

    Args:
        capacities: The resources that are scaled.
        alarms: The alarms that target tracking makes.
        statistic: Gives one statistic of one metric.
        clock: Gives the time, in seconds since 1970.
    """

    title = "Application Auto Scaling"
    shapes = ServiceShapes("application-autoscaling")

    def __init__(
        self,
        *,
        capacities: Capacities,
        alarms: Alarms,
        statistic: Callable[[MetricQuery], float | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(capacities=capacities, alarms=alarms, statistic=statistic, clock=clock)
        self._operations: dict[str, Operation] = {
            "RegisterScalableTarget": self._register,
            "DescribeScalableTargets": self._describe_targets,
            "DeregisterScalableTarget": self._deregister,
            "PutScalingPolicy": self._put_policy,
            "DescribeScalingPolicies": self._describe_policies,
            "DeleteScalingPolicy": self._delete_policy,
            "PutScheduledAction": self._put_schedule,
            "DescribeScheduledActions": self._describe_schedules,
            "DeleteScheduledAction": self._delete_schedule,
            "DescribeScalingActivities": self._describe_activities,
            "TagResource": self._tag,
            "UntagResource": self._untag,
            "ListTagsForResource": self._list_tags,
        }

    def registered(self, scope: Scope, resource_id: str) -> bool:
        """Whether a resource of SageMaker is a scalable target.

        Args:
            scope: Whose.
            resource_id: Such as `endpoint/name/variant/name`.
        """
        return any(key[:2] == ("sagemaker", resource_id) for key in self.accounts[scope].targets)

    def forget(self, scope: Scope, resource_id: str) -> None:
        """Deregister a resource of SageMaker, if it is a scalable target.

        Args:
            scope: Whose.
            resource_id: Such as `endpoint/name/variant/name`.
        """
        for key in [key for key in self.accounts[scope].targets if key[:2] == ("sagemaker", resource_id)]:
            self.call(scope, "DeregisterScalableTarget", dict(zip(KEY_MEMBERS, key, strict=True)))

    def _register(self, scope: Scope, params: Params) -> Params:
        account, key = self.accounts[scope], _key(params)
        known = account.targets.get(key)
        if known is None and not {"MinCapacity", "MaxCapacity"} <= params.keys():
            raise AwsError(
                "ValidationException", "MinCapacity and MaxCapacity are required to register a target"
            )
        target = {**(known or {}), **{k: v for k, v in params.items() if k != "Tags"}}
        if target["MinCapacity"] > target["MaxCapacity"]:
            raise AwsError(
                "ValidationException",
                f"MinCapacity {target['MinCapacity']} must not be above MaxCapacity {target['MaxCapacity']}",
            )
        target.setdefault("CreationTime", datetime.now(UTC))
        target.setdefault("RoleARN", _service_role(scope, params["ServiceNamespace"]))
        target.setdefault(
            "ScalableTargetARN", scope.arn("application-autoscaling", f"scalable-target/{uuid4().hex[:28]}")
        )
        account.targets[key] = target
        if "Tags" in params:
            account.tags.setdefault(target["ScalableTargetARN"], {}).update(params["Tags"])
        low, high = target["MinCapacity"], target["MaxCapacity"]
        self.move_into_range(scope, key, f"the scalable target's range was set to {low} to {high}")
        return {"ScalableTargetARN": target["ScalableTargetARN"]}

    def _describe_targets(self, scope: Scope, params: Params) -> Params:
        found = [
            target
            for target in self.accounts[scope].targets.values()
            if _matches(target, params)
            and target["ResourceId"] in params.get("ResourceIds", [target["ResourceId"]])
        ]
        return {"ScalableTargets": found}

    def _deregister(self, scope: Scope, params: Params) -> Params:
        account, key = self.accounts[scope], _key(params)
        target = account.targets.pop(key, None)
        if target is None:
            raise _not_found("scalable target", key)
        account.tags.pop(target["ScalableTargetARN"], None)
        for owner, name in [owned for owned in account.policies if owned[0] == key]:
            self._forget_policy(scope, owner, name)
        for owned in [owned for owned in account.schedules if owned[0] == key]:
            del account.schedules[owned]
            account.checked.pop(owned, None)
        return {}

    def _put_policy(self, scope: Scope, params: Params) -> Params:
        account, key = self.accounts[scope], _key(params)
        if key not in account.targets:
            raise _not_found("scalable target", key)
        known = account.policies.get((key, params["PolicyName"]), {})
        policy = {**known, **params}
        policy.setdefault("PolicyType", "StepScaling")
        _check_policy(policy)
        policy.setdefault("CreationTime", datetime.now(UTC))
        policy.setdefault("Alarms", [])
        policy.setdefault(
            "PolicyARN",
            scope.arn(
                "autoscaling",
                f"scalingPolicy:{uuid4()}:resource/{key[0]}/{key[1]}:policyName/{params['PolicyName']}",
            ),
        )
        account.policies[(key, params["PolicyName"])] = policy
        if policy["PolicyType"] == "TargetTrackingScaling":
            self._make_alarms(scope, key, policy)
        return {"PolicyARN": policy["PolicyARN"], "Alarms": policy["Alarms"]}

    def _make_alarms(self, scope: Scope, key: TargetKey, policy: Params) -> None:
        """Make a tracking policy's alarms, under the names that they have when it is put again."""
        before = [made["AlarmName"] for made in policy["Alarms"]]
        identity = before[0].rpartition("-Alarm")[2].partition("-")[2] if before else str(uuid4())
        wanted = alarms_of(key, policy, identity)
        policy["Alarms"] = [
            {"AlarmName": alarm["AlarmName"], "AlarmARN": self._alarms.put(scope, alarm)} for alarm in wanted
        ]
        for name in set(before) - {alarm["AlarmName"] for alarm in wanted}:
            self._alarms.delete(scope, name)

    def _describe_policies(self, scope: Scope, params: Params) -> Params:
        found = [
            policy
            for policy in self.accounts[scope].policies.values()
            if _matches(policy, params)
            and policy["PolicyName"] in params.get("PolicyNames", [policy["PolicyName"]])
        ]
        return {"ScalingPolicies": found}

    def _delete_policy(self, scope: Scope, params: Params) -> Params:
        key = _key(params)
        if (key, params["PolicyName"]) not in self.accounts[scope].policies:
            raise _not_found("scaling policy", key)
        self._forget_policy(scope, key, params["PolicyName"])
        return {}

    def _forget_policy(self, scope: Scope, key: TargetKey, name: str) -> None:
        account = self.accounts[scope]
        policy = account.policies.pop((key, name))
        account.cooldowns.pop(policy["PolicyARN"], None)
        for made in policy["Alarms"]:
            self._alarms.delete(scope, made["AlarmName"])

    def _put_schedule(self, scope: Scope, params: Params) -> Params:
        account, key = self.accounts[scope], _key(params)
        if key not in account.targets:
            raise _not_found("scalable target", key)
        identity = (key, params["ScheduledActionName"])
        arn = scope.arn("autoscaling", f"scheduledAction:{uuid4()}:resource/{key[0]}/{key[1]}")
        new = {"ScheduledActionARN": arn, "CreationTime": datetime.now(UTC)}
        known = account.schedules.get(identity, {})
        kept = {name: value for name, value in known.items() if name not in ("StartTime", "EndTime")}
        action = {**new, **kept, **params}
        if "Schedule" not in action:
            raise AwsError("ValidationException", "Schedule is required for a new scheduled action")
        check_schedule(action)
        account.schedules[identity] = action
        account.checked[identity] = self._clock()
        return {}

    def _describe_schedules(self, scope: Scope, params: Params) -> Params:
        names = params.get("ScheduledActionNames")
        found = [
            action
            for action in self.accounts[scope].schedules.values()
            if _matches(action, params) and (not names or action["ScheduledActionName"] in names)
        ]
        return {"ScheduledActions": found}

    def _delete_schedule(self, scope: Scope, params: Params) -> Params:
        account, key = self.accounts[scope], _key(params)
        identity = (key, params["ScheduledActionName"])
        if account.schedules.pop(identity, None) is None:
            raise _not_found("scheduled action", key)
        account.checked.pop(identity, None)
        return {}

    def _describe_activities(self, scope: Scope, params: Params) -> Params:
        everything = params.get("IncludeNotScaledActivities", False)
        found = [
            activity.document()
            for activity in self.accounts[scope].activities
            if everything or activity.not_scaled is None
        ]
        return {"ScalingActivities": [each for each in found if _matches(each, params)]}

    def _tag(self, scope: Scope, params: Params) -> Params:
        self._tags_of(scope, params["ResourceARN"]).update(params["Tags"])
        return {}

    def _untag(self, scope: Scope, params: Params) -> Params:
        tags = self._tags_of(scope, params["ResourceARN"])
        for key in params["TagKeys"]:
            tags.pop(key, None)
        return {}

    def _list_tags(self, scope: Scope, params: Params) -> Params:
        return {"Tags": self._tags_of(scope, params["ResourceARN"])}

    def _tags_of(self, scope: Scope, arn: str) -> dict[str, str]:
        account = self.accounts[scope]
        if not any(target["ScalableTargetARN"] == arn for target in account.targets.values()):
            raise AwsError("ResourceNotFoundException", f"no target has the ARN {arn}")
        return account.tags.setdefault(arn, {})


def _key(params: Params) -> TargetKey:
    return params["ServiceNamespace"], params["ResourceId"], params["ScalableDimension"]


def _matches(record: Params, params: Params) -> bool:
    return all(record[name] == params.get(name, record[name]) for name in KEY_MEMBERS)


def _not_found(noun: str, key: TargetKey) -> AwsError:
    namespace, resource, dimension = key
    return AwsError(
        "ObjectNotFoundException",
        f"No {noun} found for service namespace: {namespace}, resource ID: {resource}, "
        f"scalable dimension: {dimension}",
    )


def _service_role(scope: Scope, namespace: str) -> str:
    services = {"sagemaker": "SageMakerEndpoint", "dynamodb": "DynamoDBTable", "lambda": "LambdaConcurrency"}
    name = services.get(namespace, namespace.title())
    return (
        f"arn:aws:iam::{scope.account}:role/aws-service-role/{namespace}.application-autoscaling.amazonaws.com/"
        f"AWSServiceRoleForApplicationAutoScaling_{name}"
    )


def _check_policy(policy: Params) -> None:
    kind = policy["PolicyType"]
    needed = {
        "TargetTrackingScaling": "TargetTrackingScalingPolicyConfiguration",
        "StepScaling": "StepScalingPolicyConfiguration",
        "PredictiveScaling": "PredictiveScalingPolicyConfiguration",
    }[kind]
    if needed not in policy:
        raise AwsError("ValidationException", f"a policy of type {kind} needs {needed}")
    if kind == "StepScaling":
        check_steps(policy[needed])
    tracking = policy.get("TargetTrackingScalingPolicyConfiguration")
    if tracking is not None:
        given = [
            k for k in ("PredefinedMetricSpecification", "CustomizedMetricSpecification") if k in tracking
        ]
        if len(given) != 1:
            raise AwsError(
                "ValidationException",
                "give exactly one of PredefinedMetricSpecification and CustomizedMetricSpecification",
            )
