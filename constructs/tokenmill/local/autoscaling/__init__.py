"""Application Auto Scaling: targets, policies and scheduled actions, and what acts on them."""

from __future__ import annotations

from tokenmill.local.autoscaling.service import AutoScaling

__all__ = ["AutoScaling"]
