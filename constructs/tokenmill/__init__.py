"""tokenmill: CDK constructs that size, price, scale and try out LLM deployments on tokens.

Names load when first used, so that a planner or a pipeline that needs no construct never pays for aws_cdk.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenmill.core.errors import NoPlanError as NoPlanError
    from tokenmill.core.errors import SettingsError as SettingsError
    from tokenmill.core.errors import TokenmillError as TokenmillError
    from tokenmill.core.instances import InstanceType as InstanceType
    from tokenmill.core.model_spec import ModelSpec as ModelSpec
    from tokenmill.core.plan import Plan as Plan
    from tokenmill.core.workload import Capacity as Capacity
    from tokenmill.core.workload import Parallelism as Parallelism
    from tokenmill.core.workload import Slo as Slo
    from tokenmill.core.workload import Workload as Workload
    from tokenmill.endpoints import LlmEndpoint as LlmEndpoint
    from tokenmill.endpoints import Serving as Serving
    from tokenmill.gateway import ApiKeyTable as ApiKeyTable
    from tokenmill.gateway import ChatGateway as ChatGateway
    from tokenmill.gateway import ConversationTable as ConversationTable
    from tokenmill.gateway import ServedModel as ServedModel
    from tokenmill.observability import Heartbeat as Heartbeat
    from tokenmill.observability import HeartbeatTarget as HeartbeatTarget
    from tokenmill.scaling import TokenScaling as TokenScaling
    from tokenmill.scaling import TokenScalingPolicy as TokenScalingPolicy

_HOME = {
    "ApiKeyTable": "tokenmill.gateway",
    "Capacity": "tokenmill.core.workload",
    "ChatGateway": "tokenmill.gateway",
    "ConversationTable": "tokenmill.gateway",
    "Heartbeat": "tokenmill.observability",
    "HeartbeatTarget": "tokenmill.observability",
    "InstanceType": "tokenmill.core.instances",
    "LlmEndpoint": "tokenmill.endpoints",
    "ModelSpec": "tokenmill.core.model_spec",
    "NoPlanError": "tokenmill.core.errors",
    "Parallelism": "tokenmill.core.workload",
    "Plan": "tokenmill.core.plan",
    "ServedModel": "tokenmill.gateway",
    "Serving": "tokenmill.endpoints",
    "SettingsError": "tokenmill.core.errors",
    "Slo": "tokenmill.core.workload",
    "TokenScaling": "tokenmill.scaling",
    "TokenScalingPolicy": "tokenmill.scaling",
    "TokenmillError": "tokenmill.core.errors",
    "Workload": "tokenmill.core.workload",
}

__all__ = [
    "ApiKeyTable",
    "Capacity",
    "ChatGateway",
    "ConversationTable",
    "Heartbeat",
    "HeartbeatTarget",
    "InstanceType",
    "LlmEndpoint",
    "ModelSpec",
    "NoPlanError",
    "Parallelism",
    "Plan",
    "ServedModel",
    "Serving",
    "SettingsError",
    "Slo",
    "TokenScaling",
    "TokenScalingPolicy",
    "TokenmillError",
    "Workload",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'tokenmill' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
