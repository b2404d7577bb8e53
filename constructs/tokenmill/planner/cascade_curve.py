"""What a cascade of two models scores and costs at every threshold, and the test that picks one.

Sources: A. N. Angelopoulos et al., "Learn then Test" (arXiv 2110.01052, 2021), for fixed-sequence testing of
thresholds; T. Tango, "Equivalence test and confidence interval for the difference in proportions for the
paired-sample design" (Statistics in Medicine 17, 1998), for the test.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEPS = 100
HALVINGS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two models on the same examples.

    Args:
        small: Scores of the small model.
        large: Scores of the large model.
        confidence: How sure the small model was of each answer; any scale, higher is surer.
        small_cost: Cost of the small model on each example.
        large_cost: Cost of the large model on each example.
    """

    small: NDArray[np.float64]
    large: NDArray[np.float64]
    confidence: NDArray[np.float64]
    small_cost: NDArray[np.float64]
    large_cost: NDArray[np.float64]

    def take(self, index: NDArray[np.int64]) -> Pair:
        """Return the pair on some of the examples.

        Args:
            index: Which.
        """
        return Pair(
            small=self.small[index],
            large=self.large[index],
            confidence=self.confidence[index],
            small_cost=self.small_cost[index],
            large_cost=self.large_cost[index],
        )

    def outcome(self, threshold: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return score and cost of each example when answers below a threshold go on to the large model.

        Args:
            threshold: Smallest confidence that is kept; infinite where the large model answers everything
                at once, without the small one.
        """
        if threshold == math.inf:
            return self.large, self.large_cost
        up = self.confidence < threshold
        return np.where(up, self.large, self.small), self.small_cost + np.where(up, self.large_cost, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What the cascade costs and scores at every threshold on the examples at hand.

    Args:
        thresholds: Smallest confidence that is kept, falling: the first sends nearly everything on.
        escalated: Share of requests that go on to the large model.
        quality: Mean score.
        cost: Mean cost.
        difference_low: Lower bound of the mean score minus the large model's.
    """

    thresholds: NDArray[np.float64] = field(hash=False)
    escalated: NDArray[np.float64] = field(hash=False)
    quality: NDArray[np.float64] = field(hash=False)
    cost: NDArray[np.float64] = field(hash=False)
    difference_low: NDArray[np.float64] = field(hash=False)


def sweep(pair: Pair, confidence: float) -> Curve:
    """Return cost, quality and the bound of the difference at every threshold.

    Args:
        pair: The two models.
        confidence: Rate of the one-sided bound.
    """
    count = pair.small.size
    order = np.argsort(-pair.confidence, kind="stable")
    sure = pair.confidence[order]
    # examples of equal confidence stay together
    last = np.flatnonzero(np.append(sure[1:] != sure[:-1], True))
    if last.size > STEPS:
        last = last[np.unique(np.linspace(0, last.size - 1, STEPS).round().astype(int))]
    gain = (pair.small - pair.large)[order]
    kept = np.cumsum(gain)[last]
    squares = np.cumsum(gain**2)[last]
    saved = np.cumsum(pair.large_cost[order])[last]
    return Curve(
        thresholds=np.append(math.inf, np.append(sure[last][:-1], -math.inf)),
        escalated=np.append(1.0, 1 - (last + 1) / count),
        quality=np.append(pair.large.mean(), pair.large.mean() + kept / count),
        cost=np.append(
            pair.large_cost.mean(), pair.small_cost.mean() + pair.large_cost.mean() - saved / count
        ),
        difference_low=np.append(
            0.0, difference_low(kept / count, squares / count, count, NormalDist().inv_cdf(confidence))
        ),
    )


def choose_threshold(pair: Pair, margin: float, confidence: float) -> float:
    """Return the cheapest threshold of those that pass in a row, from the safest on.

    Args:
        pair: The two models.
        margin: Mean score that may be given up.
        confidence: Rate at which the chosen cascade is within the margin.
    """
    curve = sweep(pair, confidence)
    fails = np.flatnonzero(curve.difference_low < -margin)
    passing = int(fails[0]) if fails.size else curve.thresholds.size
    return float(curve.thresholds[int(np.argmin(curve.cost[:passing]))])


def difference_low(
    mean: NDArray[np.float64], square: NDArray[np.float64], count: int, critical: float
) -> NDArray[np.float64]:
    """Return the lower bound of a mean paired difference by inverting Tango's score test.

    Graded scores enter by their mean square, as if so many pairs differed by a whole point. Where no example
    differs the bound is -z^2 / (n + z^2), as Wilson's: equal answers on few examples promise little.

    Args:
        mean: Mean differences, between -1 and 1.
        square: Mean squared differences.
        count: Examples.
        critical: One-sided standard normal quantile.
    """
    losses, wins = np.maximum(square - mean, 0.0) / 2, np.maximum(square + mean, 0.0) / 2
    low, high = -mean, np.ones_like(mean)
    for _ in range(HALVINGS):
        worse = (low + high) / 2
        slope = (2 - losses + wins) * worse - losses - wins
        # the wins that are likeliest when losses outnumber them by `worse` (Tango 1998, equation 3)
        likeliest = (np.sqrt(np.maximum(slope**2 + 8 * wins * worse * (1 - worse), 0.0)) - slope) / 4
        variance = np.maximum(2 * likeliest + worse * (1 - worse), 0.0)
        rejected = (mean + worse) * math.sqrt(count) > critical * np.sqrt(variance)
        low, high = np.where(rejected, low, worse), np.where(rejected, worse, high)
    return -high


def fewest_examples(margin: float, confidence: float) -> int:
    """Return how many examples can show a margin at all, when no example differs.

    Args:
        margin: Mean score that may be given up.
        confidence: Rate of the one-sided bound.
    """
    return math.ceil(NormalDist().inv_cdf(confidence) ** 2 * (1 - margin) / margin)
