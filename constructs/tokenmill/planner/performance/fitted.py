"""A fitted formula: terms times factors times the effects of levels, and an interval around it.

`tools/fitting` writes such formulas as documents: "terms" (factor by term), "effects" (logarithm by kind and
level), "interval" (half-width in logarithms, and what widens it).
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from _typeshed import DataclassInstance

    Columns = TypeVar("Columns", bound=DataclassInstance)

Number: TypeAlias = Any
"""A plain number, or a NumPy array with one number a deployment."""
Text: TypeAlias = Any
"""A text, or a list with one text a deployment."""


def require_positive(counts: Mapping[str, float]) -> None:
    """Refuse counts that no deployment can have.

    Args:
        counts: By name.

    Raises:
        TokenmillError: One is not positive, or no number.
    """
    for name, count in counts.items():
        if not 0 < count < math.inf:
            raise TokenmillError(f"{name} {count} must be a positive number")


def weigh(terms: Mapping[str, Number], document: Mapping[str, Any]) -> Number:
    """Return the sum of terms times factors, in the terms' unit.

    Args:
        terms: By name.
        document: A fitted formula.
    """
    factors = document["terms"]
    total: Number = 0.0
    for name, term in terms.items():
        total = total + factors[name] * term
    return total


def effect(levels: Mapping[str, str], document: Mapping[str, Any]) -> float:
    """Return the product of the effects of levels; a level that was never measured has none.

    Args:
        levels: Level by kind of effect.
        document: A fitted formula.
    """
    effects = document["effects"]
    return math.exp(sum(effects[kind].get(level, 0.0) for kind, level in levels.items()))


def half_width(reasons: Sequence[str], document: Mapping[str, Any]) -> float:
    """Return half of the 80 % interval, in logarithms.

    Args:
        reasons: Names of what no measurement resembles; each widens the interval (root of the sum of
            squares).
        document: A fitted formula.
    """
    interval = document["interval"]
    wider = sum(interval["widening"][reason] ** 2 for reason in reasons)
    return math.sqrt(float(interval["half_width"]) ** 2 + wider)


def stack(deployments: Iterable[Columns], texts: Sequence[str]) -> Columns:
    """Return many deployments as one of arrays.

    Args:
        deployments: Of plain numbers, all of one class.
        texts: Fields that stay lists of texts.
    """
    import numpy as np

    rows = list(deployments)
    columns: dict[str, Any] = {}
    for field in dataclasses.fields(rows[0]):
        values = [getattr(row, field.name) for row in rows]
        columns[field.name] = values if field.name in texts else np.array(values, dtype=float)
    return type(rows[0])(**columns)


def unstack(columns: Columns, texts: Sequence[str]) -> list[Columns]:
    """Return the deployments that `stack` put together.

    Args:
        columns: Of arrays.
        texts: Fields that are lists of texts.
    """
    names = [field.name for field in dataclasses.fields(columns)]
    values = [getattr(columns, name) for name in names]
    lists = [value if name in texts else value.tolist() for name, value in zip(names, values, strict=True)]
    return [type(columns)(**dict(zip(names, row, strict=True))) for row in zip(*lists, strict=True)]
