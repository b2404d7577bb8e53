"""`tokenmill plan batch`: which service answers a file of requests, at which price, and why not another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from tokenmill.cli._output import console, print_json, print_table
from tokenmill.core.errors import NoPlanError, TokenmillError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.table import Table

    from tokenmill.core.batch_plan import BatchOption, BatchPlan
    from tokenmill.core.batch_settings import BatchSettings


def plan_batch(
    path: Path,
    *,
    given: Mapping[str, object],
    prices: Mapping[str, float],
    write: bool,
    diff: bool,
    as_json: bool,
) -> None:
    """Choose, show, and write or compare the choice.

    Args:
        path: The settings file.
        given: Keys of the section that options of the command replace.
        prices: Hourly prices of your own, by instance type, in US dollars.
        write: Whether the choice becomes the plan file.
        diff: Whether to show what a new choice would change.
        as_json: Whether to print JSON.

    Raises:
        TokenmillError: The settings are wrong, or the file has no section [batch].
        NoPlanError: No service answers a run in time.
    """
    from tokenmill.batch.transform_types import TRANSFORM_TYPES
    from tokenmill.core.batch_plan import BatchPlan
    from tokenmill.planner.batch_choice import batch_plan_for

    settings = _settings(path, given)
    old = BatchPlan.read(settings.plan_path) if diff else None
    made = batch_plan_for(settings, transform_types=TRANSFORM_TYPES, prices=prices)
    if old is not None:
        _show_difference(settings, old, made, as_json=as_json)
        return
    if as_json:
        print_json({"hash": made.hash, **made.to_json()})
        if made.options[0].refused:
            raise typer.Exit(NoPlanError.exit_code)
    else:
        _show(made)
    if write:
        made.write(settings.plan_path)
        if not as_json:
            console().print(f"wrote {settings.plan_path} (plan {made.hash})")


def _settings(path: Path, given: Mapping[str, object]) -> BatchSettings:
    from tokenmill.core.settings import load_batch

    context = {f"tokenmill:batch.{key}": value for key, value in given.items()}
    settings = load_batch(path, context=context)
    if settings is None:
        raise TokenmillError(
            f"{path} has no section [batch]; add one with region, bedrock_model or model, and a table "
            "[batch.run] with records, input_tokens, output_tokens and deadline_hours"
        )
    return settings


def _show(made: BatchPlan) -> None:
    out, load = console(), made.load
    out.print(
        f"{load.records:,} records of {load.input_tokens} + {load.output_tokens} tokens in {made.region}, "
        f"answered within {load.deadline_hours:g} hours"
    )
    print_table(out, _table(made.options))
    for option in made.options:
        if option.note:
            out.print(f"note on {option.kind}: {option.note}")
    if made.options[0].refused:
        raise NoPlanError(made.reason)
    out.print(f"chosen: {made.reason}")


def _table(options: tuple[BatchOption, ...]) -> Table:
    from rich.table import Table

    table = Table(box=None, title="services, the chosen one first", title_justify="left", pad_edge=False)
    for name in ("service", "runs on", "USD a run", "hours", "out because"):
        right = name in ("USD a run", "hours")
        table.add_column(name, no_wrap=name != "out because", justify="right" if right else "left")
    for option in options:
        where = f"{option.instances} x {option.runs_on}" if option.instances else option.runs_on
        usd = "no price" if option.usd is None else f"{option.usd:,.2f}"
        hours = "" if option.hours is None else f"{option.hours:,.1f}"
        table.add_row(
            option.kind, where, "" if option.refused and option.usd is None else usd, hours, option.refused
        )
    return table


def _show_difference(settings: BatchSettings, old: BatchPlan, made: BatchPlan, *, as_json: bool) -> None:
    changed = old.to_json() != made.to_json()
    if as_json:
        found = {"plan": str(settings.plan_path), "changed": changed, "old": old.reason, "new": made.reason}
        print_json(found)
        return
    out = console()
    if not changed:
        out.print(f"a new plan would change nothing in {settings.plan_path}")
        return
    out.print(f"old: {old.reason}")
    out.print(f"new: {made.reason}")
