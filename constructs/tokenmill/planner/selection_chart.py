"""Quality against cost: every model with its intervals, and the cascade's curve with its band."""

from __future__ import annotations

import html
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from tokenmill.planner.cascade import Cascade
    from tokenmill.planner.selection import Selection

ENDINGS = (".png", ".html", ".svg")
SIZE_INCHES = (8.0, 5.0)
DOTS_PER_INCH = 150


def draw(path: Path | str, selection: Selection, cascade: Cascade | None = None) -> None:
    """Write the chart of a selection to a file.

    Args:
        path: The file; its ending chooses PNG, SVG or a page of HTML that needs nothing else.
        selection: The models.
        cascade: The cascade, if one was looked for.

    Raises:
        TokenmillError: The ending is unknown, matplotlib is missing, or no model has a cost.
    """
    target = Path(path)
    ending = target.suffix.lower()
    if ending not in ENDINGS:
        raise TokenmillError(f"chart {target} must end in {', '.join(ENDINGS)}")
    if all(item.cost is None for item in selection.models):
        raise TokenmillError("no model has a cost, so there is nothing to draw; give --cost MODEL=USD")
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise TokenmillError("charts need matplotlib; run: pip install 'tokenmill[plot]'") from None
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    _fill(figure, selection, cascade)
    if ending == ".png":
        figure.savefig(target, dpi=DOTS_PER_INCH, metadata={"Software": None})
        return
    drawn = io.StringIO()
    # text stays text, and the same scores give the same bytes
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "tokenmill"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    svg = drawn.getvalue()
    target.write_text(svg if ending == ".svg" else _page(svg, selection, cascade), encoding="utf-8")


def _fill(figure: Any, selection: Selection, cascade: Cascade | None) -> None:
    axes = figure.add_subplot()
    for item in selection.models:
        if item.cost is None or item.cost_interval is None:
            continue
        across = [[item.cost - item.cost_interval.low], [item.cost_interval.high - item.cost]]
        along = [[item.mean - item.interval.low], [item.interval.high - item.mean]]
        axes.errorbar(
            [item.cost],
            [item.mean],
            xerr=[[max(part[0], 0.0)] for part in across],
            yerr=[[max(part[0], 0.0)] for part in along],
            fmt="s" if item.model == selection.chosen else "o",
            capsize=3,
            label=item.model + (" (chosen)" if item.model == selection.chosen else ""),
        )
    axes.axhline(selection.bar, linestyle="--", linewidth=1, color="grey", label=f"bar {selection.bar:g}")
    if cascade is not None:
        _draw_cascade(axes, cascade)
    axes.set_xlabel(f"cost, {selection.cost_unit}")
    axes.set_ylabel("mean score")
    axes.set_title(f"{selection.examples} examples, {100 * selection.confidence:g} % intervals")
    axes.legend(loc="best", fontsize="small")
    axes.grid(alpha=0.3)


def _draw_cascade(axes: Any, cascade: Cascade) -> None:
    curve = cascade.curve
    # the first point is the large model without a cascade, which costs less than sending everything on
    cost, quality = curve.cost[1:], curve.quality[1:]
    floor = cascade.always_large.quality + curve.difference_low[1:]
    axes.plot(
        cost, quality, linewidth=1.5, color="black", label=f"cascade {cascade.small} to {cascade.large}"
    )
    axes.fill_between(
        cost, floor, quality, alpha=0.15, color="black", label="to the lower bound against the large model"
    )
    if cascade.pays:
        axes.plot(
            [cascade.expected.cost],
            [cascade.expected.quality],
            "*",
            markersize=12,
            color="black",
            label="cascade as expected (cross-fitted)",
        )


def _page(svg: str, selection: Selection, cascade: Cascade | None) -> str:
    inline = svg[svg.index("<svg") :]
    rows = "".join(
        f"<tr><td>{html.escape(item.model)}</td><td>{item.mean:.3f}</td>"
        f"<td>{item.interval.low:.3f} to {item.interval.high:.3f}</td><td>{item.lower:.3f}</td>"
        f"<td>{'unknown' if item.cost is None else f'{item.cost:.4g}'}</td>"
        f"<td>{html.escape(item.verdict)}</td></tr>"
        for item in selection.models
    )
    chosen = selection.chosen or "no model"
    said = f"<p>{html.escape(cascade.verdict)}</p>" if cascade is not None else ""
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Quality and cost</title>"
        "<style>body{font-family:sans-serif;max-width:60rem;margin:2rem auto}td,th{padding:.2rem .6rem;"
        "text-align:left}svg{width:100%;height:auto}</style></head><body>"
        f"<h1>Cheapest over {selection.bar:g}: {html.escape(chosen)}</h1>{inline}{said}"
        "<table><tr><th>model</th><th>mean</th><th>interval</th><th>lower bound</th>"
        f"<th>{html.escape(selection.cost_unit)}</th><th>verdict</th></tr>{rows}</table>"
        f"<p>{html.escape(selection.guarantee)}</p></body></html>\n"
    )
