"""Amazon Bedrock: provisioned units with a whole life, profiles, routers, guardrails, prompts, logging.

Names load when first used: most stacks need few of them, and each loads modules of aws_cdk.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenmill.bedrock.model import IBedrockModel as IBedrockModel
    from tokenmill.bedrock.provisioned_throughput import ProvisionedThroughput as ProvisionedThroughput
    from tokenmill.bedrock.resources import BedrockResources as BedrockResources
    from tokenmill.bedrock.unit_values import Commitment as Commitment
    from tokenmill.bedrock.unit_values import Replacement as Replacement
    from tokenmill.bedrock.unit_values import UnitAlarms as UnitAlarms
    from tokenmill.bedrock.unit_values import UnitCapacity as UnitCapacity

_HOME = {
    "BedrockResources": "resources",
    "Commitment": "unit_values",
    "IBedrockModel": "model",
    "ProvisionedThroughput": "provisioned_throughput",
    "Replacement": "unit_values",
    "UnitAlarms": "unit_values",
    "UnitCapacity": "unit_values",
}

__all__ = [
    "BedrockResources",
    "Commitment",
    "IBedrockModel",
    "ProvisionedThroughput",
    "Replacement",
    "UnitAlarms",
    "UnitCapacity",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'tokenmill.bedrock' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tokenmill.bedrock.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
