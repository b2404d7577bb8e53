"""Instances below an endpoint: pools, reservation, routing, placement, storage, how they come and go."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from support_stack import only, template_of
from tokenmill.core.engine_options import EngineOptions
from tokenmill.core.errors import TokenmillError
from tokenmill.core.workload import Capacity
from tokenmill.endpoints import (
    Fleet,
    InstancePool,
    InstanceScaling,
    LlmEndpoint,
    Routing,
    Scheduling,
    Serving,
    UpdatePolicy,
)

if TYPE_CHECKING:
    import aws_cdk as cdk

TWO = Capacity(minimum=2, maximum=6, initial=2)
BARE = UpdatePolicy.unguarded()
ON_GPU = Serving(
    model="Qwen/Qwen3-8B",
    instance_type="ml.g6e.xlarge",
    tensor_parallel=1,
    max_sequences=8,
    context_tokens=8192,
)
ON_INF2 = replace(ON_GPU, instance_type="ml.inf2.8xlarge", tensor_parallel=2, context_tokens=4096)
COMPONENT = "AWS::SageMaker::InferenceComponent"
CONFIG = "AWS::SageMaker::EndpointConfig"
RESERVATION = "arn:aws:sagemaker:us-east-1:123456789012:training-plan/serve"


def pools(*types: str) -> tuple[InstancePool, ...]:
    return tuple(InstancePool(instance_type=name, priority=number) for number, name in enumerate(types, 1))


def build(stack: cdk.Stack, fleet: Fleet, serving: Serving = ON_GPU) -> dict[str, Any]:
    LlmEndpoint(stack, "Llm", serving=serving, capacity=TWO, fleet=fleet, update=BARE)
    return template_of(stack)


def variant(template: dict[str, Any]) -> dict[str, Any]:
    (found,) = only(template, CONFIG)["Properties"]["ProductionVariants"]
    made: dict[str, Any] = found
    return made


def component(template: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = only(template, COMPONENT)["Properties"]
    return found


def test_pools_take_the_place_of_the_instance_type(stack: cdk.Stack) -> None:
    """A variant has one or the other, and the order of the list is that of the priorities."""
    second = InstancePool(instance_type="ml.g6e.2xlarge", priority=2)
    first = InstancePool(instance_type="ml.g6e.xlarge", priority=1)
    made = variant(build(stack, Fleet(pools=(second, first))))
    assert "InstanceType" not in made
    assert made["InstancePools"] == [
        {"InstanceType": "ml.g6e.xlarge", "Priority": 1},
        {"InstanceType": "ml.g6e.2xlarge", "Priority": 2},
    ]


def test_pools_that_serve_a_copy_alike_have_one_specification(stack: cdk.Stack) -> None:
    """Types that differ in host memory alone: a copy reserves the smallest host's share on all of them."""
    made = component(build(stack, Fleet(pools=pools("ml.g6e.2xlarge", "ml.g6e.xlarge"))))
    assert "Specifications" not in made
    needs = made["Specification"]["ComputeResourceRequirements"]
    assert needs == {
        "NumberOfAcceleratorDevicesRequired": 1,
        "MinMemoryRequiredInMb": int(32 * 1024 * 0.9),
    }


def test_pools_that_cut_a_copy_differently_have_a_specification_each(stack: cdk.Stack) -> None:
    """The API wants the instance type in each then; a copy takes two smaller GPUs or one larger."""
    wide = replace(ON_GPU, instance_type="ml.g5.12xlarge", tensor_parallel=2)
    fleet = Fleet(
        pools=(
            InstancePool(instance_type="ml.g6e.xlarge", priority=1),
            InstancePool(instance_type="ml.g5.12xlarge", priority=3, serving=wide),
        )
    )
    made = component(build(stack, fleet))
    assert "Specification" not in made
    assert [item["InstanceType"] for item in made["Specifications"]] == ["ml.g6e.xlarge", "ml.g5.12xlarge"]
    asked = [
        item["ComputeResourceRequirements"]["NumberOfAcceleratorDevicesRequired"]
        for item in made["Specifications"]
    ]
    assert asked == [1, 2]
    degrees = {
        item["Container"]["Environment"]["OPTION_TENSOR_PARALLEL_DEGREE"] for item in made["Specifications"]
    }
    assert degrees == {"1", "2"}


def test_the_most_instances_hold_all_copies_on_the_smallest_pool(stack: cdk.Stack) -> None:
    """Whichever type has capacity, the copies fit; the fewest and the first are the first choice's."""
    fleet = Fleet(pools=pools("ml.g6e.12xlarge", "ml.g6e.xlarge"))
    made = variant(build(stack, fleet, replace(ON_GPU, instance_type="ml.g6e.12xlarge")))
    assert made["InitialInstanceCount"] == 1
    assert made["ManagedInstanceScaling"]["MinInstanceCount"] == 1
    assert made["ManagedInstanceScaling"]["MaxInstanceCount"] >= TWO.maximum


