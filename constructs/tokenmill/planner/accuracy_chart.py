"""Predicted over measured times as a picture: a panel a metric, a colour a chip."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenmill.planner.accuracy import Accuracy, Scored

ENDINGS = (".png", ".svg")
PANEL_INCHES = (5.4, 5.8)
DOTS_PER_INCH = 150
BANDS = ((25, 0.10), (10, 0.16))
"""Errors in percent that are shaded around the diagonal, and how darkly."""
MARGIN = 1.3
TICKS = (1.0, 2.0, 5.0)
WIDE = 300.0
"""Longest over shortest time beyond which only powers of ten have a label."""
# Okabe and Ito, "Color Universal Design": told apart with any colour vision; markers tell them apart in print
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = "os^DvP*"
TITLES = {
    "itl": "time of a decode step on NeuronCores (itl)",
    "tpot": "time per output token on GPUs (tpot)",
    "ttft": "time to first token on NeuronCores (ttft)",
}


def draw(accuracy: Accuracy, path: Path | str) -> None:
    """Write the picture of a scored file; points that are not filled are extrapolated.

    Args:
        accuracy: The scored file.
        path: The file to write; its ending chooses PNG or SVG.

    Raises:
        TokenmillError: The ending is unknown, nothing was scored, matplotlib is missing, or the file cannot
            be written.
    """
    target = Path(path)
    ending = target.suffix.lower()
    if ending not in ENDINGS:
        raise TokenmillError(f"chart {target} must end in {' or '.join(ENDINGS)}")
    if not accuracy.scored:
        raise TokenmillError("no row of the file could be scored, so there is nothing to draw")
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise TokenmillError("charts need matplotlib; run: pip install 'tokenmill[plot]'") from None
    panels = [(name, [item for item in accuracy.scored if item.metric == name]) for name in TITLES]
    panels = [(name, items) for name, items in panels if items]
    figure = Figure(figsize=(PANEL_INCHES[0] * len(panels), PANEL_INCHES[1]), layout="constrained")
    for number, (name, items) in enumerate(panels, 1):
        _panel(figure.add_subplot(1, len(panels), number), name, items)
    figure.suptitle(_caption(accuracy), fontsize="small")
    metadata = {"Software": None} if ending == ".png" else {"Date": None}
    # text stays text, and the same rows give the same bytes
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "tokenmill"}):
        try:
            figure.savefig(
                target, format=ending[1:], dpi=DOTS_PER_INCH, metadata=metadata, bbox_inches="tight"
            )
        except OSError as error:
            raise TokenmillError(f"chart {target} cannot be written: {error.strerror}") from None


def _caption(accuracy: Accuracy) -> str:
    seen = accuracy.fitted_on
    warning = f"\n{seen} of them were used in the fit: their errors are no evidence" if seen else ""
    return f"{len(accuracy.scored)} published times, bars are 80 % intervals, hollow is extrapolated{warning}"


def _panel(axes: Any, name: str, items: Sequence[Scored]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    times = [time for item in items for time in (item.measured_ms, item.predicted_ms)]
    ends = (min(times) / MARGIN, max(times) * MARGIN)
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=TICKS if ends[1] / ends[0] < WIDE else (1.0,)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    for percent, darkness in BANDS:
        low, high = (1 - percent / 100, 1 + percent / 100)
        axes.fill_between(
            ends,
            [end * low for end in ends],
            [end * high for end in ends],
            alpha=darkness,
            color="grey",
            linewidth=0,
            label=f"within {percent} %",
        )
    axes.plot(ends, ends, color="grey", linewidth=1)
    for number, chip in enumerate(sorted({item.groups["chip"] for item in items})):
        _points(axes, chip, number, [item for item in items if item.groups["chip"] == chip])
    covered = 100 * fmean(item.covered for item in items)
    axes.set_title(
        f"{TITLES[name]}\n{len(items)} rows, mean error {fmean(item.ape for item in items):.1f} %, "
        f"{covered:.0f} % in their interval",
        fontsize="medium",
    )
    axes.set_xlabel("measured, ms")
    axes.set_ylabel("predicted, ms")
    axes.grid(alpha=0.25, which="major")
    axes.legend(loc="upper left", fontsize="small", framealpha=0.9)


def _points(axes: Any, chip: str, number: int, items: Sequence[Scored]) -> None:
    colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
    measured = [item.measured_ms for item in items]
    axes.vlines(
        measured,
        [item.low_ms for item in items],
        [item.high_ms for item in items],
        color=colour,
        alpha=0.18,
        linewidth=1,
    )
    for known in (True, False):
        shown = [item for item in items if known == (not item.extrapolated)]
        axes.scatter(
            [item.measured_ms for item in shown],
            [item.predicted_ms for item in shown],
            s=16,
            marker=marker,
            facecolors=colour if known else "none",
            edgecolors=colour,
            linewidths=0.8,
            label=f"{chip} ({len(items)})" if known else None,
            zorder=3,
        )
