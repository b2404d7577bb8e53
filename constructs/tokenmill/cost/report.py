"""What the report of an assembly's costs holds."""

from __future__ import annotations

from dataclasses import dataclass

PRICED, MISSING = "priced", "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class CostLine:
    """One thing that costs money whether or not a request comes.

    Args:
        stack: Template that it stands in.
        resource: Construct path or logical id.
        type: CloudFormation type.
        item: Key of its price: an instance type, "nat-gateway" and so on.
        what: What it is, in words.
        quantity: How much of it there is at the least; None where only the deployment knows.
        unit: What the price is for: "hour", "month" or "gb-second".
        usd_per_unit: US dollars a unit; None where no price is known.
        usd_per_month: US dollars a month of 730 hours; None where it cannot be told.
        source: Where the price stands.
        source_date: When it stood there.
        note: What a reader must know of it; why it is missing.
    """

    stack: str
    resource: str
    type: str
    item: str
    what: str
    quantity: float | None
    unit: str
    usd_per_unit: float | None
    usd_per_month: float | None
    source: str = ""
    source_date: str = ""
    note: str = ""

    @property
    def state(self) -> str:
        """Whether its monthly cost is known: "priced" or "missing"."""
        return MISSING if self.usd_per_month is None else PRICED

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is matched by between two assemblies."""
        return self.stack, self.resource, self.what


@dataclass(frozen=True, slots=True, kw_only=True)
class ByUse:
    """Resources of a type that cost by use, and nothing without it.

    Args:
        stack: Template that they stand in.
        type: CloudFormation type.
        count: How many there are.
        what: What is paid for.
    """

    stack: str
    type: str
    count: int
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaNeed:
    """A quota that the account needs.

    Args:
        service: Service code of Service Quotas.
        name: The quota's name, as Service Quotas spells it.
        code: The quota's code; empty where no source states it.
        region: AWS region.
        at_floor: Needed with no traffic.
        at_most: Needed at the largest size that the stacks may scale to.
        note: What a reader must know of it.
    """

    service: str
    name: str
    code: str
    region: str
    at_floor: float
    at_most: float
    note: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What it is matched by between two assemblies."""
        return self.region, self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCost:
    """What a million tokens cost at the planned load.

    Args:
        stack: Template that the model is served from.
        model: The model.
        load: The load, in words; empty where it is not known.
        tokens_per_hour: Input and output tokens an hour; None where the load is not known.
        usd_per_million: Instances or model calls alone; None where it cannot be told.
        usd_per_million_with_floor: With everything else of the stack that costs without traffic.
        note: Why it cannot be told, or what a reader must know.
    """

    stack: str
    model: str
    load: str
    tokens_per_hour: float | None
    usd_per_million: float | None
    usd_per_million_with_floor: float | None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCost:
    """What a job costs each time that somebody starts it; nothing otherwise.

    Args:
        stack: Template that it stands in.
        resource: Construct path or logical id of its state machine.
        kind: What it does, such as "compile" or "transform".
        about: The same in words.
        instance_type: What it runs on.
        instances: How many of them.
        limit_hours: After how many hours it is stopped; None where nothing says.
        usd_per_hour: US dollars an hour of all of them; None where no price is known.
        note: What a reader must know of it.
    """

    stack: str
    resource: str
    kind: str
    about: str
    instance_type: str
    instances: int
    limit_hours: float | None
    usd_per_hour: float | None
    note: str = ""

    @property
    def usd_at_most(self) -> float | None:
        """US dollars of a run that is stopped at its limit; None where it cannot be told."""
        if self.usd_per_hour is None or self.limit_hours is None:
            return None
        return self.usd_per_hour * self.limit_hours

    @property
    def key(self) -> tuple[str, str]:
        """What it is matched by between two assemblies."""
        return self.stack, self.resource


@dataclass(frozen=True, slots=True, kw_only=True)
class CostReport:
    """Everything that can be said of an assembly's costs before it is deployed.

    Args:
        assembly: Its directory.
        stacks: Templates with their regions.
        lines: What costs without traffic.
        by_use: What costs by use only.
        unknown: Types that no rule covers, with their counts; custom resources too.
        quotas: Quotas needed.
        tokens: Prices per million tokens.
        runs: What each run of a job costs.
        warnings: What a reader must know: old prices, conditions, templates that are not in the assembly.
    """

    assembly: str
    stacks: tuple[tuple[str, str], ...]
    lines: tuple[CostLine, ...]
    by_use: tuple[ByUse, ...]
    unknown: tuple[tuple[str, int], ...]
    quotas: tuple[QuotaNeed, ...]
    tokens: tuple[TokenCost, ...]
    runs: tuple[RunCost, ...]
    warnings: tuple[str, ...]

    @property
    def usd_per_month(self) -> float:
        """The monthly floor as far as prices are known."""
        return sum(line.usd_per_month for line in self.lines if line.usd_per_month is not None)

    @property
    def missing(self) -> tuple[CostLine, ...]:
        """Lines whose cost cannot be told; the floor is above the sum of the others by theirs."""
        return tuple(line for line in self.lines if line.state == MISSING)
