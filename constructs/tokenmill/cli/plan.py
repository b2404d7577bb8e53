"""`tokenmill plan`: what to run a model on, at which cost, and why not on anything else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenmill.cli._options import (
    InputOption,
    InstanceOption,
    ItlOption,
    OutputOption,
    PriceOption,
    RpsOption,
    StackArgument,
    TtftOption,
    read_prices,
)
from tokenmill.cli._output import JsonFlag, console, print_json, print_table
from tokenmill.core.errors import NoPlanError, SettingsError, TokenmillError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tokenmill.core.plan import Candidate, Plan, Rejection
    from tokenmill.core.settings import StackSettings
    from tokenmill.planner.difference import Change

TEXT_WIDTH = 118
HOUR_MS = 3_600_000
SETTINGS_FILE = Path("tokenmill.toml")
WITHOUT_SETTINGS = (
    "write it, or give --model, --region, --rps, --input-tokens, --output-tokens (or --trace), "
    "--ttft-ms and --itl-ms"
)

SettingsOption = Annotated[Path, typer.Option("--settings", help="settings file; the plan stands beside it")]
ModelOption = Annotated[str | None, typer.Option("--model", help="path of a config.json, or a catalog name")]
TraceOption = Annotated[
    str | None, typer.Option("--trace", help="CSV of arrival_s,input_tokens,output_tokens, gzipped or not")
]
RegionOption = Annotated[str | None, typer.Option("--region", help="AWS region of prices and images")]
WriteFlag = Annotated[bool, typer.Option("--write", help="write the plan file")]
DiffFlag = Annotated[bool, typer.Option("--diff", help="show what a new plan would change")]


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line application.
    """
    app.command("plan")(plan)


