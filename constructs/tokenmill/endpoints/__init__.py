"""Models on SageMaker endpoints."""

from __future__ import annotations

from tokenmill.endpoints.base import LlmEndpointBase
from tokenmill.endpoints.imported import ImportedLlmEndpoint
from tokenmill.endpoints.llm_endpoint import LlmEndpoint
from tokenmill.endpoints.network import EndpointNetwork
from tokenmill.endpoints.serving import Serving

__all__ = ["EndpointNetwork", "ImportedLlmEndpoint", "LlmEndpoint", "LlmEndpointBase", "Serving"]
