"""The role of an endpoint's containers: what serving needs and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_iam as iam

from tokenmill.security import actions
from tokenmill.security.acknowledge import acknowledge, any_resource
from tokenmill.security.place import ACCOUNT_ID, PARTITION, REGION
from tokenmill.security.rights import Right, allow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from constructs import Construct

    from tokenmill.endpoints.hosting import EndpointHosting
    from tokenmill.endpoints.network import EndpointNetwork

ANY_SAGEMAKER_LOG = "arn:<AWS::Partition>:logs:<AWS::Region>:<AWS::AccountId>:log-group:/aws/sagemaker/*"


def serving_role(
    scope: Construct, id: str, *, image_repository_arns: Sequence[str], hosting: EndpointHosting
) -> iam.Role:
    """Make the execution role.

    Its actions are those of "CreateModel API: Execution Role Permissions" (Amazon SageMaker developer guide).
    What weights need is granted by their source, and what data capture needs by the capture.

    Args:
        scope: The parent construct.
        id: The construct's id.
        image_repository_arns: The repositories that images are pulled from.
        hosting: The key of the storage volumes and the VPC, if any.
    """
    role = iam.Role(
        scope,
        id,
        assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com"),
        description="Pulls the serving image and writes the containers' logs and metrics",
    )
    allow_image_pull(role, image_repository_arns)
    allow(role, *_rights(hosting.network))
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
    if hosting.encryption_key is not None:
        hosting.encryption_key.grant(role, *actions.VOLUME_KEY)
    if hosting.data_capture is not None:
        hosting.data_capture.grant_write(role)
    return role


def allow_image_pull(role: iam.IRole, image_repository_arns: Sequence[str]) -> None:
    """Let a role pull images.

    Args:
        role: The execution role.
        image_repository_arns: The repositories.
    """
    allow(role, Right(actions.IMAGE_PULL, list(dict.fromkeys(image_repository_arns))))


def _rights(network: EndpointNetwork | None) -> list[Right]:
    # Endpoint and component get their names after the role exists, so the groups stay open at the end.
    groups = f"arn:{PARTITION}:logs:{REGION}:{ACCOUNT_ID}:log-group:/aws/sagemaker/*"
    rights = [
        Right(actions.IMAGE_LOGIN, ["*"]),
        Right(actions.CONTAINER_LOGS, [groups]),
        Right(
            actions.CONTAINER_METRICS,
            ["*"],
            {"StringLike": {"cloudwatch:namespace": "/aws/sagemaker/*"}},
        ),
    ]
    if network is not None:
        rights.append(Right(actions.CONTAINER_NETWORK, ["*"]))
    return rights
