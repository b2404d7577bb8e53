"""The OpenAI-compatible front door, its keys and its conversations."""

from __future__ import annotations

from tokenmill.gateway.chat_gateway import ChatGateway, GatewayLimits
from tokenmill.gateway.models import ServedModel, TokenLimits
from tokenmill.gateway.tables import ApiKeyTable, ConversationTable

__all__ = ["ApiKeyTable", "ChatGateway", "ConversationTable", "GatewayLimits", "ServedModel", "TokenLimits"]
