"""`tokenmill cost`: what a synthesized assembly costs before it is deployed, and the quotas it needs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenmill.cli._options import read_prices
from tokenmill.cli._output import JsonFlag, console, print_error, print_json
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from rich.table import Table

    from tokenmill.cost import CostDifference, CostReport

TEXT_WIDTH = 150
AssemblyArgument = Annotated[Path, typer.Argument(help="the assembly that cdk synth wrote")]
AgainstOption = Annotated[Path | None, typer.Option(help="the assembly to hold it against: what changes")]
MarkdownFlag = Annotated[bool, typer.Option("--markdown", help="print Markdown, for a pull request")]
RegionOption = Annotated[str | None, typer.Option(help="region of stacks that name none")]
PriceOption = Annotated[
    list[str] | None, typer.Option(help="ITEM=USD: an instance type or an item an hour or month; repeatable")
]
PlanOption = Annotated[list[Path] | None, typer.Option(help="plan file, if it lies elsewhere; repeatable")]
LimitOption = Annotated[
    float | None, typer.Option(help="exit 1 above this floor a month; with --against, above this increase")
]


def register(app: typer.Typer) -> None:
    """Add `cost` to the command line.

    Args:
        app: The application.
    """
    app.command("cost")(cost)


def cost(
    cdk_out: AssemblyArgument = Path("cdk.out"),
    against: AgainstOption = None,
    markdown: MarkdownFlag = False,
    region: RegionOption = None,
    price: PriceOption = None,
    plan: PlanOption = None,
    fail_over: LimitOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Price a synthesized assembly: floor a month, price per million tokens, quotas; or what changes.

    Exit code 0; 1 if --fail-over is exceeded, or cannot be told for a missing price; 2: bad input.
    """
    from tokenmill.cost import compare, difference_markdown, report_markdown

    if as_json and markdown:
        raise TokenmillError("--json and --markdown exclude each other; choose one")
    if fail_over is not None and not math.isfinite(fail_over):
        raise TokenmillError(f"--fail-over must be a number of US dollars, got {fail_over}")
    report = _report(cdk_out, region, price, plan)
    difference = None if against is None else compare(_report(against, region, price, plan), report)
    if as_json:
        print_json(_document(report, difference))
    elif markdown:
        text = report_markdown(report) if difference is None else difference_markdown(difference)
        typer.echo(text, nl=False)
    elif difference is not None:
        _show_difference(difference)
    else:
        _show(report)
    reason = "" if fail_over is None else _over(report, difference, fail_over)
    if reason:
        if not as_json:
            print_error(reason, as_json=False)
        raise typer.Exit(1)


def _report(
    directory: Path, region: str | None, price: list[str] | None, plan: list[Path] | None
) -> CostReport:
    from tokenmill.cost import PlannedLoads, PriceList, cost_of

    loads = PlannedLoads.beside([directory.resolve().parent, Path.cwd()], plan or [])
    prices = PriceList(read_prices(price or [], item="ITEM", example="nat-gateway=0.045"))
    return cost_of(directory, region=region, prices=prices, loads=loads)


def _over(report: CostReport, difference: CostDifference | None, limit: float) -> str:
    from tokenmill.cost.markdown import usd

    amount = report.usd_per_month if difference is None else difference.usd_per_month
    missing = report.missing if difference is None else difference.newly_missing
    what = "the floor" if difference is None else "the increase of the floor"
    if amount > limit:
        return f"{what} is {usd(amount)} a month, over {usd(limit)}"
    if missing:
        items = ", ".join(sorted({line.item for line in missing}))
        return f"{what} cannot be held against {usd(limit)}: no price of {items}; give --price ITEM=USD"
    return ""


def _document(report: CostReport, difference: CostDifference | None) -> dict[str, object]:
    from tokenmill.core._codec import encode

    document: dict[str, object] = {"schema": 1, "usd_per_month": report.usd_per_month, **encode(report)}
    if difference is not None:
        document["difference"] = {
            "against": difference.before.assembly,
            "usd_per_month": difference.usd_per_month,
            "lines": [
                {**encode(change), "usd_per_month": change.usd_per_month} for change in difference.lines
            ],
            "quotas": encode(difference.quotas),
            "tokens": encode(difference.tokens),
            "runs": encode(difference.runs),
        }
    return document


