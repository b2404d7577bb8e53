"""The cheapest model over a bar: bounds that hold, choices that hold, and what is said otherwise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from support_selection import matrix_scores, priced, scores_of
from tokenmill.core.errors import TokenmillError
from tokenmill.planner.resampling import (
    DRAWS,
    examples_for_bar,
    percentile_interval,
    resampled_means,
    simultaneous_critical,
    spread_ratio,
    wilson,
)
from tokenmill.planner.selection import PER_REQUEST, PER_TOKENS, ModelPrice, select

Z95 = stats.norm.ppf(0.975)


@pytest.mark.parametrize(("right", "count"), [(0, 12), (7, 10), (80, 100), (100, 100)])
def test_the_interval_of_right_and_wrong_is_wilsons_as_scipy_has_it(right: int, count: int) -> None:
    values = np.array([[1.0] * right + [0.0] * (count - right)])
    theirs = stats.binomtest(right, count).proportion_ci(0.95, method="wilson")
    assert wilson(values, Z95)[0] == pytest.approx([theirs.low, theirs.high], abs=1e-12)


def test_the_interval_of_graded_scores_is_near_scipys_bootstrap() -> None:
    values = np.random.default_rng(5).beta(4, 2, 400)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=4000, rng=1, method="BCa").confidence_interval
    assert wilson(values[None, :], Z95)[0] == pytest.approx([theirs.low, theirs.high], abs=0.003)


def test_bootstrap_means_spread_as_the_standard_error() -> None:
    """Independent check of the resampling: mean and spread are the sample's, pairs are kept."""
    values = np.random.default_rng(6).random((2, 300))
    means = resampled_means(values, seed=1)
    assert means.shape == (DRAWS, 2)
    assert means.mean(axis=0) == pytest.approx(values.mean(axis=1), abs=0.001)
    assert means.std(axis=0) == pytest.approx(values.std(axis=1) / math.sqrt(300), rel=0.03)
    same = resampled_means(np.stack([values[0], 2 * values[0]]), seed=1)
    assert same[:, 1] == pytest.approx(2 * same[:, 0])


def test_very_long_rows_are_resampled_fewer_times() -> None:
    assert resampled_means(np.ones((1, 50_000)), seed=1).shape == (2_000, 1)


def test_percentile_interval_of_a_normal_is_its_quantiles() -> None:
    found = percentile_interval(np.random.default_rng(2).normal(size=200_000), 0.95)
    assert (found.low, found.high) == pytest.approx((-1.96, 1.96), abs=0.02)


@pytest.mark.parametrize("count", [60, 250, 1000])
@pytest.mark.parametrize("graded", [False, True])
def test_a_95_percent_interval_covers_93_to_97_percent(count: int, graded: bool) -> None:
    """Drawn 4,000 times; averaged over qualities, because right-and-wrong coverage swings with each."""
    random = np.random.default_rng(count)
    covered = []
    for truth in (0.55, 0.65, 0.75, 0.85):
        shape = (4000, count)
        drawn = random.beta(4 * truth, 4 * (1 - truth), shape) if graded else random.random(shape) < truth
        ends = wilson(drawn.astype(float), Z95)
        covered.append(np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])))
    assert 0.93 <= np.mean(covered) <= 0.97


def test_bounds_of_all_models_hold_together() -> None:
    """Six models, correlated as models are: all six lower bounds are below the truth in 93 to 97.5 %."""
    random = np.random.default_rng(3)
    truths, held, runs = np.linspace(0.6, 0.85, 6), 0, 600
    for run in range(runs):
        common = random.random(200)
        own = random.random((6, 200))
        drawn = np.where(random.random((6, 200)) < 0.5, common, own) < truths[:, None]
        values = drawn.astype(float)
        critical, _ = simultaneous_critical(
            values, resampled_means(values, seed=run, draws=1000), confidence=0.95
        )
        held += bool((wilson(values, critical)[:, 0] <= truths).all())
    assert 0.93 <= held / runs <= 0.985


def test_the_chosen_model_is_under_the_bar_in_at_most_5_percent_of_samples() -> None:
    """Five models just under the bar and one over it: choosing a wrong one is what is guaranteed against."""
    random = np.random.default_rng(4)
    truths = np.array([0.795, 0.79, 0.798, 0.78, 0.799, 0.88])
    wrong, found, by_point, runs = 0, 0, 0, 500
    for run in range(runs):
        drawn = (random.random((6, 400)) < truths[:, None]).astype(float)
        result = select(matrix_scores(drawn, [1, 2, 3, 4, 5, 6]), bar=0.8, seed=run, draws=1000)
        wrong += result.chosen not in (None, "m5")
        found += result.chosen == "m5"
        by_point += result.by_point != "m5"
    assert wrong / runs <= 0.06
    assert found / runs >= 0.85
    assert by_point / runs > 0.5, "means alone take a model under the bar most of the time"


