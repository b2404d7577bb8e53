"""Compositions of tokenmill's constructs: deploy them as they are, or read them and write your own.

Stacks load when first used: an app with one of them does not pay for the others.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenmill_stacks.batch import BatchStack as BatchStack
    from tokenmill_stacks.chat import ChatStack as ChatStack

_HOME = {"BatchStack": "batch", "ChatStack": "chat"}

__all__ = ["BatchStack", "ChatStack"]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'tokenmill_stacks' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tokenmill_stacks.{home}"), name)
