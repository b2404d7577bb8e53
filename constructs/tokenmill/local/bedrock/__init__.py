"""Amazon Bedrock in the local cloud: the runtime API, and the control plane that buys and makes models."""

from tokenmill.local.bedrock.behaviour import Behaviour, UnitQuotas
from tokenmill.local.bedrock.control import BedrockControl
from tokenmill.local.bedrock.faults import Fault, Faults
from tokenmill.local.bedrock.runtime import PATH, BedrockRuntime

__all__ = [
    "PATH",
    "BedrockControl",
    "BedrockRuntime",
    "Behaviour",
    "Fault",
    "Faults",
    "UnitQuotas",
]
