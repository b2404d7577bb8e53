"""How a gateway asks a model: guardrail, service tier, latency, units behind a handle, managed prompt.

Part of the document of `gateway_config`; values may be unresolved tokens when a construct builds them, so
only reading checks them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# "ServiceTier", "PerformanceConfiguration", "GuardrailStreamConfiguration" (Amazon Bedrock API Reference).
SERVICE_TIERS: Final = ("priority", "default", "flex", "reserved")
LATENCIES: Final = ("standard", "optimized")
STREAM_MODES: Final = ("sync", "async")

StreamMode = Literal["sync", "async"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardrailUse:
    """A guardrail in front of and behind a model.

    ``mode`` is "sync" (text is held until it was assessed) or "async" (text is sent, and stopped when the
    assessment says so). ``blocked_input`` is the message that stands for a blocked question, None where it is
    not known: an answer that is exactly it becomes an error.
    """

    id: str
    version: str
    mode: str = "sync"
    blocked_input: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptUse:
    """A version of a managed prompt that is sent instead of a model's id.

    ``variables`` fill the prompt's; the caller's only message fills ``question`` where there is one, and the
    caller's messages follow the prompt's own otherwise.
    """

    arn: str
    variables: Mapping[str, str] = field(default_factory=dict)
    question: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BedrockUse:
    """How Converse is asked.

    ``handle`` is the SSM parameter that says which units to call; ``fallback_id`` is asked while they
    throttle or are missing.
    """

    service_tier: str | None = None
    latency: str | None = None
    handle: str | None = None
    fallback_id: str | None = None
    prompt: PromptUse | None = None


def without_nothing(document: object) -> object:
    """The document without members that are None, so that what nobody uses is not rendered."""
    if isinstance(document, dict):
        return {name: without_nothing(value) for name, value in document.items() if value is not None}
    return document


class OptionsReader:
    """Reads these values out of an untyped document and gathers what is wrong with them in ``problems``."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems

    def guardrail(self, value: object, where: str) -> GuardrailUse | None:
        body = self._object(value, where, {item.name for item in fields(GuardrailUse)})
        if body is None:
            return None
        return GuardrailUse(
            id=self._text(body, where, "id") or "",
            version=self._text(body, where, "version") or "",
            mode=self._one_of(body, where, "mode", STREAM_MODES) or "sync",
            blocked_input=self._text(body, where, "blocked_input", optional=True),
        )

    def bedrock(self, value: object, where: str) -> BedrockUse | None:
        body = self._object(value, where, {item.name for item in fields(BedrockUse)})
        if body is None:
            return None
        return BedrockUse(
            service_tier=self._one_of(body, where, "service_tier", SERVICE_TIERS),
            latency=self._one_of(body, where, "latency", LATENCIES),
            handle=self._text(body, where, "handle", optional=True),
            fallback_id=self._text(body, where, "fallback_id", optional=True),
            prompt=self._prompt(body.get("prompt"), f"{where}.prompt"),
        )

    def _prompt(self, value: object, where: str) -> PromptUse | None:
        body = self._object(value, where, {item.name for item in fields(PromptUse)})
        if body is None:
            return None
        variables = body.get("variables", {})
        if not isinstance(variables, dict) or not all(isinstance(text, str) for text in variables.values()):
            self.problems.append(f"{where}.variables must be a JSON object of texts, got {variables!r}")
            variables = {}
        return PromptUse(
            arn=self._text(body, where, "arn") or "",
            variables=variables,
            question=self._text(body, where, "question", optional=True),
        )

    def _object(self, value: object, where: str, allowed: set[str]) -> Mapping[str, object] | None:
        if value is None:
            return None
        if not isinstance(value, dict):
            self.problems.append(f"{where} must be a JSON object or null, got {value!r}")
            return None
        for key in sorted(set(value) - allowed):
            self.problems.append(f"{where}.{key} is unknown; known are {', '.join(sorted(allowed))}")
        return value

    def _text(
        self, body: Mapping[str, object], where: str, key: str, *, optional: bool = False
    ) -> str | None:
        value = body.get(key)
        if (isinstance(value, str) and value) or (optional and value is None):
            return value
        allowed = "a text or null" if optional else "a text"
        self.problems.append(f"{where}.{key} must be {allowed}, got {value!r}")
        return None

    def _one_of(self, body: Mapping[str, object], where: str, key: str, allowed: Sequence[str]) -> str | None:
        value = body.get(key)
        if value is None or (isinstance(value, str) and value in allowed):
            return value
        self.problems.append(f"{where}.{key} must be one of {', '.join(allowed)}, got {value!r}")
        return None
