"""Application Auto Scaling: scalable targets and policies, registered, validated and listed.

The control loop that acts on the policies is not part of this release; `tokenmill status` says so.
Source: Application Auto Scaling API Reference, "RegisterScalableTarget" (a new range moves the capacity into
it at once), "PutScalingPolicy", "DescribeScalingPolicies".
"""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from tokenmill.local.aws_requests import AwsError, Params, Scope, ServiceShapes

if TYPE_CHECKING:
    from collections.abc import Callable

TargetKey = tuple[str, str, str]
_KEY = ("ServiceNamespace", "ResourceId", "ScalableDimension")


@dataclass(slots=True)
class _Account:
    targets: dict[TargetKey, Params] = field(default_factory=dict)
    policies: dict[tuple[TargetKey, str], Params] = field(default_factory=dict)
    schedules: dict[tuple[TargetKey, str], Params] = field(default_factory=dict)


class AutoScaling:
    """The API.

    Args:
        move: Moves a target's capacity into its range: scope, namespace, resource id, minimum, maximum.
    """

    shapes = ServiceShapes("application-autoscaling")

    def __init__(self, *, move: Callable[[Scope, str, str, int, int], None]) -> None:
        self._move = move
        self._lock = threading.RLock()
        self._accounts: defaultdict[Scope, _Account] = defaultdict(_Account)
        self._operations: dict[str, Callable[[Scope, Params], Params]] = {
            "RegisterScalableTarget": self._register,
            "DescribeScalableTargets": self._describe_targets,
            "DeregisterScalableTarget": self._deregister,
            "PutScalingPolicy": self._put_policy,
            "DescribeScalingPolicies": self._describe_policies,
            "DeleteScalingPolicy": self._delete_policy,
            "PutScheduledAction": self._put_schedule,
            "DescribeScheduledActions": self._describe_schedules,
            "DeleteScheduledAction": self._delete_schedule,
            "DescribeScalingActivities": lambda _scope, _params: {"ScalingActivities": []},
            "ListTagsForResource": self._list_tags,
        }

    def call(self, scope: Scope, operation: str, params: Params) -> Params:
        """Run one operation.

        Args:
            scope: Whose resources.
            operation: Its name.
            params: Its validated members.

        Raises:
            AwsError: The service refuses, or does not model the operation.
        """
        if operation not in self._operations:
            raise AwsError(
                "UnknownOperationException",
                f"Application Auto Scaling {operation} is not modelled by the local cloud",
            )
        with self._lock:
            return self._operations[operation](scope, params)

    def _register(self, scope: Scope, params: Params) -> Params:
        account, key = self._accounts[scope], _key(params)
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
        if "Tags" in params:
            target["_tags"] = params["Tags"]
        account.targets[key] = target
        self._move(scope, key[0], key[1], target["MinCapacity"], target["MaxCapacity"])
        return {"ScalableTargetARN": target["ScalableTargetARN"]}

    def _describe_targets(self, scope: Scope, params: Params) -> Params:
        found = [
            {name: value for name, value in target.items() if name != "_tags"}
            for target in self._accounts[scope].targets.values()
            if _matches(target, params)
            and target["ResourceId"] in params.get("ResourceIds", [target["ResourceId"]])
        ]
        return {"ScalableTargets": found}

    def _deregister(self, scope: Scope, params: Params) -> Params:
        account, key = self._accounts[scope], _key(params)
        if account.targets.pop(key, None) is None:
            raise _not_found("scalable target", key)
        for records in (account.policies, account.schedules):
            for owned in [owned for owned in records if owned[0] == key]:
                del records[owned]
        return {}

    def _put_policy(self, scope: Scope, params: Params) -> Params:
        account, key = self._accounts[scope], _key(params)
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
        return {"PolicyARN": policy["PolicyARN"], "Alarms": policy["Alarms"]}

    def _describe_policies(self, scope: Scope, params: Params) -> Params:
        found = [
            policy
            for policy in self._accounts[scope].policies.values()
            if _matches(policy, params)
            and policy["PolicyName"] in params.get("PolicyNames", [policy["PolicyName"]])
        ]
        return {"ScalingPolicies": found}

    def _delete_policy(self, scope: Scope, params: Params) -> Params:
        key = _key(params)
        if self._accounts[scope].policies.pop((key, params["PolicyName"]), None) is None:
            raise _not_found("scaling policy", key)
        return {}

    def _put_schedule(self, scope: Scope, params: Params) -> Params:
        account, key = self._accounts[scope], _key(params)
        if key not in account.targets:
            raise _not_found("scalable target", key)
        name = params["ScheduledActionName"]
        arn = scope.arn("autoscaling", f"scheduledAction:{uuid4()}:resource/{key[0]}/{key[1]}")
        action = {"ScheduledActionARN": arn, "CreationTime": datetime.now(UTC)}
        account.schedules[(key, name)] = {**action, **account.schedules.get((key, name), {}), **params}
        return {}

    def _describe_schedules(self, scope: Scope, params: Params) -> Params:
        found = [action for action in self._accounts[scope].schedules.values() if _matches(action, params)]
        return {"ScheduledActions": found}

    def _delete_schedule(self, scope: Scope, params: Params) -> Params:
        key = _key(params)
        if self._accounts[scope].schedules.pop((key, params["ScheduledActionName"]), None) is None:
            raise _not_found("scheduled action", key)
        return {}

    def _list_tags(self, scope: Scope, params: Params) -> Params:
        for target in self._accounts[scope].targets.values():
            if target["ScalableTargetARN"] == params["ResourceARN"]:
                return {"Tags": target.get("_tags", {})}
        raise AwsError("ResourceNotFoundException", f"no target has the ARN {params['ResourceARN']}")


def _key(params: Params) -> TargetKey:
    return params["ServiceNamespace"], params["ResourceId"], params["ScalableDimension"]


def _matches(record: Params, params: Params) -> bool:
    return all(record[name] == params.get(name, record[name]) for name in _KEY)


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