def _show(report: CostReport) -> None:
    from tokenmill.cost.markdown import floor_sentence, quantity, run_quantity, usd

    out = console()
    # a table squeezed into a narrow terminal or a log file cannot be read at all
    out.width = max(out.width, TEXT_WIDTH)
    table = _table("stack", "resource", "what", "quantity", "USD a month")
    for line in report.lines:
        _row(table, line.stack, line.resource, line.what, quantity(line), usd(line.usd_per_month))
    if report.lines:
        out.print(table)
    for note in dict.fromkeys(f"{line.item}: {line.note}" for line in report.lines if line.note):
        out.print(note, markup=False)
    out.print(floor_sentence(report), markup=False)
    for item in report.tokens:
        load = f" at {item.load}" if item.load else ""
        floor = item.usd_per_million_with_floor
        whole = (
            ""
            if floor is None
            else f" ({usd(floor)} with everything of its stack that costs without traffic)"
        )
        said = f"{usd(item.usd_per_million)} per million tokens{whole}"
        out.print(f"{item.model}{load}: {said}; {item.note}", markup=False)
    for run in report.runs:
        said = f"{run.stack} {run.resource} ({run.about}): {usd(run.usd_per_hour)} an hour of a run"
        most = "" if run.usd_at_most is None else f", {usd(run.usd_at_most)} at most"
        out.print(f"{said}, {run_quantity(run)}{most}; {run.note}", markup=False)
    if report.quotas:
        quotas = _table("quota", "code", "region", "no traffic", "at the most")
        for need in report.quotas:
            _row(quotas, need.name, need.code, need.region, f"{need.at_floor:g}", f"{need.at_most:,g}")
        out.print(quotas)
    for need in report.quotas:
        if need.note:
            out.print(f"{need.name}: {need.note}", markup=False)
    for kind, what in {item.type: item.what for item in report.by_use}.items():
        out.print(f"by use: {kind} ({what})", markup=False)
    _show_notes(report)


def _show_difference(difference: CostDifference) -> None:
    from tokenmill.cost.markdown import change_sentence, floor_sentence, quantity, usd

    out = console()
    out.width = max(out.width, TEXT_WIDTH)
    if difference.lines:
        table = _table("", "stack", "resource", "what", "before", "now", "USD a month")
        for change in difference.lines:
            line = change.line
            before, after = ("" if side is None else quantity(side) for side in (change.before, change.after))
            delta = usd(change.usd_per_month, signed=True)
            _row(table, change.kind, line.stack, line.resource, line.what, before, after, delta)
        out.print(table)
    for quota in difference.quotas:
        said = f"quota {quota.quota.name} in {quota.quota.region}: {quota.before:,g} -> {quota.after:,g}"
        out.print(said, markup=False)
    for item in difference.tokens:
        said = f"{item.model}: {usd(item.before)} -> {usd(item.after)} per million tokens"
        out.print(said, markup=False)
    for job in difference.runs:
        said = f"{job.run.resource}: {usd(job.before)} -> {usd(job.after)} an hour of a run"
        out.print(said, markup=False)
    out.print(change_sentence(difference), markup=False)
    out.print(f"now {floor_sentence(difference.after)}", markup=False)
    _show_notes(difference.after)


def _show_notes(report: CostReport) -> None:
    out = console()
    for kind, count in report.unknown:
        out.print(f"cost not known: {count} x {kind}", markup=False)
    for warning in report.warnings:
        out.print(f"note: {warning}", markup=False)


def _table(*names: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, no_wrap=name != "resource", justify="right" if "USD" in name else "left")
    return table


def _row(table: Table, *cells: str) -> None:
    from rich.markup import escape

    table.add_row(*(escape(cell) for cell in cells))
