"""Many requests at once: batch transform jobs, and fan-outs over an asynchronous endpoint.

Names load when first used: most stacks need none of them, and each loads modules of aws_cdk.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenmill.batch.async_fan_out import AsyncFanOut as AsyncFanOut
    from tokenmill.batch.async_fan_out import FanOut as FanOut
    from tokenmill.batch.batch_transform import BatchTransform as BatchTransform
    from tokenmill.batch.batch_transform import TransformJob as TransformJob
    from tokenmill.batch.files import BatchFiles as BatchFiles

_HOME = {
    "AsyncFanOut": "async_fan_out",
    "BatchFiles": "files",
    "BatchTransform": "batch_transform",
    "FanOut": "async_fan_out",
    "TransformJob": "batch_transform",
}

__all__ = ["AsyncFanOut", "BatchFiles", "BatchTransform", "FanOut", "TransformJob"]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'tokenmill.batch' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tokenmill.batch.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
