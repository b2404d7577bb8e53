"""`tokenmill accuracy`: how far the performance model is from published measurements."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenmill.cli._output import JsonFlag, console, print_json
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from tokenmill.planner.accuracy import Accuracy

FIGURES = ("rows", "mean error %", "median error %", "covered by 80 % interval, %")
LABELS = {
    "by what was left out": 2,
    "errors by group": 3,
    "worst rows": 2,
    "memory by fact": 2,
    "fits or not": 2,
}
"""Columns of text before those of numbers, by title of the table."""
TEXT_WIDTH = 118

FileArgument = Annotated[
    Path | None, typer.Argument(help="CSV with the columns of measurements.csv, plain or gzipped")
]
MemoryOption = Annotated[
    Path | None, typer.Option("--memory", help="CSV with the columns of memory_facts.csv")
]
WorstOption = Annotated[int, typer.Option("--worst", min=0, help="list so many of the worst rows")]
MarkdownFlag = Annotated[bool, typer.Option("--markdown", help="print Markdown tables")]
ChartOption = Annotated[
    Path | None, typer.Option("--chart", help="draw predicted over measured to this .png or .svg file")
]


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line application.
    """
    app.command("accuracy")(accuracy)


def accuracy(
    file: FileArgument = None,
    memory: MemoryOption = None,
    worst: WorstOption = 0,
    markdown: MarkdownFlag = False,
    chart: ChartOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Score the shipped performance model on measurements; without a file, show errors on rows left out."""
    from tokenmill.planner.accuracy import score
    from tokenmill.planner.measurements import read_rows

    if chart is not None and file is None:
        raise TokenmillError("--chart draws the rows of a file; name a measurement file")
    made = score(read_rows(file)) if file is not None else None
    if chart is not None and made is not None:
        from tokenmill.planner.accuracy_chart import draw

        draw(made, chart)
    document = _document(made, memory)
    if as_json:
        print_json(document)
    elif markdown:
        _markdown(document, made, worst)
    else:
        _show(document, made, worst)


def _document(made: Accuracy | None, memory: Path | None) -> dict[str, Any]:
    from tokenmill.planner.accuracy import cross_validated

    document: dict[str, Any] = {"schema": 1}
    if made is not None:
        document |= made.to_json()
    elif memory is None:
        document |= cross_validated()
    if memory is not None:
        from tokenmill.planner.memory_accuracy import read_facts, score_memory

        document["memory"] = score_memory(read_facts(memory)).to_json()
    return document


def _show(document: dict[str, Any], made: Accuracy | None, worst: int) -> None:
    from rich.table import Table

    out = console()
    for line in _remarks(document, made):
        out.print(line)
    for title, header, rows in _tables(document, made, worst):
        table = Table(box=None, title=title, title_justify="left", pad_edge=False)
        for number, name in enumerate(header):
            table.add_column(name, no_wrap=True, justify="left" if number < LABELS[title] else "right")
        for row in rows:
            table.add_row(*row)
        out.width = max(out.width, TEXT_WIDTH)
        out.print(table)


def _markdown(document: dict[str, Any], made: Accuracy | None, worst: int) -> None:
    for line in _remarks(document, made):
        typer.echo(f"{line}\n")
    for title, header, rows in _tables(document, made, worst):
        typer.echo(f"### {title[0].upper()}{title[1:]}\n")
        typer.echo(f"| {' | '.join(header)} |")
        typer.echo("|" + "---|" * len(header))
        for row in rows:
            typer.echo(f"| {' | '.join(row)} |")
        typer.echo("")


def _remarks(document: dict[str, Any], made: Accuracy | None) -> list[str]:
    if made is None:
        held = "every configuration was left out of the fit that predicts it"
        return [f"errors of the shipped formulas on rows of their own calibration: {held}"] * (
            "groups" in document
        )
    lines = [f"{len(made.scored)} times scored, {len(made.skipped)} skipped, {made.duplicates} duplicates"]
    if made.fitted_on:
        lines.append(
            f"{made.fitted_on} of the scored times were used in the fit: their errors are no evidence; "
            "tokenmill accuracy without a file shows those of rows left out"
        )
    lines += [f"warning: {sentence}" for sentence in made.warnings]
    reasons = Counter(item.reason for item in made.skipped)
    return lines + [f"skipped: {reason} ({count})" for reason, count in sorted(reasons.items())]


def _tables(
    document: dict[str, Any], made: Accuracy | None, worst: int
) -> list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    found: list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]] = []
    if "summary" in document:
        rows = [
            (left_out, metric, *_figures(errors))
            for left_out, metrics in document["summary"].items()
            for metric, errors in metrics.items()
        ]
        found.append(("by what was left out", ("left out", "metric", *FIGURES), rows))
    if "groups" in document:
        rows = [(g["metric"], g["by"], g["key"], *_figures(g)) for g in document["groups"]]
        found.append(("errors by group", ("metric", "by", "key", *FIGURES), rows))
    if made is not None and worst:
        ranked = sorted(made.scored, key=lambda item: -item.ape)[:worst]
        rows = [
            (item.metric, item.id, f"{item.measured_ms:.4g}", f"{item.predicted_ms:.4g}", f"{item.ape:.0f}")
            for item in ranked
        ]
        found.append(("worst rows", ("metric", "id", "measured ms", "predicted ms", "error %"), rows))
    if "memory" in document:
        found += _memory_tables(document["memory"])
    return found


def _figures(errors: dict[str, Any]) -> tuple[str, ...]:
    return tuple(f"{errors[name]:g}" for name in ("rows", "mape", "median_ape", "coverage80"))


def _memory_tables(memory: dict[str, Any]) -> list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    facts: list[tuple[str, ...]] = [
        (
            item["model"],
            item["fact"],
            f"{item['measured']:g}",
            f"{item['predicted']:g}",
            f"{item['ape_percent']:g}",
        )
        for item in memory["per_core"]
    ]
    fits: list[tuple[str, ...]] = [
        (
            item["model"],
            item["instance_type"],
            _yes(item["measured"]),
            _yes(item["predicted"]),
            _yes(item["right"]),
        )
        for item in memory["fit"]
    ]
    return [
        ("memory by fact", ("model", "fact", "measured", "predicted", "error %"), facts),
        ("fits or not", ("model", "instance type", "measured", "predicted", "right"), fits),
    ]


def _yes(value: bool) -> str:
    return "yes" if value else "no"