def test_simultaneous_bounds_lie_between_one_comparison_and_bonferroni() -> None:
    values = (np.random.default_rng(8).random((4, 300)) < 0.7).astype(float)
    means = resampled_means(values, seed=1)
    one, two = simultaneous_critical(values, means, confidence=0.95)
    assert stats.norm.ppf(0.95) <= one <= stats.norm.ppf(1 - 0.05 / 4)
    assert stats.norm.ppf(0.975) <= two <= stats.norm.ppf(1 - 0.05 / 8)


def test_a_model_without_a_miss_takes_bonferronis_bound() -> None:
    values = np.stack([np.ones(50), np.tile([1.0, 0.0], 25)])
    one, _ = simultaneous_critical(values, resampled_means(values, seed=1), confidence=0.95)
    assert one == pytest.approx(stats.norm.ppf(1 - 0.05 / 2))


def test_ten_perfect_scores_promise_no_perfect_model() -> None:
    result = select(priced({"a": [1.0] * 10}, {"a": 0.1}), bar=0.9)
    assert result.chosen is None
    assert "even 10 perfect scores could not clear 0.9; 25 examples could" in result.models[0].verdict
    assert select(priced({"a": [1.0] * 25}, {"a": 0.1}), bar=0.9).chosen == "a"


def test_scores_that_are_all_alike_are_treated_as_right_and_wrong() -> None:
    assert spread_ratio(np.full((1, 5), 0.7)) == pytest.approx([1.0])


def test_the_examples_asked_for_show_the_bar_at_80_percent() -> None:
    needed = examples_for_bar(mean=0.85, bar=0.8, ratio=1.0, critical=stats.norm.ppf(0.95), power=0.8)
    assert needed is not None
    drawn = (np.random.default_rng(9).random((4000, needed)) < 0.85).astype(float)
    shown = wilson(drawn, stats.norm.ppf(0.95))[:, 0] >= 0.8
    assert 0.77 <= shown.mean() <= 0.83


def test_no_number_of_examples_shows_a_bar_that_is_missed() -> None:
    assert examples_for_bar(mean=0.7, bar=0.8, ratio=1.0, critical=1.64, power=0.8) is None


def alternating(share: float, count: int = 400) -> list[float]:
    return [1.0] * round(share * count) + [0.0] * (count - round(share * count))


def test_the_cheapest_model_over_the_bar_is_chosen_and_held_against_the_best() -> None:
    values = {"small": alternating(0.6), "medium": alternating(0.86), "large": alternating(0.9)}
    result = select(priced(values, {"small": 0.001, "medium": 0.002, "large": 0.01}), bar=0.8)
    assert (result.chosen, result.by_point, result.best) == ("medium", "medium", "large")
    assert result.difference is not None
    assert -0.07 < result.difference.low < -0.04 < result.difference.high < 0
    assert [item.model for item in result.models] == ["small", "medium", "large"]
    assert result.result("medium").cost == pytest.approx(2.0)
    assert result.cost_unit == PER_REQUEST
    assert result.result("small").verdict == "under the bar: mean 0.600"
    assert "no model under the bar passes, for all 3 models together" in result.guarantee


def test_a_model_near_the_bar_is_told_how_many_examples_it_needs() -> None:
    result = select(priced({"a": alternating(0.82)}, {"a": 0.001}), bar=0.8)
    assert (result.chosen, result.by_point) == (None, "a")
    assert result.models[0].examples_needed is not None
    assert result.models[0].examples_needed > 400
    assert "more examples would show it" in result.models[0].verdict


def test_the_point_rule_takes_means_as_they_are_and_promises_nothing() -> None:
    result = select(priced({"a": alternating(0.82)}, {"a": 0.001}), bar=0.8, rule="point")
    assert result.chosen == "a"
    assert result.guarantee.startswith("none")


def test_at_the_same_cost_the_surer_model_is_taken_and_the_tie_is_said() -> None:
    values = {"a": alternating(0.88), "b": alternating(0.92)}
    result = select(priced(values, {"a": 0.001, "b": 0.001}), bar=0.8)
    assert result.chosen == "b"
    assert "b is not clearly cheaper than a: their costs overlap" in result.warnings


