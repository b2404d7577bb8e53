"""Small model first, large model where the small one is unsure: the threshold that saves most.

Sources: L. Chen, M. Zaharia and J. Zou, "FrugalGPT" (arXiv 2305.05176, 2023), for the cascade; N. Gupta et
al., "Language Model Cascades: Token-level uncertainty and beyond" (arXiv 2404.10136, ICLR 2024), for a
confidence as the rule to defer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tokenmill.core.errors import TokenmillError
from tokenmill.planner.cascade_curve import Pair, choose_threshold, fewest_examples, sweep
from tokenmill.planner.resampling import DRAWS, Interval, percentile_interval, resampled_means
from tokenmill.planner.selection import PER_TOKENS, SEED, request_costs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tokenmill.planner.cascade_curve import Curve
    from tokenmill.planner.scores import Scores
    from tokenmill.planner.selection import ModelPrice

FOLDS = 5
FEWEST = 2 * FOLDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Means over examples with their intervals.

    Args:
        quality: Mean score.
        quality_interval: Its interval.
        cost: Mean cost.
        cost_interval: Its interval.
    """

    quality: float
    quality_interval: Interval
    cost: float
    cost_interval: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Cascade:
    """The cascade to deploy, or why not.

    Args:
        small: Name of the small model.
        large: Name of the large model.
        margin: Quality that may be given up against the large model, as a mean score.
        confidence: Rate at which the cascade is within the margin.
        examples: Examples.
        cost_unit: What costs are counted in.
        threshold: Smallest confidence of the small model that is kept; infinite to ask the large model only,
            minus infinite to ask the small model only.
        escalated: Share of requests that go on to the large model.
        break_even: Share above which the cascade costs more than the large model alone.
        pays: Whether it costs less than the large model, with the interval clear of zero.
        verdict: What to do, in one sentence.
        always_small: The small model alone.
        always_large: The large model alone.
        fitted: The cascade on the examples that the threshold was chosen on: flattering.
        expected: The cascade by cross-fitting: every example with a threshold chosen without it.
        saving: Cost of the large model minus that of the cascade, cross-fitted.
        difference: Score of the cascade minus the large model's, cross-fitted.
        over_random: Score of the cascade minus that of sending the same share on at random, cross-fitted.
        examples_needed: Examples that could show the margin at all, if every answer were equal.
        curve: All thresholds.
    """

    small: str
    large: str
    margin: float
    confidence: float
    examples: int
    cost_unit: str
    threshold: float
    escalated: float
    break_even: float
    pays: bool
    verdict: str
    always_small: Estimate
    always_large: Estimate
    fitted: Estimate
    expected: Estimate
    saving: Interval
    difference: Interval
    over_random: Interval
    examples_needed: int
    curve: Curve


