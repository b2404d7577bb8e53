"""Reports as Markdown, for a comment on a pull request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenmill.cost.difference import ADDED, CHANGED, REMOVED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokenmill.cost.difference import CostDifference, LineChange
    from tokenmill.cost.report import CostLine, CostReport, RunCost

SIGNS = {ADDED: "+", REMOVED: "-", CHANGED: "~"}
NOT_KNOWN = "not known"


def usd(amount: float | None, *, signed: bool = False) -> str:
    """Return an amount for people.

    Args:
        amount: US dollars; None where it is not known.
        signed: Whether to write the sign of what is added.
    """
    if amount is None:
        return NOT_KNOWN
    sign = "-" if round(amount, 2) < 0 else "+" if signed and round(amount, 2) > 0 else ""
    return f"{sign}${abs(amount):,.2f}"


def quantity(line: CostLine) -> str:
    """Return how much of something there is, for people.

    Args:
        line: The line.
    """
    return "?" if line.quantity is None else f"{line.quantity:g} x {line.item}"


def run_quantity(run: RunCost) -> str:
    """Return what a run of a job takes, for people.

    Args:
        run: The job.
    """
    limit = "" if run.limit_hours is None else f", {run.limit_hours:g} h at most"
    return f"{run.instances} x {run.instance_type}{limit}"


def floor_sentence(report: CostReport) -> str:
    """Return the monthly floor in one sentence.

    Args:
        report: The report.
    """
    missing = len(report.missing)
    if not missing:
        return f"{usd(report.usd_per_month)} a month with no traffic"
    lines = "1 line has" if missing == 1 else f"{missing} lines have"
    return f"at least {usd(report.usd_per_month)} a month with no traffic; {lines} no known cost"


def report_markdown(report: CostReport) -> str:
    """Return a report as Markdown.

    Args:
        report: The report.
    """
    parts = [f"### Cost: {floor_sentence(report)}", ""]
    rows = [
        (
            _cell(line.stack),
            _cell(line.resource),
            line.what,
            quantity(line),
            usd(line.usd_per_month),
            line.note,
        )
        for line in report.lines
    ]
    parts += _table(("stack", "resource", "what", "quantity", "a month", "note"), rows)
    tokens = [
        (
            _cell(item.model),
            item.load or NOT_KNOWN,
            usd(item.usd_per_million),
            usd(item.usd_per_million_with_floor),
            item.note,
        )
        for item in report.tokens
    ]
    parts += _table(("model", "load", "per million tokens", "with the whole floor", "note"), tokens)
    runs = [
        (
            _cell(run.stack),
            _cell(run.resource),
            run.about,
            run_quantity(run),
            usd(run.usd_per_hour),
            usd(run.usd_at_most),
            run.note,
        )
        for run in report.runs
    ]
    parts += _table(("stack", "job", "what", "quantity", "an hour of a run", "a run at most", "note"), runs)
    quotas = [
        (item.name, item.code or "", item.region, f"{item.at_floor:g}", f"{item.at_most:,g}", item.note)
        for item in report.quotas
    ]
    parts += _table(("quota", "code", "region", "with no traffic", "at the most", "note"), quotas)
    if report.by_use:
        kinds: dict[str, str] = {item.type: item.what for item in report.by_use}
        parts += ["By use: " + "; ".join(f"{kind} ({what})" for kind, what in kinds.items()), ""]
    parts += _notes(report)
    return "\n".join(parts).rstrip() + "\n"


def difference_markdown(difference: CostDifference) -> str:
    """Return the difference of two assemblies as Markdown.

    Args:
        difference: The difference.
    """
    before, after = difference.before, difference.after
    if not (difference.lines or difference.quotas or difference.tokens or difference.runs):
        same = f"### Cost: no change ({floor_sentence(after)})"
        return "\n".join([same, "", *_notes(after)]).rstrip() + "\n"
    parts = [f"### Cost: {change_sentence(difference)}", ""]
    parts += [f"Before: {floor_sentence(before)}. Now: {floor_sentence(after)}.", ""]
    rows = [_change(change) for change in difference.lines]
    parts += _table(("", "stack", "resource", "what", "before", "now", "a month"), rows)
    quotas = [
        (
            item.quota.name,
            item.quota.region,
            f"{item.before:,g}",
            f"{item.after:,g}",
            f"{item.after - item.before:+,g}",
        )
        for item in difference.quotas
    ]
    parts += _table(("quota at the most", "region", "before", "now", "change"), quotas)
    tokens = [(_cell(item.model), usd(item.before), usd(item.after)) for item in difference.tokens]
    parts += _table(("per million tokens", "before", "now"), tokens)
    runs = [(_cell(item.run.resource), usd(item.before), usd(item.after)) for item in difference.runs]
    parts += _table(("an hour of a run", "before", "now"), runs)
    parts += _notes(after)
    return "\n".join(parts).rstrip() + "\n"


def change_sentence(difference: CostDifference) -> str:
    """Return how the floor changes, in one sentence.

    Args:
        difference: The difference.
    """
    unknown = len([change for change in difference.lines if change.usd_per_month is None])
    said = f"{usd(difference.usd_per_month, signed=True)} a month with no traffic"
    return f"{said}, and {unknown} changes of unknown cost" if unknown else said


def _change(change: LineChange) -> tuple[str, ...]:
    line = change.line
    return (
        SIGNS[change.kind],
        _cell(line.stack),
        _cell(line.resource),
        line.what,
        "" if change.before is None else quantity(change.before),
        "" if change.after is None else quantity(change.after),
        usd(change.usd_per_month, signed=True),
    )


def _notes(report: CostReport) -> list[str]:
    said = [f"> {_escape(warning)}" for warning in report.warnings]
    if report.unknown:
        kinds = ", ".join(f"{count} x {kind}" for kind, count in report.unknown)
        said.append(f"> cost not known: {_escape(kinds)}")
    return said


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    body = [f"| {' | '.join(_escape(cell) for cell in row)} |" for row in rows]
    if not body:
        return []
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *body, ""]


def _cell(text: str) -> str:
    return f"`{text.replace('`', '')}`"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
