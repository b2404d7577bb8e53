"""Which model is the cheapest one over a quality bar, from task scores, and how sure that is.

A model is taken only when the lower bound of its mean score clears the bar. The bounds of all models hold
together at the stated confidence, so that looking at ten models does not make it likely that one of them
clears the bar by luck: the chosen model is under the bar in at most 1 - confidence of all such samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenmill.core.bedrock_prices import SMALLEST_USD
from tokenmill.core.errors import TokenmillError
from tokenmill.planner.resampling import (
    DRAWS,
    Interval,
    examples_for_bar,
    percentile_interval,
    resampled_means,
    simultaneous_critical,
    spread_ratio,
    wilson,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from tokenmill.planner.scores import Scores

RULES = ("lower", "point")
PER_REQUEST = "USD per 1,000 requests"
PER_TOKENS = "USD per million tokens"
POWER = 0.8
SEED = 20_260
THOUSAND, MILLION = 1_000, 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPrice:
    """What a model's tokens cost.

    Args:
        input_usd: US dollars per million input tokens.
        output_usd: US dollars per million output tokens.
        source: Where the price stands.

    Raises:
        TokenmillError: A price is negative or not finite.
    """

    input_usd: float
    output_usd: float
    source: str = "given on the command line"

    def __post_init__(self) -> None:
        for name in ("input_usd", "output_usd"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise TokenmillError(f"a price per million tokens must be 0 or more, got {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelResult:
    """What the scores say of one model.

    Args:
        model: Its name.
        mean: Mean score.
        interval: Interval of this model's mean alone, at the stated confidence.
        lower: Lower bound that holds for all models together.
        cost: Cost in the unit of the selection; None where no price is known.
        cost_interval: Interval of that cost over examples; None where no price is known.
        passes: Whether the rule lets it over the bar.
        verdict: One sentence.
        examples_needed: Examples at which the lower bound would clear the bar at 80 % power, if the mean
            stays; None where the mean is not over the bar.
    """

    model: str
    mean: float
    interval: Interval
    lower: float
    cost: float | None
    cost_interval: Interval | None
    passes: bool
    verdict: str
    examples_needed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The cheapest model over the bar, and everything it was compared with.

    Args:
        bar: The bar, a mean score.
        confidence: Rate at which the bounds hold.
        rule: "lower" or "point".
        examples: Examples that all models answered.
        cost_unit: What costs are counted in.
        models: Every model, cheapest first, those without a price last.
        chosen: Name of the cheapest model over the bar; None where there is none.
        by_point: Name that the point estimates alone would have chosen.
        difference: Score of the chosen model minus that of the best one, paired, with its interval; None
            where nothing is chosen or the best is chosen.
        best: Name of the model with the highest mean.
        guarantee: What is promised, in one sentence.
        warnings: What a reader must know.
    """

    bar: float
    confidence: float
    rule: str
    examples: int
    cost_unit: str
    models: tuple[ModelResult, ...]
    chosen: str | None
    by_point: str | None
    best: str
    difference: Interval | None
    guarantee: str
    warnings: tuple[str, ...]

    def result(self, model: str) -> ModelResult:
        """Return what the scores say of one model.

        Args:
            model: Its name, one of those in `models`.
        """
        return next(item for item in self.models if item.model == model)


