"""tokenmill: CDK constructs that size, price, scale and try out LLM deployments on tokens.

Names load when first used, so that a planner or a pipeline that needs no construct never pays for aws_cdk.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenmill.batch import AsyncFanOut as AsyncFanOut
    from tokenmill.batch import BatchTransform as BatchTransform
    from tokenmill.bedrock import BedrockOptions as BedrockOptions
    from tokenmill.bedrock import Guardrail as Guardrail
    from tokenmill.bedrock import GuardrailPolicies as GuardrailPolicies
    from tokenmill.bedrock import InferenceProfile as InferenceProfile
    from tokenmill.bedrock import InvocationLogging as InvocationLogging
    from tokenmill.bedrock import ManagedPrompt as ManagedPrompt
    from tokenmill.bedrock import PromptRouter as PromptRouter
    from tokenmill.bedrock import TokenQuota as TokenQuota
    from tokenmill.core.engine_options import EngineOptions as EngineOptions
    from tokenmill.core.engine_options import LoraSlots as LoraSlots
    from tokenmill.core.engine_options import SpeculativeDraft as SpeculativeDraft
    from tokenmill.core.engine_options import ToolCalling as ToolCalling
    from tokenmill.core.errors import NoPlanError as NoPlanError
    from tokenmill.core.errors import SettingsError as SettingsError
    from tokenmill.core.errors import TokenmillError as TokenmillError
    from tokenmill.core.instances import InstanceType as InstanceType
    from tokenmill.core.instances import UnlistedInstance as UnlistedInstance
    from tokenmill.core.lora import Adapter as Adapter
    from tokenmill.core.model_spec import ModelSpec as ModelSpec
    from tokenmill.core.plan import Plan as Plan
    from tokenmill.core.workload import Capacity as Capacity
    from tokenmill.core.workload import Parallelism as Parallelism
    from tokenmill.core.workload import Slo as Slo
    from tokenmill.core.workload import Workload as Workload
    from tokenmill.customization import ImportedModel as ImportedModel
    from tokenmill.customization import ImportSource as ImportSource
    from tokenmill.customization import ModelArtifact as ModelArtifact
    from tokenmill.customization import ModelCustomization as ModelCustomization
    from tokenmill.customization import ModelDeployment as ModelDeployment
    from tokenmill.customization import ModelImport as ModelImport
    from tokenmill.endpoints import AsyncEndpoint as AsyncEndpoint
    from tokenmill.endpoints import CompiledModel as CompiledModel
    from tokenmill.endpoints import EndpointHosting as EndpointHosting
    from tokenmill.endpoints import Fleet as Fleet
    from tokenmill.endpoints import LlmAdapter as LlmAdapter
    from tokenmill.endpoints import LlmEndpoint as LlmEndpoint
    from tokenmill.endpoints import ModelMirror as ModelMirror
    from tokenmill.endpoints import ModelSource as ModelSource
    from tokenmill.endpoints import Serving as Serving
    from tokenmill.endpoints import ServingImage as ServingImage
    from tokenmill.endpoints import UpdatePolicy as UpdatePolicy
    from tokenmill.endpoints import VariantEndpoint as VariantEndpoint
    from tokenmill.gateway import ApiKeyTable as ApiKeyTable
    from tokenmill.gateway import ChatGateway as ChatGateway
    from tokenmill.gateway import ConversationTable as ConversationTable
    from tokenmill.gateway import ServedModel as ServedModel
    from tokenmill.observability import Heartbeat as Heartbeat
    from tokenmill.observability import HeartbeatTarget as HeartbeatTarget
    from tokenmill.scaling import BacklogScaling as BacklogScaling
    from tokenmill.scaling import OfficeHours as OfficeHours
    from tokenmill.scaling import TokenScaling as TokenScaling
    from tokenmill.scaling import TokenScalingPolicy as TokenScalingPolicy
    from tokenmill.scaling import WakeUpQueue as WakeUpQueue

_HOME = {
    "Adapter": "tokenmill.core.lora",
    "ApiKeyTable": "tokenmill.gateway",
    "AsyncEndpoint": "tokenmill.endpoints",
    "AsyncFanOut": "tokenmill.batch",
    "BacklogScaling": "tokenmill.scaling",
    "BatchTransform": "tokenmill.batch",
    "BedrockOptions": "tokenmill.bedrock",
    "Capacity": "tokenmill.core.workload",
    "ChatGateway": "tokenmill.gateway",
    "CompiledModel": "tokenmill.endpoints",
    "ConversationTable": "tokenmill.gateway",
    "EndpointHosting": "tokenmill.endpoints",
    "EngineOptions": "tokenmill.core.engine_options",
    "Fleet": "tokenmill.endpoints",
    "Guardrail": "tokenmill.bedrock",
    "GuardrailPolicies": "tokenmill.bedrock",
    "Heartbeat": "tokenmill.observability",
    "HeartbeatTarget": "tokenmill.observability",
    "ImportSource": "tokenmill.customization",
    "ImportedModel": "tokenmill.customization",
    "InferenceProfile": "tokenmill.bedrock",
    "InstanceType": "tokenmill.core.instances",
    "InvocationLogging": "tokenmill.bedrock",
    "LlmAdapter": "tokenmill.endpoints",
    "LlmEndpoint": "tokenmill.endpoints",
    "LoraSlots": "tokenmill.core.engine_options",
    "ManagedPrompt": "tokenmill.bedrock",
    "ModelArtifact": "tokenmill.customization",
    "ModelCustomization": "tokenmill.customization",
    "ModelDeployment": "tokenmill.customization",
    "ModelImport": "tokenmill.customization",
    "ModelMirror": "tokenmill.endpoints",
    "ModelSource": "tokenmill.endpoints",
    "ModelSpec": "tokenmill.core.model_spec",
    "NoPlanError": "tokenmill.core.errors",
    "OfficeHours": "tokenmill.scaling",
    "Parallelism": "tokenmill.core.workload",
    "Plan": "tokenmill.core.plan",
    "PromptRouter": "tokenmill.bedrock",
    "ServedModel": "tokenmill.gateway",
    "Serving": "tokenmill.endpoints",
    "ServingImage": "tokenmill.endpoints",
    "SettingsError": "tokenmill.core.errors",
    "Slo": "tokenmill.core.workload",
    "SpeculativeDraft": "tokenmill.core.engine_options",
    "TokenQuota": "tokenmill.bedrock",
    "TokenScaling": "tokenmill.scaling",
    "TokenScalingPolicy": "tokenmill.scaling",
    "TokenmillError": "tokenmill.core.errors",
    "ToolCalling": "tokenmill.core.engine_options",
    "UnlistedInstance": "tokenmill.core.instances",
    "UpdatePolicy": "tokenmill.endpoints",
    "VariantEndpoint": "tokenmill.endpoints",
    "WakeUpQueue": "tokenmill.scaling",
    "Workload": "tokenmill.core.workload",
}

__all__ = [
    "Adapter",
    "ApiKeyTable",
    "AsyncEndpoint",
    "AsyncFanOut",
    "BacklogScaling",
    "BatchTransform",
    "BedrockOptions",
    "Capacity",
    "ChatGateway",
    "CompiledModel",
    "ConversationTable",
    "EndpointHosting",
    "EngineOptions",
    "Fleet",
    "Guardrail",
    "GuardrailPolicies",
    "Heartbeat",
    "HeartbeatTarget",
    "ImportSource",
    "ImportedModel",
    "InferenceProfile",
    "InstanceType",
    "InvocationLogging",
    "LlmAdapter",
    "LlmEndpoint",
    "LoraSlots",
    "ManagedPrompt",
    "ModelArtifact",
    "ModelCustomization",
    "ModelDeployment",
    "ModelImport",
    "ModelMirror",
    "ModelSource",
    "ModelSpec",
    "NoPlanError",
    "OfficeHours",
    "Parallelism",
    "Plan",
    "PromptRouter",
    "ServedModel",
    "Serving",
    "ServingImage",
    "SettingsError",
    "Slo",
    "SpeculativeDraft",
    "TokenQuota",
    "TokenScaling",
    "TokenScalingPolicy",
    "TokenmillError",
    "ToolCalling",
    "UnlistedInstance",
    "UpdatePolicy",
    "VariantEndpoint",
    "WakeUpQueue",
    "Workload",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'tokenmill' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
