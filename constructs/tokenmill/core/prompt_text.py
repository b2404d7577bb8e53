"""Prompts as texts: what varies in them, how many tokens they have, what a cache can hold of them.

Tokens are estimated, because the models' tokenizers are not public; the bounds are wide on purpose, and an
exact count (CountTokens, Amazon Bedrock Runtime API Reference) replaces them. The limits of caches are data
from "Prompt caching for faster model inference" (Amazon Bedrock User Guide).
"""

from __future__ import annotations

import difflib
import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tokenmill.core._checks import as_texts, as_whole, positive, text
from tokenmill.core._tables import rows
from tokenmill.core.bedrock_profiles import split_profile
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

# "To include a variable, enclose a word in double curly braces" (TextPromptTemplateConfiguration).
BRACES = re.compile(r"\{\{\s*(.*?)\s*\}\}", re.DOTALL)
NO_LETTER = re.compile(r"[^A-Za-z ]+")
VARIABLE = re.compile(r"([0-9a-zA-Z][_-]?){1,100}")
MOST_VARIABLES = 20
# Bounds of characters a token in English and in code: the providers' pages say 3.5 to 4 on average, and whole
# paragraphs stay between these. Digits and signs may be a token each; of other scripts one character is a
# quarter of a token to two.
MOST_LETTERS_A_TOKEN = 6.0
FEWEST_LETTERS_A_TOKEN = 2.5
FEWEST_TOKENS_A_SIGN = 0.25
MOST_TOKENS_A_SIGN = 1.0
FEWEST_TOKENS_A_FOREIGN = 0.25
MOST_TOKENS_A_FOREIGN = 2.0
CACHE_FIELDS = ("system", "messages", "tools")

Field = Literal["system", "messages"]


