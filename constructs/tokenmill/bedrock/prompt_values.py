"""What a managed prompt is made of: variants, messages, cache points, settings of the answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tokenmill.core._checks import as_whole, as_whole_or_none, numeric, text
from tokenmill.core._kinds import TOPIC, instance, instance_or_none, members, resource, texts
from tokenmill.core.errors import TokenmillError
from tokenmill.core.prompt_text import VARIABLE, Field, PromptPart
from tokenmill.core.prompt_text import CacheRule as CacheRule
from tokenmill.core.prompt_text import PromptVariable as PromptVariable

if TYPE_CHECKING:
    from aws_cdk import aws_sns as sns

    from tokenmill.bedrock.model import IBedrockModel

# AWS::Bedrock::Prompt: Text, MaxTokens, Temperature and TopP, StopSequences, Variants.
LONGEST_TEXT = 200_000
MOST_ANSWER_TOKENS = 512_000
MOST_STOPS = 4
# Control characters and halves of surrogate pairs: neither XML nor UTF-8 has them, and templates go by both.
UNSENDABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
MOST_VARIANTS = 3
# "PutMetricAlarm" (Amazon CloudWatch API Reference): periods below an hour look back a day at most.
MOST_QUARTERS = 96


@dataclass(frozen=True, slots=True)
class CachePoint:
    """Says that everything before it is to be cached; see `CACHE_POINT`."""


CACHE_POINT = CachePoint()


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedText:
    """A text whose tokens were counted, with CountTokens for one.

    Args:
        text: The text.
        tokens: Its tokens, variables not filled.

    Raises:
        TokenmillError: If the text is empty or the tokens are below 1.
    """

    text: str
    tokens: int

    def __post_init__(self) -> None:
        text("text", self.text)
        as_whole(self, "tokens")
        if self.tokens < 1:
            raise TokenmillError(f"tokens is {self.tokens}; it must be 1 or more")


Block = str | CountedText | CachePoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation.

    Args:
        role: "user" or "assistant".
        content: Its blocks, in order.

    Raises:
        TokenmillError: If the role is neither, or there is no text.
    """

    role: Literal["user", "assistant"]
    content: tuple[Block, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "content", _blocks("content", self.content))
        if self.role not in ("user", "assistant"):
            raise TokenmillError(f"role is {self.role!r}; it must be 'user' or 'assistant'")
        if all(isinstance(block, CachePoint) for block in self.content):
            raise TokenmillError(f"the {self.role} message has no text")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerSettings:
    """How the model answers; what is left out is the model's own.

    Args:
        max_tokens: Longest answer, in tokens, 1 to 512,000.
        temperature: From 0 to 1.
        top_p: From 0 to 1.
        stop_sequences: Texts that end the answer, four at most.

    Raises:
        TokenmillError: If a value is out of its range.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop_sequences: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        as_whole_or_none(self, "max_tokens")
        object.__setattr__(self, "stop_sequences", texts("stop_sequences", self.stop_sequences))
        if self.max_tokens is not None and not 1 <= self.max_tokens <= MOST_ANSWER_TOKENS:
            raise TokenmillError(
                f"max_tokens is {self.max_tokens}; it must be from 1 to {MOST_ANSWER_TOKENS}"
            )
        for name in ("temperature", "top_p"):
            value = getattr(self, name)
            if value is not None:
                numeric(self, name)
            if value is not None and not 0 <= value <= 1:
                raise TokenmillError(f"{name} is {value!r}; it must be from 0 to 1")
        if len(self.stop_sequences) > MOST_STOPS:
            raise TokenmillError(
                f"stop_sequences has {len(self.stop_sequences)} texts; Bedrock takes {MOST_STOPS} at most"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptVariant:
    """One wording of a prompt, for one model.

    Args:
        name: Letters and digits, with single dashes or underscores between them.
        model: A model's or profile's id, or a model of this package, such as an InferenceProfile.
        template: The whole prompt in one text; give this, or messages.
        system: What the model is told to be, before the messages.
        messages: Turns of a conversation; the first is the user's, and roles alternate.
        answer: How the model answers.
        cache: What the model's prompt cache takes, where the library does not know it.

    Raises:
        TokenmillError: If both or neither of template and messages are given, or a part is not of its form.
    """

    name: str
    model: str | IBedrockModel
    template: str | CountedText = ""
    system: tuple[Block, ...] = ()
    messages: tuple[Message, ...] = ()
    answer: AnswerSettings = AnswerSettings()
    cache: CacheRule | None = None

    def __post_init__(self) -> None:
        text("variant", self.name)
        if not VARIABLE.fullmatch(self.name):
            raise TokenmillError(
                f"variant is {self.name!r:.80}; it must have 1 to 100 letters or digits, with single dashes "
                "or underscores between them"
            )
        object.__setattr__(self, "system", _blocks("system", self.system))
        object.__setattr__(self, "messages", members("messages", self.messages, Message))
        instance(AnswerSettings, answer=self.answer)
        instance_or_none(CacheRule, cache=self.cache)
        if self.template != "" and not isinstance(self.template, CountedText):
            text("template", self.template)
        if bool(self.template) == bool(self.messages):
            given = "both template and messages" if self.template else "neither template nor messages"
            raise TokenmillError(f"variant {self.name!r} has {given}; give one of them")
        if self.template and self.system:
            raise TokenmillError(
                f"variant {self.name!r} has system with template; give messages=(Message(role='user', …),)"
            )
        roles = [message.role for message in self.messages]
        if roles and roles != ["user" if turn % 2 == 0 else "assistant" for turn in range(len(roles))]:
            raise TokenmillError(
                f"variant {self.name!r} has messages of {', '.join(roles)}; the first is the user's, and "
                "roles alternate"
            )
        for part in self.parts:
            wrong = UNSENDABLE.search(part.text)
            if wrong is not None:
                raise TokenmillError(
                    f"variant {self.name!r} has the character {wrong[0]!r} at {wrong.start()}, which no "
                    "template can hold; leave it out"
                )
            if len(part.text) > LONGEST_TEXT:
                raise TokenmillError(
                    f"variant {self.name!r} has a text of {len(part.text)} characters; Bedrock takes "
                    f"{LONGEST_TEXT} at most"
                )

    @property
    def parts(self) -> list[PromptPart]:
        """The prompt's blocks in the order in which the model reads them."""
        if self.template:
            return [_part("messages", self.template)]
        system = [_part("system", block) for block in self.system]
        return system + [_part("messages", block) for turn in self.messages for block in turn.content]

    @property
    def caches(self) -> bool:
        """Whether the prompt has a cache point."""
        return any(part.cache_point for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheAlarm:
    """When somebody is told that a prompt's cache is never read.

    Args:
        topic: Who is told; the alarm only changes its colour otherwise.
        calls: Calls in a quarter of an hour below which nothing is concluded, because the cache forgets after
            five minutes.
        quarters: For how many quarters of an hour in a row.

    Raises:
        TokenmillError: If a number is out of its range.
    """

    topic: sns.ITopic | None = None
    calls: int = 20
    quarters: int = 4

    def __post_init__(self) -> None:
        resource(TOPIC, topic=self.topic)
        as_whole(self, "calls", "quarters")
        for name in ("calls", "quarters"):
            if getattr(self, name) < 1:
                raise TokenmillError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.quarters > MOST_QUARTERS:
            raise TokenmillError(
                f"quarters is {self.quarters}; an alarm looks back a day at most, so 1 to {MOST_QUARTERS}"
            )


def _blocks(name: str, given: object) -> tuple[Block, ...]:
    if isinstance(given, str):
        text(name, given)
        return (given,)
    if isinstance(given, CountedText | CachePoint):
        return (given,)
    if not isinstance(given, tuple | list):
        raise TokenmillError(f"{name} is {given!r:.60}; give a text or a tuple of texts and CACHE_POINT")
    for block in given:
        if not isinstance(block, CountedText | CachePoint):
            text(name, block)
    return tuple(given)


def _part(field: Field, block: Block) -> PromptPart:
    if isinstance(block, CachePoint):
        return PromptPart(field=field, cache_point=True)
    if isinstance(block, CountedText):
        return PromptPart(field=field, text=block.text, tokens=block.tokens)
    return PromptPart(field=field, text=block)
