"""The chart as a PNG, drawn with Matplotlib, which the extra `plot` brings."""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError
from tokenmill.planner.advise.picture import LEGEND, picture

if TYPE_CHECKING:
    from pathlib import Path

    from tokenmill.planner.advise.advice import Advice
    from tokenmill.planner.advise.picture import Drawn, Picture

SIZE = (9.6, 5.8)
DPI = 100
TITLE_WIDTH = 92
NOTE_WIDTH = 160
NOTES = 2
COLOURS = 256
LINE_POINTS = 12.0
LINE_SHARE = 0.034
"""Height of a line of the title, as a share of the figure's."""


def write_png(advice: Advice, path: Path) -> None:
    """Write the chart of an answer.

    Args:
        advice: The answer.
        path: The file.

    Raises:
        TokenmillError: Matplotlib is not installed, or no option has a price.
    """
    shown = picture(advice)
    if shown is None:
        raise TokenmillError(
            "no option has a price, so there is nothing to draw; give --token-price or --price"
        )
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.patheffects import withStroke
        from PIL import Image
    except ImportError:
        raise TokenmillError(
            "a PNG needs Matplotlib, which is not installed; "
            "run: pip install 'tokenmill[plot]', or write a .html"
        ) from None
    figure = Figure(figsize=SIZE, dpi=DPI, layout=None)
    FigureCanvasAgg(figure)
    lines = textwrap.wrap(shown.title, TITLE_WIDTH)
    top = 0.87 - LINE_SHARE * len(lines)
    axes = figure.add_axes((0.075, 0.2, 0.67, top - 0.2))
    _frame(axes, shown)
    for drawn in shown.drawn:
        _draw(axes, shown, drawn)
    for mark in shown.marks:
        axes.plot([mark.rate], [mark.usd], "o", color="white", markeredgecolor="#111", markersize=7, zorder=5)
        axes.annotate(
            f"{mark.rate:.3g}/s",
            (mark.rate, mark.usd),
            (0, 8 + mark.level * LINE_POINTS),
            textcoords="offset points",
            ha="center",
            fontsize=9,
            zorder=6,
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )
    _words(figure, shown, lines)
    # no date and no version inside, so that the same answer is the same file
    drawn_png = io.BytesIO()
    figure.savefig(drawn_png, format="png", metadata={"Software": None})
    # lines and bands need few colours; a palette makes the file a third as large
    image = Image.open(drawn_png).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    image.save(path, format="PNG", optimize=True)


def _frame(axes: Any, shown: Picture) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(*shown.x)
    axes.set_ylim(*shown.y)
    axes.set_xticks(
        [rate for rate, _, _ in shown.x_ticks],
        [f"{label}\n{tokens}" for _, label, tokens in shown.x_ticks],
        fontsize=9,
    )
    axes.set_yticks([usd for usd, _ in shown.y_ticks], [label for _, label in shown.y_ticks], fontsize=9)
    axes.minorticks_off()
    axes.grid(axis="y", color="#e3e3e3")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.axvline(shown.asked, color="#666", linestyle=":", linewidth=1.2)
    axes.text(shown.asked, shown.y[1], f"asked: {shown.asked:g}/s", ha="center", va="bottom", fontsize=9)
    axes.set_xlabel("requests/s in the peak hour, and tokens a month", fontsize=9, loc="left")
    axes.text(-0.08, 1.02, "USD a month", transform=axes.transAxes, fontsize=9)


def _draw(axes: Any, shown: Picture, drawn: Drawn) -> None:
    line = drawn.line
    kept = [index for index, usd in enumerate(line.expected) if usd is not None]
    rates = [line.requests_per_second[index] for index in kept]
    dashes = (None, None) if not drawn.dash else tuple(float(part) for part in drawn.dash.split())
    axes.fill_between(
        rates,
        [line.low[i] for i in kept],
        [line.high[i] for i in kept],
        color=drawn.colour,
        alpha=0.15,
        linewidth=0,
    )
    (curve,) = axes.plot(rates, [line.expected[i] for i in kept], color=drawn.colour, linewidth=2)
    if drawn.dash:
        curve.set_dashes(dashes)
    axes.annotate(
        drawn.label,
        (shown.right(rates[-1]), shown.up(line.expected[kept[-1]] or 1.0)),
        (1.05, drawn.label_at),
        xycoords="axes fraction",
        textcoords="axes fraction",
        color=drawn.colour,
        fontsize=9,
        fontweight="bold",
        va="center",
        arrowprops={
            "arrowstyle": "-",
            "color": drawn.colour,
            "relpos": (0, 0.5),
            "shrinkA": 2,
            "shrinkB": 0,
        },
    )


def _words(figure: Any, shown: Picture, lines: list[str]) -> None:
    figure.text(0.02, 0.975, "\n".join(lines), fontsize=11, fontweight="bold", va="top")
    under = 0.968 - LINE_SHARE * len(lines)
    figure.text(0.02, under, shown.subtitle, fontsize=9, color="#333", va="top")
    figure.text(0.745, 0.1, LEGEND, fontsize=9, ha="right", va="bottom")
    notes = "\n".join(line for note in shown.notes[-NOTES:] for line in textwrap.wrap(note, NOTE_WIDTH))
    figure.text(0.02, 0.012, notes, fontsize=7.5, color="#333", va="bottom")
