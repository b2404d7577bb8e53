"""The endpoint configuration's properties, from values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from aws_cdk import aws_sagemaker as sagemaker

from tokenmill.endpoints.base import VARIANT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tokenmill.endpoints.fleet import Fleet
    from tokenmill.endpoints.hosting import EndpointHosting
    from tokenmill.endpoints.network import EndpointNetwork
    from tokenmill.endpoints.serving import Serving
    from tokenmill.endpoints.update_policy import UpdatePolicy

# "ProductionVariant" and "InferenceComponentStartupParameters": one hour at most. A model that is not in the
# Neuron cache compiles at first start, and weights come from the Hub, so Neuron gets all of it.
NEURON_START_SECONDS = 3600
GPU_START_SECONDS = 1800


def start_seconds(serving: Serving) -> int:
    """Return how long a container may take to start, in seconds.

    Args:
        serving: What is served, whose accelerator decides.
    """
    return NEURON_START_SECONDS if serving.instance.accelerator.kind == "neuron" else GPU_START_SECONDS


def host_memory_mib(serving: Serving) -> int:
    """Return the host memory that a copy reserves, in MiB: what it needs, or else the share of its chips.

    A tenth of the host stays free for the host itself (`InstanceType.host_room_mib`).

    Args:
        serving: What is served.
    """
    if serving.host_memory_mib is not None:
        return serving.host_memory_mib
    return serving.instance.host_room_mib * serving.chips // serving.instance.chips


def smallest_shares_mib(servings: Sequence[Serving]) -> list[int]:
    """Return the host memory that a copy reserves on each type of a pool, in MiB.

    Types that differ in host memory alone get the smallest share, so that one specification serves them all
    ("Deploy to multiple instance types with instance pools", Amazon SageMaker AI developer guide).

    Args:
        servings: How a copy is cut on each type.
    """
    return [
        min(host_memory_mib(other) for other in servings if other.chips == serving.chips)
        if serving.host_memory_mib is None
        else serving.host_memory_mib
        for serving in servings
    ]


def packed_instances(copies: Iterable[tuple[Serving, int]]) -> int:
    """Return how many instances of one type hold some copies of several models together.

    First fit, the largest first, by chips and by host memory.

    Args:
        copies: Each model with how many copies of it.
    """
    chips: list[int] = []
    memory: list[int] = []
    for serving, count in sorted(copies, key=lambda item: item[0].chips, reverse=True):
        needed = host_memory_mib(serving)
        for _ in range(count):
            for number, free in enumerate(chips):
                if free >= serving.chips and memory[number] >= needed:
                    chips[number] -= serving.chips
                    memory[number] -= needed
                    break
            else:
                chips.append(serving.instance.chips - serving.chips)
                memory.append(serving.instance.host_room_mib - needed)
    return len(chips)


def most_instances(servings: Sequence[Serving], copies: int) -> int:
    """Return how many instances hold some copies, on whichever type holds the fewest an instance.

    Args:
        servings: How a copy is cut on each type.
        copies: How many copies run.
    """
    return math.ceil(copies / min(serving.copies_per_instance for serving in servings))


def variant(
    servings: Sequence[Serving],
    *,
    fleet: Fleet,
    initial_instances: int,
    scaling: tuple[int, int] | None = None,
    models: Mapping[str, str] | None = None,
) -> sagemaker.CfnEndpointConfig.ProductionVariantProperty:
    """Return the production variant.

    Args:
        servings: How a copy is cut on each type, the first choice first.
        fleet: The instances.
        initial_instances: Instances at creation.
        scaling: Fewest and most instances below components; None in single-variant mode.
        models: Names of the models by instance type, in single-variant mode.
    """
    config = sagemaker.CfnEndpointConfig
    first, named = servings[0], models or {}
    pooled = bool(fleet.pools)
    reservation = fleet.reservation
    seconds = start_seconds(first)
    return config.ProductionVariantProperty(
        variant_name=VARIANT,
        model_name=named.get(first.instance_type),
        instance_type=None if pooled else first.instance_type,
        instance_pools=_pools(fleet, first, named) if pooled else None,
        initial_instance_count=initial_instances,
        inference_ami_version=first.serving_image.host_ami,
        container_startup_health_check_timeout_in_seconds=seconds,
        model_data_download_timeout_in_seconds=seconds,
        variant_instance_provision_timeout_in_seconds=fleet.instances.provision_timeout_seconds,
        volume_size_in_gb=fleet.volume_gib,
        capacity_reservation_config=None
        if reservation is None
        else config.CapacityReservationConfigProperty(
            capacity_reservation_preference="capacity-reservations-only", ml_reservation_arn=reservation
        ),
        managed_instance_scaling=None if scaling is None else _managed_scaling(fleet, *scaling),
        routing_config=_routing(fleet),
    )


def excluded(
    update: UpdatePolicy, *, fixed: bool = False
) -> list[sagemaker.CfnEndpoint.VariantPropertyProperty] | None:
    """Return what an update does not keep.

    DataCaptureConfig is never among it: "VariantProperty" (Amazon SageMaker API Reference) lists it as not
    currently supported.

    Args:
        update: Whether it keeps anything.
        fixed: Whether the variant's instances never scale, so that their count follows the configuration.
    """
    if not update.keep_copies or not fixed:
        return None
    return [sagemaker.CfnEndpoint.VariantPropertyProperty(variant_property_type="DesiredInstanceCount")]


def metrics(hosting: EndpointHosting) -> sagemaker.CfnEndpointConfig.MetricsConfigProperty:
    """Return what SageMaker publishes and how often.

    Args:
        hosting: How often.
    """
    return sagemaker.CfnEndpointConfig.MetricsConfigProperty(
        enable_enhanced_metrics=True,
        enable_detailed_observability=True,
        metric_publish_frequency_in_seconds=hosting.metric_seconds,
    )


def config_network(network: EndpointNetwork | None) -> sagemaker.CfnEndpointConfig.VpcConfigProperty | None:
    """Return the VPC of an endpoint of components.

    Args:
        network: Subnets and security groups, if any.
    """
    if network is None:
        return None
    return sagemaker.CfnEndpointConfig.VpcConfigProperty(
        security_group_ids=list(network.security_group_ids), subnets=list(network.subnet_ids)
    )


def _pools(
    fleet: Fleet, first: Serving, models: Mapping[str, str]
) -> list[sagemaker.CfnEndpointConfig.InstancePoolProperty]:
    usual = models.get(first.instance_type)
    return [
        sagemaker.CfnEndpointConfig.InstancePoolProperty(
            instance_type=pool.instance_type,
            priority=pool.priority,
            model_name_override=None
            if models.get(pool.instance_type) == usual
            else models[pool.instance_type],
        )
        for pool in fleet.ordered_pools
    ]


def _managed_scaling(
    fleet: Fleet, fewest: int, most: int
) -> sagemaker.CfnEndpointConfig.ManagedInstanceScalingProperty:
    config, scaling = sagemaker.CfnEndpointConfig, fleet.instances
    policy = None
    if scaling.scale_in is not None:
        policy = config.ScaleInPolicyProperty(
            strategy=scaling.scale_in,
            maximum_step_size=scaling.largest_step,
            cooldown_in_minutes=scaling.cooldown_minutes,
        )
    return config.ManagedInstanceScalingProperty(
        status="ENABLED", min_instance_count=fewest, max_instance_count=most, scale_in_policy=policy
    )


def _routing(fleet: Fleet) -> sagemaker.CfnEndpointConfig.RoutingConfigProperty:
    config, routing = sagemaker.CfnEndpointConfig, fleet.routing
    prefix = None
    if routing.prefix_length is not None:
        prefix = config.PrefixAwareRoutingConfigProperty(
            prefix_length=routing.prefix_length, concurrency_threshold=routing.concurrency_threshold
        )
    return config.RoutingConfigProperty(routing_strategy=routing.strategy, prefix_aware_routing_config=prefix)
