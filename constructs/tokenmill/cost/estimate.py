"""Puts prices to what the rules find in an assembly."""

from __future__ import annotations

import datetime
from collections import Counter
from typing import TYPE_CHECKING

from tokenmill.core.instances import PRICE_MAX_AGE_DAYS
from tokenmill.cost.assembly import NotKnownError, read_stacks
from tokenmill.cost.charge import Charge
from tokenmill.cost.endpoints import ENDPOINT, fleets
from tokenmill.cost.jobs import run_costs
from tokenmill.cost.loads import INSTANCES, PlannedLoads
from tokenmill.cost.markdown import usd as in_usd
from tokenmill.cost.prices import UNITS, PriceList, stale, unit_of
from tokenmill.cost.quotas import quotas_of
from tokenmill.cost.report import MISSING, ByUse, CostLine, CostReport
from tokenmill.cost.rules import BY_USE, RULES, known

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tokenmill.cost.assembly import CostStack, Resource
    from tokenmill.cost.endpoints import Fleet

NESTED = "AWS::CloudFormation::Stack"


def cost_of(
    directory: Path,
    *,
    region: str | None = None,
    prices: PriceList | None = None,
    loads: PlannedLoads | None = None,
    today: datetime.date | None = None,
) -> CostReport:
    """Return what an assembly costs with no traffic, per million tokens, and which quotas it needs.

    Args:
        directory: What `cdk synth` wrote.
        region: Region of stacks that name none.
        prices: Prices; the catalogs' otherwise.
        loads: Planned loads; none otherwise.
        today: The day that prices are old or new by; the current one otherwise.

    Raises:
        TokenmillError: It is no assembly, a template is malformed, or a region is not known.
    """
    listed, planned = prices or PriceList(), loads or PlannedLoads()
    stacks = read_stacks(directory, region)
    lines = tuple(line for stack in stacks for line in _lines(stack, listed))
    tokens = []
    for stack in stacks:
        own = [line for line in lines if line.stack == stack.name and line.what != INSTANCES]
        usd = sum(line.usd_per_month or 0.0 for line in own)
        partial = any(line.state == MISSING for line in own)
        tokens += planned.token_costs(stack, listed, usd, partial=partial)
    runs = tuple(run for stack in stacks for run in run_costs(stack, listed))
    day = today or datetime.datetime.now(tz=datetime.UTC).date()
    return CostReport(
        assembly=str(directory),
        stacks=tuple((stack.name, stack.region) for stack in stacks),
        lines=lines,
        by_use=tuple(item for stack in stacks for item in _by_use(stack)),
        unknown=_unknown(stacks),
        quotas=(*quotas_of(stacks), *planned.quotas(stacks)),
        tokens=tuple(tokens),
        runs=runs,
        warnings=(*planned.warnings, *_unused(listed), *_warnings(stacks, lines, day)),
    )


def _lines(stack: CostStack, prices: PriceList) -> Iterable[CostLine]:
    for resource in stack.resources.values():
        try:
            charges = list(_charges(resource, stack))
        except NotKnownError as error:
            what = INSTANCES if resource.type == ENDPOINT else resource.type.split("::")[-1]
            yield _unquantified(resource, what, str(error))
            continue
        for charge in charges:
            yield _line(resource, charge, stack.region, prices)


def _charges(resource: Resource, stack: CostStack) -> Iterable[Charge]:
    if resource.type == ENDPOINT:
        return [_instances(fleet) for fleet in fleets(resource, stack) if fleet.pools]
    rule = RULES.get(resource.type)
    return [] if rule is None else rule(resource, stack)


def _instances(fleet: Fleet) -> Charge:
    first, *others = fleet.pools
    held = first.copies
    return Charge(
        item=first.instance_type,
        what=INSTANCES,
        quantity=first.floor,
        note=fleet.note,
        each="an instance"
        if held is None
        else f"an instance, which holds {_counted(held, 'copy', 'copies')}",
        instead=tuple((pool.instance_type, pool.floor) for pool in others),
    )


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _line(resource: Resource, charge: Charge, region: str, prices: PriceList) -> CostLine:
    price = prices.find(charge.item, region, charge.usd_per_hour)
    unit = unit_of(charge.item) if price is None else price.unit
    usd: float | None = None if price is None else charge.quantity * price.usd * UNITS[unit]
    notes = [charge.note]
    if charge.quantity == 0:
        # nothing of it runs, so the floor does not need its price
        usd = 0.0
        if charge.each:
            hourly = f"no price in {region} is known" if price is None else in_usd(price.usd)
            notes.append(f"none without traffic; {hourly} for each hour of {charge.each}")
    elif price is None:
        notes.append(f"no price in {region} is known; give --price {charge.item}=USD a {unit}")
    if charge.instead:
        sides = ((charge.item, charge.quantity), *charge.instead)
        months = ", ".join(f"{item} {_month(item, count, region, prices)}" for item, count in sides)
        notes.append(f"a month by pool, of which the first is counted: {months}")
    if resource.condition:
        notes.append(f"only under condition {resource.condition}; counted as if it held")
    return CostLine(
        stack=resource.stack,
        resource=resource.name,
        type=resource.type,
        item=charge.item,
        what=charge.what,
        quantity=charge.quantity,
        unit=unit,
        usd_per_unit=None if price is None else price.usd,
        usd_per_month=usd,
        source="" if price is None else price.source,
        source_date="" if price is None else price.source_date,
        note="; ".join(filter(None, notes)),
    )


def _month(item: str, count: float, region: str, prices: PriceList) -> str:
    price = prices.find(item, region)
    if price is None:
        return f"{in_usd(None)} (give --price {item}=USD)"
    return in_usd(count * price.usd * UNITS[price.unit])


def _unquantified(resource: Resource, what: str, why: str) -> CostLine:
    return CostLine(
        stack=resource.stack,
        resource=resource.name,
        type=resource.type,
        item=resource.type,
        what=what,
        quantity=None,
        unit="month",
        usd_per_unit=None,
        usd_per_month=None,
        note=why,
    )


def _by_use(stack: CostStack) -> Iterable[ByUse]:
    counts = Counter(item.type for item in stack.resources.values() if item.type in BY_USE)
    return [
        ByUse(stack=stack.name, type=kind, count=count, what=BY_USE[kind])
        for kind, count in sorted(counts.items())
    ]


def _unknown(stacks: Iterable[CostStack]) -> tuple[tuple[str, int], ...]:
    kinds = (item.type for stack in stacks for item in stack.resources.values())
    return tuple(sorted(Counter(kind for kind in kinds if not known(kind)).items()))


def _unused(prices: PriceList) -> Iterable[str]:
    names = ", ".join(prices.unused)
    if names:
        yield f"the price given of {names} is used by nothing here; check how it is written"


def _warnings(
    stacks: tuple[CostStack, ...], lines: tuple[CostLine, ...], today: datetime.date
) -> Iterable[str]:
    old = [line for line in lines if line.usd_per_month and stale(line.source_date, today)]
    if old:
        oldest = min(line.source_date for line in old)
        items = ", ".join(sorted({line.item for line in old}))
        yield (
            f"prices of {items} are more than {PRICE_MAX_AGE_DAYS} days old (oldest: {oldest}); check them "
            "and give --price ITEM=USD"
        )
    named = sum(1 for stack in stacks for _ in stack.of_type(NESTED))
    found = sum(stack.nested for stack in stacks)
    if named > found:
        yield f"{named - found} nested stacks have a template outside the assembly; they are not counted"
