"""Models on SageMaker endpoints.

Names load when first used: most stacks need few of them, and each loads modules of aws_cdk.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenmill.endpoints.adapter import LlmAdapter as LlmAdapter
    from tokenmill.endpoints.async_delivery import AsyncDelivery as AsyncDelivery
    from tokenmill.endpoints.async_endpoint import AsyncEndpoint as AsyncEndpoint
    from tokenmill.endpoints.base import EndpointBase as EndpointBase
    from tokenmill.endpoints.base import LlmEndpointBase as LlmEndpointBase
    from tokenmill.endpoints.base import VariantEndpointBase as VariantEndpointBase
    from tokenmill.endpoints.compilation import CompiledModel as CompiledModel
    from tokenmill.endpoints.component import LlmComponent as LlmComponent
    from tokenmill.endpoints.data_capture import DataCapture as DataCapture
    from tokenmill.endpoints.fleet import Fleet as Fleet
    from tokenmill.endpoints.fleet import InstancePool as InstancePool
    from tokenmill.endpoints.fleet import InstanceScaling as InstanceScaling
    from tokenmill.endpoints.fleet import Routing as Routing
    from tokenmill.endpoints.fleet import Scheduling as Scheduling
    from tokenmill.endpoints.hosting import EndpointHosting as EndpointHosting
    from tokenmill.endpoints.imported import ImportedLlmEndpoint as ImportedLlmEndpoint
    from tokenmill.endpoints.imported import ImportedVariantEndpoint as ImportedVariantEndpoint
    from tokenmill.endpoints.llm_endpoint import LlmEndpoint as LlmEndpoint
    from tokenmill.endpoints.model_mirror import ModelMirror as ModelMirror
    from tokenmill.endpoints.model_source import ModelSource as ModelSource
    from tokenmill.endpoints.model_source import PrivateImage as PrivateImage
    from tokenmill.endpoints.network import EndpointNetwork as EndpointNetwork
    from tokenmill.endpoints.serving import Serving as Serving
    from tokenmill.endpoints.serving_image import ServingImage as ServingImage
    from tokenmill.endpoints.smoke_test import SmokeTest as SmokeTest
    from tokenmill.endpoints.update_policy import UpdatePolicy as UpdatePolicy
    from tokenmill.endpoints.variant_endpoint import VariantEndpoint as VariantEndpoint

_HOME = {
    "AsyncDelivery": "async_delivery",
    "AsyncEndpoint": "async_endpoint",
    "CompiledModel": "compilation",
    "DataCapture": "data_capture",
    "EndpointBase": "base",
    "EndpointHosting": "hosting",
    "EndpointNetwork": "network",
    "Fleet": "fleet",
    "ImportedLlmEndpoint": "imported",
    "ImportedVariantEndpoint": "imported",
    "InstancePool": "fleet",
    "InstanceScaling": "fleet",
    "LlmAdapter": "adapter",
    "LlmComponent": "component",
    "LlmEndpoint": "llm_endpoint",
    "LlmEndpointBase": "base",
    "ModelMirror": "model_mirror",
    "ModelSource": "model_source",
    "PrivateImage": "model_source",
    "Routing": "fleet",
    "Scheduling": "fleet",
    "Serving": "serving",
    "ServingImage": "serving_image",
    "SmokeTest": "smoke_test",
    "UpdatePolicy": "update_policy",
    "VariantEndpoint": "variant_endpoint",
    "VariantEndpointBase": "base",
}

__all__ = [
    "AsyncDelivery",
    "AsyncEndpoint",
    "CompiledModel",
    "DataCapture",
    "EndpointBase",
    "EndpointHosting",
    "EndpointNetwork",
    "Fleet",
    "ImportedLlmEndpoint",
    "ImportedVariantEndpoint",
    "InstancePool",
    "InstanceScaling",
    "LlmAdapter",
    "LlmComponent",
    "LlmEndpoint",
    "LlmEndpointBase",
    "ModelMirror",
    "ModelSource",
    "PrivateImage",
    "Routing",
    "Scheduling",
    "Serving",
    "ServingImage",
    "SmokeTest",
    "UpdatePolicy",
    "VariantEndpoint",
    "VariantEndpointBase",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'tokenmill.endpoints' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tokenmill.endpoints.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