def cascade(
    scores: Scores,
    *,
    small: str,
    large: str,
    margin: float = 0.01,
    prices: Mapping[str, ModelPrice] | None = None,
    confidence: float = 0.95,
    seed: int = SEED,
    draws: int = DRAWS,
) -> Cascade:
    """Return the cheapest cascade of two models that is not worse than the large one by more than a margin.

    Thresholds are tested from the safest, which sends everything on, towards the cheapest, and the last one
    before the first failure is taken. Tested in that fixed order, the chosen cascade is worse than the large
    model by more than the margin in at most 1 - confidence of all samples. What it costs and scores is
    estimated by cross-fitting, because the examples that chose a threshold flatter it.

    Args:
        scores: What `read_scores` returned; the small model's lines carry `confidence`.
        small: Name of the small model.
        large: Name of the large model.
        margin: Mean score that may be given up, above 0 and below 1.
        prices: Token prices by model; they go before the costs in the file.
        confidence: Rate of the guarantee and of the intervals, 0.5 to 0.999.
        seed: Seed of folds and bootstrap.
        draws: Samples of the bootstrap.

    Raises:
        TokenmillError: An input is out of its range, or confidences, costs or examples are missing.
    """
    _check(small, large, margin, confidence)
    pair, unit = _pair(scores, small, large, prices or {})
    count = len(scores.examples)
    if count < FEWEST:
        raise TokenmillError(f"a cascade needs {FEWEST} examples at the fewest, got {count}")
    threshold = choose_threshold(pair, margin, confidence)
    found = _estimates(pair, threshold, margin, confidence, seed, draws)
    escalated = 1.0 if threshold == math.inf else float((pair.confidence < threshold).mean())
    pays = threshold < math.inf and found.saving.low > 0
    break_even = 1 - float(pair.small_cost.mean()) / float(pair.large_cost.mean())
    verdict = _verdict(threshold, escalated, break_even, pays, found.over_random, margin, confidence, count)
    return Cascade(
        small=small,
        large=large,
        margin=margin,
        confidence=confidence,
        examples=count,
        cost_unit=unit,
        threshold=threshold,
        escalated=escalated,
        break_even=break_even,
        pays=pays,
        verdict=verdict,
        always_small=found.always_small,
        always_large=found.always_large,
        fitted=found.fitted,
        expected=found.expected,
        saving=found.saving,
        difference=found.difference,
        over_random=found.over_random,
        examples_needed=fewest_examples(margin, confidence),
        curve=sweep(pair, confidence),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Estimates:
    always_small: Estimate
    always_large: Estimate
    fitted: Estimate
    expected: Estimate
    saving: Interval
    difference: Interval
    over_random: Interval


def _estimates(
    pair: Pair, threshold: float, margin: float, confidence: float, seed: int, draws: int
) -> _Estimates:
    scored, cost = pair.outcome(threshold)
    held, held_cost, chance = _cross_fit(pair, margin, confidence, seed)
    rows = np.stack(
        [pair.small, pair.small_cost, pair.large, pair.large_cost, scored, cost, held, held_cost, chance]
    )
    means = resampled_means(rows, seed=seed, draws=draws)

    def estimate(row: int) -> Estimate:
        return Estimate(
            quality=float(rows[row].mean()),
            quality_interval=percentile_interval(means[:, row], confidence),
            cost=float(rows[row + 1].mean()),
            cost_interval=percentile_interval(means[:, row + 1], confidence),
        )

    return _Estimates(
        always_small=estimate(0),
        always_large=estimate(2),
        fitted=estimate(4),
        expected=estimate(6),
        saving=percentile_interval(means[:, 3] - means[:, 7], confidence),
        difference=percentile_interval(means[:, 6] - means[:, 2], confidence),
        over_random=percentile_interval(means[:, 6] - means[:, 8], confidence),
    )


def _cross_fit(
    pair: Pair, margin: float, confidence: float, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Score, cost and the score of random escalation, each example with a threshold chosen without it."""
    count = pair.small.size
    folds = np.random.default_rng(seed).permutation(count) % FOLDS
    score, cost, chance = np.empty(count), np.empty(count), np.empty(count)
    for fold in range(FOLDS):
        held = np.flatnonzero(folds == fold)
        threshold = choose_threshold(pair.take(np.flatnonzero(folds != fold)), margin, confidence)
        part = pair.take(held)
        score[held], cost[held] = part.outcome(threshold)
        share = float((part.confidence < threshold).mean())
        chance[held] = share * part.large + (1 - share) * part.small
    return score, cost, chance


def _pair(scores: Scores, small: str, large: str, prices: Mapping[str, ModelPrice]) -> tuple[Pair, str]:
    sure = scores.measure("confidence", small)
    if sure is None:
        raise TokenmillError(
            f"not every line of {small!r} has a confidence; a cascade needs the small model's confidence in "
            "each answer, such as its mean token log-probability"
        )
    costs, unit = request_costs(scores, prices)
    found = costs[scores.row(small)], costs[scores.row(large)]
    if found[0] is None or found[1] is None:
        raise TokenmillError(f"no cost of {small} or {large}; give --cost MODEL=USD or cost_usd in the file")
    if float(found[1].mean()) <= 0:
        raise TokenmillError(f"{large} costs nothing, so a cascade can save nothing; check its cost")
    if unit == PER_TOKENS:
        # without token counts both models are taken to read and write as much
        unit = f"{PER_TOKENS}, the same tokens for both"
    pair = Pair(
        small=scores.values[scores.row(small)],
        large=scores.values[scores.row(large)],
        confidence=sure,
        small_cost=found[0],
        large_cost=found[1],
    )
    return pair, unit


def _check(small: str, large: str, margin: float, confidence: float) -> None:
    if small == large:
        raise TokenmillError(f"a cascade needs two models, got {small!r} twice")
    if not 0 < margin < 1:
        raise TokenmillError(f"margin must be above 0 and below 1, got {margin!r}; 0.01 is one point of 100")
    if not 0.5 <= confidence <= 0.999:
        raise TokenmillError(f"confidence must be 0.5 to 0.999, got {confidence!r}")


def _verdict(
    threshold: float,
    escalated: float,
    break_even: float,
    pays: bool,
    over_random: Interval,
    margin: float,
    confidence: float,
    count: int,
) -> str:
    need = fewest_examples(margin, confidence)
    if count < need:
        return (
            f"ask the large model only: {count} examples cannot show a margin of {margin:g}, even if no "
            f"answer differed; {need} could"
        )
    if break_even <= 0:
        return "ask the large model only: the small one costs as much"
    if threshold == math.inf:
        return (
            "ask the large model only: no threshold is shown to stay within the margin while fewer than "
            f"{100 * break_even:.0f} % of the requests go on (beyond that a cascade costs more)"
        )
    if not pays:
        return (
            f"ask the large model only: a cascade sends {100 * escalated:.0f} % on, and its saving is not "
            f"clear of zero (it breaks even at {100 * break_even:.0f} %)"
        )
    if threshold == -math.inf:
        return "ask the small model only: it is within the margin by itself"
    signal = "" if over_random.low > 0 else "; the confidence is not shown to choose better than chance"
    return f"keep answers of confidence {threshold:.4g} and more, send {100 * escalated:.0f} % on{signal}"
