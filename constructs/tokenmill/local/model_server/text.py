"""What the model server answers, and how it counts tokens: it holds no weights, and says so."""

from __future__ import annotations

import re
from itertools import cycle, islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_PIECE = re.compile(r"\s?\w{1,5}|\s?[^\w\s]{1,3}|\s+")
_QUOTED_CHARACTERS = 80


def pieces(text: str) -> list[str]:
    """Return the text in token-sized pieces, about four characters each in English, that join to it again.

    Args:
        text: Any text. No tokenizer is loaded, so a real model counts somewhat differently.
    """
    return _PIECE.findall(text)


def count_tokens(texts: Sequence[str]) -> int:
    """Return how many tokens a prompt of these messages counts as, with four for each message's template.

    Args:
        texts: Contents of the messages.
    """
    return sum(len(pieces(text)) + 4 for text in texts)


def answer(model: str, texts: Sequence[str], input_tokens: int, *, planned: bool) -> list[str]:
    """Return the pieces of the answer to a conversation; the same conversation gets the same answer.

    Args:
        model: Model that the server stands in for.
        texts: Contents of the messages, the last one the question.
        input_tokens: What the prompt counts as.
        planned: Whether the timing is a plan's; else it is the default one.
    """
    question = " ".join(texts[-1].split())
    if len(question) > _QUOTED_CHARACTERS:
        question = question[: _QUOTED_CHARACTERS - 1] + "…"
    timing = (
        "what is real is the time between them, which is the time that the plan predicts for the planned "
        "instance."
        if planned
        else "no plan says how fast this model is, so the time between them is a round default."
    )
    noun = "message" if len(texts) == 1 else "messages"
    return pieces(
        f'You asked "{question}". I cannot answer that: I am tokenmill\'s local model server in place of '
        f"{model}. I hold no weights, so these words are fixed; {timing} "
        f"Your prompt had {len(texts)} {noun}, about {input_tokens} tokens. "
        "Set TOKENMILL_MODEL_URL to an OpenAI-compatible server to hear from a real model."
    )


def fill(text: Sequence[str], tokens: int) -> list[str]:
    """Return exactly that many pieces: the text cut short, or said again.

    Args:
        text: Pieces of the answer.
        tokens: How many pieces.
    """
    return list(islice(cycle(text), tokens))