def plan(
    stack: StackArgument = "chat",
    settings: SettingsOption = SETTINGS_FILE,
    model: ModelOption = None,
    rps: RpsOption = None,
    input_tokens: InputOption = None,
    output_tokens: OutputOption = None,
    ttft_ms: TtftOption = None,
    itl_ms: ItlOption = None,
    trace: TraceOption = None,
    region: RegionOption = None,
    instance: InstanceOption = None,
    price: PriceOption = None,
    write: WriteFlag = False,
    diff: DiffFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Rank every way to run a model that meets the goals by cost, and say why the others do not."""
    if write and diff:
        raise TokenmillError("--write and --diff exclude each other; look with --diff, accept with --write")
    overrides: dict[str, object] = {
        "model": model,
        "region": region,
        # the trace stands for the whole table; options beside it win over it
        "traffic": None if trace is None else {"trace": str(Path(trace).resolve()) if trace else ""},
        "traffic.requests_per_second": rps,
        "traffic.input_tokens": input_tokens,
        "traffic.output_tokens": output_tokens,
        "slo.ttft_ms": ttft_ms,
        "slo.itl_ms": itl_ms,
        "limits.instances": instance or None,
    }
    given = {key: value for key, value in overrides.items() if value is not None}
    if stack == "batch":
        _batch(settings, given, read_prices(price or []), write=write, diff=diff, as_json=as_json)
        return
    section = _section(stack, settings, given, write=write)
    if not section.needs_plan:
        _no_plan_needed(section, as_json=as_json)
        return
    _plan(section, read_prices(price or []), write=write, diff=diff, as_json=as_json)


def _batch(
    path: Path,
    given: dict[str, object],
    prices: dict[str, float],
    *,
    write: bool,
    diff: bool,
    as_json: bool,
) -> None:
    """Plan the section [batch], which has a deadline in place of a rate and latency goals."""
    from tokenmill.cli._plan_batch import plan_batch

    allowed = {"model": "model", "region": "region", "limits.instances": "limits.instances"}
    allowed |= {f"traffic.{side}_tokens": f"run.{side}_tokens" for side in ("input", "output")}
    unknown = sorted(given.keys() - allowed.keys())
    if unknown:
        raise TokenmillError(
            f"a batch has no {', '.join(unknown)}; set records, input_tokens, output_tokens and "
            f"deadline_hours in [batch.run] of {path}"
        )
    if write and given:
        keys = ", ".join(f"batch.{allowed[key]}" for key in given)
        raise TokenmillError(
            f"--write takes its inputs from {path}, so that plan and settings agree; set {keys} there"
        )
    renamed = {allowed[key]: value for key, value in given.items()}
    plan_batch(path, given=renamed, prices=prices, write=write, diff=diff, as_json=as_json)


def _plan(
    section: StackSettings, prices: dict[str, float], *, write: bool, diff: bool, as_json: bool
) -> None:
    from tokenmill.core.plan import Plan
    from tokenmill.planner import plan_for
    from tokenmill.planner.difference import changes

    old = Plan.read(section.plan_path) if diff else None
    made = plan_for(section, prices=prices)
    if old is not None:
        _show_changes(section.plan_path, changes(old, made), as_json=as_json)
        return
    if as_json:
        print_json({"hash": made.hash, **made.to_json()})
        if not made.candidates:
            raise typer.Exit(NoPlanError.exit_code)
    else:
        _show(made)
    if write:
        made.write(section.plan_path)
        if not as_json:
            console().print(f"wrote {section.plan_path} (plan {made.hash})")


def _section(stack: str, path: Path, given: dict[str, object], *, write: bool) -> StackSettings:
    from tokenmill.core.settings import load_section, settings_from

    if write and given:
        keys = ", ".join(f"{stack}.{key}" for key in given)
        raise TokenmillError(
            f"--write takes its inputs from {path}, so that plan and settings agree; set {keys} there"
        )
    if not path.exists() and given:
        try:
            return settings_from(stack, path, given)
        except SettingsError as error:
            if not any(problem.startswith("missing key") for problem in error.problems):
                raise
            raise SettingsError([*error.problems, f"there is no {path}; {WITHOUT_SETTINGS}"]) from None
    context = {f"tokenmill:{stack}.{key}": value for key, value in given.items()}
    return load_section(path, stack, context=context)


def _no_plan_needed(section: StackSettings, *, as_json: bool) -> None:
    if as_json:
        print_json({"stack": section.stack, "backend": section.backend, "plan": None})
        return
    console().print(f"{section.stack} runs on {section.backend}, which needs no instances and so no plan")


def _show(made: Plan) -> None:
    out = console()
    model, load, slo = made.model, made.workload, made.slo
    out.print(
        f"{model.id}: {model.parameters / 1e9:.2f} billion parameters, "
        f"{model.kv_bytes_per_token / 1024:.0f} KiB of KV cache a token"
    )
    out.print(
        f"{load.requests_per_second:g} requests/s of {load.input_tokens} + {load.output_tokens} tokens "
        f"in {made.region}; goals at p{slo.percentile:g}: first token {slo.ttft_ms:g} ms, "
        f"{slo.itl_ms:g} ms between tokens"
    )
    for warning in made.warnings:
        out.print(f"warning: {warning}")
    if made.candidates:
        print_table(out, _candidate_table(made.candidates, "meets the goals, cheapest first"))
        _show_chosen(out, made.candidates[0])
    if made.experimental:
        title = "would meet the goals, but must be tried first (limits.allow_experimental)"
        print_table(out, _candidate_table(made.experimental, title))
    out.width = max(out.width, TEXT_WIDTH)
    out.print(_rejection_table(made))
    if not made.candidates:
        raise NoPlanError(made.nearest_miss)


def _show_chosen(out: Console, chosen: Candidate) -> None:
    if chosen.prompt_buckets:
        out.print(f"prompts are padded to {', '.join(f'{size:,}' for size in chosen.prompt_buckets)} tokens")
    if chosen.headroom:
        left = chosen.headroom
        out.print(
            f"left on {chosen.instance_type}: {left.memory_gib_per_core:.2f} GiB of each core, "
            f"{left.kv_tokens:,} tokens of KV cache beside a full batch, "
            f"{left.requests_per_second:.2f} requests/s beyond the planned rate"
        )
    for note in chosen.notes:
        out.print(f"note on {chosen.instance_type}: {note}")


def _candidate_table(candidates: tuple[Candidate, ...], title: str) -> Table:
    from rich.table import Table

    table = Table(box=None, title=title, title_justify="left", pad_edge=False)
    left = ("instance type", "fleet", "weights")
    for name in (*left, "batch", "ITL ms", "TTFT ms", "load", "USD/h", "USD/M tokens"):
        table.add_column(name, no_wrap=True, justify="left" if name in left else "right")
    for item in candidates:
        stages = f" ({item.parallelism.pipeline} stages)" if item.parallelism.pipeline > 1 else ""
        table.add_row(
            item.instance_type,
            f"{item.instances} with {item.capacity.initial} x {_cores(item.cores_per_copy)}{stages}",
            item.dtype,
            str(item.max_sequences),
            f"{item.itl_ms:.0f} ({item.itl_ms_low:.0f}-{item.itl_ms_high:.0f})",
            f"{item.ttft_ms:,.0f} ({item.ttft_ms_low:,.0f}-{_ms(item.ttft_ms_high)})",
            f"{item.utilization_percent:.0f} %",
            *_cost(item),
        )
    return table


def _cores(number: int) -> str:
    return "1 core" if number == 1 else f"{number} cores"


def _ms(value: float) -> str:
    """A queue that grows for the whole peak hour is no number of milliseconds to compare with."""
    return "1 h" if value >= HOUR_MS else f"{value:,.0f}"


def _cost(item: Candidate) -> tuple[str, str]:
    if item.usd_per_hour is not None and item.usd_per_million_tokens is not None:
        return f"{item.usd_per_hour:,.2f}", f"{item.usd_per_million_tokens:,.2f}"
    if item.break_even_usd_per_hour is None:
        return "no price", ""
    return "no price", f"even at {item.break_even_usd_per_hour:,.2f}/h"


def _rejection_table(made: Plan) -> Table:
    from rich.table import Table

    table = Table(box=None, title="rejected", title_justify="left", pad_edge=False)
    table.add_column("instance type", no_wrap=True)
    table.add_column("cores", justify="right", no_wrap=True)
    table.add_column("reason", no_wrap=True)
    table.add_column("")
    groups: dict[tuple[str, str, str], list[str]] = {}
    for item in made.rejections:
        groups.setdefault((_split(item), item.code, item.reason), []).append(item.instance_type)
    for (split, code, reason), names in groups.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        table.add_row(f"{names[0]}{more}", split, code, reason)
    return table


def _split(item: Rejection) -> str:
    if item.tensor_parallel is None:
        return item.quantization
    stages = f" x {item.pipeline_parallel}" if (item.pipeline_parallel or 1) > 1 else ""
    return f"{item.tensor_parallel}{stages} {item.quantization}".strip()


def _show_changes(path: Path, found: tuple[Change, ...], *, as_json: bool) -> None:
    from tokenmill.core._codec import encode

    if as_json:
        print_json({"plan": str(path), "changes": encode(found)})
        return
    out = console()
    if not found:
        out.print(f"a new plan would change nothing in {path}")
        return
    for change in found:
        mark = " (changes what runs)" if change.replaces_fleet else ""
        out.print(f"{change.what}: {change.old} -> {change.new}{mark}")
