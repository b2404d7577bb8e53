"""A model that runs already, as another stack or team made it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Stack, Token

from tokenmill.endpoints.base import LlmEndpointBase

if TYPE_CHECKING:
    from constructs import Construct


class ImportedLlmEndpoint(LlmEndpointBase):
    """Grants and metrics of a component that this app does not own. Made by `LlmEndpoint.from_…`."""

    def __init__(self, scope: Construct, id: str, *, endpoint_name: str, component_name: str) -> None:
        for name, value in (("endpoint_name", endpoint_name), ("component_name", component_name)):
            if not value:
                raise ValueError(f"{name} is empty; give the name that SageMaker shows")
        super().__init__(scope, id)
        self.endpoint_name = endpoint_name
        self.component_name = component_name
        stack = Stack.of(self)
        prefix = f"arn:{stack.partition}:sagemaker:{stack.region}:{stack.account}"
        self.endpoint_arn = f"{prefix}:endpoint/{endpoint_name}"
        # SageMaker writes it in lower case (prometheus-community/yet-another-cloudwatch-exporter#1793).
        in_arn = component_name if Token.is_unresolved(component_name) else component_name.lower()
        self.component_arn = f"{prefix}:inference-component/{in_arn}"
