"""Model resources: an image and, where there are some, weights under a prefix of a bucket."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aws_cdk import aws_iam as iam
    from constructs import Construct

    from tokenmill.endpoints.hosting import EndpointHosting
    from tokenmill.endpoints.model_source import ResolvedSource
    from tokenmill.endpoints.network import EndpointNetwork


class Models:
    """The model resources of a construct; the same contents are one resource.

    Every property of a model replaces it, and the new one gets a new name ("AWS::SageMaker::Model", AWS
    CloudFormation template reference), so what names it changes with its contents.

    Args:
        scope: The construct that serves them.
        role: The containers' role.
        hosting: Network and isolation.
    """

    def __init__(self, scope: Construct, *, role: iam.IRole, hosting: EndpointHosting) -> None:
        self._scope = scope
        self._role = role
        self._hosting = hosting
        self._made: dict[str, sagemaker.CfnModel] = {}

    def model(self, source: ResolvedSource, environment: Mapping[str, str]) -> sagemaker.CfnModel:
        """Return the model of these contents.

        Args:
            source: Image and weights.
            environment: The container's variables.
        """
        contents = [source.image_uri, source.s3_uri, dict(environment)]
        key = json.dumps(cdk.Stack.of(self._scope).resolve(contents), sort_keys=True)
        if key not in self._made:
            self._made[key] = self._new(source, environment)
        return self._made[key]

    def _new(self, source: ResolvedSource, environment: Mapping[str, str]) -> sagemaker.CfnModel:
        hosting, cfn = self._hosting, sagemaker.CfnModel
        model = cfn(
            self._scope,
            f"Model{len(self._made) + 1}" if self._made else "Model",
            execution_role_arn=self._role.role_arn,
            enable_network_isolation=True if hosting.isolated else None,
            vpc_config=_network(hosting.network),
            primary_container=cfn.ContainerDefinitionProperty(
                image=source.image_uri, environment=dict(environment), model_data_source=_weights(source)
            ),
        )
        if hosting.role is None:
            # SageMaker checks image and weights with the role while it makes the model.
            model.node.add_dependency(self._role)
        if source.after:
            model.node.add_dependency(*source.after)
        return model


def _weights(source: ResolvedSource) -> sagemaker.CfnModel.ModelDataSourceProperty | None:
    if source.s3_uri is None:
        return None
    return sagemaker.CfnModel.ModelDataSourceProperty(
        s3_data_source=sagemaker.CfnModel.S3DataSourceProperty(
            compression_type="None", s3_data_type="S3Prefix", s3_uri=source.s3_uri
        )
    )


def _network(network: EndpointNetwork | None) -> sagemaker.CfnModel.VpcConfigProperty | None:
    if network is None:
        return None
    return sagemaker.CfnModel.VpcConfigProperty(
        security_group_ids=list(network.security_group_ids), subnets=list(network.subnet_ids)
    )
