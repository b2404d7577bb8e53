"""SageMaker endpoints: how many instances run without traffic, and at the most.

Sources, by title (Amazon SageMaker API Reference, Developer Guide): "ProductionVariantManagedInstanceScaling"
for the bounds of managed instance scaling, "Scale an endpoint to zero instances" for a floor of zero,
"InferenceComponentComputeResourceRequirements" for what a copy asks for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError
from tokenmill.core.instances import InstanceType, instance_catalog
from tokenmill.cost.assembly import NotKnownError, as_list, as_object

if TYPE_CHECKING:
    from tokenmill.cost.assembly import CostStack, Resource

ENDPOINT, CONFIG = "AWS::SageMaker::Endpoint", "AWS::SageMaker::EndpointConfig"
COMPONENT, TARGET = "AWS::SageMaker::InferenceComponent", "AWS::ApplicationAutoScaling::ScalableTarget"
COPIES, INSTANCES = "sagemaker:inference-component:DesiredCopyCount", "sagemaker:variant:DesiredInstanceCount"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The instances of one production variant.

    Args:
        variant: The variant's name.
        instance_type: Hosting instance type; empty for serverless inference.
        floor: Instances that run without traffic.
        most: Instances at the largest size.
        note: What a reader must know of it.
    """

    variant: str
    instance_type: str
    floor: int
    most: int
    note: str = ""


def fleets(endpoint: Resource, stack: CostStack) -> list[Fleet]:
    """Return the instances of an endpoint, variant by variant.

    Args:
        endpoint: The endpoint.
        stack: Its template.

    Raises:
        NotKnownError: The configuration is not in the template, or a number is decided by the deployment.
        TokenmillError: A number or a name is malformed.
    """
    config = stack.behind(endpoint.properties.get("EndpointConfigName"), CONFIG)
    if config is None:
        raise NotKnownError("its endpoint configuration is not in this template")
    variants = config.items("ProductionVariants")
    if not variants:
        raise TokenmillError(f"{stack.name}: {config.logical_id} has no ProductionVariants; synthesize again")
    where = f"{stack.name}: {config.logical_id}.ProductionVariants"
    return [_fleet(endpoint, config, as_object(part, where), stack) for part in variants]


def _fleet(endpoint: Resource, config: Resource, variant: dict[str, Any], stack: CostStack) -> Fleet:
    name = str(variant.get("VariantName", "AllTraffic"))
    if "ServerlessConfig" in variant:
        serverless = as_object(variant["ServerlessConfig"], "ServerlessConfig")
        if "ProvisionedConcurrency" in serverless:
            raise NotKnownError("no price of provisioned concurrency of serverless inference is known")
        return Fleet(variant=name, instance_type="", floor=0, most=0, note="serverless inference, by use")
    instance = variant.get("InstanceType")
    if isinstance(instance, dict):
        raise NotKnownError("InstanceType is decided by the deployment")
    if not isinstance(instance, str):
        raise TokenmillError(
            f"{stack.name}: {config.logical_id} has no InstanceType, got {instance!r:.60}; synthesize again"
        )
    first = config.number("InitialInstanceCount", 1, within=variant)
    managed = as_object(variant.get("ManagedInstanceScaling", {}), "ManagedInstanceScaling")
    if managed.get("Status") == "ENABLED":
        fewest = config.number("MinInstanceCount", first, within=managed)
        most = config.number("MaxInstanceCount", first, within=managed)
        needed, note = _for_copies(endpoint, name, instance, stack)
        floor = max(int(fewest), needed)
        return Fleet(variant=name, instance_type=instance, floor=floor, most=max(int(most), floor), note=note)
    low = high = int(first)
    for target in _targets(stack, endpoint, INSTANCES):
        if _names_variant(target, name):
            low, high = int(target.number("MinCapacity")), int(target.number("MaxCapacity"))
    return Fleet(variant=name, instance_type=instance, floor=low, most=max(low, high))


def _for_copies(endpoint: Resource, variant: str, instance: str, stack: CostStack) -> tuple[int, str]:
    """Instances that the fewest copies of all components take, and what is unsure of it."""
    known = instance_catalog().get(instance)
    components = [
        item
        for item in stack.of_type(COMPONENT)
        if stack.behind(item.properties.get("EndpointName"), ENDPOINT) is endpoint
        and item.properties.get("VariantName", variant) == variant
        # an adapter runs on the copies of its base
        and "BaseInferenceComponentName" not in item.section("Specification")
    ]
    total, most, notes = 0.0, 0, []
    for component in components:
        copies = _fewest_copies(component, stack)
        share = _share(component, known)
        if share is None:
            notes.append(
                f"copies of {component.name} an instance are not known; counted as one instance at least"
            )
            share = 0.0
        total += copies * share
        held = math.floor(1 / share + 1e-9) if share > 0 else None
        most = max(most, math.ceil(copies / held) if held else min(1, copies))
    return max(most, math.ceil(total - 1e-9)), "; ".join(notes)


def _share(component: Resource, instance: InstanceType | None) -> float | None:
    """Share of an instance that one copy takes; None where it cannot be told."""
    if instance is None:
        return None
    needs = as_object(
        component.section("Specification").get("ComputeResourceRequirements", {}), "requirements"
    )
    chips = component.number("NumberOfAcceleratorDevicesRequired", 0, within=needs)
    memory = component.number("MinMemoryRequiredInMb", 0, within=needs)
    share = max(chips / instance.chips, memory / instance.host_room_mib)
    if share > 1:
        raise TokenmillError(
            f"{component.stack}: {component.logical_id} asks for {chips:g} chips and {memory:g} MiB, of "
            f"which {instance.name} has {instance.chips} and {instance.host_room_mib}; choose a larger type"
        )
    return share or None


def _fewest_copies(component: Resource, stack: CostStack) -> int:
    for target in _targets(stack, component, COPIES):
        return int(target.number("MinCapacity"))
    return int(component.number("CopyCount", 1, within=component.section("RuntimeConfig")))


def _targets(stack: CostStack, scaled: Resource, dimension: str) -> list[Resource]:
    return [
        item
        for item in stack.of_type(TARGET)
        if item.properties.get("ScalableDimension") == dimension
        and stack.behind(item.properties.get("ResourceId"), scaled.type) is scaled
    ]


def _names_variant(target: Resource, variant: str) -> bool:
    return f"variant/{variant}" in "".join(_texts(target.properties.get("ResourceId")))


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for key, item in value.items() if key.startswith("Fn::") for text in _texts(item)]
    return [text for item in as_list(value, "ResourceId") for text in _texts(item)]
