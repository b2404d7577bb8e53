"""Which service answers a batch: Bedrock's batch jobs, SageMaker's transform jobs, or an endpoint's queue.

The rule: whatever keeps the deadline is a candidate, the cheapest of them wins. A batch inference job on
Bedrock may take a day ("CreateModelInvocationJob": timeoutDurationInHours is 24 at least), so it is none for
a deadline below that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tokenmill.core.batch_plan import BatchOption, BatchPlan
from tokenmill.core.batch_quotas import batch_quota
from tokenmill.core.batch_settings import ASYNC, BEDROCK_BATCH, TRANSFORM
from tokenmill.core.bedrock_prices import bedrock_price, longest_texts
from tokenmill.core.errors import TokenmillError
from tokenmill.core.user_catalog import find_user_catalog
from tokenmill.core.workload import Slo, Workload
from tokenmill.planner.plans import plan

if TYPE_CHECKING:
    import datetime
    from collections.abc import Collection, Mapping, Sequence

    from tokenmill.core.batch_settings import BatchLoad, BatchSettings
    from tokenmill.core.plan import Candidate, Plan

AUTO = "auto"
BEDROCK_HOURS = 24.0
MILLION = 1_000_000
WAY_OUT = "set input, output, batch_input and batch_output in [batch.token_prices], USD a million tokens"
# From the start of a job or a waking endpoint to its first answer: an instance, an image of 10 GB, the
# weights. Measured starts of LLM endpoints are 5 to 15 minutes (docs/sagemaker.md); a run pays for them.
START_HOURS = 0.25
# An endpoint goes on for so long after its last request before its instances leave.
LEAVE_HOURS = 0.25
# What planning leaves of an instance's throughput for records that are longer than the mean.
USED_SHARE = 0.85
# Nobody waits for a single answer: the search may make batches as large as memory allows.
ANY_TIME = Slo(ttft_ms=3_600_000, itl_ms=2000, percentile=50)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Instances on which a run would be answered.

    Args:
        candidate: One way to run the model.
        instances: How many.
        hours: From start to last answer.
        usd: What it costs; None where the type has no price.
    """

    candidate: Candidate
    instances: int
    hours: float
    usd: float | None


def choose(options: Sequence[BatchOption], *, backend: str = AUTO) -> tuple[tuple[BatchOption, ...], str]:
    """Return the options, the one to take first, and why.

    Args:
        options: Every service, refused ones with their reason.
        backend: "auto", or the only kind to take.
    """
    asked = [
        option
        if backend in (AUTO, option.kind) or option.refused
        else replace(option, refused=f"backend is {backend!r}")
        for option in options
    ]
    usable = [option for option in asked if not option.refused]
    if not usable:
        reasons = "; ".join(f"{option.kind}: {option.refused}" for option in asked)
        return tuple(asked), f"nothing answers a run in time ({reasons or 'there is no model'})"
    ranked = sorted(usable, key=lambda option: (option.usd is None, option.usd or 0.0, option.hours or 0.0))
    best, others = ranked[0], ranked[1:]
    rest = [option for option in asked if option.refused]
    return (best, *others, *rest), _reason(best, others, rest, backend)


def bedrock_option(
    model: str, load: BatchLoad, region: str, *, prices: Mapping[str, float] | None = None
) -> BatchOption:
    """Return Bedrock's batch inference of a run.

    Args:
        model: A Bedrock id.
        load: The run.
        region: AWS region.
        prices: Prices of your own by part, in US dollars a million tokens.

    Raises:
        TokenmillError: A given price is not usable.
    """
    usd, note = _bedrock_usd(model, load, region, prices)
    option = BatchOption(kind=BEDROCK_BATCH, runs_on=model, usd=usd, hours=BEDROCK_HOURS, note=note)
    if load.deadline_hours < BEDROCK_HOURS:
        return replace(
            option,
            refused=f"a job may take {BEDROCK_HOURS:g} hours and the deadline is {load.deadline_hours:g}",
        )
    least = batch_quota(model).minimum_records
    if load.records < least:
        return replace(option, refused=f"a job has {least} records at least and a run {load.records}")
    return replace(option, refused=_too_long(model, load))


def _too_long(model: str, load: BatchLoad) -> str:
    """Why a model cannot take the run's mean prompt, or give its mean answer; empty where it can."""
    means = (("prompts", load.input_tokens), ("answers", load.output_tokens))
    for (what, mean), longest in zip(means, longest_texts(model), strict=True):
        if longest is not None and mean > longest:
            return f"{what} have {mean:,} tokens and the model's longest has {longest:,}"
    return ""


def _bedrock_usd(
    model: str, load: BatchLoad, region: str, prices: Mapping[str, float] | None
) -> tuple[float | None, str]:
    try:
        quote = bedrock_price(model, region, given=prices, way_out=WAY_OUT)
    except TokenmillError as error:
        if prices is not None:
            raise
        return None, str(error)
    tier = quote.price.tiers.get("batch") if quote.price is not None else None
    if tier is None:
        missing = f"no batch price of {model} in {region} is known; {WAY_OUT}"
        return None, "; ".join(part for part in (quote.note, missing) if part)
    tokens = load.input_tokens * tier.input + load.output_tokens * tier.output
    return load.records * tokens / MILLION, quote.note