def test_a_model_without_a_cost_is_not_chosen() -> None:
    values = {"a": alternating(0.95), "b": alternating(0.9)}
    result = select(priced(values, {"b": 0.001}), bar=0.8)
    assert result.chosen == "b"
    assert "no cost of a, so not chosen" in result.warnings[0]
    assert result.models[-1].cost_interval is None
    assert select(scores_of(values), bar=0.8).chosen is None


def test_prices_go_before_costs_in_the_file_and_count_tokens() -> None:
    tokens = {
        "input_tokens": {"a": [1000] * 20},
        "output_tokens": {"a": [500] * 20},
        "cost_usd": {"a": [9.0] * 20},
    }
    scores = scores_of({"a": alternating(0.9, 20)}, **tokens)
    result = select(scores, bar=0.5, prices={"a": ModelPrice(input_usd=0.5, output_usd=2.0)})
    assert result.models[0].cost == pytest.approx(1000 * (1000 * 0.5 + 500 * 2.0) / 1e6)


def test_the_interval_of_a_cost_is_near_the_standard_error() -> None:
    usd = np.random.default_rng(7).lognormal(-7, 0.5, 400)
    result = select(scores_of({"a": alternating(0.9)}, cost_usd={"a": usd}), bar=0.8)
    interval = result.models[0].cost_interval
    assert interval is not None
    half = 1.96 * 1000 * usd.std() / 20
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=0.1)


def test_without_token_counts_costs_are_per_million_tokens() -> None:
    scores = scores_of({"a": alternating(0.9, 40), "b": alternating(0.9, 40)})
    result = select(scores, bar=0.5, prices={"a": ModelPrice(input_usd=0.5, output_usd=0.5)})
    assert (result.cost_unit, result.result("a").cost, result.result("b").cost) == (PER_TOKENS, 0.5, None)


def test_costs_of_two_kinds_cannot_be_compared() -> None:
    scores = priced({"a": alternating(0.9, 40), "b": alternating(0.9, 40)}, {"a": 0.1})
    with pytest.raises(TokenmillError, match="cost of a is known per request and that of b only per token"):
        select(scores, bar=0.5, prices={"b": ModelPrice(input_usd=0.5, output_usd=0.5)})


def test_input_and_output_prices_need_token_counts() -> None:
    with pytest.raises(TokenmillError, match="a has different prices for input and output"):
        select(scores_of({"a": [1, 0]}), bar=0.5, prices={"a": ModelPrice(input_usd=0.5, output_usd=1)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bar": 80}, "bar must be above 0 and below 1, got 80; a percentage"),
        ({"bar": 0.0}, "bar must be above 0 and below 1, got 0.0$"),
        ({"bar": math.nan}, "bar must be above 0 and below 1, got nan"),
        ({"bar": 0.5, "confidence": 95}, "confidence must be 0.5 to 0.999, got 95"),
        ({"bar": 0.5, "rule": "upper"}, "rule must be one of lower, point, got 'upper'"),
        ({"bar": 0.5, "prices": {"c": ModelPrice(input_usd=1, output_usd=1)}}, "no scores of 'c'"),
    ],
)
def test_what_is_out_of_range_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(TokenmillError, match=message):
        select(scores_of({"a": [1, 0]}), **options)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_a_price_that_is_none_is_refused(bad: float) -> None:
    with pytest.raises(TokenmillError, match="must be 0 or more"):
        ModelPrice(input_usd=bad, output_usd=1.0)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    bars=st.tuples(st.floats(0.05, 0.95), st.floats(0.05, 0.95)),
    rule=st.sampled_from(["lower", "point"]),
)
def test_a_lower_bar_never_costs_more(seed: int, bars: tuple[float, float], rule: str) -> None:
    """Whatever passes a bar passes a lower one."""
    random = np.random.default_rng(seed)
    drawn = (random.random((3, 60)) < random.random((3, 1))).astype(float)
    scores = matrix_scores(drawn, random.random(3))
    low, high = (select(scores, bar=bar, rule=rule) for bar in sorted(bars))
    if high.chosen is not None:
        assert low.chosen is not None
        cheap, dear = low.result(low.chosen).cost, high.result(high.chosen).cost
        assert cheap is not None
        assert dear is not None
        assert cheap <= dear


@settings(max_examples=20, deadline=None)
@given(truth=st.floats(0.05, 0.95), counts=st.tuples(st.integers(10, 400), st.integers(10, 400)))
def test_more_examples_never_widen_the_interval_in_expectation(truth: float, counts: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    few, many = sorted(counts)
    widths = [
        np.diff(wilson((random.random((3000, count)) < truth).astype(float), Z95)).mean()
        for count in (few, many)
    ]
    assert widths[1] <= widths[0] * 1.01
