"""How a gateway asks a model of Bedrock."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from tokenmill.bedrock.model import IBedrockModel, IManagedPrompt
from tokenmill.core._checks import text
from tokenmill.core._kinds import choice, instance, instance_or_none, text_map
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill.bedrock.guardrail import GuardrailHook


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
        instance(IManagedPrompt, prompt=self.prompt)
        text_map("variables", self.variables, tokens=True)
        if self.question is not None:
            text("question", self.question)
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
        service_tier: Bedrock's own default otherwise; units have none, what stands in for them has.
        latency: The same of the model's faster version.
        guardrail: What looks at questions and answers; `Guardrail.hook` gives it.
        prompt: A managed prompt that names the model itself.
        fallback: What is asked while the model throttles or has no units, such as a cross-Region profile; a
            model that has a fallback of its own keeps that.

    Raises:
        TokenmillError: If a value is of another kind, the fallback has units itself, or a prompt and a
            fallback are given: the prompt names its own model.
    """

    service_tier: ServiceTier | None = None
    latency: Latency | None = None
    guardrail: GuardrailHook | None = None
    prompt: PromptUse | None = None
    fallback: IBedrockModel | str | None = None

    def __post_init__(self) -> None:
        if self.service_tier is not None:
            choice(ServiceTier, service_tier=self.service_tier)
        if self.latency is not None:
            choice(Latency, latency=self.latency)
        if self.guardrail is not None:
            # A hook's module is loaded where there is one, and costs stacks that have none.
            from tokenmill.bedrock.guardrail import GuardrailHook

            instance(GuardrailHook, guardrail=self.guardrail)
        instance_or_none(PromptUse, prompt=self.prompt)
        check_fallback(self.fallback)
        if self.prompt is not None and self.fallback is not None:
            raise TokenmillError(
                "prompt and fallback are given, but a managed prompt names its own model; leave one out"
            )


def check_fallback(fallback: object) -> None:
    """Refuse what cannot stand in for a model that throttles.

    Args:
        fallback: A model of this package, its id, or None.

    Raises:
        TokenmillError: If it is none of them, or has provisioned units, which may be missing too.
    """
    if fallback is None:
        return
    if isinstance(fallback, str):
        text("fallback", fallback)
    elif not isinstance(fallback, IBedrockModel):
        raise TokenmillError(
            f"fallback is {fallback!r:.80}; give a model's id, or a model such as InferenceProfile"
        )
    units = ":provisioned-model/" in fallback if isinstance(fallback, str) else fallback.handle is not None
    if units:
        raise TokenmillError(
            "fallback has provisioned units, which may be missing or throttle as well; give an on-demand "
            "model's id or an InferenceProfile"
        )
