"""Compositions of tokenmill's constructs: deploy them as they are, or read them and write your own."""

from __future__ import annotations

from tokenmill_stacks.chat import ChatStack

__all__ = ["ChatStack"]
