"""One model as an inference component: its resource, and what it offers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker

from tokenmill.endpoints.base import VARIANT, LlmEndpointBase
from tokenmill.endpoints.endpoint_checks import check_alarms
from tokenmill.endpoints.endpoint_config import smallest_shares_mib, start_seconds
from tokenmill.endpoints.model import Models
from tokenmill.endpoints.watched import WatchedComponent
from tokenmill.security.place import place_of, stack_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aws_cdk import aws_cloudwatch as cloudwatch
    from aws_cdk import aws_iam as iam
    from aws_cdk import aws_s3 as s3
    from constructs import Construct

    from tokenmill.core.lora import Adapter
    from tokenmill.core.workload import Capacity
    from tokenmill.endpoints.adapter import LlmAdapter
    from tokenmill.endpoints.deployment import Deployment
    from tokenmill.endpoints.fleet import Fleet
    from tokenmill.endpoints.hosting import EndpointHosting
    from tokenmill.endpoints.model_source import ModelSource, ResolvedSource
    from tokenmill.endpoints.serving import Serving
    from tokenmill.endpoints.update_policy import UpdatePolicy

# "CreateInferenceComponent" and "CreateEndpoint", Amazon SageMaker API Reference.
LONGEST_NAME = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the components of an endpoint share.

    Args:
        endpoint: The endpoint.
        config: Its configuration.
        role: The containers' role.
        hosting: Network and isolation.
        fleet: The instances.
        update: How changes reach the components.
        deployment: What guards changes; None where nothing does.
    """

    endpoint: sagemaker.CfnEndpoint
    config: sagemaker.CfnEndpointConfig
    role: iam.IRole
    hosting: EndpointHosting
    fleet: Fleet
    update: UpdatePolicy
    deployment: Deployment | None


class ServedComponent(LlmEndpointBase):
    """A component that this app makes: its serving, its copies, its adapters."""

    serving: Serving
    capacity: Capacity
    component: sagemaker.CfnInferenceComponent
    hosting_role: iam.IRole
    makes_role: bool
    """Whether the role is the library's own; a given one gets no policy."""
    update: UpdatePolicy
    adapters: list[LlmAdapter]
    _check: tuple[Deployment, cdk.CustomResource, list[sagemaker.CfnInferenceComponent]] | None = None

    def add_adapter(self, id: str, *, adapter: Adapter, bucket: s3.IBucket | None = None) -> LlmAdapter:
        """Load a LoRA adapter beside the model, callable under a component name of its own.

        Args:
            id: The construct's id under this one.
            adapter: The adapter.
            bucket: The bucket of its artifact, for grants and the region check; its S3 URI alone otherwise.

        Raises:
            TokenmillError: If the image loads no adapters, or the adapter does not fit the model.
        """
        from tokenmill.endpoints.adapter import add_adapter

        added = add_adapter(self, id, adapter=adapter, bucket=bucket, others=tuple(self.adapters))
        self.adapters.append(added)
        if self._check is not None:
            deployment, release, watched = self._check
            watched.append(added.component)
            deployment.check_adapter(release, adapter=added.component)
        return added

    def roll_back_on(self, *alarms: cloudwatch.IAlarm) -> None:
        """Turn a rolling update back when one of these goes off, such as one on this model's own metrics.

        Args:
            alarms: Further alarms; those of the update policy count too, 10 at most together.

        Raises:
            TokenmillError: If there are too many, or updates are not rolling.
        """
        check_alarms(alarms, cdk.Stack.of(self).region)
        self.update = replace(self.update, alarms=(*self.update.alarms, *alarms))
        self.update.check_components(self.capacity)
        self.component.deployment_config = self.update.component_deployment(self.capacity)

    def _serve(
        self, surroundings: Surroundings, copies: tuple[tuple[Serving, ResolvedSource], ...], *, key: str
    ) -> None:
        """Make the component's resource and set its names."""
        name = self.known_name = lower_case_name(self)
        self.update = surroundings.update
        deployment, hold = surroundings.deployment, None
        count = self.capacity.initial
        if deployment is not None:
            hold = deployment.hold_component(key, component_name=name, capacity=self.capacity)
            count = hold.copies
        self.component = self._resource(surroundings, copies, name=name, copy_count=count)
        if deployment is not None and hold is not None:
            hold.watch(self.component)
            watched: list[sagemaker.CfnInferenceComponent] = []
            release = deployment.check_component(
                hold,
                component=self.component,
                endpoint=surroundings.endpoint,
                config=surroundings.config,
                adapters=watched,
            )
            self._check = (deployment, release, watched)
        # Ref of a component is its ARN, and its name is no attribute
        # ("AWS::SageMaker::InferenceComponent", AWS CloudFormation template reference).
        self.component_arn = self.component.ref
        self.component_name = cdk.Fn.select(1, cdk.Fn.split("/", self.component_arn))
        self.endpoint_arn = surroundings.endpoint.ref
        self.endpoint_name = surroundings.endpoint.attr_endpoint_name
        self.hosting_role = surroundings.role
        self.makes_role = surroundings.hosting.role is None
        downtime = surroundings.update.downtime(self.capacity)
        warn(self, [serving for serving, _ in copies], downtime=downtime)

    def _resource(
        self,
        surroundings: Surroundings,
        copies: tuple[tuple[Serving, ResolvedSource], ...],
        *,
        name: str,
        copy_count: int,
    ) -> sagemaker.CfnInferenceComponent:
        cfn = sagemaker.CfnInferenceComponent
        fleet = surroundings.fleet
        models = Models(self, role=surroundings.role, hosting=surroundings.hosting)
        memory = smallest_shares_mib([serving for serving, _ in copies])
        shapes = [
            _shape(serving, source, models, memory_mib=reserved)
            for (serving, source), reserved in zip(copies, memory, strict=True)
        ]
        alike = len(shapes) == 1 or len({shape.key(self) for shape in shapes}) == 1
        make = cfn if surroundings.deployment is None else WatchedComponent
        component = make(
            self,
            "Resource",
            inference_component_name=name,
            endpoint_name=surroundings.endpoint.attr_endpoint_name,
            variant_name=VARIANT,
            runtime_config=cfn.InferenceComponentRuntimeConfigProperty(copy_count=copy_count),
            deployment_config=surroundings.update.component_deployment(self.capacity),
            specification=shapes[0].specification(fleet) if alike else None,
            specifications=None
            if alike
            else [
                shape.for_instance_type(serving.instance_type, fleet)
                for shape, (serving, _) in zip(shapes, copies, strict=True)
            ],
        )
        for _, source in copies:
            if source.after:
                component.node.add_dependency(*source.after)
        component.add_metadata("tokenmill", metadata(self.serving))
        return component


