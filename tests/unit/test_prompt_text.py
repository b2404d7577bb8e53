"""Prompts as texts: variables, token bounds, budgets and what a cache can hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.core.errors import TokenmillError
from tokenmill.core.prompt_text import (
    CACHE_FIELDS,
    CacheRule,
    PromptPart,
    PromptVariable,
    TokenRange,
    cache_rule,
    cache_rules,
    check_budget,
    check_cache,
    check_variables,
    estimate_tokens,
    prompt_tokens,
    used_variables,
)

RULE = CacheRule(minimum_tokens=1024, maximum_points=2, fields=("system", "messages"))
QUESTION = PromptVariable(name="question", max_tokens=100)
POINT = PromptPart(field="system", cache_point=True)
# "The quick brown fox": GPT-4's tokenizer makes 9 tokens of the sentence, Claude's about as many.
SENTENCE = "The quick brown fox jumps over the lazy dog"


def static(tokens: int) -> PromptPart:
    return PromptPart(field="system", text="x", tokens=tokens)


def user(text: str) -> PromptPart:
    return PromptPart(field="messages", text=text)


def test_a_sentence_s_tokens_lie_between_the_bounds() -> None:
    """Nine tokens by the tokenizers that are public."""
    found = estimate_tokens(SENTENCE)
    assert found.low <= 9 <= found.high
    assert found.high <= 4 * found.low


def test_a_script_of_its_own_is_counted_by_characters() -> None:
    """Chinese has about a token a character, where letters would give a fifth of that."""
    found = estimate_tokens("敏捷的棕色狐狸跳过懒狗" * 10)
    assert found.low <= 110 <= found.high


def test_digits_may_be_a_token_each() -> None:
    """A table of numbers is longer than a text of as many characters."""
    assert estimate_tokens("8231" * 25).high >= 100


@given(st.text(), st.text())
def test_more_text_never_has_fewer_tokens(first: str, second: str) -> None:
    """Bounds grow with the text, and the lower one stays below the upper."""
    one, both = estimate_tokens(first), estimate_tokens(first + second)
    assert one.low <= both.low
    assert one.high <= both.high + 1
    assert 0 <= both.low <= both.high


def test_a_counted_text_is_no_estimate() -> None:
    """The user's count replaces both bounds."""
    assert static(700).size == TokenRange(700, 700)


def test_variables_stand_in_double_braces() -> None:
    """In order, each once, with blanks inside the braces or without."""
    assert used_variables("{{a}} and {{ b-c }} and {{a}} and {x}") == ("a", "b-c")


@pytest.mark.parametrize("text", ["{{}}", "{{two words}}", "{{_a}}", "{{a--b}}"])
def test_fails_for_braces_without_a_name(text: str) -> None:
    """Bedrock would take them for a variable and find none."""
    with pytest.raises(TokenmillError, match="is no variable"):
        used_variables(text)


@pytest.mark.parametrize(
    ("text", "variables", "sentence"),
    [
        (
            "{{qestion}}",
            [QUESTION],
            "uses {{qestion}}, which is not declared; did you mean {{question}}?; declared: question",
        ),
        ("{{a}}", [], "uses {{a}}, which is not declared; declared: none; add PromptVariable(name='a'"),
        ("none", [QUESTION], "variant 'a' does not use the declared variable 'question'"),
        ("{{question}}", [QUESTION, QUESTION], "variable 'question' is declared twice"),
        (
            " ".join(f"{{{{v{n}}}}}" for n in range(21)),
            [PromptVariable(name=f"v{n}", max_tokens=1) for n in range(21)],
            "21 variables are declared; Bedrock takes 20 at most",
        ),
    ],
)
def test_fails_for_variables_that_do_not_match(
    text: str, variables: list[PromptVariable], sentence: str
) -> None:
    """Each variable is declared once and used."""
    with pytest.raises(TokenmillError) as raised:
        check_variables([user(text)], variables, where="variant 'a'")
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("name", "tokens", "sentence"),
    [
        ("two words", 5, "variable is 'two words'"),
        ("", 5, "variable must be a text that is not empty"),
        ("a", 0, "max_tokens must be above 0"),
        ("a", 1.5, "max_tokens must be a whole number"),
    ],
)
def test_fails_for_a_variable_without_name_or_size(name: str, tokens: int, sentence: str) -> None:
    """A variable has a name that Bedrock takes and a longest value."""
    with pytest.raises(TokenmillError) as raised:
        PromptVariable(name=name, max_tokens=tokens)
    assert sentence in str(raised.value)


