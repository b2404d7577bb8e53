"""Metrics by contract, the heartbeat behind them, alarms on the service level, one dashboard."""

from __future__ import annotations

from tokenmill.observability.alarms import ChatAlarms
from tokenmill.observability.dashboard import ChatDashboard
from tokenmill.observability.heartbeat import Heartbeat, HeartbeatTarget
from tokenmill.observability.metrics import token_metric

__all__ = ["ChatAlarms", "ChatDashboard", "Heartbeat", "HeartbeatTarget", "token_metric"]
