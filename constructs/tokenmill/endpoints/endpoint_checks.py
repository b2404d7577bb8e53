"""What an endpoint's parts have to agree on; asked before any resource exists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenmill.core._checks import is_token
from tokenmill.core.errors import TokenmillError
from tokenmill.core.instances import instance_type
from tokenmill.core.regions import WITHOUT_COMPONENTS, WITHOUT_ENDPOINTS
from tokenmill.endpoints.fleet import RESERVATION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import aws_cdk as cdk
    from aws_cdk import aws_cloudwatch as cloudwatch

    from tokenmill.core.instances import InstanceType
    from tokenmill.core.workload import Capacity
    from tokenmill.endpoints.fleet import Fleet
    from tokenmill.endpoints.hosting import EndpointHosting
    from tokenmill.endpoints.model_source import ModelSource
    from tokenmill.endpoints.serving import Serving


def check_region(region: str, *, components: bool) -> None:
    """Refuse a known region that has no such endpoint.

    Args:
        region: The region, or a token for it, which is not checked.
        components: Whether the endpoint is of inference components.

    Raises:
        TokenmillError: If CloudFormation has no such type there.
    """
    if is_token(region):
        return
    if region in WITHOUT_ENDPOINTS:
        raise TokenmillError(
            f"region {region!r} has no AWS::SageMaker::Endpoint; choose another region, or serve with Bedrock"
        )
    if components and region in WITHOUT_COMPONENTS:
        raise TokenmillError(
            f"region {region!r} has no AWS::SageMaker::InferenceComponent, which LlmEndpoint is made of; use "
            "VariantEndpoint there, or choose another region"
        )


def check_endpoint(
    serving: Serving,
    *,
    fleet: Fleet,
    hosting: EndpointHosting,
    source: ModelSource,
    region: str,
) -> None:
    """Refuse parts that do not fit each other, whatever the mode.

    Args:
        serving: What is served.
        fleet: On which instances.
        hosting: Role, network, keys.
        source: Where weights and image come from.
        region: The region, or a token for it.

    Raises:
        TokenmillError: In one sentence, with the way out.
    """
    servings = check_pools(serving, fleet)
    _check_reservation(fleet, region)
    capture = hosting.data_capture
    check_same_region(
        region,
        {
            "hosting.encryption_key": hosting.encryption_key,
            "the bucket of data_capture": None if capture is None else capture.bucket,
            "the key of data_capture": None if capture is None else capture.key,
        },
    )
    for item in servings:
        _check_storage(item, fleet, hosting)
        _check_routing(item, fleet)
        source.check(item, isolated=hosting.isolated, region=region)
        if source.image is None and not is_token(region):
            item.serving_image.registry_account(region)


def check_pools(serving: Serving, fleet: Fleet) -> tuple[Serving, ...]:
    """Return how a copy is cut on each pool's type, the first choice first.

    Args:
        serving: What is served.
        fleet: The pools.

    Raises:
        TokenmillError: If the serving's type is in no pool, or one host image cannot serve all of them.
    """
    types = [pool.instance_type for pool in fleet.ordered_pools]
    if types and serving.instance_type not in types:
        raise TokenmillError(
            f"serving is for {serving.instance_type}, but the pools have {', '.join(types)}; give the "
            f"serving the type of a pool, or add InstancePool(instance_type={serving.instance_type!r}, "
            "priority=1)"
        )
    vendors = {name: item.accelerator.vendor for name, item in _pooled(serving, fleet).items()}
    if len(set(vendors.values())) > 1:
        listed = ", ".join(f"{name} ({vendor})" for name, vendor in vendors.items())
        raise TokenmillError(
            f"the pools mix accelerators of several vendors: {listed}; one endpoint has one host image and "
            "one driver, so make an LlmEndpoint for each vendor and give the gateway both, the second to "
            "fall back on"
        )
    servings = fleet.servings(serving)
    hosts = {item.instance_type: item.serving_image.host_ami for item in servings}
    if len(set(hosts.values())) > 1:
        listed = ", ".join(f"{name} needs {host}" for name, host in hosts.items())
        raise TokenmillError(
            f"the pools need several host images: {listed}; an endpoint has one, so give the pools' servings "
            "the same image, or make an endpoint for each"
        )
    return servings


def _pooled(serving: Serving, fleet: Fleet) -> dict[str, InstanceType]:
    """Return the pools' instance types, whatever fits them."""
    known = {item.instance_type: item for item in (*(pool.serving for pool in fleet.pools), serving) if item}
    names = [pool.instance_type for pool in fleet.ordered_pools]
    return {name: known[name].instance if name in known else instance_type(name) for name in names}


def check_same_region(region: str, resources: Mapping[str, cdk.IResource | None]) -> None:
    """Refuse resources that SageMaker would look for in another region than they are in.

    Args:
        region: The endpoint's region, or a token for it.
        resources: Resources by what they are called in the sentence.

    Raises:
        TokenmillError: If one is known to be elsewhere.
    """
    for name, resource in resources.items():
        if resource is not None:
            _check_home(name, resource.env.region, region)