@dataclass(frozen=True, slots=True)
class TokenRange:
    """How many tokens a text has.

    Args:
        low: At least so many.
        high: At most so many; the same for a count.
    """

    low: int
    high: int

    def __add__(self, other: TokenRange) -> TokenRange:
        """Return the range of two texts one after the other."""
        return TokenRange(self.low + other.low, self.high + other.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptVariable:
    """A part of a prompt that each call fills.

    Args:
        name: Letters and digits, with single dashes or underscores between them, as in {{name}}.
        max_tokens: The longest value that is planned for, in tokens.

    Raises:
        TokenmillError: If the name is none or the tokens are not above 0.
    """

    name: str
    max_tokens: int

    def __post_init__(self) -> None:
        text("variable", self.name)
        as_whole(self, "max_tokens")
        positive(max_tokens=self.max_tokens)
        if not VARIABLE.fullmatch(self.name):
            raise TokenmillError(
                f"variable is {self.name!r:.80}; it must have 1 to 100 letters or digits, with single dashes "
                "or underscores between them"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptPart:
    """One block of a prompt, in the order in which the model reads them.

    Args:
        field: "system" or "messages".
        text: The block's text; "" for a cache point.
        cache_point: Whether everything before it is to be cached.
        tokens: How many tokens the text has, where it was counted.
    """

    field: Field
    text: str = ""
    cache_point: bool = False
    tokens: int | None = None

    @property
    def size(self) -> TokenRange:
        """How many tokens the text has, variables not filled."""
        if self.tokens is not None:
            return TokenRange(self.tokens, self.tokens)
        return estimate_tokens(BRACES.sub("", self.text))


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRule:
    """What a model's prompt cache takes.

    Args:
        minimum_tokens: Shorter prefixes are not cached, without an error.
        maximum_points: Cache points a request may have.
        fields: Parts of a request that may have them.

    Raises:
        TokenmillError: If a number is not above 0, or a field is unknown.
    """

    minimum_tokens: int
    maximum_points: int
    fields: tuple[str, ...]

    def __post_init__(self) -> None:
        as_whole(self, "minimum_tokens", "maximum_points")
        positive(minimum_tokens=self.minimum_tokens, maximum_points=self.maximum_points)
        as_texts(self, "fields")
        wrong = sorted({*self.fields} - {*CACHE_FIELDS})
        if wrong or not self.fields:
            raise TokenmillError(
                f"fields is {self.fields!r:.80}; give one or more of {', '.join(CACHE_FIELDS)}"
            )


@functools.cache
def cache_rules() -> dict[str, CacheRule]:
    """Return what each model's cache takes, by foundation model."""
    return {
        row["model_id"]: CacheRule(
            minimum_tokens=int(row["minimum_tokens"]),
            maximum_points=int(row["maximum_points"]),
            fields=tuple(row["fields"].split()),
        )
        for row in rows("prompt_caching.csv")
    }


def cache_rule(model_id: str) -> CacheRule | None:
    """Return what a model's cache takes, or None where the data has nothing of it.

    Args:
        model_id: A foundation model's or a system-defined profile's id.
    """
    return cache_rules().get(split_profile(model_id)[1])


def estimate_tokens(content: str) -> TokenRange:
    """Return bounds of a text's tokens.

    Args:
        content: Any text; variables are taken as they stand.
    """
    if not content:
        return TokenRange(0, 0)
    letters = len(NO_LETTER.sub("", content))
    foreign = len(content) - len(content.encode("ascii", "ignore"))
    signs = len(content) - letters - foreign
    low = letters / MOST_LETTERS_A_TOKEN + signs * FEWEST_TOKENS_A_SIGN + foreign * FEWEST_TOKENS_A_FOREIGN
    high = letters / FEWEST_LETTERS_A_TOKEN + signs * MOST_TOKENS_A_SIGN + foreign * MOST_TOKENS_A_FOREIGN
    return TokenRange(max(1, int(low)), int(high) + 1)


def used_variables(content: str) -> tuple[str, ...]:
    """Return the names between double braces, in order, each once.

    Args:
        content: A template.

    Raises:
        TokenmillError: If a pair of braces holds no name.
    """
    found = []
    for match in BRACES.finditer(content):
        name = match[1]
        if not VARIABLE.fullmatch(name):
            raise TokenmillError(
                f"{match[0]!r:.60} is no variable; a name has letters or digits, with single dashes or "
                "underscores between them; text in double braces cannot be written otherwise"
            )
        found.append(name)
    return tuple(dict.fromkeys(found))


def check_variables(parts: Sequence[PromptPart], variables: Sequence[PromptVariable], *, where: str) -> None:
    """Refuse variables that are used and not declared, or declared and not used.

    Args:
        parts: The prompt.
        variables: What is declared.
        where: How messages call the prompt, such as "variant 'short'".

    Raises:
        TokenmillError: One of these, or more than 20 variables, or one declared twice.
    """
    names = [variable.name for variable in variables]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TokenmillError(f"variable {twice[0]!r} is declared twice; declare it once")
    if len(names) > MOST_VARIABLES:
        raise TokenmillError(f"{len(names)} variables are declared; Bedrock takes {MOST_VARIABLES} at most")
    used = [name for part in parts for name in used_variables(part.text)]
    for name in used:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            meant = f"; did you mean {{{{{near[0]}}}}}?" if near else ""
            raise TokenmillError(
                f"{where} uses {{{{{name}}}}}, which is not declared{meant}; declared: "
                f"{', '.join(names) or 'none'}; add PromptVariable(name={name!r}, max_tokens=…)"
            )
    unused = [name for name in names if name not in used]
    if unused:
        raise TokenmillError(
            f"{where} does not use the declared variable {unused[0]!r}; put {{{{{unused[0]}}}}} into its "
            "text or do not declare it"
        )


def prompt_tokens(parts: Iterable[PromptPart], variables: Collection[PromptVariable]) -> TokenRange:
    """Return how many tokens a prompt has when every variable has its longest value.

    Args:
        parts: The prompt.
        variables: What is declared.
    """
    longest = {variable.name: variable.max_tokens for variable in variables}
    total = TokenRange(0, 0)
    for part in parts:
        filled = sum(longest.get(match[1], 0) for match in BRACES.finditer(part.text))
        total = total + part.size + TokenRange(filled, filled)
    return total


def check_budget(
    parts: Sequence[PromptPart], variables: Sequence[PromptVariable], *, most: int, where: str
) -> str:
    """Refuse a prompt that is over its budget for certain; return what to warn of where it may be, or "".

    Args:
        parts: The prompt.
        variables: What is declared, at its longest.
        most: Tokens that a filled prompt may have.
        where: How messages call the prompt.

    Raises:
        TokenmillError: Even the lower bound is above the budget.
    """
    size = prompt_tokens(parts, variables)
    values = sum(variable.max_tokens for variable in variables)
    if size.low > most:
        raise TokenmillError(
            f"{where} has at least {size.low} tokens when filled ({values} of them variables), and "
            f"max_prompt_tokens is {most}; shorten it, lower max_tokens of a variable, or raise the budget"
        )
    if size.high <= most:
        return ""
    return (
        f"{where} may have up to {size.high} tokens when filled (at least {size.low}), and max_prompt_tokens "
        f"is {most}; count it with CountTokens and give the count as tokens="
    )


def check_cache(parts: Sequence[PromptPart], rule: CacheRule | None, *, where: str) -> list[str]:
    """Refuse cache points that cannot work; return what to warn of where they may not.

    Bedrock answers such requests without an error and without a cache: "If you add a cache checkpoint before
    meeting the minimum number of tokens, your inference still succeeds, but your prefix isn't cached."

    Args:
        parts: The prompt, in the order in which the model reads it.
        rule: What the model's cache takes; None where that is not known.
        where: How messages call the prompt.

    Raises:
        TokenmillError: A variable or nothing at all before a point, a prefix that is too short for certain,
            too many points, a point where the model takes none, or a model whose cache is not known.
    """
    points = list(_points(parts))
    if not points:
        return []
    if rule is None:
        raise TokenmillError(
            f"{where} has a cache point, and no cache of its model is known here; leave the point out, or "
            "give cache=CacheRule(minimum_tokens=…, maximum_points=…, fields=…) from the model's card"
        )
    if len(points) > rule.maximum_points:
        raise TokenmillError(
            f"{where} has {len(points)} cache points; its model takes {rule.maximum_points} a request"
        )
    warnings = []
    for number, (point, before) in enumerate(points, 1):
        _check_point(point, before, rule, f"cache point {number} of {where}")
        size = functools.reduce(lambda total, part: total + part.size, before, TokenRange(0, 0))
        least = rule.minimum_tokens * number
        if size.high < least:
            raise TokenmillError(
                f"cache point {number} of {where} has at most {size.high} tokens before it, and its model "
                f"caches from {least} tokens on; move what never changes before it, or leave the point out"
            )
        if size.low < least:
            warnings.append(
                f"cache point {number} of {where} may have only {size.low} tokens before it (at most "
                f"{size.high}), and its model caches from {least} on; count them with CountTokens and give "
                "the count as tokens="
            )
    return warnings


def _points(parts: Sequence[PromptPart]) -> Iterator[tuple[PromptPart, list[PromptPart]]]:
    for index, part in enumerate(parts):
        if part.cache_point:
            yield part, [before for before in parts[:index] if not before.cache_point]


def _check_point(point: PromptPart, before: Sequence[PromptPart], rule: CacheRule, where: str) -> None:
    if point.field not in rule.fields:
        raise TokenmillError(
            f"{where} stands in {point.field}; its model takes cache points in {', '.join(rule.fields)}"
        )
    varying = [name for part in before for name in used_variables(part.text)]
    if varying:
        raise TokenmillError(
            f"{where} has the variable {{{{{varying[0]}}}}} before it, so that no two calls share the "
            "prefix; put what never changes first, then the cache point, then the variables"
        )
    if not any(part.text for part in before):
        raise TokenmillError(f"{where} has nothing before it; put it after the text that never changes")
