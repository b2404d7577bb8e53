"""Many requests at once: batch transform jobs, Bedrock's batch inference, fan-outs over an endpoint.

Names load when first used: most stacks need none of them, and each loads modules of aws_cdk.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenmill.batch.async_fan_out import AsyncFanOut as AsyncFanOut
    from tokenmill.batch.async_fan_out import FanOut as FanOut
    from tokenmill.batch.batch_inference import BatchInference as BatchInference
    from tokenmill.batch.batch_inference_values import InferenceJobs as InferenceJobs
    from tokenmill.batch.batch_inference_values import InferenceRecords as InferenceRecords
    from tokenmill.batch.batch_transform import BatchTransform as BatchTransform
    from tokenmill.batch.batch_transform import TransformJob as TransformJob
    from tokenmill.batch.files import BatchFiles as BatchFiles
    from tokenmill.core.batch_quotas import BatchQuota as BatchQuota

_HOME = {
    "AsyncFanOut": "tokenmill.batch.async_fan_out",
    "BatchFiles": "tokenmill.batch.files",
    "BatchInference": "tokenmill.batch.batch_inference",
    "BatchQuota": "tokenmill.core.batch_quotas",
    "BatchTransform": "tokenmill.batch.batch_transform",
    "FanOut": "tokenmill.batch.async_fan_out",
    "InferenceJobs": "tokenmill.batch.batch_inference_values",
    "InferenceRecords": "tokenmill.batch.batch_inference_values",
    "TransformJob": "tokenmill.batch.batch_transform",
}

__all__ = [
    "AsyncFanOut",
    "BatchFiles",
    "BatchInference",
    "BatchQuota",
    "BatchTransform",
    "FanOut",
    "InferenceJobs",
    "InferenceRecords",
    "TransformJob",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'tokenmill.batch' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
