"""Scaling on token work: the policy as a value, and the constructs that render it."""

from __future__ import annotations

from tokenmill.scaling.office_hours import OfficeHours
from tokenmill.scaling.policy import TokenScalingPolicy
from tokenmill.scaling.token_scaling import TokenScaling
from tokenmill.scaling.wake_up import WakeUp
from tokenmill.scaling.wake_up_queue import WakeUpQueue

__all__ = ["OfficeHours", "TokenScaling", "TokenScalingPolicy", "WakeUp", "WakeUpQueue"]
