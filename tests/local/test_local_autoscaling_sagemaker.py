"""SageMaker's components and variants as scalable targets."""

from __future__ import annotations

from typing import Any

from support_local import SCOPE
from support_sagemaker import Control
from tokenmill.local.autoscaling import AutoScaling
from tokenmill.local.sagemaker.capacities import COPIES, INSTANCES, SageMakerCapacities


class NoAlarms:
    """Keeps the alarms that target tracking makes."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []

    def put(self, _scope: object, properties: dict[str, Any]) -> str:
        self.made.append(properties)
        return "arn"

    def delete(self, _scope: object, _name: str) -> None:
        raise AssertionError("nothing is deleted here")

    def state(self, _scope: object, _name: str) -> None:
        return None


def scaled(control: Control) -> tuple[AutoScaling, NoAlarms]:
    alarms = NoAlarms()
    service = AutoScaling(
        capacities=SageMakerCapacities(control.sagemaker), alarms=alarms, statistic=lambda _query: None
    )
    control.sagemaker.scaling = service
    return service, alarms


def register(service: AutoScaling, resource: str, dimension: str, low: int, high: int) -> dict[str, str]:
    key = {"ServiceNamespace": "sagemaker", "ResourceId": resource, "ScalableDimension": dimension}
    service.call(SCOPE, "RegisterScalableTarget", {**key, "MinCapacity": low, "MaxCapacity": high})
    return key


def test_a_variants_instances_move_into_the_range() -> None:
    control = Control()
    control.model("m", "image")
    control.endpoint(ModelName="m", InstanceType="ml.g6.2xlarge")
    control.later.run()
    service, alarms = scaled(control)
    key = register(service, "endpoint/chat/variant/AllTraffic", INSTANCES, 2, 4)
    assert control.endpoint_status() == "Updating"
    control.later.run()
    assert control.endpoint_document()["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    service.tick()
    [activity] = service.call(SCOPE, "DescribeScalingActivities", {"ServiceNamespace": "sagemaker"})[
        "ScalingActivities"
    ]
    assert (activity["StatusCode"], activity["Description"]) == (
        "Successful",
        "Setting desired instance count to 2.",
    )
    metric = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
    config = {"TargetValue": 10.0, "DisableScaleIn": True, "PredefinedMetricSpecification": metric}
    policy = {"PolicyName": "p", "PolicyType": "TargetTrackingScaling"}
    service.call(
        SCOPE,
        "PutScalingPolicy",
        {**key, **policy, "TargetTrackingScalingPolicyConfiguration": config},
    )
    assert alarms.made[0]["Dimensions"] == [
        {"Name": "EndpointName", "Value": "chat"},
        {"Name": "VariantName", "Value": "AllTraffic"},
    ]


def test_a_component_goes_to_no_copies_and_back() -> None:
    control = Control()
    control.serving(copies=1)
    service, _ = scaled(control)
    register(service, "inference-component/qwen", COPIES, 0, 0)
    control.later.run()
    assert control.described()["RuntimeConfig"] == {"DesiredCopyCount": 0, "CurrentCopyCount": 0}
    register(service, "inference-component/qwen", COPIES, 1, 2)
    control.later.run()
    assert control.described()["RuntimeConfig"] == {"DesiredCopyCount": 1, "CurrentCopyCount": 1}


def test_a_target_without_a_resource_can_be_registered_and_moves_nothing() -> None:
    control = Control()
    service, _ = scaled(control)
    for resource, dimension in (
        ("inference-component/none", COPIES),
        ("endpoint/none/variant/AllTraffic", INSTANCES),
        ("endpoint/none", INSTANCES),
    ):
        register(service, resource, dimension, 1, 2)
    assert control.later.jobs == []


def test_copies_that_cannot_be_had_leave_the_activity_unfulfilled() -> None:
    control = Control()
    control.serving(copies=1)
    service, _ = scaled(control)
    register(service, "inference-component/qwen", COPIES, 9, 9)
    control.later.run()
    service.tick()
    [activity] = service.call(SCOPE, "DescribeScalingActivities", {"ServiceNamespace": "sagemaker"})[
        "ScalingActivities"
    ]
    assert activity["StatusCode"] == "Unfulfilled"
    assert "stays at 1" in activity["StatusMessage"]
