"""SageMaker endpoints: how many instances run without traffic, and at the most.

Sources, by title (Amazon SageMaker API Reference, Developer Guide): "ProductionVariantManagedInstanceScaling"
for the bounds of managed instance scaling, "Scale an endpoint to zero instances" for a floor of zero,
"InferenceComponentComputeResourceRequirements" for what a copy asks for, "InstancePool" for the order of
types.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError
from tokenmill.core.instances import InstanceType, instance_catalog
from tokenmill.cost.assembly import NotKnownError, as_list, as_object
from tokenmill.cost.schedules import HOURS_A_WEEK, constant, fewest_over_a_week, parts_of_a_week, time_zones

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenmill.cost.assembly import CostStack, Resource
    from tokenmill.cost.schedules import Week

ENDPOINT, CONFIG = "AWS::SageMaker::Endpoint", "AWS::SageMaker::EndpointConfig"
COMPONENT, TARGET = "AWS::SageMaker::InferenceComponent", "AWS::ApplicationAutoScaling::ScalableTarget"
COPIES, INSTANCES = "sagemaker:inference-component:DesiredCopyCount", "sagemaker:variant:DesiredInstanceCount"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Instances of one type.

    Args:
        instance_type: Hosting instance type.
        floor: Instances that run without traffic, as a mean over the hours of a week.
        busiest: The same in the hour with the most.
        copies: Copies that an instance holds; None where components differ or it is not known.
    """

    instance_type: str
    floor: float
    busiest: int
    copies: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The instances of one production variant.

    Args:
        variant: The variant's name.
        pools: Its instance types, the first choice first; none for serverless inference.
        most: Instances at the largest size.
        note: What a reader must know of it.
    """

    variant: str
    pools: tuple[Pool, ...]
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


def is_adapter(component: Resource) -> bool:
    """Return whether a component runs on the copies of another, its base.

    Args:
        component: An inference component.
    """
    return "BaseInferenceComponentName" in component.section("Specification")


def _fleet(endpoint: Resource, config: Resource, variant: dict[str, Any], stack: CostStack) -> Fleet:
    name = str(variant.get("VariantName", "AllTraffic"))
    if "ServerlessConfig" in variant:
        serverless = as_object(variant["ServerlessConfig"], "ServerlessConfig")
        if "ProvisionedConcurrency" in serverless:
            raise NotKnownError("no price of provisioned concurrency of serverless inference is known")
        return Fleet(variant=name, pools=(), most=0, note="serverless inference, by use")
    types = _types(variant, config)
    first = config.number("InitialInstanceCount", 1, within=variant)
    managed = as_object(variant.get("ManagedInstanceScaling", {}), "ManagedInstanceScaling")
    if managed.get("Status") == "ENABLED":
        fewest = int(config.number("MinInstanceCount", first, within=managed))
        most = int(config.number("MaxInstanceCount", first, within=managed))
        components = _components(endpoint, name, stack)
        found = [_for_copies(kind, fewest, components, stack) for kind in types]
        targets = [target for item in components for target in _targets(stack, item, COPIES)]
    else:
        targets = [item for item in _targets(stack, endpoint, INSTANCES) if _names_variant(item, name)][:1]
        most, week = int(first), constant(int(first))
        for target in targets:
            most, week = int(target.number("MaxCapacity")), fewest_over_a_week(target)
        hours = [(part, numbers[0]) for part, numbers in parts_of_a_week([week])]
        found = [(_pool(kind, hours), _said(hours)) for kind in types]
    pools = tuple(pool for pool, _ in found)
    zones = sorted({zone for target in targets for zone in time_zones(target)})
    notes = [found[0][1], _said_of_zones(zones)]
    return Fleet(
        variant=name,
        pools=pools,
        most=max(most, *(pool.busiest for pool in pools)),
        note="; ".join(filter(None, notes)),
    )


def _types(variant: dict[str, Any], config: Resource) -> list[str]:
    """The instance types of a variant, the first choice first."""
    where = f"{config.stack}: {config.logical_id}"
    pools = [as_object(item, "InstancePools") for item in as_list(variant.get("InstancePools", []), where)]
    pools.sort(key=lambda pool: config.number("Priority", 1, within=pool))
    types = [part.get("InstanceType") for part in pools or [variant]]
    for instance in types:
        if isinstance(instance, dict):
            raise NotKnownError("InstanceType is decided by the deployment")
        if not isinstance(instance, str):
            raise TokenmillError(f"{where} has no InstanceType, got {instance!r:.60}; synthesize again")
    return [str(instance) for instance in types]


def _components(endpoint: Resource, variant: str, stack: CostStack) -> list[Resource]:
    return [
        item
        for item in stack.of_type(COMPONENT)
        if stack.behind(item.properties.get("EndpointName"), ENDPOINT) is endpoint
        and item.properties.get("VariantName", variant) == variant
        and not is_adapter(item)
    ]


def _for_copies(
    instance: str, fewest: int, components: Sequence[Resource], stack: CostStack
) -> tuple[Pool, str]:
    """Instances of a type that the fewest copies of all components take, and what is unsure of it."""
    known = instance_catalog().get(instance)
    shares = [_share(component, instance, known) for component in components]
    notes = [
        f"copies of {component.name} an instance are not known; counted as one instance at least"
        for component, share in zip(components, shares, strict=True)
        if share is None
    ]
    weeks = [_fewest_copies(component, stack) for component in components] or [constant(0)]
    hours = [(part, max(fewest, _needed(copies, shares))) for part, copies in parts_of_a_week(weeks)]
    alone = shares[0] if len(shares) == 1 else None
    return _pool(instance, hours, None if alone is None else _held(alone)), "; ".join(
        [*notes, *filter(None, [_said(hours)])]
    )


def _needed(copies: Sequence[int], shares: Sequence[float | None]) -> int:
    total, most = 0.0, 0
    for count, share in zip(copies, shares, strict=False):
        if share is None:
            most = max(most, min(1, count))
        else:
            total += count * share
            most = max(most, math.ceil(count / _held(share)))
    return max(most, math.ceil(total - 1e-9))


def _held(share: float) -> int:
    return math.floor(1 / share + 1e-9)


def _pool(instance: str, hours: Sequence[tuple[float, int]], copies: int | None = None) -> Pool:
    return Pool(
        instance_type=instance,
        floor=sum(part * count for part, count in hours) / HOURS_A_WEEK,
        busiest=max(count for _, count in hours),
        copies=copies,
    )


def _said(hours: Sequence[tuple[float, int]]) -> str:
    """How many instances run in which part of the week, where that changes."""
    counts: dict[int, float] = {}
    for part, count in hours:
        counts[count] = counts.get(count, 0.0) + part
    if len(counts) == 1:
        return ""
    parts = (f"{count} in {counts[count]:g}" for count in sorted(counts, reverse=True))
    return f"scheduled: {', '.join(parts)} of the week's {HOURS_A_WEEK} hours"


def _said_of_zones(zones: Sequence[str]) -> str:
    return f"schedules in {' and '.join(zones)} are counted as in one time zone" if len(zones) > 1 else ""


def _share(component: Resource, name: str, instance: InstanceType | None) -> float | None:
    """Share of an instance that one copy takes; None where it cannot be told."""
    if instance is None:
        return None
    needs = as_object(_specification(component, name).get("ComputeResourceRequirements", {}), "requirements")
    chips = component.number("NumberOfAcceleratorDevicesRequired", 0, within=needs)
    memory = component.number("MinMemoryRequiredInMb", 0, within=needs)
    share = max(chips / instance.chips, memory / instance.host_room_mib)
    if share > 1:
        raise TokenmillError(
            f"{component.stack}: {component.logical_id} asks for {chips:g} chips and {memory:g} MiB, of "
            f"which {instance.name} has {instance.chips} and {instance.host_room_mib}; choose a larger type"
        )
    return share or None


def _specification(component: Resource, instance: str) -> dict[str, Any]:
    """What a copy is on an instance type: the same on all of them, or of its own."""
    for item in component.items("Specifications"):
        own = as_object(item, "Specifications")
        if own.get("InstanceType") == instance:
            return own
    return component.section("Specification")


def _fewest_copies(component: Resource, stack: CostStack) -> Week:
    for target in _targets(stack, component, COPIES):
        return fewest_over_a_week(target)
    return constant(int(component.number("CopyCount", 1, within=component.section("RuntimeConfig"))))


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
