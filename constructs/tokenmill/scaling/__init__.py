"""Scaling on token work and on backlogs: policies as values, and the constructs that render them.

Names load when first used: most stacks need few of them, and each loads modules of aws_cdk.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenmill.scaling.backlog_scaling import BacklogPolicy as BacklogPolicy
    from tokenmill.scaling.backlog_scaling import BacklogScaling as BacklogScaling
    from tokenmill.scaling.office_hours import OfficeHours as OfficeHours
    from tokenmill.scaling.policy import TokenScalingPolicy as TokenScalingPolicy
    from tokenmill.scaling.token_scaling import TokenScaling as TokenScaling
    from tokenmill.scaling.wake_up import WakeUp as WakeUp
    from tokenmill.scaling.wake_up_queue import WakeUpQueue as WakeUpQueue

_HOME = {
    "BacklogPolicy": "backlog_scaling",
    "BacklogScaling": "backlog_scaling",
    "OfficeHours": "office_hours",
    "TokenScaling": "token_scaling",
    "TokenScalingPolicy": "policy",
    "WakeUp": "wake_up",
    "WakeUpQueue": "wake_up_queue",
}

__all__ = [
    "BacklogPolicy",
    "BacklogScaling",
    "OfficeHours",
    "TokenScaling",
    "TokenScalingPolicy",
    "WakeUp",
    "WakeUpQueue",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'tokenmill.scaling' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tokenmill.scaling.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
