"""Metrics by contract, the heartbeat behind them, alarms on the service level, one dashboard.

Names load when first used: an endpoint reads metrics alone, and the heartbeat loads functions.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenmill.observability.alarms import ChatAlarms as ChatAlarms
    from tokenmill.observability.dashboard import ChatDashboard as ChatDashboard
    from tokenmill.observability.heartbeat import Heartbeat as Heartbeat
    from tokenmill.observability.heartbeat import HeartbeatTarget as HeartbeatTarget
    from tokenmill.observability.metrics import token_metric as token_metric

_HOME = {
    "ChatAlarms": "alarms",
    "ChatDashboard": "dashboard",
    "Heartbeat": "heartbeat",
    "HeartbeatTarget": "heartbeat",
    "token_metric": "metrics",
}

__all__ = ["ChatAlarms", "ChatDashboard", "Heartbeat", "HeartbeatTarget", "token_metric"]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'tokenmill.observability' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tokenmill.observability.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
