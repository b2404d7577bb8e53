"""Task scores that a user supplies: one JSON object a line, a model's score on an example."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

FEWEST_EXAMPLES = 10
MOST_PLAUSIBLE_USD = 10.0
LEAST_PLAUSIBLE_MS = 10.0
KEYS = (
    "model",
    "example",
    "score",
    "correct",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "latency_ms",
    "confidence",
)
MEASURES = ("input_tokens", "output_tokens", "cost_usd", "latency_ms", "confidence")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScore:
    """One model's answer to one example.

    Args:
        model: The model's name.
        example: The example's id.
        score: How good the answer is, 0 to 1.
        measures: What else the line says: tokens, USD, milliseconds, the model's confidence.
    """

    model: str
    example: str
    score: float
    measures: dict[str, float] = field(hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The scores of several models on the same examples.

    Args:
        models: The models, in the order of the file.
        examples: The examples that every model has answered.
        values: Scores, one row a model and one column an example.
        measures: For each optional field, an array of the same shape; NaN where the file has nothing.
        warnings: What looks odd: examples left out, numbers in an implausible unit.
    """

    models: tuple[str, ...]
    examples: tuple[str, ...]
    values: NDArray[np.float64] = field(hash=False)
    measures: dict[str, NDArray[np.float64]] = field(hash=False)
    warnings: tuple[str, ...] = ()

    @property
    def binary(self) -> bool:
        """Whether every score is 0 or 1."""
        return bool(np.isin(self.values, (0.0, 1.0)).all())

    def row(self, model: str) -> int:
        """Return the row of a model.

        Args:
            model: The model's name.

        Raises:
            TokenmillError: The file has no such model.
        """
        if model not in self.models:
            raise TokenmillError(f"no scores of {model!r}; the file has {', '.join(self.models)}")
        return self.models.index(model)

    def measure(self, name: str, model: str) -> NDArray[np.float64] | None:
        """Return an optional field of every example of a model, or None where an example lacks it.

        Args:
            name: The field: "cost_usd", "confidence" and so on.
            model: The model's name.
        """
        found: NDArray[np.float64] = self.measures[name][self.row(model)]
        return None if np.isnan(found).any() else found


def read_scores(path: Path | str) -> Scores:
    """Read scores from a file of JSON lines.

    Args:
        path: The file. Each line has `model`, `example` and `score` (0 to 1) or `correct` (true, false);
            `input_tokens`, `output_tokens`, `cost_usd`, `latency_ms` and `confidence` are optional.

    Raises:
        TokenmillError: A line is wrong (the message has its number), or too little is left to compare.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise TokenmillError(f"{path} is not UTF-8 text ({error.reason}); write JSON lines") from error
    rows = [
        _parse(line, f"{path}, line {number}")
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip()
    ]
    return scores_from(rows, str(path))


def scores_from(rows: Iterable[TaskScore], where: str = "scores") -> Scores:
    """Arrange scores by model and example, keeping the examples that every model has answered.

    Args:
        rows: One answer each.
        where: What is being read, for messages.

    Raises:
        TokenmillError: An answer occurs twice, or fewer than two examples are common to all models.
    """
    table: dict[str, dict[str, TaskScore]] = {}
    for row in rows:
        answers = table.setdefault(row.model, {})
        if row.example in answers:
            raise TokenmillError(
                f"{where} has two scores of {row.model!r} on example {row.example!r}; keep one a model and "
                "example (average repeated runs first)"
            )
        answers[row.example] = row
    if not table:
        raise TokenmillError(
            f"{where} has no scores; write one JSON object a line with {', '.join(KEYS[:3])}"
        )
    models = tuple(table)
    everything = dict.fromkeys(example for answers in table.values() for example in answers)
    examples = tuple(example for example in everything if all(example in table[model] for model in models))
    if len(examples) < 2:
        raise TokenmillError(
            f"{where} has too few examples that every one of {', '.join(models)} answered, {len(examples)}; "
            "score every model on the same examples, 2 at the fewest"
        )
    grid = [[table[model][example] for example in examples] for model in models]
    measures = {
        name: np.array([[item.measures.get(name, math.nan) for item in line] for line in grid])
        for name in MEASURES
    }
    return Scores(
        models=models,
        examples=examples,
        values=np.array([[item.score for item in line] for line in grid]),
        measures=measures,
        warnings=(*_left_out(len(everything), len(examples)), *_implausible(models, measures)),
    )


def _left_out(total: int, kept: int) -> list[str]:
    said = []
    if kept < total:
        said.append(f"{total - kept} of {total} examples are left out: not every model has a score there")
    if kept < FEWEST_EXAMPLES:
        said.append(f"{kept} examples are too few for intervals that hold; {FEWEST_EXAMPLES} at the fewest")
    return said


def _implausible(models: tuple[str, ...], measures: Mapping[str, NDArray[np.float64]]) -> list[str]:
    said = []
    for row, model in enumerate(models):
        cost, latency = measures["cost_usd"][row], measures["latency_ms"][row]
        if not np.isnan(cost).all() and np.nanmean(cost) > MOST_PLAUSIBLE_USD:
            said.append(
                f"cost_usd of {model} averages {np.nanmean(cost):g} a request; is it a price per million "
                "tokens? then leave it out and give --cost"
            )
        if not np.isnan(latency).all() and np.nanmedian(latency) < LEAST_PLAUSIBLE_MS:
            said.append(f"latency_ms of {model} has a median of {np.nanmedian(latency):g}; is it in seconds?")
    return said


def _parse(line: str, where: str) -> TaskScore:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TokenmillError(f"{where} is not JSON ({error}); write one object a line") from None
    if not isinstance(document, dict):
        raise TokenmillError(f"{where} is no JSON object, got {document!r:.60}; write one object a line")
    unknown = sorted(set(document) - set(KEYS))
    if unknown:
        raise TokenmillError(
            f"{where} has unknown fields {', '.join(unknown)}; allowed are {', '.join(KEYS)}"
        )
    return TaskScore(
        model=_name(document, "model", where),
        example=_name(document, "example", where),
        score=_score(document, where),
        measures=_measures(document, where),
    )


def _name(document: dict[str, Any], key: str, where: str) -> str:
    value = document.get(key)
    if type(value) is int:
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise TokenmillError(f"{where}: {key} must be a text, got {value!r:.60}; every line names its {key}")
    return value


def _score(document: dict[str, Any], where: str) -> float:
    score, correct = document.get("score"), document.get("correct")
    if (score is None) == (correct is None):
        raise TokenmillError(f"{where} must have either score (0 to 1) or correct (true or false)")
    if correct is not None:
        if not isinstance(correct, bool):
            raise TokenmillError(f"{where}: correct must be true or false, got {correct!r:.60}")
        return float(correct)
    value = _number(score, "score", where)
    if not 0 <= value <= 1:
        percent = "; a percentage? divide it by 100" if 1 < value <= 100 else ""
        raise TokenmillError(f"{where}: score must be 0 to 1, got {value:g}{percent}")
    return value


def _measures(document: dict[str, Any], where: str) -> dict[str, float]:
    found = {}
    for name in MEASURES:
        if document.get(name) is None:
            continue
        value = _number(document[name], name, where)
        if value < 0 and name != "confidence":
            raise TokenmillError(f"{where}: {name} must be 0 or more, got {value:g}")
        found[name] = value
    return found


def _number(value: object, name: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenmillError(f"{where}: {name} must be a number, got {value!r:.60}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise TokenmillError(f"{where}: {name} must be a finite number, got {number}")
    return number
