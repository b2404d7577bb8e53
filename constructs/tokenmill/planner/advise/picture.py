"""What a chart of an answer shows, before anything draws it: axes, ticks, labels, marks."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tokenmill.planner.advise.words import breaks, load_sentence

if TYPE_CHECKING:
    from tokenmill.planner.advise.advice import Advice, Line

# Okabe and Ito, "Color Universal Design": told apart with any colour vision; dashes tell them apart in print
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
DASHES = ("", "7 4", "2 3", "9 3 2 3", "4 2", "12 4")
LABEL_GAP = 0.055
"""Least distance between two labels, as a share of the height."""
MARK_WIDTH, MARK_HEIGHT = 0.085, 0.04
"""Room that the label of a mark takes, as shares of width and height."""
LEVELS = 6
LEGEND = "bands: intervals; rings: break-even points"
MARGIN = 1.6
UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One option as it is drawn.

    Args:
        line: Its costs.
        colour: Colour of line, band and label.
        dash: SVG dash pattern; empty for a solid line.
        label: Text at its right end.
        label_at: Height of the label, as a share of the axis from the bottom.
    """

    line: Line
    colour: str
    dash: str
    label: str
    label_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A break-even point.

    Args:
        rate: Requests a second.
        usd: US dollars a month.
        label: What it says.
        level: How many lines of text its label stands above the point, so that labels of near points do not
            cover each other.
    """

    rate: float
    usd: float
    label: str
    level: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A chart without a drawing library.

    Args:
        title: What it says, in a sentence.
        subtitle: What it is about.
        description: The same in words, for who cannot see it.
        x: Smallest and largest rate, requests a second.
        y: Smallest and largest cost, US dollars a month.
        x_ticks: Rates with their label and the tokens of a month.
        y_ticks: Costs with their label.
        drawn: The options.
        marks: Break-even points within the axes.
        asked: Rate asked for, requests a second.
        notes: What stands below.
    """

    title: str
    subtitle: str
    description: str
    x: tuple[float, float]
    y: tuple[float, float]
    x_ticks: tuple[tuple[float, str, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    drawn: tuple[Drawn, ...]
    marks: tuple[Mark, ...]
    asked: float
    notes: tuple[str, ...]

    def right(self, rate: float) -> float:
        """Return how far right a rate stands, as a share of the axis.

        Args:
            rate: Requests a second.
        """
        return _share(rate, self.x)

    def up(self, usd: float) -> float:
        """Return how far up a cost stands, as a share of the axis.

        Args:
            usd: US dollars a month.
        """
        return _share(usd, self.y)


def _share(value: float, ends: tuple[float, float]) -> float:
    return math.log(value / ends[0]) / math.log(ends[1] / ends[0])


def short(value: float) -> str:
    """Return a number in three digits and a prefix.

    Args:
        value: Above 0.
    """
    for size, prefix in UNITS:
        if value >= size:
            return f"{value / size:.3g} {prefix}"
    return f"{value:.3g}"


def ticks(ends: tuple[float, float]) -> list[float]:
    """Return round numbers (1, 2, 5 or only 1 of each decade) within an axis.

    Args:
        ends: Smallest and largest.
    """
    decades = range(math.floor(math.log10(ends[0])), math.ceil(math.log10(ends[1])) + 1)
    steps = (1, 2, 5) if len(decades) <= 5 else (1,)
    return [
        step * 10.0**power for power in decades for step in steps if ends[0] <= step * 10.0**power <= ends[1]
    ]


def spread(wanted: list[float]) -> list[float]:
    """Return heights near the wanted ones that keep a least distance.

    Args:
        wanted: Heights as shares of the axis.
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    placed = [0.0] * len(wanted)
    before = -math.inf
    for index in order:
        before = placed[index] = max(wanted[index], before + LABEL_GAP)
    over = max(0.0, before - 1.0)
    return [height - over for height in placed]


def picture(advice: Advice) -> Picture | None:
    """Return the chart of an answer, or None where no option has a price.

    Args:
        advice: The answer.
    """
    if not advice.lines:
        return None
    x = (advice.lines[0].requests_per_second[0], advice.lines[0].requests_per_second[-1])
    y = _heights(advice)
    bare = Picture(
        title=f"{advice.verdict}.",
        subtitle=load_sentence(advice),
        description=_description(advice),
        x=x,
        y=y,
        x_ticks=tuple((rate, f"{rate:g}", short(_tokens(advice, rate))) for rate in ticks(x)),
        y_ticks=tuple((usd, f"{short(usd)}") for usd in ticks(y)),
        drawn=(),
        marks=_marks(advice, x),
        asked=advice.workload.requests_per_second,
        notes=tuple(f"{line[0].upper()}{line[1:]}." for line in breaks(advice)),
    )
    ends = [_share(_last(line), y) for line in advice.lines]
    drawn = tuple(
        Drawn(line=line, colour=colour, dash=dash, label=line.title, label_at=height)
        for line, colour, dash, height in zip(advice.lines, COLOURS, DASHES, spread(ends), strict=False)
    )
    return replace(bare, drawn=drawn, marks=levelled(bare))


def _last(line: Line) -> float:
    return next(usd for usd in reversed(line.expected) if usd is not None)


def _heights(advice: Advice) -> tuple[float, float]:
    values = [usd for line in advice.lines for ends in (line.low, line.high) for usd in ends if usd]
    return min(values) / MARGIN, max(values) * MARGIN


def _tokens(advice: Advice, rate: float) -> float:
    load = advice.workload
    return advice.traffic.requests_per_month(rate) * (load.input_tokens + load.output_tokens)


def _marks(advice: Advice, x: tuple[float, float]) -> tuple[Mark, ...]:
    shown = {line.id: line for line in advice.lines}
    found = []
    for item in advice.break_evens:
        if item.other in shown and x[0] < item.requests_per_second < x[1]:
            other = shown[item.other]
            found.append(
                Mark(
                    rate=item.requests_per_second,
                    usd=_at(other, item.requests_per_second),
                    label=f"{item.requests_per_second:.3g}/s: {other.title}",
                )
            )
    return tuple(found)


def levelled(bare: Picture) -> tuple[Mark, ...]:
    """Return the marks, each label as low as it can stand without covering one that is placed already.

    Args:
        bare: The chart, with its marks.
    """
    placed: list[tuple[float, float]] = []
    found = []
    for mark in sorted(bare.marks, key=lambda item: (item.rate, item.usd)):
        right, up = bare.right(mark.rate), bare.up(mark.usd)
        heights = [up + level * MARK_HEIGHT for level in range(LEVELS)]
        free = [
            level
            for level, height in enumerate(heights)
            if not any(
                abs(right - other) < MARK_WIDTH and abs(height - above) < 0.99 * MARK_HEIGHT
                for other, above in placed
            )
        ]
        level = free[0] if free else 0
        placed.append((right, heights[level]))
        found.append(replace(mark, level=level))
    return tuple(found)


def _at(line: Line, rate: float) -> float:
    """The cost at the drawn point nearest to a rate."""
    points = [
        (abs(math.log(drawn / rate)), usd)
        for drawn, usd in zip(line.requests_per_second, line.expected, strict=True)
        if usd is not None
    ]
    return min(points)[1]


def _description(advice: Advice) -> str:
    parts = [f"Cost of a month against requests a second in the peak hour. {load_sentence(advice)}"]
    for item in advice.ranked:
        if item.monthly is not None:
            parts.append(f"{item.title}: {item.monthly.expected:,.0f} USD a month.")
    parts += [f"{line[0].upper()}{line[1:]}." for line in breaks(advice)]
    return " ".join(parts)
