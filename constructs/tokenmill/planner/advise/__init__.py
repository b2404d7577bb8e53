"""Bedrock or SageMaker: the published decision framework as rules, and money where they leave a choice."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from tokenmill.core.bedrock_prices import PARTS, bedrock_price, plain_id
from tokenmill.core.errors import TokenmillError
from tokenmill.core.plausibility import implausible
from tokenmill.core.workload import Limits
from tokenmill.planner import plan
from tokenmill.planner.advise.advice import Advice, PriceUsed
from tokenmill.planner.advise.cost import FleetCurve
from tokenmill.planner.advise.decide import (
    confidence,
    decides,
    doubts,
    fired,
    rank,
    split,
    too_close,
    verdict,
)
from tokenmill.planner.advise.need import Need, Traffic, UnitCapacity, Usage
from tokenmill.planner.advise.options import TIER_OF, Situation, options
from tokenmill.planner.advise.quota import quota_need
from tokenmill.planner.advise.sensitivity import break_evens, lines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill.core.model_spec import ModelSpec
    from tokenmill.core.plan import Plan
    from tokenmill.core.workload import Slo, Workload
    from tokenmill.planner.advise.advice import Ranked
    from tokenmill.planner.advise.options import Option

__all__ = ["Advice", "Need", "Traffic", "UnitCapacity", "Usage", "advise"]

MOST_LINES = 5
NOTHING = (
    "there is nothing to compare: name a Bedrock model (--bedrock), an open-weights model (--model), or both"
)
ALL = Limits()
NO_NEED, STEADY, PLAIN = Need(), Traffic(), Usage()


def advise(
    *,
    workload: Workload,
    slo: Slo,
    region: str,
    need: Need = NO_NEED,
    traffic: Traffic = STEADY,
    usage: Usage = PLAIN,
    bedrock_model: str = "",
    token_price: Mapping[str, float] | None = None,
    unit: UnitCapacity | None = None,
    model: ModelSpec | None = None,
    limits: Limits = ALL,
    prices: Mapping[str, float] | None = None,
    today: datetime.date | None = None,
) -> Advice:
    """Return where to serve a model, and every option that was rejected with its reason.

    Args:
        workload: The peak hour.
        slo: How fast answers must come.
        region: AWS region.
        need: What must hold wherever the model runs.
        traffic: How requests spread over a month; steady by default.
        usage: How requests use Bedrock.
        bedrock_model: Bedrock id or ARN of the candidate there; empty for none.
        token_price: Its prices of your own, in US dollars per million tokens, by "input", "output" and so on.
        unit: What a unit of provisioned throughput delivers and costs.
        model: The open-weights candidate for SageMaker; None for none.
        limits: What a plan for SageMaker may choose from.
        prices: Hourly prices of your own, by instance type, in US dollars.
        today: Day that ages are measured from; None is the current day.

    Raises:
        TokenmillError: Neither model is given, an id is unknown, or a number is not usable.
    """
    day = today or datetime.date.today()
    situation = Situation(
        need=need,
        traffic=traffic,
        workload=workload,
        region=region,
        today=day,
        usage=usage,
        bedrock_model=plain_id(bedrock_model),
        quote=bedrock_price(bedrock_model, region, given=token_price) if bedrock_model else None,
        unit=unit,
        model=model,
        plan=_planned(model, workload, slo, region, limits, prices, day),
    )
    return _advice(situation, slo, limits)


def _planned(
    model: ModelSpec | None,
    workload: Workload,
    slo: Slo,
    region: str,
    limits: Limits,
    prices: Mapping[str, float] | None,
    day: datetime.date,
) -> Plan | None:
    if model is None:
        return None
    return plan(
        model=model, workload=workload, slo=slo, region=region, limits=limits, prices=prices, today=day
    )


def _advice(situation: Situation, slo: Slo, limits: Limits) -> Advice:
    if not situation.bedrock_model and situation.model is None:
        raise TokenmillError(NOTHING)
    found = options(situation)
    feasible, rejected = split(situation, found)
    rules = fired(situation, found)
    ranked = rank(situation, feasible, rules)
    close = too_close(ranked)
    by_id = {option.id: option for option in found}
    priced = [by_id[item.id] for item in ranked if item.monthly is not None]
    best = priced[0] if priced else None
    uncertain = doubts(situation, ranked, close) if best else ()
    rate = situation.workload.requests_per_second
    model_id = situation.bedrock_model
    return Advice(
        region=situation.region,
        date=situation.today.isoformat(),
        bedrock_model=model_id,
        open_model="" if situation.model is None else situation.model.id,
        need=situation.need,
        traffic=situation.traffic,
        workload=situation.workload,
        slo=slo,
        usage=situation.usage,
        recommendation=best.id if best else "",
        verdict=verdict(ranked, close),
        too_close=close,
        decides=decides(ranked, close) if best else "",
        confidence=confidence(uncertain) if best else "none",
        doubts=uncertain,
        ranked=ranked,
        rejected=rejected,
        fired=rules,
        break_evens=break_evens(best, priced[1:], rate) if best else (),
        quota=quota_need(model_id, situation.workload, situation.usage) if model_id else None,
        context_tokens=_context(situation),
        prices=_prices(situation, ranked, by_id),
        lines=lines(priced[:MOST_LINES], rate),
        carried=best.curve.most if best and isinstance(best.curve, FleetCurve) else None,
        warnings=implausible(situation.workload, slo, limits),
        candidate=best.candidate if best else None,
    )


def _context(situation: Situation) -> int:
    price = situation.quote.price if situation.quote else None
    load = situation.workload
    asked = load.input_tokens + situation.usage.answer_room(load.output_tokens)
    return asked if price is None or price.max_input_tokens is None else price.max_input_tokens


def _prices(
    situation: Situation, ranked: tuple[Ranked, ...], by_id: Mapping[str, Option]
) -> tuple[PriceUsed, ...]:
    found = []
    price = situation.quote.price if situation.quote else None
    if price is not None:
        used = {TIER_OF[item.id] for item in ranked if item.id in TIER_OF}
        for tier, tokens in price.tiers.items():
            for part in PARTS if situation.usage.cached_share else PARTS[:2]:
                usd = getattr(tokens, part)
                if usd is not None and tier in used:
                    what = f"{price.model_id} {tier} {part.replace('_', ' ')}"
                    found.append(
                        PriceUsed(
                            what=what,
                            usd=usd,
                            per="million tokens",
                            source=price.source,
                            date=price.source_date,
                        )
                    )
    for item in ranked:
        candidate = by_id[item.id].candidate
        if candidate is not None and candidate.usd_per_hour is not None:
            found.append(
                PriceUsed(
                    what=candidate.instance_type,
                    usd=candidate.usd_per_hour / candidate.instances,
                    per="hour",
                    source=candidate.price_source,
                    date=candidate.price_date,
                )
            )
    return tuple(found)
