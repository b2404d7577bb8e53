"""The chart as one HTML file: inline SVG with a title and a description, and the same numbers as a table."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from tokenmill.planner.advise.picture import LEGEND, picture
from tokenmill.planner.advise.words import monthly_cost, traffic_sentence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenmill.planner.advise.advice import Advice
    from tokenmill.planner.advise.picture import Drawn, Mark, Picture

WIDTH, HEIGHT = 960, 560
LEFT, RIGHT, TOP, BOTTOM = 70, 250, 30, 80
LINE = 17
# white around the letters, so that they can be read where they cross a line
HALO = ' stroke="#fff" stroke-width="4" paint-order="stroke"'

STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 62rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.35rem; }
svg { width: 100%; height: auto; }
svg text { font: 13px system-ui, sans-serif; fill: #333; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { text-align: left; padding: 0.3rem 0.8rem 0.3rem 0; border-bottom: 1px solid #ccc;
  vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
"""


def page(advice: Advice) -> str:
    """Return a self-contained HTML page: no script, no address of another file.

    Args:
        advice: The answer.
    """
    shown = picture(advice)
    title = html.escape(f"{advice.verdict[0].upper()}{advice.verdict[1:]}.")
    notes = "" if shown is None else "".join(f"<li>{html.escape(note)}</li>\n" for note in shown.notes)
    drawing = "<p>No option has a price, so there is nothing to draw.</p>" if shown is None else svg(shown)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
        f"<p>{html.escape(traffic_sentence(advice))} Confidence: {advice.confidence}.</p>\n"
        f"{drawing}\n<ul>\n{notes}</ul>\n{_options(advice)}\n{_rejected(advice)}\n{_values(advice)}\n"
        f"<p>Written by tokenmill advise on {advice.date}.</p>\n</main>\n</body>\n</html>\n"
    )


def svg(shown: Picture) -> str:
    """Return the chart as an SVG element with a title and a description.

    Args:
        shown: The chart.
    """
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="chart-title chart-text">',
        f'<title id="chart-title">{html.escape(shown.title)}</title>',
        f'<desc id="chart-text">{html.escape(shown.description)}</desc>',
        *_axes(shown),
        *(part for drawn in shown.drawn for part in _drawn(shown, drawn)),
        *(part for mark in shown.marks for part in _mark(shown, mark)),
        "</svg>",
    ]
    return "\n".join(parts)


def _x(shown: Picture, rate: float) -> float:
    return LEFT + shown.right(rate) * (WIDTH - LEFT - RIGHT)


def _y(shown: Picture, usd: float) -> float:
    return HEIGHT - BOTTOM - shown.up(usd) * (HEIGHT - TOP - BOTTOM)


def _text(x: float, y: float, words: str, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{html.escape(words)}</text>'


def _axes(shown: Picture) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [_text(LEFT - 50, TOP - 12, "USD a month", "start")]
    for usd, label in shown.y_ticks:
        at = _y(shown, usd)
        parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}" stroke="#e3e3e3"/>')
        parts.append(_text(LEFT - 8, at + 4, label, "end"))
    for rate, label, tokens in shown.x_ticks:
        at = _x(shown, rate)
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{bottom}" y2="{bottom + 5}" stroke="#666"/>')
        parts.append(_text(at, bottom + 20, label))
        parts.append(_text(at, bottom + 37, tokens, more=' fill-opacity="0.75"'))
    parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}" stroke="#666"/>')
    parts.append(_text(LEFT, bottom + 60, "requests/s in the peak hour, and tokens a month", "start"))
    parts.append(_text(right, bottom + 60, LEGEND, "end"))
    asked = _x(shown, shown.asked)
    parts.append(
        f'<line x1="{asked:.1f}" x2="{asked:.1f}" y1="{TOP}" y2="{bottom}" stroke="#666" '
        'stroke-dasharray="3 3"/>'
    )
    parts.append(_text(asked, TOP - 12, f"asked: {shown.asked:g}/s"))
    return parts


def _drawn(shown: Picture, drawn: Drawn) -> list[str]:
    line = drawn.line
    points = [
        (_x(shown, rate), _y(shown, low), _y(shown, middle), _y(shown, high))
        for rate, low, middle, high in zip(
            line.requests_per_second, line.low, line.expected, line.high, strict=True
        )
        if low is not None and middle is not None and high is not None
    ]
    band = [f"{x:.1f},{low:.1f}" for x, low, _, _ in points]
    band += [f"{x:.1f},{high:.1f}" for x, _, _, high in reversed(points)]
    way = " ".join(f"{x:.1f},{middle:.1f}" for x, _, middle, _ in points)
    dash = f' stroke-dasharray="{drawn.dash}"' if drawn.dash else ""
    end = points[-1]
    at = HEIGHT - BOTTOM - drawn.label_at * (HEIGHT - TOP - BOTTOM)
    label_x = WIDTH - RIGHT + 22
    return [
        f'<polygon points="{" ".join(band)}" fill="{drawn.colour}" fill-opacity="0.15"/>',
        f'<polyline points="{way}" fill="none" stroke="{drawn.colour}" stroke-width="2.2"{dash}/>',
        f'<line x1="{end[0]:.1f}" y1="{end[2]:.1f}" x2="{label_x - 4}" y2="{at:.1f}" '
        f'stroke="{drawn.colour}"/>',
        _text(label_x, at + 4, drawn.label, "start", f' style="fill:{drawn.colour};font-weight:600"'),
    ]


def _mark(shown: Picture, mark: Mark) -> list[str]:
    x, y = _x(shown, mark.rate), _y(shown, mark.usd)
    return [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="#fff" stroke="#111" stroke-width="2">'
        f"<title>{html.escape(mark.label)}</title></circle>",
        _text(x, y - 10 - mark.level * LINE, f"{mark.rate:.3g}/s", more=HALO),
    ]


def _rows(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], numbers: frozenset[int]) -> str:
    cells = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in head)
    body = "\n".join(
        "<tr>"
        + "".join(
            f'<td class="number">{html.escape(cell)}</td>'
            if index in numbers
            else f"<td>{html.escape(cell)}</td>"
            for index, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f"<table>\n<thead><tr>{cells}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _options(advice: Advice) -> str:
    rows = [
        (item.title, monthly_cost(item), "; ".join([*([item.missing] if item.missing else []), *item.notes]))
        for item in advice.ranked
    ]
    return "<h2>Options</h2>\n" + _rows(("option", "USD a month (interval)", "notes"), rows, frozenset({1}))


def _rejected(advice: Advice) -> str:
    rows = [(item.title, item.reason) for item in advice.rejected]
    return "<h2>Rejected</h2>\n" + _rows(("option", "why"), rows, frozenset())


def _values(advice: Advice) -> str:
    if not advice.lines:
        return ""
    rates = advice.lines[0].requests_per_second
    rows = []
    for index in range(0, len(rates), 10):
        costs = (line.expected[index] for line in advice.lines)
        cells = ("cannot carry it" if usd is None else f"{usd:,.0f}" for usd in costs)
        rows.append((f"{rates[index]:.3g}", *cells))
    head = ("requests/s", *(line.title for line in advice.lines))
    numbers = frozenset(range(len(head)))
    return "<h2>USD a month by rate</h2>\n" + _rows(head, rows, numbers)
