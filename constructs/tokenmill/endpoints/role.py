"""The role of an endpoint's containers: what serving needs and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Aws
from aws_cdk import aws_iam as iam

from tokenmill.security import actions
from tokenmill.security.acknowledge import acknowledge, any_resource

if TYPE_CHECKING:
    from aws_cdk import aws_kms as kms
    from constructs import Construct

    from tokenmill.endpoints.network import EndpointNetwork

ANY_SAGEMAKER_LOG = "arn:<AWS::Partition>:logs:<AWS::Region>:<AWS::AccountId>:log-group:/aws/sagemaker/*"


def serving_role(
    scope: Construct,
    id: str,
    *,
    image_repository_arn: str,
    encryption_key: kms.IKey | None,
    network: EndpointNetwork | None,
) -> iam.Role:
    """Make the execution role.

    Its actions are those of "CreateModel API: Execution Role Permissions" (Amazon SageMaker developer guide).

    Args:
        scope: The parent construct.
        id: The construct's id.
        image_repository_arn: The repository that the image is pulled from.
        encryption_key: The key of the storage volumes, if any.
        network: The VPC that containers join, if any.
    """
    role = iam.Role(
        scope,
        id,
        assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com"),
        description="Pulls the serving image and writes the containers' logs and metrics",
    )
    for statement in _statements(image_repository_arn, network):
        role.add_to_policy(statement)
    acknowledge(
        role,
        {
            any_resource(): "ecr:GetAuthorizationToken, cloudwatch:PutMetricData (in SageMaker's namespaces) "
            "and the network interfaces of a VPC take no resource in a policy.",
            any_resource(
                ANY_SAGEMAKER_LOG
            ): "SageMaker names the log groups after the endpoint and the component, "
            "which are made after this role.",
        },
    )
    if encryption_key is not None:
        encryption_key.grant(role, *actions.VOLUME_KEY)
    return role


def _statements(image_repository_arn: str, network: EndpointNetwork | None) -> list[iam.PolicyStatement]:
    # Endpoint and component get their names after the role exists, so the groups stay open at the end.
    groups = f"arn:{Aws.PARTITION}:logs:{Aws.REGION}:{Aws.ACCOUNT_ID}:log-group:/aws/sagemaker/*"
    statements = [
        iam.PolicyStatement(actions=list(actions.IMAGE_PULL), resources=[image_repository_arn]),
        iam.PolicyStatement(actions=list(actions.IMAGE_LOGIN), resources=["*"]),
        iam.PolicyStatement(actions=list(actions.CONTAINER_LOGS), resources=[groups]),
        iam.PolicyStatement(
            actions=list(actions.CONTAINER_METRICS),
            resources=["*"],
            conditions={"StringLike": {"cloudwatch:namespace": "/aws/sagemaker/*"}},
        ),
    ]
    if network is not None:
        statements.append(iam.PolicyStatement(actions=list(actions.CONTAINER_NETWORK), resources=["*"]))
    return statements