def test_routing_by_prefix_has_its_numbers(stack: cdk.Stack) -> None:
    """The API wants both numbers with PREFIX_AWARE."""
    routing = Routing.prefix_aware(prefix_length=2048, concurrency_threshold=8)
    assert variant(build(stack, Fleet(routing=routing)))["RoutingConfig"] == {
        "RoutingStrategy": "PREFIX_AWARE",
        "PrefixAwareRoutingConfig": {"PrefixLength": 2048, "ConcurrencyThreshold": 8},
    }


def test_routing_by_chance_has_none(stack: cdk.Stack) -> None:
    """Only PREFIX_AWARE takes numbers."""
    assert variant(build(stack, Fleet(routing=Routing.random())))["RoutingConfig"] == {
        "RoutingStrategy": "RANDOM"
    }


@pytest.mark.parametrize(
    ("scheduling", "expected"),
    [
        (
            Scheduling.binpack(),
            {
                "PlacementStrategy": "BINPACK",
                "AvailabilityZoneBalance": {"EnforcementMode": "PERMISSIVE", "MaxImbalance": 100},
            },
        ),
        (
            Scheduling.spread(zone_imbalance=1),
            {
                "PlacementStrategy": "SPREAD",
                "AvailabilityZoneBalance": {"EnforcementMode": "PERMISSIVE", "MaxImbalance": 1},
            },
        ),
    ],
)
def test_placement_stands_in_the_component(
    scheduling: Scheduling, expected: dict[str, Any], stack: cdk.Stack
) -> None:
    """Spread for resilience, packed for cost, zones balanced where asked."""
    made = component(build(stack, Fleet(scheduling=scheduling)))["Specification"]
    assert made["SchedulingConfig"] == expected


def test_without_a_choice_placement_is_sagemaker_s(stack: cdk.Stack) -> None:
    """A default that we do not set cannot grow stale."""
    assert "SchedulingConfig" not in component(build(stack, Fleet()))["Specification"]


def test_the_data_cache_can_be_left_out(stack: cdk.Stack) -> None:
    """It is on unless somebody turns it off."""
    made = component(build(stack, Fleet(data_cache=False)))["Specification"]
    assert made["DataCacheConfig"] == {"EnableCaching": False}


def test_a_reservation_is_where_instances_start_and_nowhere_else(stack: cdk.Stack) -> None:
    """The only preference that SageMaker has."""
    made = variant(build(stack, Fleet(reservation=RESERVATION)))
    assert made["CapacityReservationConfig"] == {
        "CapacityReservationPreference": "capacity-reservations-only",
        "MlReservationArn": RESERVATION,
    }


def test_volume_timeout_and_scale_in_are_the_variant_s(stack: cdk.Stack) -> None:
    """Inferentia2 hosts have an EBS volume, whose size is ours."""
    fleet = Fleet(
        volume_gib=128,
        instances=InstanceScaling(
            scale_in="CONSOLIDATION", largest_step=2, cooldown_minutes=30, provision_timeout_seconds=900
        ),
    )
    made = variant(build(stack, fleet, ON_INF2))
    assert (made["VolumeSizeInGB"], made["VariantInstanceProvisionTimeoutInSeconds"]) == (128, 900)
    assert made["ManagedInstanceScaling"]["ScaleInPolicy"] == {
        "Strategy": "CONSOLIDATION",
        "MaximumStepSize": 2,
        "CooldownInMinutes": 30,
    }


def test_idle_release_has_no_further_numbers(stack: cdk.Stack) -> None:
    """Steps and cool-down belong to a consolidation."""
    made = variant(build(stack, Fleet(instances=InstanceScaling(scale_in="IDLE_RELEASE"))))
    assert made["ManagedInstanceScaling"]["ScaleInPolicy"] == {"Strategy": "IDLE_RELEASE"}


