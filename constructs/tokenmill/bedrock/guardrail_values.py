"""What a guardrail blocks and masks, as values that are checked when they are written.

Limits: AWS::Bedrock::Guardrail (AWS CloudFormation reference) and the classic tier's of "CreateGuardrail"
(Amazon Bedrock API Reference), whichever is the tighter.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from tokenmill.bedrock._guardrail_properties import guardrail_properties
from tokenmill.core._checks import as_texts, known, numeric, text
from tokenmill.core._kinds import choice, flags, instance, instance_or_none, members
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Sequence

TOPIC_NAME = re.compile(r"[0-9a-zA-Z-_ !?.]{1,100}")
LONGEST_DEFINITION = 200
LONGEST_EXAMPLE = 100
MOST_EXAMPLES = 5
MOST_TOPICS = 30
LONGEST_WORD = 100
MOST_WORDS = 10_000
LONGEST_REGEX = 500
MOST_REGEXES = 10
LONGEST_MESSAGE = 500
# "Sensitive information filters": regular expressions have no look-around.
LOOK_AROUND = re.compile(r"\(\?(<?[=!])")
# A group that is nothing but one repeated sign, repeated again: as many ways to fit as there are sums.
REPEATED_TWICE = re.compile(
    r"(?<!\\)\((?:\?:)?(?:\\.|\[(?:\\.|[^\]\\])+\]|[^()\[\]\\|])(?:[*+]|\{\d*,\})\??\)(?:[*+]|\{\d*,\})"
)
ENTITIES = (
    *("ADDRESS", "AGE", "AWS_ACCESS_KEY", "AWS_SECRET_KEY", "CA_HEALTH_NUMBER"),
    *("CA_SOCIAL_INSURANCE_NUMBER", "CREDIT_DEBIT_CARD_CVV", "CREDIT_DEBIT_CARD_EXPIRY"),
    *("CREDIT_DEBIT_CARD_NUMBER", "DRIVER_ID", "EMAIL", "INTERNATIONAL_BANK_ACCOUNT_NUMBER", "IP_ADDRESS"),
    *("LICENSE_PLATE", "MAC_ADDRESS", "NAME", "PASSWORD", "PHONE", "PIN", "SWIFT_CODE"),
    *("UK_NATIONAL_HEALTH_SERVICE_NUMBER", "UK_NATIONAL_INSURANCE_NUMBER"),
    *("UK_UNIQUE_TAXPAYER_REFERENCE_NUMBER", "URL", "USERNAME", "US_BANK_ACCOUNT_NUMBER"),
    *("US_BANK_ROUTING_NUMBER", "US_INDIVIDUAL_TAX_IDENTIFICATION_NUMBER", "US_PASSPORT_NUMBER"),
    *("US_SOCIAL_SECURITY_NUMBER", "VEHICLE_IDENTIFICATION_NUMBER"),
)
"""Kinds of personal data that Bedrock finds ("GuardrailPiiEntityConfig", Amazon Bedrock API Reference)."""


class Harm(StrEnum):
    """What a content filter looks for."""

    HATE = "HATE"
    INSULTS = "INSULTS"
    MISCONDUCT = "MISCONDUCT"
    PROMPT_ATTACK = "PROMPT_ATTACK"
    SEXUAL = "SEXUAL"
    VIOLENCE = "VIOLENCE"


class Strength(StrEnum):
    """How little it takes for a content filter to block."""

    NONE = "NONE"
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"


class Treatment(StrEnum):
    """What happens to personal data: the whole text is blocked, or the place is masked."""

    BLOCK = "BLOCK"
    MASK = "ANONYMIZE"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentFilter:
    """A filter on one kind of harm.

    Args:
        harm: What it looks for.
        question: Strength on what callers say.
        answer: Strength on what the model says; NONE for PROMPT_ATTACK, which only callers make.

    Raises:
        TokenmillError: If answers are searched for prompt attacks, or nothing is searched.
    """

    harm: Harm
    question: Strength = Strength.HIGH
    answer: Strength = Strength.HIGH

    def __post_init__(self) -> None:
        choice(Harm, harm=self.harm)
        choice(Strength, question=self.question, answer=self.answer)
        if self.harm == Harm.PROMPT_ATTACK and self.answer != Strength.NONE:
            raise TokenmillError(
                f"answer of the filter {self.harm} is {self.answer}; only callers attack prompts, so it "
                "must be Strength.NONE"
            )
        if self.question == self.answer == Strength.NONE:
            raise TokenmillError(f"the filter {self.harm} has the strength NONE on both sides; leave it out")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeniedTopic:
    """A subject that is not talked about.

    Args:
        name: 1 to 100 letters, digits, blanks and - _ ! ? .
        definition: What belongs to it, at most 200 characters.
        examples: Up to five sentences on it, of at most 100 characters each.

    Raises:
        TokenmillError: If one of them is not of its form.
    """

    name: str
    definition: str
    examples: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        text("name", self.name)
        as_texts(self, "examples")
        if not TOPIC_NAME.fullmatch(self.name):
            raise TokenmillError(
                f"name of a topic is {self.name!r}; it must be 1 to 100 letters, digits, blanks and - _ ! ? ."
            )
        _short(f"definition of the topic {self.name!r}", self.definition, LONGEST_DEFINITION)
        if len(self.examples) > MOST_EXAMPLES:
            raise TokenmillError(
                f"the topic {self.name!r} has {len(self.examples)} examples; at most {MOST_EXAMPLES} are "
                "taken"
            )
        for example in self.examples:
            _short(f"an example of the topic {self.name!r}", example, LONGEST_EXAMPLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Words and phrases that block a text.

    Args:
        words: Up to 10,000, each of at most 100 characters.
        profanity: Whether AWS's own list of profanities counts too.

    Raises:
        TokenmillError: If there is neither, or a word is empty or too long.
    """

    words: tuple[str, ...] = ()
    profanity: bool = False

    def __post_init__(self) -> None:
        as_texts(self, "words")
        flags(profanity=self.profanity)
        if not self.words and not self.profanity:
            raise TokenmillError("words is empty and profanity is False; give one of them or leave Words out")
        if len(self.words) > MOST_WORDS:
            raise TokenmillError(f"words has {len(self.words):,} entries; at most {MOST_WORDS:,} are taken")
        for word in self.words:
            _short("a word", word, LONGEST_WORD)
        _once("words", self.words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """A regular expression for data of your own, such as an account number.

    Args:
        name: What it is called in assessments, at most 100 characters.
        regex: The expression, at most 500 characters, without look-around.
        treatment: Whether it blocks or masks.

    Raises:
        TokenmillError: If it is no such expression.
    """

    name: str
    regex: str
    treatment: Treatment

    def __post_init__(self) -> None:
        choice(Treatment, treatment=self.treatment)
        _short("name of a pattern", self.name, LONGEST_WORD)
        _short(f"regex of the pattern {self.name!r}", self.regex, LONGEST_REGEX)
        try:
            re.compile(self.regex)
        except (re.error, OverflowError, RecursionError) as error:
            raise TokenmillError(
                f"regex of the pattern {self.name!r} is {self.regex!r}, which is no regular expression: "
                f"{error}"
            ) from error
        if LOOK_AROUND.search(self.regex):
            raise TokenmillError(
                f"regex of the pattern {self.name!r} is {self.regex!r}; guardrails take no look-around, so "
                "write it without (?= (?! (?<= (?<!"
            )
        if REPEATED_TWICE.search(self.regex):
            raise TokenmillError(
                f"regex of the pattern {self.name!r} is {self.regex!r}, which repeats a repetition: a text "
                "that nearly fits takes it longer than the world stands; repeat once, as a+ for (a+)+"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalData:
    """Personal data that blocks a text or is masked in it.

    Args:
        block: Kinds of `ENTITIES` that block, such as "US_SOCIAL_SECURITY_NUMBER".
        mask: Kinds that are masked, such as "EMAIL", which becomes {EMAIL}.
        patterns: Data of your own.

    Raises:
        TokenmillError: If there is none, a kind is unknown, or one is in both lists.
    """

    block: tuple[str, ...] = ()
    mask: tuple[str, ...] = ()
    patterns: tuple[Pattern, ...] = ()

    def __post_init__(self) -> None:
        as_texts(self, "block", "mask")
        object.__setattr__(self, "patterns", members("patterns", self.patterns, Pattern))
        unknown = [kind for kind in (*self.block, *self.mask) if kind not in ENTITIES]
        if unknown:
            raise TokenmillError(
                f"personal data {', '.join(map(repr, unknown))} is unknown; known are {', '.join(ENTITIES)}"
            )
        both = sorted(set(self.block) & set(self.mask))
        if both:
            raise TokenmillError(f"{', '.join(both)} is in block and in mask; a kind is treated in one way")
        if not (self.block or self.mask or self.patterns):
            raise TokenmillError("block, mask and patterns are empty; give one or leave PersonalData out")
        if len(self.patterns) > MOST_REGEXES:
            raise TokenmillError(
                f"patterns has {len(self.patterns)} entries; at most {MOST_REGEXES} are taken"
            )
        _once("block", self.block)
        _once("mask", self.mask)
        _once("patterns", [item.name for item in self.patterns])

    @property
    def masks(self) -> bool:
        """Whether something is masked."""
        return bool(self.mask) or any(item.treatment == Treatment.MASK for item in self.patterns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounding:
    """Answers that do not follow from their source, or do not answer, are blocked.

    It holds for texts that are marked as source and question ("contextual grounding check", Amazon Bedrock
    User Guide), as a retrieval does it; the gateway marks none.

    Args:
        grounded: Least confidence that the answer follows from its source, 0 to 0.99; None for no check.
        relevant: Least confidence that it answers the question, 0 to 0.99; None for no check.

    Raises:
        TokenmillError: If there is none, or one is out of range.
    """

    grounded: float | None = None
    relevant: float | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("grounded", "relevant") if getattr(self, name) is not None]
        if not given:
            raise TokenmillError("grounded and relevant are None; give one of them or leave Grounding out")
        numeric(self, *given)
        for name in given:
            if not 0 <= getattr(self, name) <= 0.99:
                raise TokenmillError(f"{name} is {getattr(self, name)!r}; it must be 0 to 0.99")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockedMessages:
    """What callers read instead of what was blocked.

    Args:
        question: For a question; the gateway sends it as an error. At most 500 characters.
        answer: For an answer; the gateway sends it in the answer's place. At most 500 characters.

    Raises:
        TokenmillError: If one is empty or too long, or both are the same: the gateway tells them apart.
    """

    question: str = "This request is against the rules of this service."
    answer: str = "The answer was withheld: it is against the rules of this service."

    def __post_init__(self) -> None:
        _short("question", self.question, LONGEST_MESSAGE)
        _short("answer", self.answer, LONGEST_MESSAGE)
        if self.question == self.answer:
            raise TokenmillError(
                f"question and answer are both {self.question!r}; the gateway tells a blocked question from "
                "a blocked answer by them, so give two texts"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardrailPolicies:
    """All that a guardrail does.

    Args:
        filters: Kinds of harm.
        topics: Subjects that are not talked about.
        words: Words that block.
        personal_data: Personal data that blocks or is masked.
        grounding: Answers must follow from their source.
        messages: What callers read instead.

    Raises:
        TokenmillError: If there is no policy, or a harm or a topic stands twice.
    """

    filters: tuple[ContentFilter, ...] = ()
    topics: tuple[DeniedTopic, ...] = ()
    words: Words | None = None
    personal_data: PersonalData | None = None
    grounding: Grounding | None = None
    messages: BlockedMessages = field(default_factory=BlockedMessages)

    def __post_init__(self) -> None:
        object.__setattr__(self, "filters", members("filters", self.filters, ContentFilter))
        object.__setattr__(self, "topics", members("topics", self.topics, DeniedTopic))
        instance_or_none(Words, words=self.words)
        instance_or_none(PersonalData, personal_data=self.personal_data)
        instance_or_none(Grounding, grounding=self.grounding)
        instance(BlockedMessages, messages=self.messages)
        if not (self.filters or self.topics or self.words or self.personal_data or self.grounding):
            raise TokenmillError(
                "a guardrail needs one policy at least; give filters, topics, words, personal_data or "
                "grounding"
            )
        _once("filters", [item.harm for item in self.filters])
        _once("topics", [item.name for item in self.topics])
        if len(self.topics) > MOST_TOPICS:
            raise TokenmillError(f"topics has {len(self.topics)} entries; at most {MOST_TOPICS} are taken")

    @property
    def masks(self) -> bool:
        """Whether texts are changed, and not only let through or blocked."""
        return self.personal_data is not None and self.personal_data.masks

    @property
    def digest(self) -> str:
        """Eight hex digits that change with anything that the guardrail does."""
        return hashlib.sha256(json.dumps(self.to_properties(), sort_keys=True).encode()).hexdigest()[:8]

    def to_properties(self) -> dict[str, Any]:
        """Return the properties of AWS::Bedrock::Guardrail in the form that its L1 construct takes."""
        return guardrail_properties(self)


def _short(what: str, found: object, most: int) -> None:
    known(what, found)
    if not isinstance(found, str) or not found.strip() or len(found) > most:
        shown = f"{found!r:.60}" + (f" of {len(found)} characters" if isinstance(found, str) else "")
        raise TokenmillError(f"{what} is {shown}; it must be a text of 1 to {most} characters")


def _once(what: str, names: Sequence[str]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise TokenmillError(f"{what} has {', '.join(twice)} more than once; give each once")
