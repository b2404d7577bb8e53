"""tokenmill: CDK constructs that size, price, scale and try out LLM deployments on tokens.

Names load when first used, so that a planner or a pipeline that needs no construct never pays for aws_cdk.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenmill.core import Capacity as Capacity
    from tokenmill.core import ModelSpec as ModelSpec
    from tokenmill.core import Parallelism as Parallelism
    from tokenmill.core import Plan as Plan
    from tokenmill.core import Slo as Slo
    from tokenmill.core import TokenmillError as TokenmillError
    from tokenmill.core import Workload as Workload
    from tokenmill.endpoints import LlmEndpoint as LlmEndpoint
    from tokenmill.gateway import ApiKeyTable as ApiKeyTable
    from tokenmill.gateway import ChatGateway as ChatGateway
    from tokenmill.gateway import ConversationTable as ConversationTable
    from tokenmill.observability import Heartbeat as Heartbeat
    from tokenmill.scaling import TokenScaling as TokenScaling

_HOME = {
    "ApiKeyTable": "tokenmill.gateway",
    "Capacity": "tokenmill.core",
    "ChatGateway": "tokenmill.gateway",
    "ConversationTable": "tokenmill.gateway",
    "Heartbeat": "tokenmill.observability",
    "LlmEndpoint": "tokenmill.endpoints",
    "ModelSpec": "tokenmill.core",
    "Parallelism": "tokenmill.core",
    "Plan": "tokenmill.core",
    "Slo": "tokenmill.core",
    "TokenScaling": "tokenmill.scaling",
    "TokenmillError": "tokenmill.core",
    "Workload": "tokenmill.core",
}

__all__ = [
    "ApiKeyTable",
    "Capacity",
    "ChatGateway",
    "ConversationTable",
    "Heartbeat",
    "LlmEndpoint",
    "ModelSpec",
    "Parallelism",
    "Plan",
    "Slo",
    "TokenScaling",
    "TokenmillError",
    "Workload",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'tokenmill' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
