"""Ranks what the rules leave, and says how sure the answer is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenmill.planner.advise.advice import Fired, Ranked, Rejected
from tokenmill.planner.advise.options import BEDROCK, SAGEMAKER
from tokenmill.planner.advise.rules import HARD, RULES

if TYPE_CHECKING:
    from tokenmill.planner.advise.cost import MonthlyCost
    from tokenmill.planner.advise.options import Option, Situation

MANY_DOUBTS = 3


def fired(situation: Situation, found: tuple[Option, ...]) -> tuple[Fired, ...]:
    """Return the rules that apply to at least one option.

    Args:
        situation: What the decision is made from.
        found: Every option.
    """
    result = []
    for rule in RULES:
        if not rule.fires(situation):
            continue
        for effect, kinds in (("excludes", rule.excludes), ("favours", rule.favours)):
            concerned = tuple(option.id for option in found if option.kind in kinds)
            if concerned:
                result.append(
                    Fired(
                        id=rule.id,
                        sentence=rule.sentence,
                        source=rule.source,
                        effect=effect,
                        options=concerned,
                    )
                )
    return tuple(result)


def split(situation: Situation, found: tuple[Option, ...]) -> tuple[tuple[Option, ...], tuple[Rejected, ...]]:
    """Return the options that meet every need, and the others with their reasons.

    Args:
        situation: What the decision is made from.
        found: Every option.
    """
    active = [rule for rule in HARD if rule.fires(situation)]
    feasible, rejected = [], []
    for option in found:
        against = [rule for rule in active if option.kind in rule.excludes]
        reasons = [option.cannot] if option.cannot else []
        reasons += [rule.sentence for rule in against]
        if not reasons and option.curve is not None:
            reasons += _cannot_carry(situation, option)
        if reasons:
            ids = tuple(rule.id for rule in against)
            rejected.append(Rejected(id=option.id, title=option.title, rules=ids, reason="; ".join(reasons)))
        else:
            feasible.append(option)
    return tuple(feasible), tuple(rejected)


def _cannot_carry(situation: Situation, option: Option) -> list[str]:
    rate = situation.workload.requests_per_second
    if option.curve is None or option.curve.cost(rate) is not None:
        return []
    return [f"{rate:g} requests/s are more than limits.max_instances instances carry"]


def rank(situation: Situation, feasible: tuple[Option, ...], rules: tuple[Fired, ...]) -> tuple[Ranked, ...]:
    """Return the feasible options: priced ones by cost, then unpriced ones.

    Args:
        situation: What the decision is made from.
        feasible: Options that meet every need.
        rules: Rules that applied.
    """
    costs = {option.id: monthly(situation, option) for option in feasible}
    best = min((cost.expected for cost in costs.values() if cost is not None), default=None)
    items = [
        Ranked(
            id=option.id,
            title=option.title,
            monthly=costs[option.id],
            usd_per_million_tokens=_per_million(situation, costs[option.id]),
            missing=option.missing,
            favoured_by=tuple(
                rule.id for rule in rules if rule.effect == "favours" and option.id in rule.options
            ),
            notes=option.notes,
            even_usd_per_hour=_even(situation, option, best),
        )
        for option in feasible
    ]
    return tuple(
        sorted(items, key=lambda item: (item.monthly is None, item.monthly.expected if item.monthly else 0.0))
    )


def monthly(situation: Situation, option: Option) -> MonthlyCost | None:
    """Return an option's cost at the rate asked for, or None where a price is missing.

    Args:
        situation: What the decision is made from.
        option: The option.
    """
    return None if option.curve is None else option.curve.cost(situation.workload.requests_per_second)


def _per_million(situation: Situation, cost: MonthlyCost | None) -> float | None:
    if cost is None:
        return None
    load = situation.workload
    requests = situation.traffic.requests_per_month(load.requests_per_second)
    return cost.expected / (requests * (load.input_tokens + load.output_tokens)) * 1e6


def _even(situation: Situation, option: Option, best: float | None) -> float | None:
    candidate = option.candidate
    if option.curve is not None or candidate is None or best is None:
        return None
    idle = situation.traffic.idle_hours if situation.traffic.idle_costs else 0.0
    floor = -(-candidate.capacity.minimum // candidate.copies_per_instance)
    return best / (candidate.instances * situation.traffic.active_hours + floor * idle)


def too_close(ranked: tuple[Ranked, ...]) -> tuple[str, ...]:
    """Return the options whose interval reaches into the recommended one's.

    Args:
        ranked: The feasible options, best first.
    """
    if not ranked or ranked[0].monthly is None:
        return ()
    limit = ranked[0].monthly.high
    return tuple(item.id for item in ranked[1:] if item.monthly is not None and item.monthly.low <= limit)


def decides(ranked: tuple[Ranked, ...], close: tuple[str, ...]) -> str:
    """Return what would settle a close call, and what costs least until then if the estimates are wrong.

    Args:
        ranked: The feasible options, best first.
        close: Options whose interval overlaps.
    """
    if not close:
        return ""
    names = (ranked[0].id, *close)
    if all(name in BEDROCK for name in names):
        return "how requests come, since the costs are the same: files in S3 for a batch job, calls otherwise"
    steps = ["measure one copy on the instance type under load, which narrows its interval"]
    if any(name in BEDROCK for name in names):
        steps.append("count prompt and answer tokens of real requests")
    return "; ".join([*steps, *_safest([item for item in ranked if item.id in names])])


def _safest(rivals: list[Ranked]) -> list[str]:
    worst = {item.title: item.monthly.high for item in rivals if item.monthly is not None}
    title = min(worst, key=worst.__getitem__)
    if title == rivals[0].title:
        return []
    return [
        f"until then {title} risks least: {worst[title]:,.0f} USD a month at the worst, "
        f"{rivals[0].title} {worst[rivals[0].title]:,.0f}"
    ]


def doubts(situation: Situation, ranked: tuple[Ranked, ...], close: tuple[str, ...]) -> tuple[str, ...]:
    """Return why the answer is not certain.

    Args:
        situation: What the decision is made from.
        ranked: The feasible options, best first.
        close: Options whose interval overlaps the recommended one's.
    """
    best = ranked[0]
    found = list(best.notes[1:]) if best.id.startswith(SAGEMAKER) else list(best.notes)
    if close:
        titles = ", ".join(item.title for item in ranked if item.id in close)
        found.append(f"the interval reaches that of {titles}")
    unpriced = [item.title for item in ranked if item.monthly is None]
    if unpriced:
        found.append(f"no price is known of {', '.join(unpriced)}")
    if best.id in BEDROCK and situation.traffic.shape != "batch":
        found.append("whether Bedrock meets the latency goals must be measured")
    return tuple(found)


def confidence(found: tuple[str, ...]) -> str:
    """Return "high" without doubts, "low" with three or more, "medium" between.

    Args:
        found: The doubts.
    """
    if not found:
        return "high"
    return "low" if len(found) >= MANY_DOUBTS else "medium"


def verdict(ranked: tuple[Ranked, ...], close: tuple[str, ...]) -> str:
    """Return the recommendation in a sentence or two.

    Args:
        ranked: The feasible options, best first.
        close: Options whose interval overlaps the recommended one's.
    """
    if not ranked:
        return "no option meets every need; the rejected ones say which need stands in the way"
    best = ranked[0]
    if best.monthly is None:
        return (
            f"options that meet every need: {len(ranked)}, but none has a price; give --token-price or "
            "--price TYPE=USD to compare them"
        )
    text = f"{best.title} is the cheapest that meets every need: {best.monthly.expected:,.0f} USD a month"
    if close:
        titles = ", ".join(item.title for item in ranked if item.id in close)
        return f"{text}, but too close to call against {titles}"
    others = [item for item in ranked[1:] if item.monthly is not None]
    elsewhere = [item for item in others if (item.id in BEDROCK) != (best.id in BEDROCK)]
    second = next(iter(elsewhere or others), None)
    if second is None or second.monthly is None:
        return f"{text}; no other one has a price to compare with"
    times = second.monthly.expected / best.monthly.expected
    return f"{text}; {second.title} would cost {times:,.1f} times as much"
