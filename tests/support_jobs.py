"""An asynchronous endpoint and a serving, for the tests of batch jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenmill.core.workload import Capacity
from tokenmill.endpoints import AsyncEndpoint, Serving, UpdatePolicy

if TYPE_CHECKING:
    import aws_cdk as cdk


def inf2(**changes: Any) -> Serving:
    """Qwen3-8B on one Inferentia2 chip, eight sequences together."""
    fields: dict[str, Any] = {
        "model": "Qwen/Qwen3-8B",
        "instance_type": "ml.inf2.8xlarge",
        "tensor_parallel": 2,
        "max_sequences": 8,
        "context_tokens": 4096,
    }
    return Serving(**{**fields, **changes})


def async_endpoint(stack: cdk.Stack, **changes: Any) -> AsyncEndpoint:
    """An endpoint of none to four instances, without the function that guards deployments."""
    fields: dict[str, Any] = {
        "serving": inf2(),
        "capacity": Capacity(minimum=0, maximum=4, initial=1),
        "update": UpdatePolicy.unguarded(),
    }
    return AsyncEndpoint(stack, "Async", **{**fields, **changes})
