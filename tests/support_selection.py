"""Task scores drawn from a known population, so that what is estimated can be held against what is true."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from tokenmill.planner.scores import MEASURES, Scores, TaskScore, scores_from

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def scores_of(values: Mapping[str, Sequence[float]], **measures: Mapping[str, Sequence[float]]) -> Scores:
    """Return scores by model; measures are by name, then by model."""
    return scores_from(
        TaskScore(
            model=model,
            example=str(number),
            score=float(score),
            measures={
                name: float(given[model][number]) for name, given in measures.items() if model in given
            },
        )
        for model, row in values.items()
        for number, score in enumerate(row)
    )


def priced(values: Mapping[str, Sequence[float]], usd: Mapping[str, float]) -> Scores:
    """Return scores with the same cost on every example of a model."""
    costs = {model: [usd[model]] * len(row) for model, row in values.items() if model in usd}
    return scores_of(values, cost_usd=costs)


def matrix_scores(values: np.ndarray[Any, Any], usd: Sequence[float]) -> Scores:
    """Return scores of a matrix, a model a row, without going through lines."""
    models = tuple(f"m{row}" for row in range(values.shape[0]))
    empty = {name: np.full(values.shape, np.nan) for name in MEASURES}
    empty["cost_usd"] = np.repeat(np.asarray(usd, dtype=float)[:, None], values.shape[1], axis=1)
    return Scores(
        models=models,
        examples=tuple(map(str, range(values.shape[1]))),
        values=values.astype(float),
        measures=empty,
    )


def population(count: int, random: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    """Draw two models on tasks of varying difficulty, and how sure the small one is."""
    hard = random.normal(size=count)
    small, large = 1 / (1 + np.exp(1.6 * hard - 1.6)), 1 / (1 + np.exp(1.6 * hard - 2.2))
    return {
        "small": (random.random(count) < small).astype(float),
        "large": (random.random(count) < large).astype(float),
        "confidence": np.round(small + random.normal(scale=0.05, size=count), 4),
    }


def write_lines(path: Path, *documents: object) -> Path:
    """Write JSON lines; a text is written as it is."""
    lines = [item if isinstance(item, str) else json.dumps(item) for item in documents]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
