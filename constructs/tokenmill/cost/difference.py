"""What changes between two assemblies: lines, the monthly floor, quotas, prices per million tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokenmill.cost.report import CostLine, CostReport, QuotaNeed, RunCost, TokenCost

ADDED, REMOVED, CHANGED = "added", "removed", "changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChange:
    """A line that is in one assembly only, or differs.

    Args:
        kind: "added", "removed" or "changed".
        before: The line before; None where it is added.
        after: The line after; None where it is removed.
    """

    kind: str
    before: CostLine | None
    after: CostLine | None

    @property
    def line(self) -> CostLine:
        """The line as it is now, or as it was."""
        found = self.after or self.before
        if found is None:
            raise ValueError("a change has a line before or after")
        return found

    @property
    def usd_per_month(self) -> float | None:
        """What it adds to the month, in US dollars; None where a price is missing."""
        sides = [0.0 if line is None else line.usd_per_month for line in (self.before, self.after)]
        return None if sides[0] is None or sides[1] is None else sides[1] - sides[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaChange:
    """A quota that is needed in another size.

    Args:
        quota: The quota, as it is needed now, or was.
        before: Needed at the most before.
        after: Needed at the most now.
    """

    quota: QuotaNeed
    before: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenChange:
    """A model whose price per million tokens differs.

    Args:
        model: The model.
        stack: Template that it is served from.
        before: US dollars per million tokens before; None where it could not be told, or was not there.
        after: US dollars per million tokens now; None likewise.
    """

    model: str
    stack: str
    before: float | None
    after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunChange:
    """A job whose runs cost something else.

    Args:
        run: The job as it is now, or was.
        before: US dollars an hour of a run before; None where it could not be told, or was not there.
        after: US dollars an hour of a run now; None likewise.
    """

    run: RunCost
    before: float | None
    after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CostDifference:
    """Two assemblies side by side.

    Args:
        before: The assembly that the other is held against.
        after: The other.
        lines: Lines that differ, the largest effect first, those without a price before all.
        quotas: Quotas that differ.
        tokens: Prices per million tokens that differ.
        runs: Jobs whose runs differ.
    """

    before: CostReport
    after: CostReport
    lines: tuple[LineChange, ...]
    quotas: tuple[QuotaChange, ...]
    tokens: tuple[TokenChange, ...]
    runs: tuple[RunChange, ...]

    @property
    def usd_per_month(self) -> float:
        """How much the known floor grows a month, in US dollars."""
        return self.after.usd_per_month - self.before.usd_per_month

    @property
    def newly_missing(self) -> tuple[CostLine, ...]:
        """Lines that are new or different and whose cost cannot be told."""
        return tuple(
            change.after for change in self.lines if change.after is not None and change.usd_per_month is None
        )


def compare(before: CostReport, after: CostReport) -> CostDifference:
    """Return what changes from one assembly to another.

    Args:
        before: The report of the assembly that stands.
        after: The report of the one that would replace it.
    """
    return CostDifference(
        before=before,
        after=after,
        lines=tuple(sorted(_lines(before.lines, after.lines), key=_weight)),
        quotas=tuple(_quotas(before.quotas, after.quotas)),
        tokens=tuple(_tokens(before.tokens, after.tokens)),
        runs=tuple(_runs(before.runs, after.runs)),
    )


def _lines(before: Iterable[CostLine], after: Iterable[CostLine]) -> Iterable[LineChange]:
    old = _numbered(before)
    new = _numbered(after)
    for key in dict.fromkeys([*old, *new]):
        was, now = old.get(key), new.get(key)
        if was is None:
            yield LineChange(kind=ADDED, before=None, after=now)
        elif now is None:
            yield LineChange(kind=REMOVED, before=was, after=None)
        elif (was.item, was.quantity, was.usd_per_month) != (now.item, now.quantity, now.usd_per_month):
            yield LineChange(kind=CHANGED, before=was, after=now)


def _numbered(lines: Iterable[CostLine]) -> dict[tuple[str, str, str, int], CostLine]:
    """Lines by key; two variants of one endpoint share a key and are told apart by their order."""
    found: dict[tuple[str, str, str, int], CostLine] = {}
    for line in lines:
        number = 0
        while (*line.key, number) in found:
            number += 1
        found[(*line.key, number)] = line
    return found


def _quotas(before: Iterable[QuotaNeed], after: Iterable[QuotaNeed]) -> Iterable[QuotaChange]:
    old = {item.key: item for item in before}
    new = {item.key: item for item in after}
    for key in sorted({*old, *new}):
        was = old[key].at_most if key in old else 0.0
        now = new[key].at_most if key in new else 0.0
        if was != now:
            yield QuotaChange(quota=new.get(key) or old[key], before=was, after=now)


def _tokens(before: Iterable[TokenCost], after: Iterable[TokenCost]) -> Iterable[TokenChange]:
    old = {(item.stack, item.model): item.usd_per_million for item in before}
    new = {(item.stack, item.model): item.usd_per_million for item in after}
    for stack, model in sorted({*old, *new}):
        was, now = old.get((stack, model)), new.get((stack, model))
        if was != now:
            yield TokenChange(model=model, stack=stack, before=was, after=now)


def _runs(before: Iterable[RunCost], after: Iterable[RunCost]) -> Iterable[RunChange]:
    old = {item.key: item for item in before}
    new = {item.key: item for item in after}
    for key in sorted({*old, *new}):
        was, now = old.get(key), new.get(key)
        if was != now:
            yield RunChange(
                run=now or old[key],
                before=None if was is None else was.usd_per_hour,
                after=None if now is None else now.usd_per_hour,
            )


def _weight(change: LineChange) -> tuple[bool, float, tuple[str, str, str]]:
    usd = change.usd_per_month
    return usd is not None, -abs(usd or 0.0), change.line.key
