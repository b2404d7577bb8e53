"""A large language model as an inference component on a SageMaker endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
import jsii
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker

from tokenmill.core.errors import TokenmillError
from tokenmill.endpoints.base import LlmEndpointBase
from tokenmill.endpoints.image_uri import image_uri, repository_arn
from tokenmill.endpoints.imported import ImportedLlmEndpoint
from tokenmill.endpoints.role import serving_role
from tokenmill.endpoints.serving import Serving, rolling_batch_percent

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_cdk import aws_kms as kms
    from constructs import Construct

    from tokenmill.core.images import CatalogImage
    from tokenmill.core.plan import Plan
    from tokenmill.core.workload import Capacity
    from tokenmill.endpoints.network import EndpointNetwork

VARIANT = "AllTraffic"
# "ProductionVariant" and "InferenceComponentStartupParameters": one hour at most. A model that is not in the
# Neuron cache compiles at first start, and weights come from the Hub, so Neuron gets all of it.
NEURON_START_SECONDS = 3600
GPU_START_SECONDS = 1800
METRIC_SECONDS = 10
ROLLING_WAIT_SECONDS = 120
ROLLING_LIMIT_SECONDS = 28_800


@jsii.implements(iam.IGrantable)
class LlmEndpoint(LlmEndpointBase):
    """A model on an endpoint of its own, in copies that scale.

    The endpoint configuration cannot change, so CloudFormation replaces it; the endpoint and the component
    keep their names ("AWS::SageMaker::EndpointConfig", AWS CloudFormation template reference). With two
    copies or more, the component is updated in rolling batches; one copy has no rolling update, so an update
    of it is a downtime.

    Args:
        scope: The parent construct.
        id: The construct's id.
        serving: The model, the instance type and how a copy is cut.
        capacity: Fewest, most and first copies.
        role: What the containers may do; a role with exactly what serving needs otherwise.
        network: The VPC that containers join; SageMaker's own network otherwise.
        encryption_key: The key of the storage volumes; refused where the instance type has local NVMe
            storage.
        hugging_face_token: Token for gated models. It becomes the container's HF_TOKEN through a dynamic
            reference, so it is not in the template, but whoever may describe the component reads it.
        customize: Called last with this construct, to change the L1 resources.

    Raises:
        TokenmillError: If the image is not in the stack's region, or a key is given where SageMaker refuses
            one.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        serving: Serving,
        capacity: Capacity,
        role: iam.IRole | None = None,
        network: EndpointNetwork | None = None,
        encryption_key: kms.IKey | None = None,
        hugging_face_token: cdk.SecretValue | None = None,
        customize: Callable[[LlmEndpoint], None] | None = None,
    ) -> None:
        stack = cdk.Stack.of(scope)
        region = stack.region
        image = serving.serving_image
        _check_region(image, region)
        _check_key(serving, encryption_key)
        super().__init__(scope, id)
        self.serving = serving
        self.capacity = capacity
        self.role = role or serving_role(
            self,
            "Role",
            image_repository_arn=repository_arn(self, image, region),
            encryption_key=encryption_key,
            network=network,
        )
        self.endpoint_config = self._endpoint_config(network, encryption_key)
        if role is None:
            # SageMaker checks the role while it makes the configuration, so its policy has to be there first.
            self.endpoint_config.node.add_dependency(self.role)
        self.endpoint = sagemaker.CfnEndpoint(
            self, "Endpoint", endpoint_config_name=self.endpoint_config.attr_endpoint_config_name
        )
        self.component = self._component(image_uri(self, image, region), hugging_face_token)
        self._set_names(stack)
        self._warn(image)
        if customize is not None:
            customize(self)

    @classmethod
    def from_plan(
        cls,
        scope: Construct,
        id: str,
        *,
        plan: Plan,
        network: EndpointNetwork | None = None,
        encryption_key: kms.IKey | None = None,
        hugging_face_token: cdk.SecretValue | None = None,
        customize: Callable[[LlmEndpoint], None] | None = None,
    ) -> LlmEndpoint:
        """Return the endpoint of a plan's chosen candidate.

        Args:
            scope: The parent construct.
            id: The construct's id.
            plan: A plan with at least one candidate.
            network: The VPC that containers join; SageMaker's own network otherwise.
            encryption_key: The key of the storage volumes.
            hugging_face_token: Token for gated models.
            customize: Called last with the endpoint, to change the L1 resources.

        Raises:
            NoPlanError: If no candidate met the goals.
            TokenmillError: If the candidate does not fit the stack's region.
        """
        return cls(
            scope,
            id,
            serving=Serving.from_plan(plan),
            capacity=plan.chosen.capacity,
            network=network,
            encryption_key=encryption_key,
            hugging_face_token=hugging_face_token,
            customize=customize,
        )

    @staticmethod
    def from_component_name(
        scope: Construct, id: str, *, endpoint_name: str, component_name: str
    ) -> ImportedLlmEndpoint:
        """Return a component that runs already, with its grants and metrics.

        Args:
            scope: The parent construct.
            id: The construct's id.
            endpoint_name: The endpoint's name in this stack's account and region.
            component_name: The inference component's name.
        """
        return ImportedLlmEndpoint(scope, id, endpoint_name=endpoint_name, component_name=component_name)

    @property
    def grant_principal(self) -> iam.IPrincipal:
        """The containers' role, so that the endpoint can be given to other resources' grants."""
        return self.role.grant_principal

    def _endpoint_config(
        self, network: EndpointNetwork | None, encryption_key: kms.IKey | None
    ) -> sagemaker.CfnEndpointConfig:
        config = sagemaker.CfnEndpointConfig
        serving, capacity = self.serving, self.capacity
        seconds = self._start_seconds()
        variant = config.ProductionVariantProperty(
            variant_name=VARIANT,
            instance_type=serving.instance_type,
            initial_instance_count=max(1, serving.instances_for(capacity.initial)),
            inference_ami_version=serving.serving_image.host_ami,
            container_startup_health_check_timeout_in_seconds=seconds,
            model_data_download_timeout_in_seconds=seconds,
            managed_instance_scaling=config.ManagedInstanceScalingProperty(
                status="ENABLED",
                min_instance_count=serving.instances_for(capacity.minimum),
                max_instance_count=serving.max_instances(capacity),
            ),
            routing_config=config.RoutingConfigProperty(routing_strategy="LEAST_OUTSTANDING_REQUESTS"),
        )
        return config(
            self,
            "Config",
            execution_role_arn=self.role.role_arn,
            production_variants=[variant],
            kms_key_id=None if encryption_key is None else encryption_key.key_arn,
            metrics_config=config.MetricsConfigProperty(
                enable_enhanced_metrics=True,
                enable_detailed_observability=True,
                metric_publish_frequency_in_seconds=METRIC_SECONDS,
            ),
            vpc_config=None
            if network is None
            else config.VpcConfigProperty(
                security_group_ids=list(network.security_group_ids), subnets=list(network.subnet_ids)
            ),
        )

    def _component(
        self, uri: str, hugging_face_token: cdk.SecretValue | None
    ) -> sagemaker.CfnInferenceComponent:
        cfn = sagemaker.CfnInferenceComponent
        serving = self.serving
        environment = serving.container_environment()
        if hugging_face_token is not None:
            environment["HF_TOKEN"] = hugging_face_token.unsafe_unwrap()
        seconds = self._start_seconds()
        component = cfn(
            self,
            "Resource",
            inference_component_name=_lower_case_name(self),
            endpoint_name=self.endpoint.attr_endpoint_name,
            variant_name=VARIANT,
            runtime_config=cfn.InferenceComponentRuntimeConfigProperty(copy_count=self.capacity.initial),
            deployment_config=self._deployment(),
            specification=cfn.InferenceComponentSpecificationProperty(
                container=cfn.InferenceComponentContainerSpecificationProperty(
                    image=uri, environment=environment
                ),
                compute_resource_requirements=cfn.InferenceComponentComputeResourceRequirementsProperty(
                    number_of_accelerator_devices_required=serving.chips,
                    min_memory_required_in_mb=serving.reserved_memory_mib,
                ),
                data_cache_config=cfn.InferenceComponentDataCacheConfigProperty(enable_caching=True),
                startup_parameters=cfn.InferenceComponentStartupParametersProperty(
                    container_startup_health_check_timeout_in_seconds=seconds,
                    model_data_download_timeout_in_seconds=seconds,
                ),
            ),
        )
        component.add_metadata("tokenmill", _metadata(serving))
        return component

    def _deployment(
        self,
    ) -> sagemaker.CfnInferenceComponent.InferenceComponentDeploymentConfigProperty | None:
        cfn = sagemaker.CfnInferenceComponent
        percent = rolling_batch_percent(self.capacity)
        if percent is None:
            return None
        return cfn.InferenceComponentDeploymentConfigProperty(
            rolling_update_policy=cfn.InferenceComponentRollingUpdatePolicyProperty(
                maximum_batch_size=cfn.InferenceComponentCapacitySizeProperty(
                    type="CAPACITY_PERCENT", value=percent
                ),
                wait_interval_in_seconds=ROLLING_WAIT_SECONDS,
                maximum_execution_timeout_in_seconds=ROLLING_LIMIT_SECONDS,
            )
        )

    def _start_seconds(self) -> int:
        neuron = self.serving.instance.accelerator.kind == "neuron"
        return NEURON_START_SECONDS if neuron else GPU_START_SECONDS

    def _set_names(self, stack: cdk.Stack) -> None:
        # Ref of a component is its ARN, and its name is no attribute
        # ("AWS::SageMaker::InferenceComponent", AWS CloudFormation template reference).
        self.component_arn = self.component.ref
        self.component_name = cdk.Fn.select(1, cdk.Fn.split("/", self.component_arn))
        self.endpoint_arn = self.endpoint.ref
        self.endpoint_name = self.endpoint.attr_endpoint_name

    def _warn(self, image: CatalogImage) -> None:
        if image.status == "experimental":
            cdk.Validations.of(self).add_warning(
                "tokenmill:ImageExperimental",
                f"image {image.key} on {self.serving.instance_type} is experimental: {image.status_reason}",
            )
        if self.capacity.minimum < 2:
            cdk.Validations.of(self).add_warning(
                "tokenmill:UpdateDowntime",
                f"with {self.capacity.minimum} copies at the fewest, an update of the component is a "
                "downtime; give min_copies = 2 in the limits for rolling updates",
            )