class LlmComponent(ServedComponent):
    """A further model on an endpoint's instances, made by `LlmEndpoint.add_component`.

    Args:
        scope: The endpoint.
        id: The construct's id.
        serving: The model and how a copy is cut.
        capacity: Fewest, most and first copies.
        source: Where weights and image come from.
        surroundings: What it shares with the endpoint's other components.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        serving: Serving,
        capacity: Capacity,
        source: ModelSource,
        surroundings: Surroundings,
    ) -> None:
        super().__init__(scope, id)
        self.serving = serving
        self.capacity = capacity
        self.fewest_copies, self.most_copies = capacity.minimum, capacity.maximum
        self.adapters = []
        copies = resolved(self, surroundings.fleet.servings(serving), source)
        self.sources = tuple(found for _, found in copies)
        self._serve(surroundings, copies, key=id)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """What a copy is on one instance type, without the type itself."""

    image: str
    environment: dict[str, str]
    model_name: str | None
    chips: int
    memory_mib: int
    seconds: int

    def key(self, scope: Construct) -> str:
        """Return a text that is the same for the same shape, whatever tokens stand in it."""
        return json.dumps(stack_of(scope).resolve(asdict(self)), sort_keys=True)

    def specification(
        self, fleet: Fleet
    ) -> sagemaker.CfnInferenceComponent.InferenceComponentSpecificationProperty:
        cfn = sagemaker.CfnInferenceComponent
        return cfn.InferenceComponentSpecificationProperty(
            model_name=self.model_name,
            container=None
            if self.model_name is not None
            else cfn.InferenceComponentContainerSpecificationProperty(
                image=self.image, environment=self.environment
            ),
            compute_resource_requirements=self._needs(),
            data_cache_config=cfn.InferenceComponentDataCacheConfigProperty(enable_caching=fleet.data_cache),
            scheduling_config=_scheduling(fleet),
            startup_parameters=self._startup(),
        )

    def for_instance_type(
        self, instance_type: str, fleet: Fleet
    ) -> sagemaker.CfnInferenceComponent.InferenceComponentSpecificationForInstanceTypeProperty:
        cfn = sagemaker.CfnInferenceComponent
        return cfn.InferenceComponentSpecificationForInstanceTypeProperty(
            instance_type=instance_type,
            model_name=self.model_name,
            container=None
            if self.model_name is not None
            else cfn.InferenceComponentContainerSpecificationForInstanceTypeProperty(
                image=self.image, environment=self.environment
            ),
            compute_resource_requirements=self._needs(),
            data_cache_config=cfn.InferenceComponentDataCacheConfigProperty(enable_caching=fleet.data_cache),
            scheduling_config=_scheduling(fleet),
            startup_parameters=self._startup(),
        )

    def _needs(self) -> sagemaker.CfnInferenceComponent.InferenceComponentComputeResourceRequirementsProperty:
        return sagemaker.CfnInferenceComponent.InferenceComponentComputeResourceRequirementsProperty(
            number_of_accelerator_devices_required=self.chips, min_memory_required_in_mb=self.memory_mib
        )

    def _startup(self) -> sagemaker.CfnInferenceComponent.InferenceComponentStartupParametersProperty:
        return sagemaker.CfnInferenceComponent.InferenceComponentStartupParametersProperty(
            container_startup_health_check_timeout_in_seconds=self.seconds,
            model_data_download_timeout_in_seconds=self.seconds,
        )


def resolved(
    scope: Construct, servings: tuple[Serving, ...], source: ModelSource
) -> tuple[tuple[Serving, ResolvedSource], ...]:
    """Return each serving with what its source is in the stack's region.

    Args:
        scope: The construct that serves.
        servings: How a copy is cut on each type.
        source: Where weights and image come from.
    """
    region = place_of(scope).region
    return tuple((serving, source.resolve(scope, serving, region)) for serving in servings)


def environment(serving: Serving, source: ResolvedSource) -> dict[str, str]:
    """Return a container's environment: the derived variables, the model's name, then the caller's own.

    Args:
        serving: What is served.
        source: Where the weights are.
    """
    return {**serving.container_environment(), **source.environment, **serving.environment}


def lower_case_name(scope: Construct, *, longest: int = LONGEST_NAME) -> str:
    """Return a name that SageMaker does not change in the ARN, the only place to read a component's from.

    It writes that ARN in lower case (prometheus-community/yet-another-cloudwatch-exporter#1793) and the
    names that CloudFormation makes are in both cases, while a call must match the case of the name
    ("CreateEndpoint", Amazon SageMaker API Reference, says so of endpoints). No property of a component
    replaces it, and none of an endpoint but its name, so a name of its own is never in the way of an update.

    Args:
        scope: The construct whose path makes the name unique in account and region.
        longest: Most characters.
    """
    return cdk.Names.unique_resource_name(scope, max_length=longest, separator="-").lower()


def metadata(serving: Serving) -> dict[str, object]:
    """Return what the template says of the model: the local cloud reads the engine's timing from it.

    Args:
        serving: What is served.
    """
    found: dict[str, object] = {"model": serving.model}
    if serving.plan_hash is not None:
        found["plan"] = serving.plan_hash
    if serving.engine is not None:
        found["engine"] = serving.engine.to_json()
    return found


def warn(scope: Construct, servings: Iterable[Serving], *, downtime: str | None) -> None:
    """Add the warnings of a served model.

    Args:
        scope: The construct that serves it.
        servings: How a copy is cut on each instance type.
        downtime: Why an update is a downtime, if it is.
    """
    validations = cdk.Validations.of(scope)
    for id, text in dict.fromkeys(said for serving in servings for said in serving.warnings):
        validations.add_warning(id, text)
    if downtime is not None:
        validations.add_warning("tokenmill:UpdateDowntime", downtime)


def _shape(serving: Serving, source: ResolvedSource, models: Models, *, memory_mib: int) -> _Shape:
    variables = environment(serving, source)
    # A component's own ArtifactUrl takes one archive, so weights under a prefix need a model
    # ("InferenceComponentContainerSpecification", Amazon SageMaker API Reference).
    named = None if source.s3_uri is None else models.model(source, variables).attr_model_name
    return _Shape(
        image=source.image_uri,
        environment=variables,
        model_name=named,
        chips=serving.chips,
        memory_mib=memory_mib,
        seconds=start_seconds(serving),
    )


def _scheduling(
    fleet: Fleet,
) -> sagemaker.CfnInferenceComponent.InferenceComponentSchedulingConfigProperty | None:
    cfn, chosen = sagemaker.CfnInferenceComponent, fleet.scheduling
    if chosen is None:
        return None
    balance = cfn.InferenceComponentAvailabilityZoneBalanceProperty(
        enforcement_mode="PERMISSIVE", max_imbalance=chosen.zone_imbalance
    )
    return cfn.InferenceComponentSchedulingConfigProperty(
        placement_strategy=chosen.placement, availability_zone_balance=balance
    )