def test_a_variable_counts_as_often_as_it_is_used() -> None:
    """The filled prompt is what the model reads."""
    parts = [static(10), user("{{question}} again: {{question}}")]
    assert prompt_tokens(parts, [QUESTION]).low >= 210


def test_fails_for_a_prompt_that_is_over_its_budget_for_certain() -> None:
    """Even the lower bound is above it."""
    with pytest.raises(TokenmillError) as raised:
        check_budget([static(950), user("{{question}}")], [QUESTION], most=1000, where="variant 'a'")
    assert str(raised.value).startswith(
        "variant 'a' has at least 1050 tokens when filled (100 of them variables), and max_prompt_tokens "
        "is 1000"
    )


def test_a_prompt_that_may_be_over_its_budget_is_warned_of() -> None:
    """Between the bounds nobody knows without a count; a count settles it."""
    size = estimate_tokens(SENTENCE * 20)
    between = (size.low + size.high) // 2
    assert "CountTokens" in check_budget([user(SENTENCE * 20)], [], most=between, where="it")
    assert check_budget([user(SENTENCE * 20)], [], most=size.high, where="it") == ""
    assert check_budget([static(between)], [], most=between, where="it") == ""


def test_a_long_static_prefix_can_be_cached() -> None:
    """No error and nothing to warn of."""
    assert check_cache([static(1024), POINT, user("{{question}}")], RULE, where="it") == []


def test_a_prefix_that_may_be_too_short_is_warned_of() -> None:
    """The estimate leaves it open."""
    text = SENTENCE + " "
    parts = [PromptPart(field="system", text=text * 90), POINT]
    size = parts[0].size
    assert size.low < RULE.minimum_tokens <= size.high
    (warning,) = check_cache(parts, RULE, where="it")
    assert warning.startswith(f"cache point 1 of it may have only {size.low} tokens before it")


def test_the_second_point_needs_the_minimum_once_more() -> None:
    """AWS: the first can be "defined after 1,024 tokens", the second after 2,048."""
    parts = [static(1024), POINT, static(1000), POINT]
    with pytest.raises(TokenmillError, match="cache point 2 of it has at most 2024 tokens before it"):
        check_cache(parts, RULE, where="it")
    assert check_cache([static(1024), POINT, static(1024), POINT], RULE, where="it") == []


@pytest.mark.parametrize(
    ("parts", "rule", "sentence"),
    [
        ([static(1023), POINT], RULE, "has at most 1023 tokens before it, and its model caches from 1024"),
        ([user("{{question}}"), static(2000), POINT], RULE, "has the variable {{question}} before it"),
        ([POINT, static(2000)], RULE, "cache point 1 of it has nothing before it"),
        ([static(9000), POINT, POINT, POINT], RULE, "it has 3 cache points; its model takes 2 a request"),
        ([static(9000), POINT], None, "it has a cache point, and no cache of its model is known here"),
        (
            [static(9000), POINT],
            CacheRule(minimum_tokens=1, maximum_points=1, fields=("messages",)),
            "stands in system; its model takes cache points in messages",
        ),
    ],
)
def test_fails_for_a_cache_point_that_cannot_work(
    parts: list[PromptPart], rule: CacheRule | None, sentence: str
) -> None:
    """Bedrock would answer without an error and cache nothing."""
    with pytest.raises(TokenmillError) as raised:
        check_cache(parts, rule, where="it")
    assert sentence in str(raised.value)


def test_a_prompt_without_points_needs_no_rule() -> None:
    """Most prompts cache nothing."""
    assert check_cache([static(1), user("{{question}}")], None, where="it") == []


def test_rules_hold_for_profiles_as_for_models() -> None:
    """A geography does not change a model's cache."""
    model = "anthropic.claude-sonnet-5"
    assert cache_rule(f"us.{model}") == cache_rule(model)
    assert cache_rule("amazon.titan-text-express-v1") is None


def test_the_data_is_of_the_pages_form() -> None:
    """512 to 4,096 tokens, four points, known fields."""
    assert {rule.minimum_tokens for rule in cache_rules().values()} == {512, 1024, 4096}
    assert {rule.maximum_points for rule in cache_rules().values()} == {4}
    assert all({*rule.fields} <= {*CACHE_FIELDS} for rule in cache_rules().values())
