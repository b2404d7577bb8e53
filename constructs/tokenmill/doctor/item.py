"""One thing that a deployment needs."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class State(enum.StrEnum):
    """Whether it is there."""

    OK = "ok"
    TO_DO = "to do"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that a deployment needs.

    Args:
        name: What it is, in a word or two.
        state: Whether it is there; `unknown` when it could not be looked up.
        detail: What was found.
        command: What mends it, or how to find out; empty when nothing is to do.
        after_deploy: Whether it can only be done once the stack is deployed; such an item blocks nothing.
    """

    name: str
    state: State
    detail: str
    command: str = ""
    after_deploy: bool = False
