"""A large language model as an inference component on a SageMaker endpoint."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import jsii
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker

from tokenmill.endpoints.component import (
    LlmComponent,
    ServedComponent,
    Surroundings,
    lower_case_name,
    resolved,
)
from tokenmill.endpoints.endpoint_checks import (
    check_alarms,
    check_components,
    check_endpoint,
    check_region,
    check_shared_instances,
)
from tokenmill.endpoints.endpoint_config import (
    config_network,
    metrics,
    most_instances,
    packed_instances,
    variant,
)
from tokenmill.endpoints.fleet import Fleet
from tokenmill.endpoints.hosting import EndpointHosting
from tokenmill.endpoints.imported import ImportedLlmEndpoint, name_in_arn
from tokenmill.endpoints.model_source import ModelSource
from tokenmill.endpoints.role import allow_image_pull, serving_role
from tokenmill.endpoints.serving import Serving
from tokenmill.endpoints.update_policy import UpdatePolicy
from tokenmill.security.place import place_of, stack_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from constructs import Construct

    from tokenmill.core.plan import Plan
    from tokenmill.core.workload import Capacity
    from tokenmill.endpoints.deployment import Deployment
    from tokenmill.endpoints.model_source import ResolvedSource


@jsii.implements(iam.IGrantable)
class LlmEndpoint(ServedComponent):
    """A model on an endpoint, in copies that scale; further models and adapters may share the instances.

    The endpoint configuration cannot change, so CloudFormation replaces it; the endpoint and the components
    keep their names ("AWS::SageMaker::EndpointConfig", AWS CloudFormation template reference). With two
    copies or more, a component is updated in rolling batches; one copy has no rolling update, so an update
    of it is a downtime.

    Args:
        scope: The parent construct.
        id: The construct's id.
        serving: The model, the instance type and how a copy is cut.
        capacity: Fewest, most and first copies.
        source: Where weights and image come from; the Hugging Face Hub and the catalog's image otherwise.
        hosting: Role, network, keys, what is written down.
        fleet: The instances; those of the serving's type otherwise.
        update: How a change reaches the copies; rolling where the capacity allows it, with a guard that keeps
            a grown fleet and checks what runs, otherwise.
        customize: Called last with this construct, to change the L1 resources.

    Raises:
        TokenmillError: If the parts do not fit each other, or the stack's region lacks one of them.
    """

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
        customize: Callable[[LlmEndpoint], None] | None = None,
    ) -> None:
        source, hosting = source or ModelSource.hugging_face(), hosting or EndpointHosting()
        fleet, update = fleet or Fleet(), update or UpdatePolicy()
        region = place_of(scope).region
        check_region(region, components=True)
        check_endpoint(serving, fleet=fleet, hosting=hosting, source=source, region=region)
        check_components(capacity)
        update.check_components(capacity)
        check_alarms(update.alarms, region)
        source.check_stack(stack_of(scope))
        super().__init__(scope, id)
        self.serving = serving
        self.capacity = capacity
        self.fewest_copies, self.most_copies = capacity.minimum, capacity.maximum
        self.components: list[LlmComponent] = []
        self.adapters = []
        copies = resolved(self, fleet.servings(serving), source)
        self.role = _role(self, hosting, source, [found for _, found in copies])
        self._hosting, self._fleet, self.update = hosting, fleet, update
        self._surroundings = self._shared()
        self.deployment = self._surroundings.deployment
        self._serve(self._surroundings, copies, key="Resource")
        if customize is not None:
            customize(self)

    @classmethod
    def from_plan(
        cls,
        scope: Construct,
        id: str,
        *,
        plan: Plan,
        source: ModelSource | None = None,
        hosting: EndpointHosting | None = None,
        fleet: Fleet | None = None,
        update: UpdatePolicy | None = None,
        customize: Callable[[LlmEndpoint], None] | None = None,
    ) -> LlmEndpoint:
        """Return the endpoint of a plan's chosen candidate.

        Args:
            scope: The parent construct.
            id: The construct's id.
            plan: A plan with at least one candidate.
            source: Where weights and image come from; the Hugging Face Hub otherwise.
            hosting: Role, network, keys, what is written down.
            fleet: The instances; those of the candidate's type otherwise.
            update: How a change reaches the copies.
            customize: Called last with the endpoint, to change the L1 resources.

        Raises:
            NoPlanError: If no candidate met the goals.
            TokenmillError: If the candidate does not fit the stack's region or the other values.
        """
        return cls(
            scope,
            id,
            serving=Serving.from_plan(plan),
            capacity=plan.chosen.capacity,
            source=source,
            hosting=hosting,
            fleet=fleet,
            update=update,
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

    @staticmethod
    def from_endpoint_arn(
        scope: Construct, id: str, *, endpoint_arn: str, component_name: str
    ) -> ImportedLlmEndpoint:
        """Return a component of an endpoint in any account or region, with its grants and metrics.

        Args:
            scope: The parent construct.
            id: The construct's id.
            endpoint_arn: The endpoint's ARN.
            component_name: The inference component's name, in the endpoint's account and region.

        Raises:
            TokenmillError: If it is the ARN of something else.
        """
        name = name_in_arn(endpoint_arn)
        return ImportedLlmEndpoint(
            scope, id, endpoint_name=name, component_name=component_name, endpoint_arn=endpoint_arn
        )

    @staticmethod
    def from_attributes(
        scope: Construct,
        id: str,
        *,
        endpoint_name: str,
        component_name: str,
        endpoint_arn: str | None = None,
        component_arn: str | None = None,
    ) -> ImportedLlmEndpoint:
        """Return a component by everything that is known of it, with its grants and metrics.

        Args:
            scope: The parent construct.
            id: The construct's id.
            endpoint_name: The endpoint's name.
            component_name: The inference component's name.
            endpoint_arn: The endpoint's ARN; one of this stack's account and region otherwise.
            component_arn: The component's ARN; one beside the endpoint otherwise.
        """
        return ImportedLlmEndpoint(
            scope,
            id,
            endpoint_name=endpoint_name,
            component_name=component_name,
            endpoint_arn=endpoint_arn,
            component_arn=component_arn,
        )

    @property
    def grant_principal(self) -> iam.IPrincipal:
        """The containers' role, so that the endpoint can be given to other resources' grants."""
        return self.role.grant_principal

    def add_component(
        self,
        id: str,
        *,
        serving: Serving,
        capacity: Capacity,
        source: ModelSource | None = None,
        update: UpdatePolicy | None = None,
    ) -> LlmComponent:
        """Serve a further model on the same instances, whose most then follows all models.

        Args:
            id: The construct's id under the endpoint.
            serving: The model and how a copy is cut, on one of the endpoint's instance types.
            capacity: Fewest, most and first copies.
            source: Where weights and image come from; the Hugging Face Hub otherwise.
            update: How a change reaches its copies, and which alarms turn it back; as the endpoint's
                otherwise. What is kept and checked is the endpoint's in any case.

        Raises:
            TokenmillError: If the model cannot share the endpoint's instances.
        """
        source, update = source or ModelSource.hugging_face(), update or self.update
        region = place_of(self).region
        shared = replace(self._surroundings, update=update)
        check_shared_instances(self._fleet.servings(self.serving), [serving])
        check_endpoint(serving, fleet=self._fleet, hosting=self._hosting, source=source, region=region)
        check_components(capacity)
        update.check_components(capacity)
        check_alarms(update.alarms, region)
        source.check_stack(stack_of(self))
        added = LlmComponent(self, id, serving=serving, capacity=capacity, source=source, surroundings=shared)
        self.components.append(added)
        if self._hosting.role is None:
            allow_image_pull(self.role, [found.image_repository_arn for found in added.sources])
            source.grant_read(self.role)
        self.endpoint_config.production_variants = [self._variant()]
        return added

    def _shared(self) -> Surroundings:
        hosting = self._hosting
        capture = hosting.data_capture
        self.endpoint_config = sagemaker.CfnEndpointConfig(
            self,
            "Config",
            execution_role_arn=self.role.role_arn,
            production_variants=[self._variant()],
            kms_key_id=None if hosting.encryption_key is None else hosting.encryption_key.key_arn,
            metrics_config=metrics(hosting),
            vpc_config=config_network(hosting.network),
            enable_network_isolation=True if hosting.isolated else None,
            data_capture_config=None if capture is None else capture.property(),
        )
        if hosting.role is None:
            # SageMaker checks the role while it makes the configuration, so its policy has to be there first.
            self.endpoint_config.node.add_dependency(self.role)
        name = lower_case_name(self)
        self.endpoint = sagemaker.CfnEndpoint(
            self,
            "Endpoint",
            endpoint_name=name,
            endpoint_config_name=self.endpoint_config.attr_endpoint_config_name,
            # Another configuration must not take a grown fleet back to InitialInstanceCount.
            retain_all_variant_properties=True if self.update.keep_copies else None,
        )
        return Surroundings(
            endpoint=self.endpoint,
            config=self.endpoint_config,
            role=self.role,
            hosting=hosting,
            fleet=self._fleet,
            update=self.update,
            deployment=self._guard(name),
        )

    def _guard(self, endpoint_name: str) -> Deployment | None:
        if not self.update.guarded:
            return None
        # Functions and rules load large modules, which an endpoint without a guard has no use for.
        from tokenmill.endpoints.deployment import Deployment

        return Deployment(
            self,
            "Deployment",
            endpoint_name=endpoint_name,
            policy=self.update,
            hosting=self._hosting.functions,
        )

    def _variant(self) -> sagemaker.CfnEndpointConfig.ProductionVariantProperty:
        """Return the variant for the copies of all components.

        The fewest instances hold the fewest copies packed closely; the most hold all copies, and those of an
        update beside them, as if no two models shared an instance, because copies are spread as they come.
        """
        fleet, members = self._fleet, [self, *self.components]
        fewest = packed_instances((_on_first(fleet, item), item.capacity.minimum) for item in members)
        first = packed_instances((_on_first(fleet, item), item.capacity.initial) for item in members)
        most = sum(
            most_instances(
                fleet.servings(item.serving),
                item.capacity.maximum + item.update.extra_copies(item.capacity),
            )
            for item in members
        )
        return variant(
            fleet.servings(self.serving),
            fleet=fleet,
            initial_instances=max(1, first),
            scaling=(fewest, most),
        )


def _on_first(fleet: Fleet, item: ServedComponent) -> Serving:
    return fleet.servings(item.serving)[0]


def _role(
    scope: LlmEndpoint, hosting: EndpointHosting, source: ModelSource, found: list[ResolvedSource]
) -> iam.IRole:
    if hosting.role is not None:
        return hosting.role
    role = serving_role(
        scope,
        "Role",
        image_repository_arns=[item.image_repository_arn for item in found],
        hosting=hosting,
    )
    source.grant_read(role)
    return role
