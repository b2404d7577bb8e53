"""Chooses what to run a model on: memory fit, time, cost, and a reason for everything rejected.

The names load when first used, so that a construct which only counts memory does not load the search.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenmill.planner.plans import plan as plan
    from tokenmill.planner.plans import plan_for as plan_for

__all__ = ["plan", "plan_for"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'tokenmill.planner' has no attribute {name!r}")
    from tokenmill.planner import plans

    return getattr(plans, name)
