"""Intervals for mean scores: Wilson's, and simultaneous ones from a paired bootstrap over examples.

Sources: E. B. Wilson, "Probable inference, the law of succession, and statistical inference" (JASA 22, 1927);
B. Efron and R. Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 12 and 16; P. H. Westfall and
S. S. Young, "Resampling-Based Multiple Testing" (1993), chapter 2, for the maximum over comparisons.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

DRAWS = 10_000
CELLS_AT_ONCE = 2_000_000
CELLS_IN_ALL = 100_000_000
FEWEST_DRAWS = 1_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A range that holds the true value at a stated rate.

    Args:
        low: Low end.
        high: High end.
    """

    low: float
    high: float


def resampled_means(values: NDArray[np.float64], *, seed: int, draws: int = DRAWS) -> NDArray[np.float64]:
    """Return the means of bootstrap samples; every row is drawn with the same examples, so pairs stay pairs.

    Args:
        values: Rows of numbers, shape (rows, examples).
        seed: Seed of the random numbers.
        draws: Samples; fewer are drawn where rows are very long, 1,000 at the fewest.

    Returns:
        Means, shape (draws, rows).
    """
    examples = values.shape[1]
    draws = max(min(draws, CELLS_IN_ALL // examples), min(draws, FEWEST_DRAWS))
    parts = [counts @ values.T for counts in _counts(examples, draws, np.random.default_rng(seed))]
    means: NDArray[np.float64] = np.concatenate(parts) / examples
    return means


def _counts(examples: int, draws: int, random: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    at_once = max(1, CELLS_AT_ONCE // examples)
    for start in range(0, draws, at_once):
        size = min(at_once, draws - start)
        picks = random.integers(0, examples, (size, examples)) + examples * np.arange(size)[:, None]
        counts = np.bincount(picks.ravel(), minlength=size * examples).reshape(size, examples)
        yield counts.astype(np.float64)


def wilson(values: NDArray[np.float64], critical: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the score interval of the mean of each row of scores between 0 and 1.

    For right and wrong it is Wilson's interval. For graded scores the variance under the hypothesis is that
    of right and wrong, m (1 - m), times the ratio that the sample shows; a sample without any spread is
    treated as right and wrong, so that ten perfect scores do not promise a perfect model.

    Args:
        values: Scores, shape (rows, examples).
        critical: Standard normal quantile, such as 1.96, or one a row.

    Returns:
        Low and high ends, shape (rows, 2).
    """
    examples = values.shape[1]
    mean = values.mean(axis=1)
    squared = np.asarray(critical) ** 2 * spread_ratio(values) / examples
    middle = (mean + squared / 2) / (1 + squared)
    half = np.sqrt(squared * mean * (1 - mean) + squared**2 / 4) / (1 + squared)
    ends = np.stack([middle - half, middle + half], axis=1)
    clipped: NDArray[np.float64] = np.clip(ends, 0.0, 1.0)
    return clipped


def spread_ratio(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the variance of each row as a share of that of right-and-wrong scores with the same mean.

    Args:
        values: Scores between 0 and 1, shape (rows, examples).
    """
    mean = values.mean(axis=1)
    most = mean * (1 - mean)
    share = np.divide(values.var(axis=1), most, out=np.ones_like(mean), where=most > 1e-12)
    # graded scores that are all alike say nothing about the spread of the next ones
    return np.where(share < 1e-9, 1.0, np.minimum(share, 1.0))


def simultaneous_critical(
    values: NDArray[np.float64], means: NDArray[np.float64], *, confidence: float
) -> tuple[float, float]:
    """Return how many standard errors bound every row at once: (one-sided, two-sided).

    It is the quantile of the largest standardized deviation in the bootstrap, which knows how models agree
    on examples. It is never below the bound of a single comparison and never above Bonferroni's.

    Args:
        values: Scores, shape (rows, examples).
        means: What `resampled_means` returned for them.
        confidence: Rate at which all bounds hold together, such as 0.95.
    """
    normal = NormalDist()
    spread = values.std(axis=1)
    varied = spread > 1e-12
    rows = values.shape[0]
    alpha = 1 - confidence
    single = normal.inv_cdf(1 - alpha), normal.inv_cdf(1 - alpha / 2)
    most = normal.inv_cdf(1 - alpha / rows), normal.inv_cdf(1 - alpha / (2 * rows))
    if rows == 1 or not varied.all():
        # a model without a single miss has no bootstrap distribution; Bonferroni needs none
        return most
    deviations = (means - values.mean(axis=1)) / (spread / math.sqrt(values.shape[1]))
    above = float(np.quantile(deviations.max(axis=1), confidence))
    either = float(np.quantile(np.abs(deviations).max(axis=1), confidence))
    return min(max(above, single[0]), most[0]), min(max(either, single[1]), most[1])


def percentile_interval(samples: NDArray[np.float64], confidence: float) -> Interval:
    """Return the percentile interval of bootstrap samples.

    Args:
        samples: One statistic a draw.
        confidence: Rate, such as 0.95.
    """
    low, high = np.quantile(samples, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def examples_for_bar(*, mean: float, bar: float, ratio: float, critical: float, power: float) -> int | None:
    """Return how many examples show at a given power that a mean is over a bar; None where it is not.

    Sample size of a one-sample test of a proportion (J. L. Fleiss, "Statistical Methods for Rates and
    Proportions", chapter 2), with the variance ratio of graded scores.

    Args:
        mean: Mean that is expected.
        bar: Bar to clear, below 1.
        ratio: What `spread_ratio` returned.
        critical: Standard errors of the bound.
        power: Rate at which the bound shall clear the bar.
    """
    if mean <= bar:
        return None
    quantile = NormalDist().inv_cdf(power)
    under = math.sqrt(ratio * bar * (1 - bar))
    over = math.sqrt(ratio * mean * (1 - mean))
    return math.ceil(((critical * under + quantile * over) / (mean - bar)) ** 2)