def _lower_case_name(scope: Construct) -> str:
    """Return a name that SageMaker does not change in the component's ARN, the only place to read it from.

    It writes that ARN in lower case (prometheus-community/yet-another-cloudwatch-exporter#1793) and the
    names that CloudFormation makes are in both cases, while a call must match the case of the name
    ("CreateEndpoint", Amazon SageMaker API Reference, says so of endpoints). No property of a component
    replaces it, so a name of its own is never in the way of an update.

    Args:
        scope: The construct whose path makes the name unique in account and region.
    """
    return cdk.Names.unique_resource_name(scope, max_length=63, separator="-").lower()


def _metadata(serving: Serving) -> dict[str, object]:
    metadata: dict[str, object] = {"model": serving.model}
    if serving.plan_hash is not None:
        metadata["plan"] = serving.plan_hash
    if serving.engine is not None:
        metadata["engine"] = serving.engine.to_json()
    return metadata


def _check_region(image: CatalogImage, region: str) -> None:
    if not cdk.Token.is_unresolved(region):
        image.registry_account(region)


def _check_key(serving: Serving, encryption_key: kms.IKey | None) -> None:
    if encryption_key is not None and serving.instance.local_nvme:
        raise TokenmillError(
            f"encryption_key is given, but {serving.instance_type} has local NVMe storage, which its "
            "hardware encrypts and for which SageMaker refuses a key; leave encryption_key out for this "
            "instance type"
        )
