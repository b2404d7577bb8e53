"""A large language model as the only variant of a SageMaker endpoint: one copy an instance."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import aws_cdk as cdk
import jsii
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker

from tokenmill.endpoints.base import VARIANT as VARIANT
from tokenmill.endpoints.base import VariantEndpointBase
from tokenmill.endpoints.component import environment, lower_case_name, metadata, resolved, warn
from tokenmill.endpoints.deployment import Deployment
from tokenmill.endpoints.endpoint_checks import (
    check_alarms,
    check_endpoint,
    check_region,
    check_variant,
)
from tokenmill.endpoints.endpoint_config import excluded, metrics, variant
from tokenmill.endpoints.fleet import Fleet
from tokenmill.endpoints.hosting import EndpointHosting
from tokenmill.endpoints.imported import ImportedVariantEndpoint, name_in_arn
from tokenmill.endpoints.model import Models
from tokenmill.endpoints.model_source import ModelSource
from tokenmill.endpoints.replaceable_name import (
    LONGEST_BASE_NAME,
    replaceable_endpoint_name,
    replaceable_names,
)
from tokenmill.endpoints.role import serving_role
from tokenmill.endpoints.update_policy import UpdatePolicy

if TYPE_CHECKING:
    from aws_cdk import aws_cloudwatch as cloudwatch
    from constructs import Construct

    from tokenmill.core.workload import Capacity
    from tokenmill.endpoints.model_source import ResolvedSource
    from tokenmill.endpoints.serving import Serving


@jsii.implements(iam.IGrantable)
class VariantEndpoint(VariantEndpointBase):
    """A model in single-variant mode: blue/green updates, no components, never without instances.

    A container has its instance to itself, so the copies are the instances; scale them on
    `sagemaker:variant:DesiredInstanceCount`.

    Args:
        scope: The parent construct.
        id: The construct's id.
        serving: The model, the instance type and how the copy on an instance is cut.
        capacity: Fewest, most and first instances.
        source: Where weights and image come from; the Hugging Face Hub and the catalog's image otherwise.
        hosting: Role, network, keys, what is written down.
        fleet: The instances; those of the serving's type otherwise.
        update: How a change reaches the instances; all at once beside the old ones, with a guard that keeps a
            grown fleet and checks what runs, otherwise.

    Raises:
        TokenmillError: If the parts do not fit each other, or the stack's region lacks one of them.
    """

    ZERO_INSTANCES = False
    """Whether the endpoint may be without instances."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        serving: Serving,
        capacity: Capacity,
        source: ModelSource | None = None,
        hosting: EndpointHosting | None = None,
        fleet: Fleet | None = None,
        update: UpdatePolicy | None = None,
    ) -> None:
        source, hosting = source or ModelSource.hugging_face(), hosting or EndpointHosting()
        fleet, update = fleet or Fleet(), update or UpdatePolicy()
        region = cdk.Stack.of(scope).region
        check_region(region, components=False)
        check_endpoint(serving, fleet=fleet, hosting=hosting, source=source, region=region)
        check_variant(capacity, fleet, zero_instances=self.ZERO_INSTANCES)
        update.check_variant(capacity)
        check_alarms(update.alarms, region)
        source.check_stack(cdk.Stack.of(scope))
        super().__init__(scope, id)
        self.serving = serving
        self.capacity = capacity
        self.fewest_copies, self.most_copies = capacity.minimum, capacity.maximum
        self._hosting, self._fleet, self.update = hosting, fleet, update
        copies = resolved(self, fleet.servings(serving), source)
        self.role = self._role(source, [found for _, found in copies])
        self.hosting_role = self.role
        self.models = self._models(copies)
        self._serve(copies[0][1])

    @staticmethod
    def from_endpoint_name(
        scope: Construct, id: str, *, endpoint_name: str, variant_name: str = VARIANT
    ) -> ImportedVariantEndpoint:
        """Return a variant that runs already, with its grants and metrics.

        Args:
            scope: The parent construct.
            id: The construct's id.
            endpoint_name: The endpoint's name in this stack's account and region.
            variant_name: The variant's name.
        """
        return ImportedVariantEndpoint(scope, id, endpoint_name=endpoint_name, variant_name=variant_name)

    @staticmethod
    def from_endpoint_arn(
        scope: Construct, id: str, *, endpoint_arn: str, variant_name: str = VARIANT
    ) -> ImportedVariantEndpoint:
        """Return a variant of an endpoint in any account or region, with its grants and metrics.

        Args:
            scope: The parent construct.
            id: The construct's id.
            endpoint_arn: The endpoint's ARN.
            variant_name: The variant's name.

        Raises:
            TokenmillError: If it is the ARN of something else.
        """
        name = name_in_arn(endpoint_arn)
        return ImportedVariantEndpoint(
            scope, id, endpoint_name=name, variant_name=variant_name, endpoint_arn=endpoint_arn
        )

    @property
    def grant_principal(self) -> iam.IPrincipal:
        """The containers' role, so that the endpoint can be given to other resources' grants."""
        return self.role.grant_principal

    def roll_back_on(self, *alarms: cloudwatch.IAlarm) -> None:
        """Turn an update back when one of these goes off, such as one on this endpoint's own metrics.

        Args:
            alarms: Further alarms; those of the update policy count too, 10 at most together.

        Raises:
            TokenmillError: If there are too many.
        """
        check_alarms(alarms, cdk.Stack.of(self).region)
        self.update = replace(self.update, alarms=(*self.update.alarms, *alarms))
        self.endpoint.deployment_config = self.update.endpoint_deployment(self.capacity)

    def _role(self, source: ModelSource, found: list[ResolvedSource]) -> iam.IRole:
        if self._hosting.role is not None:
            return self._hosting.role
        repositories = [item.image_repository_arn for item in found]
        role = serving_role(self, "Role", image_repository_arns=repositories, hosting=self._hosting)
        source.grant_read(role)
        return role

    def _models(self, copies: tuple[tuple[Serving, ResolvedSource], ...]) -> dict[str, sagemaker.CfnModel]:
        """Return the model of each instance type."""
        models = Models(self, role=self.role, hosting=self._hosting)
        made = {
            serving.instance_type: models.model(source, environment(serving, source))
            for serving, source in copies
        }
        for model in made.values():
            model.add_metadata("tokenmill", metadata(self.serving))
        return made

    def _async_inference(self) -> sagemaker.CfnEndpointConfig.AsyncInferenceConfigProperty | None:
        """Return what makes the endpoint take requests into a queue; nothing here."""
        return None

    def _serve(self, source: ResolvedSource) -> None:
        update, hosting = self.update, self._hosting
        base = lower_case_name(self, longest=LONGEST_BASE_NAME)
        types = [item.instance_type for item in self._fleet.servings(self.serving)]
        name = replaceable_endpoint_name(base, types) if update.keep_copies else base
        self.known_name = name
        self.deployment: Deployment | None = None
        hold = None
        count = max(1, self.capacity.initial)
        if update.guarded:
            self.deployment = Deployment(
                self,
                "Deployment",
                endpoint_name=name,
                policy=update,
                replaces=replaceable_names(base) if update.keep_copies else None,
                hosting=hosting.functions,
            )
            hold = self.deployment.hold_variant("Resource", variant=VARIANT, capacity=self.capacity)
            count = hold.instances
        self.endpoint_config = self._config(count)
        self.endpoint = sagemaker.CfnEndpoint(
            self,
            "Endpoint",
            endpoint_name=name,
            endpoint_config_name=self.endpoint_config.attr_endpoint_config_name,
            deployment_config=update.endpoint_deployment(self.capacity),
            retain_all_variant_properties=True if update.keep_copies else None,
            exclude_retained_variant_properties=excluded(
                update, fixed=self.capacity.minimum == self.capacity.maximum
            ),
        )
        if self.deployment is not None and hold is not None:
            hold.watch(self.endpoint, self.endpoint_config)
            self.deployment.check_variant(
                hold, endpoint=self.endpoint, config=self.endpoint_config, image=source.image_uri
            )
        self.endpoint_arn = self.endpoint.ref
        self.endpoint_name = self.endpoint.attr_endpoint_name
        self._warn()

    def _config(self, instances: int) -> sagemaker.CfnEndpointConfig:
        hosting = self._hosting
        capture = hosting.data_capture
        names = {type: model.attr_model_name for type, model in self.models.items()}
        config = sagemaker.CfnEndpointConfig(
            self,
            "Config",
            production_variants=[
                variant(
                    self._fleet.servings(self.serving),
                    fleet=self._fleet,
                    initial_instances=instances,
                    models=names,
                )
            ],
            async_inference_config=self._async_inference(),
            kms_key_id=None if hosting.encryption_key is None else hosting.encryption_key.key_arn,
            metrics_config=metrics(hosting),
            data_capture_config=None if capture is None else capture.property(),
        )
        if hosting.role is None:
            # What is captured and answered is written by the role, so its policy has to be there first.
            config.node.add_dependency(self.role)
        return config

    def _warn(self) -> None:
        warn(self, self._fleet.servings(self.serving), downtime=None)
        idle = self.serving.instance.chips - self.serving.chips
        if idle > 0:
            cdk.Validations.of(self).add_warning(
                "tokenmill:IdleChips",
                f"a container has {self.serving.instance_type} to itself and uses {self.serving.chips} of "
                f"its {self.serving.instance.chips} chips; raise tensor_parallel, take a smaller type, or "
                "use LlmEndpoint, whose copies share an instance",
            )