def select(
    scores: Scores,
    *,
    bar: float,
    prices: Mapping[str, ModelPrice] | None = None,
    confidence: float = 0.95,
    rule: str = "lower",
    seed: int = SEED,
    draws: int = DRAWS,
) -> Selection:
    """Return the cheapest model whose quality is over a bar.

    Args:
        scores: What `read_scores` returned.
        bar: Mean score to reach, above 0 and below 1.
        prices: Token prices by model; they go before the costs in the file.
        confidence: Rate at which the bounds hold, 0.5 to 0.999.
        rule: "lower" takes the lower bound, "point" the mean as it is.
        seed: Seed of the bootstrap.
        draws: Samples of the bootstrap.

    Raises:
        TokenmillError: An input is out of its range, a price names no model, or costs cannot be compared.
    """
    _check(scores, bar, confidence, rule, prices or {})
    costs, unit = request_costs(scores, prices or {})
    means = resampled_means(scores.values, seed=seed, draws=draws)
    critical, _ = simultaneous_critical(scores.values, means, confidence=confidence)
    results = _results(scores, costs, bar, confidence, critical, rule, seed)
    ranked = tuple(sorted(results, key=_by_cost))
    chosen = next((item.model for item in ranked if item.passes and item.cost is not None), None)
    by_point = next((item.model for item in ranked if item.mean >= bar and item.cost is not None), None)
    best = max(ranked, key=lambda item: item.mean).model
    difference = None
    if chosen is not None and chosen != best:
        apart = means[:, scores.row(chosen)] - means[:, scores.row(best)]
        difference = percentile_interval(apart, confidence)
    return Selection(
        bar=bar,
        confidence=confidence,
        rule=rule,
        examples=len(scores.examples),
        cost_unit=unit,
        models=ranked,
        chosen=chosen,
        by_point=by_point,
        best=best,
        difference=difference,
        guarantee=_guarantee(rule, confidence, len(scores.models)),
        warnings=(
            *scores.warnings,
            *_implausible(prices or {}),
            *_unpriced(ranked),
            *_ties(ranked, chosen),
        ),
    )


def _results(
    scores: Scores,
    costs: list[NDArray[np.float64] | None],
    bar: float,
    confidence: float,
    critical: float,
    rule: str,
    seed: int,
) -> list[ModelResult]:
    alone = wilson(scores.values, _two_sided(confidence))
    together = wilson(scores.values, critical)[:, 0]
    ratios = spread_ratio(scores.values)
    results = []
    for row, model in enumerate(scores.models):
        mean, lower = float(scores.values[row].mean()), float(together[row])
        needed = examples_for_bar(
            mean=mean, bar=bar, ratio=float(ratios[row]), critical=critical, power=POWER
        )
        passes = (lower if rule == "lower" else mean) >= bar
        results.append(
            ModelResult(
                model=model,
                mean=mean,
                interval=Interval(float(alone[row, 0]), float(alone[row, 1])),
                lower=lower,
                cost=_mean(costs[row]),
                cost_interval=_cost_interval(costs[row], seed, confidence),
                passes=passes,
                verdict=_verdict(passes, mean, lower, bar, needed, len(scores.examples), critical),
                examples_needed=needed,
            )
        )
    return results


def request_costs(
    scores: Scores, prices: Mapping[str, ModelPrice]
) -> tuple[list[NDArray[np.float64] | None], str]:
    """Return each model's cost of every example, and the unit.

    Args:
        scores: What `read_scores` returned.
        prices: Token prices by model; they go before the costs in the file.

    Returns:
        One array a model (None where nothing is known) and the unit: US dollars per 1,000 requests; or per
        million tokens where the file counts no tokens and has no costs.

    Raises:
        TokenmillError: One model's cost is known per request and another's only per token.
    """
    import numpy as np

    by_request: dict[str, NDArray[np.float64]] = {}
    by_token: dict[str, float] = {}
    for model in scores.models:
        tokens = scores.measure("input_tokens", model), scores.measure("output_tokens", model)
        price, stated = prices.get(model), scores.measure("cost_usd", model)
        if price is not None and tokens[0] is not None and tokens[1] is not None:
            by_request[model] = (tokens[0] * price.input_usd + tokens[1] * price.output_usd) / MILLION
        elif price is not None:
            by_token[model] = _one_price(model, price)
        elif stated is not None:
            by_request[model] = stated
    if by_request and by_token:
        raise TokenmillError(
            f"the cost of {', '.join(by_request)} is known per request and that of {', '.join(by_token)} "
            "only per token; add input_tokens and output_tokens to every line of the latter"
        )
    if by_token:
        width = len(scores.examples)
        flat = [np.full(width, by_token[name]) if name in by_token else None for name in scores.models]
        return flat, PER_TOKENS
    found = [by_request.get(name) for name in scores.models]
    return [None if item is None else item * THOUSAND for item in found], PER_REQUEST


