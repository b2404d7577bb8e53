"""A model that runs already, as another stack or team made it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Arn, ArnFormat, Stack, Token

from tokenmill.core.errors import TokenmillError
from tokenmill.endpoints.base import VARIANT, LlmEndpointBase, VariantEndpointBase

if TYPE_CHECKING:
    from constructs import Construct


class ImportedLlmEndpoint(LlmEndpointBase):
    """Grants and metrics of a component that this app does not own. Made by `LlmEndpoint.from_…`."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        endpoint_name: str,
        component_name: str,
        endpoint_arn: str | None = None,
        component_arn: str | None = None,
    ) -> None:
        _check_names(endpoint_name=endpoint_name, component_name=component_name)
        super().__init__(scope, id)
        self.endpoint_name = endpoint_name
        self.component_name = component_name
        prefix = _prefix(self, endpoint_arn)
        self.endpoint_arn = endpoint_arn or f"{prefix}:endpoint/{endpoint_name}"
        # SageMaker writes it in lower case (prometheus-community/yet-another-cloudwatch-exporter#1793).
        in_arn = component_name if Token.is_unresolved(component_name) else component_name.lower()
        self.component_arn = component_arn or f"{prefix}:inference-component/{in_arn}"


class ImportedVariantEndpoint(VariantEndpointBase):
    """Grants and metrics of a variant that this app does not own. Made by `VariantEndpoint.from_…`."""

    answers_async = None

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        endpoint_name: str,
        variant_name: str = VARIANT,
        endpoint_arn: str | None = None,
    ) -> None:
        _check_names(endpoint_name=endpoint_name, variant_name=variant_name)
        super().__init__(scope, id)
        self.endpoint_name = endpoint_name
        self.variant_name = variant_name
        self.endpoint_arn = endpoint_arn or f"{_prefix(self, None)}:endpoint/{endpoint_name}"


def name_in_arn(endpoint_arn: str) -> str:
    """Return the endpoint's name of an ARN, which may be a token.

    Args:
        endpoint_arn: ARN of an endpoint.

    Raises:
        TokenmillError: If it is the ARN of something else.
    """
    if not Token.is_unresolved(endpoint_arn):
        parts = endpoint_arn.split(":")
        if len(parts) != 6 or parts[2] != "sagemaker" or not parts[5].startswith("endpoint/"):
            raise TokenmillError(
                f"endpoint_arn is {endpoint_arn!r}; give an ARN such as "
                "'arn:aws:sagemaker:us-east-1:123456789012:endpoint/chat'"
            )
    name = Arn.split(endpoint_arn, ArnFormat.SLASH_RESOURCE_NAME).resource_name
    if not name:
        raise TokenmillError(f"endpoint_arn is {endpoint_arn!r}, which names no endpoint after 'endpoint/'")
    return name


def _prefix(scope: Construct, endpoint_arn: str | None) -> str:
    stack = Stack.of(scope)
    if endpoint_arn is None:
        return f"arn:{stack.partition}:sagemaker:{stack.region}:{stack.account}"
    parts = Arn.split(endpoint_arn, ArnFormat.SLASH_RESOURCE_NAME)
    return f"arn:{parts.partition}:sagemaker:{parts.region}:{parts.account}"


def _check_names(**names: str) -> None:
    for name, value in names.items():
        if not value:
            raise ValueError(f"{name} is empty; give the name that SageMaker shows")
