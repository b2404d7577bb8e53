"""What a stack may do and where its data is kept: IAM actions by purpose, least-privilege functions, keys.

Names load when first used: `actions` is read everywhere, and functions load aws_cdk's largest modules.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenmill.security.hosting import FunctionHosting as FunctionHosting
    from tokenmill.security.runtime_function import FunctionEntry as FunctionEntry
    from tokenmill.security.runtime_function import LambdaFunction as LambdaFunction
    from tokenmill.security.runtime_function import RuntimeFunction as RuntimeFunction

_HOME = {
    "FunctionEntry": "runtime_function",
    "FunctionHosting": "hosting",
    "LambdaFunction": "runtime_function",
    "RuntimeFunction": "runtime_function",
}

__all__ = ["FunctionEntry", "FunctionHosting", "LambdaFunction", "RuntimeFunction"]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'tokenmill.security' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tokenmill.security.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