def check_alarms(alarms: Iterable[cloudwatch.IAlarm], region: str) -> None:
    """Refuse alarms that SageMaker would not find, because it looks for their names in its own region.

    Args:
        alarms: Alarms that turn a deployment back.
        region: The endpoint's region, or a token for it.

    Raises:
        TokenmillError: If one is known to be elsewhere.
    """
    for alarm in alarms:
        arn = alarm.alarm_arn
        home = alarm.env.region if is_token(arn) else arn.split(":")[3]
        _check_home(f"alarm {alarm.alarm_name}", home, region)


def _check_home(name: str, home: str, region: str) -> None:
    if is_token(home) or is_token(region) or home == region:
        return
    raise TokenmillError(
        f"{name} is in {home}, but SageMaker serves in {region} and reaches it in its own region only; give "
        f"one in {region}"
    )


def check_shared_instances(first: Sequence[Serving], added: Sequence[Serving]) -> None:
    """Refuse a component that cannot share instances with the endpoint's first.

    Args:
        first: How the first component is cut on each type.
        added: How the further one is.

    Raises:
        TokenmillError: If the types or their host images differ.
    """
    types = [item.instance_type for item in first]
    if added[0].instance_type not in types:
        raise TokenmillError(
            f"the component is for {added[0].instance_type}, but the endpoint has {', '.join(types)}; give "
            f"Serving(instance_type={types[0]!r}), or make an endpoint of its own"
        )
    host, other = first[0].serving_image.host_ami, added[0].serving_image.host_ami
    if host != other:
        raise TokenmillError(
            f"the component's image {added[0].serving_image.key!r} needs the host image {other}, but the "
            f"endpoint has {host}; give it an image with {host}, or make an endpoint of its own"
        )


def check_components(capacity: Capacity) -> None:
    """Refuse copies that a component cannot be created with.

    Args:
        capacity: Fewest, most and first copies.

    Raises:
        TokenmillError: If no copy runs at first.
    """
    if capacity.initial < 1:
        raise TokenmillError(
            f"capacity.initial is {capacity.initial}; a component is created with 1 copy or more, which "
            "shows that it starts, and may scale to 0 afterwards, so give initial=1"
        )


def check_variant(capacity: Capacity, fleet: Fleet, *, zero_instances: bool) -> None:
    """Refuse what belongs to components alone.

    Args:
        capacity: Fewest, most and first instances.
        fleet: The instances.
        zero_instances: Whether the endpoint may be without instances.

    Raises:
        TokenmillError: If a value has no meaning for a variant.
    """
    if capacity.minimum < 1 and not zero_instances:
        raise TokenmillError(
            f"capacity.minimum is {capacity.minimum}; only an endpoint of inference components can be "
            "without instances, so give 1 or more, or use LlmEndpoint"
        )
    scaling = fleet.instances
    for name, value in (
        ("fleet.scheduling", fleet.scheduling),
        ("fleet.instances.scale_in", scaling.scale_in),
    ):
        if value is not None:
            raise TokenmillError(
                f"{name} is given, but VariantEndpoint has one copy an instance and none to place; leave it "
                "out, or use LlmEndpoint"
            )
    if not fleet.data_cache:
        raise TokenmillError(
            "fleet.data_cache is False, but only inference components have a data cache; leave it out, or "
            "use LlmEndpoint"
        )


def _check_reservation(fleet: Fleet, region: str) -> None:
    arn = fleet.reservation
    if arn is None or is_token(arn):
        return
    if not RESERVATION.fullmatch(arn):
        raise TokenmillError(
            f"reservation is {arn!r}; give the ARN of an ML capacity reservation, such as "
            "'arn:aws:sagemaker:us-east-1:123456789012:training-plan/name'"
        )
    _check_home("the reservation", arn.split(":")[3], region)


def _check_storage(serving: Serving, fleet: Fleet, hosting: EndpointHosting) -> None:
    if not serving.instance.local_nvme:
        return
    if hosting.encryption_key is not None:
        raise TokenmillError(
            f"encryption_key is given, but {serving.instance_type} has local NVMe storage, which its "
            "hardware encrypts and for which SageMaker refuses a key; leave encryption_key out for this "
            "instance type"
        )
    if fleet.volume_gib is not None:
        # aws/sagemaker-python-sdk, sagemaker/utils.py: volume_size_supported.
        raise TokenmillError(
            f"volume_gib is {fleet.volume_gib}, but {serving.instance_type} has local NVMe storage of a "
            "fixed size and SageMaker takes no volume size for it; leave volume_gib out"
        )


def _check_routing(serving: Serving, fleet: Fleet) -> None:
    if fleet.routing.strategy == "PREFIX_AWARE" and serving.options.prefix_caching is False:
        raise TokenmillError(
            f"routing is PREFIX_AWARE, but the options of {serving.model} have prefix_caching False, so no "
            "instance has a prefix to find again; leave prefix_caching out, or use Routing.least_busy()"
        )
