"""How a gateway asks a model of Bedrock."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill.bedrock.guardrail import GuardrailHook
    from tokenmill.bedrock.model import IBedrockModel, IManagedPrompt


class ServiceTier(StrEnum):
    """At what price and how soon requests are served ("Service tiers for inference", Amazon Bedrock)."""

    PRIORITY = "priority"
    DEFAULT = "default"
    FLEX = "flex"
    RESERVED = "reserved"


class Latency(StrEnum):
    """Whether a faster version of the model answers ("Optimize model inference for latency")."""

    STANDARD = "standard"
    OPTIMIZED = "optimized"


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptUse:
    """A managed prompt that requests are put into.

    The prompt has its own system text and inference parameters, so callers give neither ("Converse", Amazon
    Bedrock API Reference). Without `question` their messages follow the prompt's; with it they ask one
    question, which fills the variable.

    Args:
        prompt: The prompt.
        variables: Texts for its variables.
        question: The variable that the caller's message fills.

    Raises:
        TokenmillError: If a variable of the prompt is not filled, or one is filled that it has not.
    """

    prompt: IManagedPrompt
    variables: Mapping[str, str] = field(default_factory=dict)
    question: str | None = None

    def __post_init__(self) -> None:
        if self.question in self.variables:
            raise TokenmillError(
                f"question is {self.question!r}, which variables fills already; give it one of both"
            )
        filled = {*self.variables, *([] if self.question is None else [self.question])}
        asked = set(self.prompt.variables)
        shown = ", ".join(sorted(asked)) or "none"
        if filled - asked:
            wrong = ", ".join(map(repr, sorted(filled - asked)))
            raise TokenmillError(f"the prompt has no variable {wrong}; it has {shown}")
        if asked - filled:
            open_ = ", ".join(map(repr, sorted(asked - filled)))
            raise TokenmillError(
                f"the prompt's variable {open_} is not filled; give its text in variables, or name it as "
                "question"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class BedrockOptions:
    """How a gateway asks a model of Bedrock.

    Args:
        service_tier: Bedrock's own default otherwise.
        latency: Bedrock's own default otherwise.
        guardrail: What looks at questions and answers; `Guardrail.hook` gives it.
        prompt: A managed prompt that names the model itself.
        fallback: What is asked while the model throttles or has no units, such as a cross-Region profile; a
            model that has a fallback of its own keeps that.

    Raises:
        TokenmillError: If a prompt and a fallback are given: the prompt names its own model.
    """

    service_tier: ServiceTier | None = None
    latency: Latency | None = None
    guardrail: GuardrailHook | None = None
    prompt: PromptUse | None = None
    fallback: IBedrockModel | str | None = None

    def __post_init__(self) -> None:
        if self.prompt is not None and self.fallback is not None:
            raise TokenmillError(
                "prompt and fallback are given, but a managed prompt names its own model; leave one out"
            )
