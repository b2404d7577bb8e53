"""Errors of rows that a formula was not fitted on, and the interval that follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Deployment = TypeVar("Deployment")
LEVEL = 0.8
TAKEN = 0.82
"""Rows of one configuration err together, so that unseen ones scatter more than rows do: the quantile is
taken a little above the level."""
FEWEST = 5
"""Errors that a widening is read from."""


@dataclass(frozen=True)
class Sample(Generic[Deployment]):
    """One measured row.

    Args:
        id: Of the row.
        deployment: Of plain numbers.
        levels: Level by kind of effect.
        configuration: What rows of one deployment share; they are left out together.
        model: What rows of one model share.
        source: Where the row stands.
        measured_ms: What was published.
    """

    id: str
    deployment: Deployment
    levels: Mapping[str, str]
    configuration: str
    model: str
    source: str
    measured_ms: float


@dataclass(frozen=True)
class HeldOut(Generic[Deployment]):
    """A row, its prediction by a fit without its group, and that fit."""

    sample: Sample[Deployment]
    predicted_ms: float
    document: dict[str, Any]

    @property
    def distance(self) -> float:
        """Absolute error of the logarithm."""
        return abs(float(np.log(self.predicted_ms / self.sample.measured_ms)))


@dataclass(frozen=True)
class Method(Generic[Deployment]):
    """How a formula is fitted, how it predicts, and what it has not seen."""

    fit: Callable[[Sequence[Sample[Deployment]]], dict[str, Any]]
    predict: Callable[[Sequence[Deployment], Mapping[str, Any]], Sequence[float]]
    unmeasured: Callable[[Deployment, Mapping[str, Any]], tuple[str, ...]]


def held_out(
    method: Method[Deployment],
    samples: Sequence[Sample[Deployment]],
    group: Callable[[Sample[Deployment]], str],
    folds: int | None = None,
    seed: int = 7,
) -> list[HeldOut[Deployment]]:
    """Return every row with its prediction by a fit without its group; nothing where all are of one group.

    Args:
        method: How to fit and predict.
        samples: All rows.
        group: What is left out together.
        folds: How many groups of groups; None for one a group.
        seed: Of the order in which groups are dealt to folds.
    """
    keys = [group(sample) for sample in samples]
    groups = sorted(set(keys))
    np.random.default_rng(seed).shuffle(groups)
    count = min(folds or len(groups), len(groups))
    if count < 2:
        return []
    place = {name: index % count for index, name in enumerate(groups)}
    found = []
    for fold in range(count):
        rest = [s for s, key in zip(samples, keys, strict=True) if place[key] != fold]
        left = [s for s, key in zip(samples, keys, strict=True) if place[key] == fold]
        document = method.fit(rest)
        times = method.predict([sample.deployment for sample in left], document)
        found += [HeldOut(s, float(value), document) for s, value in zip(left, times, strict=True)]
    return found


def interval(
    method: Method[Deployment],
    found: Sequence[HeldOut[Deployment]],
    further: Mapping[str, Sequence[HeldOut[Deployment]]],
    flags: Sequence[str],
) -> dict[str, Any]:
    """Return half-width and widening of the 80 % interval.

    The half-width is the quantile of errors on unseen configurations of measured kinds. A flag widens it to
    the quantile of the rows that carry it alone; where those are few, of all rows that carry it; and where
    there are none, as the first flag does.

    Args:
        method: How to tell what is unmeasured.
        found: Rows whose configurations were left out.
        further: Rows whose whole kind was left out, by the flag that this raises.
        flags: Everything that may be unmeasured; the first is that of an unknown model.
    """
    half = quantile([item.distance for item, why in _with(method, found) if not why], TAKEN)
    wide: dict[str, float] = {}
    for flag in flags:
        rows = [(item, why) for item, why in _with(method, [*found, *further.get(flag, ())]) if flag in why]
        alone = [item.distance for item, why in rows if why == (flag,)]
        errors = alone if len(alone) >= FEWEST else [item.distance for item, _ in rows]
        if len(errors) >= FEWEST:
            wide[flag] = round(max(float(np.quantile(errors, TAKEN)) ** 2 - half**2, 0.0) ** 0.5, 4)
        else:
            wide[flag] = wide[flags[0]]
    return {"level": LEVEL, "half_width": round(half, 4), "widening": wide}


def quantile(errors: Sequence[float], share: float) -> float:
    """Return a quantile of errors.

    Args:
        errors: At least one.
        share: Which quantile, 0 to 1.

    Raises:
        TokenmillError: No errors.
    """
    if not len(errors):
        raise TokenmillError("no row is like another one that stays when it is left out; give more rows")
    return float(np.quantile(errors, share))


def _with(
    method: Method[Deployment], found: Sequence[HeldOut[Deployment]]
) -> list[tuple[HeldOut[Deployment], tuple[str, ...]]]:
    return [(item, method.unmeasured(item.sample.deployment, item.document)) for item in found]
