"""The cascade threshold: cheapest at equal quality, honestly estimated, and refused where it does not pay."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from support_selection import population, scores_of
from tokenmill.core.errors import TokenmillError
from tokenmill.planner.cascade import Cascade, cascade
from tokenmill.planner.cascade_curve import Pair, choose_threshold, difference_low, fewest_examples, sweep
from tokenmill.planner.selection import PER_TOKENS, ModelPrice

Z90 = stats.norm.ppf(0.95)
SMALL_USD, LARGE_USD = 0.1, 1.0


def pair_of(drawn: dict[str, np.ndarray[Any, Any]]) -> Pair:
    count = drawn["small"].size
    return Pair(
        small=drawn["small"],
        large=drawn["large"],
        confidence=drawn["confidence"],
        small_cost=np.full(count, SMALL_USD),
        large_cost=np.full(count, LARGE_USD),
    )


def run(drawn: dict[str, np.ndarray[Any, Any]], *, small_usd: float = SMALL_USD, **options: Any) -> Cascade:
    count = drawn["small"].size
    scores = scores_of(
        {"s": drawn["small"], "l": drawn["large"]},
        confidence={"s": drawn["confidence"]},
        cost_usd={"s": [small_usd / 1000] * count, "l": [LARGE_USD / 1000] * count},
    )
    return cascade(scores, small="s", large="l", **options)


def test_the_curve_is_what_counting_each_threshold_gives() -> None:
    """Independent check: every point is recounted from the definition, example by example."""
    pair = pair_of(population(80, np.random.default_rng(1)))
    curve = sweep(pair, 0.95)
    assert curve.thresholds.size == np.unique(pair.confidence).size + 1
    for row, threshold in enumerate(curve.thresholds):
        quality = cost = up = 0.0
        for small, large, sure in zip(pair.small, pair.large, pair.confidence, strict=True):
            ask = sure < threshold
            quality += large if ask else small
            up += ask
            cost += LARGE_USD if threshold == math.inf else SMALL_USD + (LARGE_USD if ask else 0)
        assert curve.quality[row] == pytest.approx(quality / 80)
        assert curve.cost[row] == pytest.approx(cost / 80)
        if threshold < math.inf and row + 1 < curve.thresholds.size:
            following = (pair.confidence < threshold).mean()
            assert curve.escalated[row] == pytest.approx(following)


def test_examples_of_equal_confidence_go_the_same_way() -> None:
    drawn = population(300, np.random.default_rng(2))
    drawn["confidence"] = np.round(drawn["confidence"], 1)
    curve = sweep(pair_of(drawn), 0.95)
    assert curve.thresholds.size == np.unique(drawn["confidence"]).size + 1


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    curve = sweep(pair_of(population(2000, np.random.default_rng(3))), 0.95)
    assert curve.thresholds.size <= 101
    assert (curve.thresholds[0], curve.thresholds[-1]) == (math.inf, -math.inf)
    assert (curve.escalated[0], curve.escalated[-1]) == (1.0, 0.0)


@pytest.mark.parametrize(("losses", "wins", "count"), [(0, 0, 300), (6, 0, 300), (20, 15, 500), (3, 30, 200)])
def test_the_bound_of_the_difference_solves_tangos_equation(losses: int, wins: int, count: int) -> None:
    """Independent check: at the bound, the restricted likelihood (maximized numerically) gives z."""
    from scipy.optimize import minimize_scalar

    mean, square = (wins - losses) / count, (wins + losses) / count
    bound = float(difference_low(np.array([mean]), np.array([square]), count, Z90)[0])
    worse = -bound

    def unlikely(win: float) -> float:
        lose = win + worse
        equal = 1 - win - lose
        terms = ((wins, win), (losses, lose), (count - wins - losses, equal))
        return -sum(number * math.log(max(share, 1e-300)) for number, share in terms)

    best = minimize_scalar(
        unlikely, bounds=(max(0.0, -worse), (1 - worse) / 2), method="bounded", options={"xatol": 1e-12}
    )
    variance = (2 * best.x + worse - worse**2) / count
    assert (mean + worse) / math.sqrt(variance) == pytest.approx(Z90, rel=1e-3)


def test_without_any_difference_the_bound_is_wilsons() -> None:
    found = difference_low(np.array([0.0]), np.array([0.0]), 300, Z90)
    theirs = stats.binomtest(0, 300).proportion_ci(0.90, method="wilson")
    assert -found[0] == pytest.approx(theirs.high, rel=1e-6)


@pytest.mark.parametrize(("lose", "win"), [(0.02, 0.01), (0.06, 0.05), (0.11, 0.10)])
@pytest.mark.parametrize("count", [300, 1500])
def test_a_difference_at_the_margin_passes_in_5_percent(lose: float, win: float, count: int) -> None:
    """The size of the test, drawn 4,000 times where the truth lies exactly on the margin of 0.01."""
    drawn = np.random.default_rng(count).random((4000, count))
    step = np.where(drawn < lose, -1.0, np.where(drawn < lose + win, 1.0, 0.0))
    low = difference_low(step.mean(axis=1), (step**2).mean(axis=1), count, Z90)
    assert (low >= -0.01).mean() <= 0.06


def test_the_chosen_cascade_breaks_the_margin_in_at_most_5_percent_of_samples() -> None:
    """400 samples of 800; the truth of each chosen threshold is read off a population of 400,000."""
    random = np.random.default_rng(11)
    everyone = pair_of(population(400_000, random))
    margin, broken, runs = 0.02, 0, 400
    for _ in range(runs):
        threshold = choose_threshold(pair_of(population(800, random)), margin, 0.95)
        truth = everyone.outcome(threshold)[0].mean() - everyone.large.mean()
        broken += truth < -margin
    assert broken / runs <= 0.06


def test_cross_fitting_is_honest_where_the_fit_flatters() -> None:
    """Means over 60 samples against the truth in a large population."""
    random = np.random.default_rng(12)
    everyone = pair_of(population(200_000, random))
    off = []
    for seed in range(60):
        made = run(population(600, random), margin=0.03, seed=seed, draws=1000)
        score, cost = everyone.outcome(made.threshold)
        truth = score.mean() - everyone.large.mean()
        off.append(
            (
                made.expected.quality - made.always_large.quality - truth,
                made.fitted.quality - made.always_large.quality - truth,
                made.expected.cost - cost.mean(),
            )
        )
    held, fitted, cost_error = np.mean(off, axis=0)
    assert abs(held) < 0.006
    assert fitted > abs(held)
    assert cost_error > -0.02, "cross-fitting learns from fewer examples, so it is on the dear side"


def test_a_cascade_that_pays_says_where_to_cut_and_what_it_saves() -> None:
    made = run(population(3000, np.random.default_rng(13)), margin=0.03)
    assert made.pays
    assert made.verdict.startswith("keep answers of confidence")
    assert 0 < made.escalated < made.break_even == pytest.approx(0.9)
    assert made.saving.low > 0
    assert made.difference.low < 0
    assert made.over_random.low > 0, "sending on the unsure ones beats sending on any"
    assert made.expected.cost == pytest.approx(
        made.always_large.cost - (made.saving.low + made.saving.high) / 2, rel=0.1
    )


def test_a_confidence_without_information_is_said_to_be_none() -> None:
    drawn = population(3000, np.random.default_rng(14))
    drawn["confidence"] = np.random.default_rng(15).random(3000)
    made = run(drawn, margin=0.05)
    assert made.over_random.low <= 0
    assert made.verdict.endswith("the confidence is not shown to choose better than chance")


def test_a_small_model_that_is_as_good_needs_no_cascade() -> None:
    drawn = population(1000, np.random.default_rng(16))
    drawn["small"] = drawn["large"]
    made = run(drawn)
    assert (made.threshold, made.escalated) == (-math.inf, 0.0)
    assert made.verdict == "ask the small model only: it is within the margin by itself"


def test_too_few_examples_for_the_margin_are_told_how_many() -> None:
    made = run(population(100, np.random.default_rng(17)), margin=0.01)
    assert made.verdict.startswith("ask the large model only: 100 examples cannot show a margin of 0.01")
    assert made.examples_needed == fewest_examples(0.01, 0.95) == 268
    assert (made.threshold, made.escalated, made.pays) == (math.inf, 1.0, False)


def test_a_small_model_as_dear_as_the_large_one_never_pays() -> None:
    made = run(population(1000, np.random.default_rng(18)), small_usd=1.0, margin=0.03)
    assert made.break_even == pytest.approx(0.0)
    assert made.verdict == "ask the large model only: the small one costs as much"


def test_a_margin_that_is_met_only_beyond_the_break_even_does_not_pay() -> None:
    drawn = population(1000, np.random.default_rng(19))
    drawn["small"] = np.zeros(1000)
    made = run(drawn, small_usd=0.5, margin=0.02)
    assert made.threshold == math.inf
    assert "fewer than 50 % of the requests go on" in made.verdict


def test_a_saving_that_is_not_clear_of_zero_is_not_recommended() -> None:
    """Costs that vary a hundredfold and a threshold that keeps few: the interval holds zero."""
    random = np.random.default_rng(20)
    drawn = population(400, random)
    drawn["small"] = np.where(
        drawn["confidence"] > np.quantile(drawn["confidence"], 0.4), drawn["large"], 0.0
    )
    count = 400
    scores = scores_of(
        {"s": drawn["small"], "l": drawn["large"]},
        confidence={"s": drawn["confidence"]},
        cost_usd={"s": [0.00045] * count, "l": random.lognormal(-7.6, 1.0, count)},
    )
    made = cascade(scores, small="s", large="l", margin=0.02)
    assert made.threshold < math.inf
    assert not made.pays
    assert "its saving is not clear of zero" in made.verdict


def test_prices_per_token_stand_for_both_models_alike() -> None:
    drawn = population(400, np.random.default_rng(21))
    scores = scores_of({"s": drawn["small"], "l": drawn["large"]}, confidence={"s": drawn["confidence"]})
    prices = {"s": ModelPrice(input_usd=0.1, output_usd=0.1), "l": ModelPrice(input_usd=1.0, output_usd=1.0)}
    made = cascade(scores, small="s", large="l", margin=0.05, prices=prices)
    assert made.cost_unit == f"{PER_TOKENS}, the same tokens for both"
    assert made.break_even == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"small": "a", "large": "a"}, "a cascade needs two models, got 'a' twice"),
        ({"margin": 0}, "margin must be above 0 and below 1, got 0"),
        ({"margin": math.nan}, "margin must be above 0"),
        ({"confidence": 1.0}, "confidence must be 0.5 to 0.999, got 1.0"),
        ({"small": "b", "large": "a"}, "not every line of 'b' has a confidence"),
        ({"large": "c"}, "no scores of 'c'"),
        ({}, "no cost of a or b; give --cost"),
    ],
)
def test_what_a_cascade_lacks_is_named(options: dict[str, Any], message: str) -> None:
    scores = scores_of({"a": [1, 0], "b": [1, 1]}, confidence={"a": [0.5, 0.6]})
    with pytest.raises(TokenmillError, match=message):
        cascade(scores, **{"small": "a", "large": "b", **options})


def test_a_large_model_for_nothing_leaves_nothing_to_save() -> None:
    with pytest.raises(TokenmillError, match="l costs nothing"):
        prices = {"l": ModelPrice(input_usd=0, output_usd=0), "s": ModelPrice(input_usd=1, output_usd=1)}
        scores = scores_of({"s": [1, 0], "l": [1, 1]}, confidence={"s": [0.5, 0.6]})
        cascade(scores, small="s", large="l", prices=prices)


def test_ten_examples_are_the_fewest() -> None:
    with pytest.raises(TokenmillError, match="a cascade needs 10 examples at the fewest, got 9"):
        run(population(9, np.random.default_rng(22)))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), margins=st.tuples(st.floats(0.01, 0.3), st.floats(0.01, 0.3)))
def test_a_wider_margin_never_costs_more(seed: int, margins: tuple[float, float]) -> None:
    pair = pair_of(population(150, np.random.default_rng(seed)))
    tight, wide = (pair.outcome(choose_threshold(pair, margin, 0.95))[1].mean() for margin in sorted(margins))
    assert wide <= tight + 1e-12
