"""The serving image's address, for a region that is known and for one that only the deployment knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk

from tokenmill.core._checks import is_token
from tokenmill.security.place import place_of

if TYPE_CHECKING:
    from constructs import Construct

    from tokenmill.core.images import CatalogImage

MAPPING_ID = "Registries"


def image_uri(scope: Construct, image: CatalogImage, region: str) -> str:
    """Return the image's address.

    Args:
        scope: The construct that gets the mapping when the region is not known.
        image: The image.
        region: The region, or a token for it.

    Raises:
        TokenmillError: If the region is known and has no such image.
    """
    if not is_token(region):
        return image.uri(region)
    stack = cdk.Stack.of(scope)
    registry = f"{_account(scope, image)}.dkr.ecr.{stack.region}.{stack.url_suffix}"
    return f"{registry}/{image.repository}:{image.tag}"


def repository_arn(scope: Construct, image: CatalogImage, region: str) -> str:
    """Return the ARN of the repository that the image is pulled from.

    Args:
        scope: The construct that gets the mapping when the region is not known.
        image: The image.
        region: The region, or a token for it.

    Raises:
        TokenmillError: If the region is known and has no such image.
    """
    known = not is_token(region)
    account = image.registry_account(region) if known else _account(scope, image)
    return f"arn:{place_of(scope).partition}:ecr:{region}:{account}:repository/{image.repository}"


def _account(scope: Construct, image: CatalogImage) -> str:
    id = f"{MAPPING_ID}{image.key.title().replace('-', '')}"
    found = scope.node.try_find_child(id)
    mapping = (
        found
        if isinstance(found, cdk.CfnMapping)
        else cdk.CfnMapping(
            scope,
            id,
            mapping={
                region: {"account": account} for region, account in sorted(image.registry_accounts.items())
            },
        )
    )
    return mapping.find_in_map(cdk.Aws.REGION, "account")
