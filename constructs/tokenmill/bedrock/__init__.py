"""Amazon Bedrock: provisioned units with a whole life, profiles, routers, guardrails, prompts, logging.

Names load when first used: most stacks need few of them, and each loads modules of aws_cdk.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenmill.bedrock.foundation_model import NamedModel as NamedModel
    from tokenmill.bedrock.guardrail import Guardrail as Guardrail
    from tokenmill.bedrock.guardrail import GuardrailHook as GuardrailHook
    from tokenmill.bedrock.guardrail import GuardrailMode as GuardrailMode
    from tokenmill.bedrock.guardrail import IGuardrail as IGuardrail
    from tokenmill.bedrock.guardrail_values import BlockedMessages as BlockedMessages
    from tokenmill.bedrock.guardrail_values import ContentFilter as ContentFilter
    from tokenmill.bedrock.guardrail_values import DeniedTopic as DeniedTopic
    from tokenmill.bedrock.guardrail_values import Grounding as Grounding
    from tokenmill.bedrock.guardrail_values import GuardrailPolicies as GuardrailPolicies
    from tokenmill.bedrock.guardrail_values import Harm as Harm
    from tokenmill.bedrock.guardrail_values import Pattern as Pattern
    from tokenmill.bedrock.guardrail_values import PersonalData as PersonalData
    from tokenmill.bedrock.guardrail_values import Strength as Strength
    from tokenmill.bedrock.guardrail_values import Treatment as Treatment
    from tokenmill.bedrock.guardrail_values import Words as Words
    from tokenmill.bedrock.inference_profile import InferenceProfile as InferenceProfile
    from tokenmill.bedrock.invocation_logging import InvocationLogging as InvocationLogging
    from tokenmill.bedrock.invocation_logging import LogBucket as LogBucket
    from tokenmill.bedrock.invocation_logging import LogStream as LogStream
    from tokenmill.bedrock.managed_prompt import ManagedPrompt as ManagedPrompt
    from tokenmill.bedrock.model import IBedrockModel as IBedrockModel
    from tokenmill.bedrock.model import IManagedPrompt as IManagedPrompt
    from tokenmill.bedrock.options import BedrockOptions as BedrockOptions
    from tokenmill.bedrock.options import Latency as Latency
    from tokenmill.bedrock.options import PromptUse as PromptUse
    from tokenmill.bedrock.options import ServiceTier as ServiceTier
    from tokenmill.bedrock.prompt_router import PromptRouter as PromptRouter
    from tokenmill.bedrock.prompt_values import CACHE_POINT as CACHE_POINT
    from tokenmill.bedrock.prompt_values import AnswerSettings as AnswerSettings
    from tokenmill.bedrock.prompt_values import CacheAlarm as CacheAlarm
    from tokenmill.bedrock.prompt_values import CacheRule as CacheRule
    from tokenmill.bedrock.prompt_values import CountedText as CountedText
    from tokenmill.bedrock.prompt_values import Message as Message
    from tokenmill.bedrock.prompt_values import PromptVariable as PromptVariable
    from tokenmill.bedrock.prompt_values import PromptVariant as PromptVariant
    from tokenmill.bedrock.provisioned_throughput import ProvisionedThroughput as ProvisionedThroughput
    from tokenmill.bedrock.resources import BedrockResources as BedrockResources
    from tokenmill.bedrock.token_quota import QuotaAlarms as QuotaAlarms
    from tokenmill.bedrock.token_quota import TokenQuota as TokenQuota
    from tokenmill.bedrock.unit_values import Commitment as Commitment
    from tokenmill.bedrock.unit_values import Replacement as Replacement
    from tokenmill.bedrock.unit_values import UnitAlarms as UnitAlarms
    from tokenmill.bedrock.unit_values import UnitCapacity as UnitCapacity
    from tokenmill.bedrock.unit_values import UnlistedModel as UnlistedModel

_HOME = {
    "AnswerSettings": "prompt_values",
    "BedrockOptions": "options",
    "BedrockResources": "resources",
    "BlockedMessages": "guardrail_values",
    "CACHE_POINT": "prompt_values",
    "CacheAlarm": "prompt_values",
    "CacheRule": "prompt_values",
    "Commitment": "unit_values",
    "ContentFilter": "guardrail_values",
    "CountedText": "prompt_values",
    "DeniedTopic": "guardrail_values",
    "Grounding": "guardrail_values",
    "Guardrail": "guardrail",
    "GuardrailHook": "guardrail",
    "GuardrailMode": "guardrail",
    "GuardrailPolicies": "guardrail_values",
    "Harm": "guardrail_values",
    "IBedrockModel": "model",
    "IGuardrail": "guardrail",
    "IManagedPrompt": "model",
    "InferenceProfile": "inference_profile",
    "InvocationLogging": "invocation_logging",
    "Latency": "options",
    "LogBucket": "invocation_logging",
    "LogStream": "invocation_logging",
    "ManagedPrompt": "managed_prompt",
    "Message": "prompt_values",
    "NamedModel": "foundation_model",
    "Pattern": "guardrail_values",
    "PersonalData": "guardrail_values",
    "PromptRouter": "prompt_router",
    "PromptUse": "options",
    "PromptVariable": "prompt_values",
    "PromptVariant": "prompt_values",
    "ProvisionedThroughput": "provisioned_throughput",
    "QuotaAlarms": "token_quota",
    "Replacement": "unit_values",
    "ServiceTier": "options",
    "Strength": "guardrail_values",
    "TokenQuota": "token_quota",
    "Treatment": "guardrail_values",
    "UnitAlarms": "unit_values",
    "UnitCapacity": "unit_values",
    "UnlistedModel": "unit_values",
    "Words": "guardrail_values",
}

__all__ = [
    "AnswerSettings",
    "BedrockOptions",
    "BedrockResources",
    "BlockedMessages",
    "CACHE_POINT",
    "CacheAlarm",
    "CacheRule",
    "Commitment",
    "ContentFilter",
    "CountedText",
    "DeniedTopic",
    "Grounding",
    "Guardrail",
    "GuardrailHook",
    "GuardrailMode",
    "GuardrailPolicies",
    "Harm",
    "IBedrockModel",
    "IGuardrail",
    "IManagedPrompt",
    "InferenceProfile",
    "InvocationLogging",
    "Latency",
    "LogBucket",
    "LogStream",
    "ManagedPrompt",
    "Message",
    "NamedModel",
    "Pattern",
    "PersonalData",
    "PromptRouter",
    "PromptUse",
    "PromptVariable",
    "PromptVariant",
    "ProvisionedThroughput",
    "QuotaAlarms",
    "Replacement",
    "ServiceTier",
    "Strength",
    "TokenQuota",
    "Treatment",
    "UnitAlarms",
    "UnitCapacity",
    "UnlistedModel",
    "Words",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'tokenmill.bedrock' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tokenmill.bedrock.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
