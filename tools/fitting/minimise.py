"""The robust fit that all formulas share: positive factors near a prior, shrunken effects of levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SMOOTHING = 0.02
LONGEST_STEP = 1.5
LARGEST_ERROR = 3.0
ROUNDS = 80


@dataclass(frozen=True)
class Recipe:
    """What a fit may do.

    Args:
        priors: Factor of every term before any row is seen.
        strength: How firmly the logarithms of the factors are held there.
        ridge: How firmly each kind of effect is held at zero.
    """

    priors: Mapping[str, float]
    strength: float
    ridge: Mapping[str, float]


def fitted(
    terms: Mapping[str, Any],
    levels: Sequence[Mapping[str, str]],
    measured: Any,
    weights: Any,
    recipe: Recipe,
) -> dict[str, Any]:
    """Return factors and effects that minimise the weighted absolute relative error.

    Args:
        terms: Arrays by name, one number a row.
        levels: Level of every kind of effect, one mapping a row; empty levels have none.
        measured: Milliseconds, one a row.
        weights: Of the rows.
        recipe: Priors and ridges.
    """
    matrix = np.array([np.broadcast_to(terms[name], len(measured)) for name in recipe.priors]).T
    names = [(kind, level) for kind in recipe.ridge for level in sorted({row[kind] for row in levels} - {""})]
    design = np.array([[float(row[kind] == level) for kind, level in names] for row in levels])
    ridge = np.array([recipe.ridge[kind] for kind, _ in names])
    prior = np.log([recipe.priors[name] for name in recipe.priors])
    factors, effects = _minimise(matrix, design, np.log(measured), weights, prior, recipe.strength, ridge)
    tables: dict[str, dict[str, float]] = {kind: {} for kind in recipe.ridge}
    for (kind, level), value in zip(names, effects, strict=True):
        tables[kind][level] = round(float(value), 4)
    return {
        "terms": {name: float(f"{np.exp(v):.4g}") for name, v in zip(recipe.priors, factors, strict=True)},
        "effects": tables,
    }


def _minimise(
    terms: Any, design: Any, measured: Any, weights: Any, prior: Any, strength: float, ridge: Any
) -> tuple[Any, Any]:
    """Damped Newton steps on the smoothed relative error; returns logarithms of factors, and effects."""
    count = len(prior)
    centre = np.concatenate([prior, np.zeros(design.shape[1])])
    penalty = np.concatenate([np.full(count, strength), ridge])

    def parts(point: Any) -> Any:
        return terms * np.exp(point[:count])

    def error_at(point: Any) -> Any:
        return np.log(parts(point).sum(axis=1)) + design @ point[count:] - measured

    def loss(point: Any) -> float:
        absolute = np.sqrt(np.expm1(np.minimum(error_at(point), LARGEST_ERROR)) ** 2 + SMOOTHING**2)
        return float(np.sum(weights * absolute) + 0.5 * np.sum(penalty * (point - centre) ** 2))

    point, damping = centre.copy(), 1e-2
    best = loss(point)
    for _ in range(ROUNDS):
        share = parts(point)
        share = share / share.sum(axis=1, keepdims=True)
        logarithm = np.minimum(error_at(point), LARGEST_ERROR)
        error = np.expm1(logarithm)
        slope = np.hstack([share, design]) * np.exp(logarithm)[:, None]
        weight = weights / np.sqrt(error**2 + SMOOTHING**2)
        curve = slope.T @ (slope * weight[:, None]) + np.diag(penalty)
        gradient = slope.T @ (weight * error) + penalty * (point - centre)
        before = best
        for _ in range(8):
            move = np.linalg.solve(curve + damping * np.diag(np.diag(curve)), gradient)
            candidate = point - np.clip(move, -LONGEST_STEP, LONGEST_STEP)
            if (new := loss(candidate)) <= best:
                point, best, damping = candidate, new, max(damping / 3, 1e-6)
                break
            damping *= 4
        if before - best < 1e-6 * best:
            break
    return point[:count], point[count:]
