"""Chunks of a stream as one chat completion."""

from __future__ import annotations

import pytest

from support_runtime import delta, usage
from tokenmill_runtime.gateway.assembling import assemble


def test_texts_are_joined_in_their_order() -> None:
    """The role is the assistant's, also when no chunk says so."""
    assert assemble([delta("Hel"), delta("lo"), delta(finish="stop")]) == {
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
        ],
        "usage": None,
    }


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_thoughts_keep_the_name_they_came_with(name: str) -> None:
    """Engines differ in it, and their clients read the one that they know."""
    chunks = [delta("", role="assistant"), delta(**{name: "I "}), delta(**{name: "think"}), delta("so")]
    (choice,) = assemble([*chunks, delta(finish="stop")])["choices"]
    assert choice["message"] == {"role": "assistant", "content": "so", name: "I think"}


def test_an_answer_of_thoughts_alone_has_an_empty_content() -> None:
    """As when the limit of tokens ends it before the answer begins; null texts add nothing."""
    (choice,) = assemble([delta(reasoning="hm", content=None), delta(finish="length")])["choices"]
    assert choice["message"] == {"role": "assistant", "content": "", "reasoning": "hm"}
    assert choice["finish_reason"] == "length"


def test_the_last_finish_reason_counts() -> None:
    """A chunk behind it that has none does not take it away; an answer may have none at all."""
    (choice,) = assemble([delta("a", finish="stop"), delta(finish="length"), delta("")])["choices"]
    assert choice["finish_reason"] == "length"
    assert assemble([delta("a")])["choices"][0]["finish_reason"] is None


def test_choices_are_told_apart_by_their_index() -> None:
    """They may take turns, and come in the order of their index; without one it is the first."""

    def part(index: int | None, text: str) -> dict[str, object]:
        return {"index": index, "delta": {"content": text}, "finish_reason": "stop"}

    chunks = [
        {"choices": [part(1, "b"), part(0, "a")]},
        {"choices": [part(None, "A")]},
        {"choices": [part(1, "B")]},
    ]
    found = assemble(chunks)["choices"]
    assert [(choice["index"], choice["message"]["content"]) for choice in found] == [(0, "aA"), (1, "bB")]


def test_log_probabilities_are_joined_when_there_are_any() -> None:
    """One list over all tokens; an answer without has no such member, one with an empty list keeps it."""

    def token(text: str | None) -> dict[str, object]:
        content = None if text is None else [{"token": character} for character in text]
        return {"choices": [{"index": 0, "delta": {"content": text}, "logprobs": {"content": content}}]}

    (choice,) = assemble([token("a"), token(None), delta("x"), token("bc")])["choices"]
    assert choice["logprobs"] == {"content": [{"token": "a"}, {"token": "b"}, {"token": "c"}]}
    assert "logprobs" not in assemble([token(None), delta("x")])["choices"][0]
    assert assemble([token("")])["choices"][0]["logprobs"] == {"content": []}


def test_chunks_are_left_as_they_are() -> None:
    """A pure function: joining lists does not write into the first of them."""
    tokens = [{"token": "a"}]
    chunk = {"choices": [{"index": 0, "delta": {}, "logprobs": {"content": tokens}}]}
    assemble([chunk, chunk])
    assert tokens == [{"token": "a"}]


def test_usage_is_the_last_that_was_given() -> None:
    """Some engines count in every chunk, and null follows."""
    early, last = usage(3, 1), usage(3, 2)
    found = assemble([early, delta("a"), last, {"choices": [], "usage": None}])
    assert found["usage"] == last["usage"]


def test_no_chunks_are_no_choices() -> None:
    """The caller of the function says what that means."""
    assert assemble([]) == {"choices": [], "usage": None}