@pytest.mark.parametrize(
    ("fleet", "serving", "message"),
    [
        (
            Fleet(
                pools=(
                    InstancePool(instance_type="ml.inf2.8xlarge", priority=1),
                    InstancePool(instance_type="ml.g6e.xlarge", priority=2, serving=ON_GPU),
                )
            ),
            ON_INF2,
            "the pools mix accelerators of several vendors: ml.inf2.8xlarge (AWS), ml.g6e.xlarge (NVIDIA); "
            "one "
            "endpoint has one host image and one driver, so make an LlmEndpoint for each vendor and give the "
            "gateway both, the second to fall back on",
        ),
        (
            Fleet(pools=pools("ml.g6e.2xlarge")),
            ON_GPU,
            "serving is for ml.g6e.xlarge, but the pools have ml.g6e.2xlarge; give the serving the type of a "
            "pool, or add InstancePool(instance_type='ml.g6e.xlarge', priority=1)",
        ),
        (
            Fleet(reservation="arn:aws:ec2:us-east-1:123456789012:capacity-reservation/cr-1"),
            ON_GPU,
            "reservation is 'arn:aws:ec2:us-east-1:123456789012:capacity-reservation/cr-1'; give the ARN "
            "of an "
            "ML capacity reservation, such as 'arn:aws:sagemaker:us-east-1:123456789012:training-plan/name'",
        ),
        (
            Fleet(routing=Routing.prefix_aware(concurrency_threshold=8)),
            replace(ON_GPU, options=EngineOptions(prefix_caching=False)),
            "routing is PREFIX_AWARE, but the options of Qwen/Qwen3-8B have prefix_caching False, so no "
            "instance has a prefix to find again; leave prefix_caching out, or use Routing.least_busy()",
        ),
        (
            Fleet(volume_gib=100),
            ON_GPU,
            "volume_gib is 100, but ml.g6e.xlarge has local NVMe storage of a fixed size and SageMaker "
            "takes no volume size for it; leave volume_gib out",
        ),
    ],
)
def test_fails_before_any_child_exists(
    fleet: Fleet, serving: Serving, message: str, stack: cdk.Stack
) -> None:
    """One sentence with the way out, and an empty tree."""
    with pytest.raises(TokenmillError) as caught:
        LlmEndpoint(stack, "Llm", serving=serving, capacity=TWO, fleet=fleet, update=BARE)
    assert str(caught.value) == message
    assert stack.node.children == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: InstancePool(instance_type="ml.g5.xlarge", priority=6),
            "priority of ml.g5.xlarge is 6; it must be 1 to 5",
        ),
        (
            lambda: InstancePool(instance_type="ml.g5.xlarge", priority=1, serving=ON_GPU),
            "the pool of ml.g5.xlarge has a serving for ml.g6e.xlarge; give "
            "Serving(instance_type='ml.g5.xlarge', ...)",
        ),
        (
            lambda: Fleet(pools=pools("ml.g5.xlarge", "ml.g5.xlarge")),
            "two pools have instance type ml.g5.xlarge; give every pool its own",
        ),
        (
            lambda: Fleet(
                pools=(
                    InstancePool(instance_type="ml.g5.xlarge", priority=1),
                    InstancePool(instance_type="ml.g6.xlarge", priority=1),
                )
            ),
            "two pools have priority 1; give every pool its own",
        ),
        (
            lambda: Fleet(
                pools=tuple(InstancePool(instance_type=f"ml.g5.{size}", priority=1) for size in "abcdef")
            ),
            "pools has 6 instance types; SageMaker takes 1 to 5",
        ),
        (
            lambda: Fleet(pools=pools("ml.g5.xlarge", "ml.g6.xlarge"), reservation=RESERVATION),
            "a reservation is given with 2 pools, but a reservation is of one instance type and nothing is "
            "started outside of it; leave one of the two out",
        ),
        (lambda: Fleet(volume_gib=513), "volume_gib is 513; it must be 1 to 512"),
        (
            lambda: Routing(strategy="KV"),
            "routing is 'KV'; allowed are LEAST_OUTSTANDING_REQUESTS, RANDOM, PREFIX_AWARE",
        ),
        (
            lambda: Routing(strategy="PREFIX_AWARE"),
            "prefix_length is None with routing PREFIX_AWARE; PREFIX_AWARE needs it and no other strategy "
            "takes it, so use Routing.prefix_aware(...)",
        ),
        (
            lambda: Routing(prefix_length=4096),
            "prefix_length is 4096 with routing LEAST_OUTSTANDING_REQUESTS; PREFIX_AWARE needs it and no "
            "other strategy takes it, so use Routing.prefix_aware(...)",
        ),
        (
            lambda: Routing.prefix_aware(prefix_length=512, concurrency_threshold=8),
            "prefix_length is 512; it must be 1,024 to 65,536",
        ),
        (
            lambda: Routing.prefix_aware(concurrency_threshold=0),
            "concurrency_threshold is 0; it must be 1 to 1,024",
        ),
        (
            lambda: Scheduling(placement="RANDOM", zone_imbalance=0),
            "placement is 'RANDOM'; allowed are SPREAD, BINPACK",
        ),
        (lambda: Scheduling.spread(zone_imbalance=101), "zone_imbalance is 101; it must be 0 to 100"),
        (
            lambda: InstanceScaling(scale_in="NEVER"),
            "scale_in is 'NEVER'; allowed are IDLE_RELEASE, CONSOLIDATION",
        ),
        (
            lambda: InstanceScaling(provision_timeout_seconds=60),
            "provision_timeout_seconds is 60; it must be 300 to 3,600",
        ),
        (
            lambda: InstanceScaling(scale_in="IDLE_RELEASE", cooldown_minutes=20),
            "cooldown_minutes is 20, which belongs to a consolidation; give scale_in='CONSOLIDATION', or "
            "leave it out",
        ),
    ],
)
def test_fails_on_a_value_that_sagemaker_refuses(make: Any, message: str) -> None:
    """The limits are those of the API."""
    with pytest.raises(TokenmillError) as caught:
        make()
    assert str(caught.value) == message
