"""What a stack may do and where its data is kept: IAM actions by purpose, least-privilege functions, keys."""

from __future__ import annotations

from tokenmill.security.hosting import FunctionHosting
from tokenmill.security.runtime_function import FunctionEntry, RuntimeFunction

__all__ = ["FunctionEntry", "FunctionHosting", "RuntimeFunction"]
