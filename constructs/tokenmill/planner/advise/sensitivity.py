"""At which rates the cheapest option changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenmill.planner.advise.advice import BreakEven, Line

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.planner.advise.cost import Curve, MonthlyCost
    from tokenmill.planner.advise.options import Option

RANGE = 1000.0
"""Rates are tried up to this many times above and below the one asked for."""
STEPS = 400
HALVINGS = 40
POINTS = 121
SPAN = 30.0
"""A chart shows rates up to this many times above and below the one asked for."""


def rates(centre: float, span: float, steps: int) -> list[float]:
    """Return rates evenly spaced in their logarithm, with the centre among them.

    Args:
        centre: The rate asked for, in requests a second.
        span: Largest rate over the centre, and the centre over the smallest.
        steps: How many, odd.
    """
    half = steps // 2
    return [float(centre * span ** ((index - half) / half)) for index in range(2 * half + 1)]


class _Known:
    """A curve whose cost is worked out once for each rate, since every pair of options asks for it."""

    def __init__(self, option: Option) -> None:
        assert option.curve is not None, "only priced options are compared"
        self.id = option.id
        self.curve: Curve = option.curve
        self.found: dict[float, MonthlyCost | None] = {}

    def cost(self, rate: float) -> MonthlyCost | None:
        if rate not in self.found:
            self.found[rate] = self.curve.cost(rate)
        return self.found[rate]

    def usd(self, rate: float, end: str) -> float:
        cost = self.cost(rate)
        return float("inf") if cost is None else float(getattr(cost, end))


def _refined(cheaper: Callable[[float], bool], before: float, after: float) -> float:
    """The rate between two at which the other option becomes cheaper."""
    for _ in range(HALVINGS):
        middle = (before * after) ** 0.5
        before, after = (before, middle) if cheaper(middle) else (middle, after)
    return after


def _crossing(cheaper: Callable[[float], bool], tried: list[float]) -> tuple[float, float | None] | None:
    """First rate at which the other option is cheaper, and the rate from which it stays so."""
    holds = [cheaper(rate) for rate in tried]
    if holds[0] or not any(holds):
        return None  # equal where the rate was asked for, or never
    first = holds.index(True)
    last_not = len(holds) - 1 - holds[::-1].index(False)
    lasting = None if holds[-1] is False else _refined(cheaper, tried[last_not], tried[last_not + 1])
    return _refined(cheaper, tried[first - 1], tried[first]), lasting


def break_evens(best: Option, others: list[Option], asked: float) -> tuple[BreakEven, ...]:
    """Return where other options become cheaper than the best, nearest first in each direction.

    Args:
        best: The recommended option.
        others: Feasible options with a price.
        asked: Rate of the peak hour.
    """
    grid = rates(asked, RANGE, STEPS)
    middle = len(grid) // 2
    found = []
    mine = _Known(best)
    for theirs in map(_Known, others):
        for direction, tried in (("above", grid[middle:]), ("below", grid[middle::-1])):
            even = _break_even(mine, theirs, direction, tried)
            if even is not None:
                found.append(even)
    return tuple(sorted(found, key=lambda item: abs(item.requests_per_second - asked)))


def _break_even(mine: _Known, theirs: _Known, direction: str, tried: list[float]) -> BreakEven | None:
    # where the best one ends is no price, and said by itself
    carried = [rate for rate in tried if theirs.cost(rate) is not None and mine.cost(rate) is not None]

    def crossing(other_end: str, best_end: str) -> tuple[float, float | None] | None:
        def cheaper(rate: float) -> bool:
            return theirs.usd(rate, other_end) <= mine.usd(rate, best_end)

        return _crossing(cheaper, carried)

    expected = crossing("expected", "expected")
    if expected is None:
        return None
    early, late = crossing("low", "high"), crossing("high", "low")
    return BreakEven(
        other=theirs.id,
        direction=direction,
        requests_per_second=expected[0],
        earliest=tried[0] if early is None else early[0],
        latest=None if late is None else late[0],
        lasting=expected[1],
    )


def lines(options: list[Option], asked: float) -> tuple[Line, ...]:
    """Return the costs of options over rates.

    Args:
        options: Options with a price.
        asked: Rate of the peak hour, which stands in the middle.
    """
    tried = tuple(rates(asked, SPAN, POINTS))
    found = []
    for option in options:
        assert option.curve is not None, "only priced options have a line"
        costs = [option.curve.cost(rate) for rate in tried]
        found.append(
            Line(
                id=option.id,
                title=option.title,
                requests_per_second=tried,
                low=tuple(None if cost is None else cost.low for cost in costs),
                expected=tuple(None if cost is None else cost.expected for cost in costs),
                high=tuple(None if cost is None else cost.high for cost in costs),
            )
        )
    return tuple(found)
