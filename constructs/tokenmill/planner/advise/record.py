"""The decision as a Markdown record (after MADR, "Markdown Architectural Decision Records")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenmill.planner.advise.words import breaks, load_sentence, money, monthly_cost, names, traffic_sentence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenmill.planner.advise.advice import Advice


def record(advice: Advice) -> str:
    """Return the record.

    Args:
        advice: The answer.
    """
    title = advice.title_of(advice.recommendation) if advice.recommendation else "no option yet"
    parts = [
        f"# Serve {_what(advice)}: {title}",
        f"- status: proposed\n- date: {advice.date}\n- written by: `tokenmill advise`",
        "## Context",
        _context(advice),
        "## What the needs decide",
        _rules(advice),
        "## Options that meet every need",
        _ranked(advice),
        "## Rejected",
        _rejected(advice),
        "## Decision",
        _decision(advice),
        "## When it changes",
        "\n".join(f"- {line}" for line in breaks(advice)),
        "## Prices it rests on",
        _prices(advice),
    ]
    return "\n\n".join(parts) + "\n"


def _what(advice: Advice) -> str:
    return " or ".join(name for name in (advice.open_model, advice.bedrock_model) if name)


def _context(advice: Advice) -> str:
    need = advice.need
    lines = [
        f"{load_sentence(advice)} {traffic_sentence(advice)}",
        "",
        f"- customization: {need.customization}",
        f"- control wanted: {', '.join(need.control) or 'none in particular'}",
        f"- regions allowed: {', '.join(need.regions) or 'any'}; "
        f"requests may leave theirs: {need.cross_region}",
        f"- who looks after instances: {need.operations}",
    ]
    if advice.quota is not None:
        quota = advice.quota
        lines.append(
            f"- Bedrock quota for the peak hour: {quota.ask_for_tpm:,.0f} tokens a minute "
            f"({quota.settled_tpm:,.0f} settled with {quota.burndown:g} for each answer token, "
            f"{quota.reserved_tpm:,.0f} reserved at the start)"
        )
    lines += [f"- to check: {warning}" for warning in advice.warnings]
    return "\n".join(lines)


def _rules(advice: Advice) -> str:
    lines = []
    for rule in advice.fired:
        source = f" Source: {rule.source}." if rule.source else ""
        lines.append(
            f"- **{rule.id}** ({rule.effect} {names(advice, rule.options)}): {rule.sentence}.{source}"
        )
    return "\n".join(lines) or "None of the rules applies."


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return "None."
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _ranked(advice: Advice) -> str:
    rows = [
        (
            item.title,
            monthly_cost(item),
            "" if item.usd_per_million_tokens is None else f"{item.usd_per_million_tokens:,.3f}",
            "; ".join([*([item.missing] if item.missing else []), *item.notes]),
        )
        for item in advice.ranked
    ]
    return _table(("option", "USD a month (interval)", "USD per million tokens", "notes"), rows)


def _rejected(advice: Advice) -> str:
    return _table(("option", "why"), [(item.title, item.reason) for item in advice.rejected])


def _decision(advice: Advice) -> str:
    lines = [f"{advice.verdict[0].upper()}{advice.verdict[1:]}."]
    if advice.decides:
        lines.append(f"What would decide: {advice.decides}.")
    lines.append(f"Confidence: {advice.confidence}.")
    doubts = [f"- {doubt}" for doubt in advice.doubts]
    return "\n\n".join([*lines, "\n".join(doubts)] if doubts else lines)


def _prices(advice: Advice) -> str:
    rows = [
        (item.what, f"{money(item.usd)} per {item.per}", item.source, item.date or "yours")
        for item in advice.prices
    ]
    return _table(("what", "USD", "source", "date"), rows)
