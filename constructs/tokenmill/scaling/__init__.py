"""Scaling on token work: the policy as a value, and the construct that renders it."""

from __future__ import annotations

from tokenmill.scaling.policy import TokenScalingPolicy
from tokenmill.scaling.token_scaling import TokenScaling

__all__ = ["TokenScaling", "TokenScalingPolicy"]