def _one_price(model: str, price: ModelPrice) -> float:
    if price.input_usd != price.output_usd:
        raise TokenmillError(
            f"{model} has different prices for input and output, and the scores count no tokens; add "
            "input_tokens and output_tokens to its lines"
        )
    return price.input_usd


def _check(
    scores: Scores, bar: float, confidence: float, rule: str, prices: Mapping[str, ModelPrice]
) -> None:
    if not 0 < bar < 1:
        percent = "; a percentage? divide it by 100" if 1 < bar <= 100 else ""
        raise TokenmillError(f"bar must be above 0 and below 1, got {bar!r}{percent}")
    if not 0.5 <= confidence <= 0.999:
        raise TokenmillError(f"confidence must be 0.5 to 0.999, got {confidence!r}")
    if rule not in RULES:
        raise TokenmillError(f"rule must be one of {', '.join(RULES)}, got {rule!r}")
    for model in prices:
        scores.row(model)


def _two_sided(confidence: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf((1 + confidence) / 2)


def _mean(costs: NDArray[np.float64] | None) -> float | None:
    return None if costs is None else float(costs.mean())


def _cost_interval(costs: NDArray[np.float64] | None, seed: int, confidence: float) -> Interval | None:
    if costs is None:
        return None
    if float(costs.min()) == float(costs.max()):
        return Interval(float(costs[0]), float(costs[0]))
    return percentile_interval(resampled_means(costs[None, :], seed=seed, draws=2_000)[:, 0], confidence)


def _by_cost(item: ModelResult) -> tuple[bool, float, float, float, str]:
    # at the same cost the surer model, then the better one
    return item.cost is None, item.cost or 0.0, -item.lower, -item.mean, item.model


def _verdict(
    passes: bool, mean: float, lower: float, bar: float, needed: int | None, have: int, critical: float
) -> str:
    if passes:
        return f"over the bar: mean {mean:.3f}, lower bound {lower:.3f}"
    perfect = math.ceil(critical**2 * bar / (1 - bar))
    if have < perfect:
        return f"not shown: even {have} perfect scores could not clear {bar:g}; {perfect} examples could"
    if needed is None:
        return f"under the bar: mean {mean:.3f}"
    more = max(needed - have, 1)
    return f"not shown: mean {mean:.3f}, lower bound {lower:.3f}; about {more} more examples would show it"


def _guarantee(rule: str, confidence: float, models: int) -> str:
    if rule == "point":
        return "none: means are compared with the bar as they are, so a model near the bar passes by luck"
    return (
        f"in {100 * confidence:g} % of samples like this one no model under the bar passes, for all {models} "
        "models together; it holds for examples drawn like these, and for the scores as they were graded"
    )


def _implausible(prices: Mapping[str, ModelPrice]) -> list[str]:
    return [
        f"the price of {model}, {usd:g}, is read as USD per million tokens; is it per token or per thousand?"
        for model, price in prices.items()
        for usd in sorted({price.input_usd, price.output_usd})
        if 0 < usd < SMALLEST_USD
    ]


def _unpriced(ranked: tuple[ModelResult, ...]) -> list[str]:
    names = [item.model for item in ranked if item.cost is None]
    if not names:
        return []
    return [f"no cost of {', '.join(names)}, so not chosen; give --cost MODEL=USD or cost_usd in the file"]


def _ties(ranked: tuple[ModelResult, ...], chosen: str | None) -> list[str]:
    if chosen is None:
        return []
    taken = next(item for item in ranked if item.model == chosen)
    same = [
        item.model
        for item in ranked
        if item is not taken
        and item.passes
        and item.cost_interval is not None
        and taken.cost_interval is not None
        and item.cost_interval.low <= taken.cost_interval.high
    ]
    return [f"{chosen} is not clearly cheaper than {', '.join(same)}: their costs overlap"] if same else []