def sagemaker_options(
    found: Plan | None, load: BatchLoad, *, transform_types: Collection[str], most_instances: int
) -> tuple[tuple[BatchOption, Fleet | None], ...]:
    """Return a transform job and an endpoint's queue for a run, each with the instances behind it.

    Args:
        found: Every way to run the model; None where the section names none.
        load: The run.
        transform_types: Instance types that batch transform has.
        most_instances: The most instances at once.
    """
    made: list[tuple[BatchOption, Fleet | None]] = []
    for kind, types in ((TRANSFORM, transform_types), (ASYNC, None)):
        if found is None:
            refused = "the section names no model for SageMaker"
            made.append((BatchOption(kind=kind, runs_on="", refused=refused), None))
            continue
        fleets = [
            fleet
            for candidate in found.candidates
            if types is None or candidate.instance_type in types
            for fleet in _fleet(candidate, load, kind, most_instances)
        ]
        best = min(fleets, key=lambda item: (item.usd is None, item.usd or 0.0, item.hours), default=None)
        made.append((_option(kind, best, found, load, most_instances), best))
    return tuple(made)


def _fleet(candidate: Candidate, load: BatchLoad, kind: str, most: int) -> list[Fleet]:
    """The fewest instances that are in time, if that many are allowed."""
    copies = 1 if kind == TRANSFORM else candidate.copies_per_instance
    rate = copies * candidate.requests_per_second_per_copy * USED_SHARE * 3600
    left = load.deadline_hours - START_HOURS
    if rate <= 0 or left <= 0:
        return []
    work = load.records / rate
    instances = max(1, math.ceil(work / left))
    if instances > most:
        return []
    hours = START_HOURS + work / instances
    paid = hours + (LEAVE_HOURS if kind == ASYNC else 0.0)
    price = candidate.usd_per_hour
    usd = None if price is None else price / candidate.instances * instances * paid
    return [Fleet(candidate=candidate, instances=instances, hours=hours, usd=usd)]


def _option(kind: str, fleet: Fleet | None, found: Plan, load: BatchLoad, most: int) -> BatchOption:
    if fleet is None:
        why = found.nearest_miss or (
            f"no instance type of this service answers {load.records:,} records in "
            f"{load.deadline_hours:g} hours with at most {most} instances"
        )
        return BatchOption(kind=kind, runs_on=found.model.id, refused=why)
    return BatchOption(
        kind=kind,
        runs_on=fleet.candidate.instance_type,
        instances=fleet.instances,
        usd=fleet.usd,
        hours=fleet.hours,
        note="" if fleet.usd is not None else f"no price of {fleet.candidate.instance_type} is known",
    )


def _reason(best: BatchOption, others: list[BatchOption], rest: list[BatchOption], backend: str) -> str:
    where = best.runs_on if not best.instances else f"{best.instances} x {best.runs_on}"
    price = "at a price that is not known" if best.usd is None else f"at {best.usd:,.2f} USD a run"
    hours = "" if best.hours is None else f", over within {best.hours:,.1f} hours"
    against = [
        f"{option.kind} {'has no price' if option.usd is None else f'costs {option.usd:,.2f} USD'}"
        for option in others
    ] + [f"{option.kind} is out: {option.refused}" for option in rest]
    how = "cheapest in time" if backend == AUTO else "asked for"
    return f"{best.kind} on {where} {price}{hours} ({'; '.join([how, *against])})"


def batch_plan_for(
    settings: BatchSettings,
    *,
    transform_types: Collection[str],
    prices: Mapping[str, float] | None = None,
    today: datetime.date | None = None,
) -> BatchPlan:
    """Return the choice for a section [batch].

    Args:
        settings: The section.
        transform_types: Instance types that batch transform has.
        prices: Hourly prices of your own, by instance type, in US dollars.
        today: Day that the age of prices is measured from; None is the current day.

    Raises:
        TokenmillError: The model file cannot be read, or a price is not usable.
    """
    load = settings.load
    found = _instances_for(settings, prices, today)
    on_sagemaker = sagemaker_options(
        found, load, transform_types=transform_types, most_instances=settings.limits.max_instances
    )
    options = [option for option, _ in on_sagemaker]
    if settings.bedrock_model is None:
        refused = "the section names no bedrock_model"
        options.insert(0, BatchOption(kind=BEDROCK_BATCH, runs_on="", refused=refused))
    else:
        options.insert(
            0, bedrock_option(settings.bedrock_model, load, settings.region, prices=settings.token_prices)
        )
    ranked, reason = choose(options, backend=settings.backend)
    fleets = {option.kind: fleet for option, fleet in on_sagemaker}
    fleet = None if ranked[0].refused else fleets.get(ranked[0].kind)
    serving = None if fleet is None or found is None else replace(found, candidates=(fleet.candidate,))
    return BatchPlan(
        region=settings.region,
        load=load,
        input_hash=settings.input_hash,
        options=ranked,
        reason=reason,
        serving=serving,
    )


def _instances_for(
    settings: BatchSettings, prices: Mapping[str, float] | None, today: datetime.date | None
) -> Plan | None:
    model = settings.found_model
    if model is None:
        return None
    load = settings.load
    # The search sizes fleets for a rate; the smallest rate leaves every type with the fewest instances, and
    # how many a run needs is counted here.
    workload = Workload(
        requests_per_second=min(0.01, load.records / (load.deadline_hours * 3600)),
        input_tokens=load.input_tokens,
        output_tokens=load.output_tokens,
    )
    return plan(
        model=model[0],
        model_config=model[1],
        workload=workload,
        slo=ANY_TIME,
        region=settings.region,
        limits=settings.limits,
        catalog=find_user_catalog(settings.path.parent),
        prices=prices,
        stack=settings.stack,
        today=today,
    )
