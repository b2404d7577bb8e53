"""`tokenmill advise`: Bedrock or SageMaker, on what, and at which rate the answer changes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from tokenmill.cli._output import JsonFlag, console, print_json
from tokenmill.core.errors import NoPlanError, TokenmillError

if TYPE_CHECKING:
    from rich.table import Table

    from tokenmill.core.settings import StackSettings
    from tokenmill.planner.advise import Advice
    from tokenmill.planner.advise.section import Inputs

TEXT_WIDTH = 118
SETTINGS_FILE = Path("tokenmill.toml")
CHART_TYPES = (".png", ".html")

SettingsOption = Annotated[Path, typer.Option("--settings", help="settings file")]
BedrockOption = Annotated[str | None, typer.Option("--bedrock", help="Bedrock model id to consider")]
ModelOption = Annotated[str | None, typer.Option("--model", help="config.json or catalog name to consider")]
RegionOption = Annotated[str | None, typer.Option("--region", help="AWS region")]
TokenPriceOption = Annotated[
    str | None, typer.Option("--token-price", help="input=USD,output=USD per million tokens")
]
UnitOption = Annotated[str | None, typer.Option("--unit", help="input_tpm=N,output_tpm=N,usd_per_hour=USD")]
NeedOption = Annotated[
    list[str] | None,
    typer.Option("--need", help="KEY=VALUE of [STACK.advise], such as shape=office-hours; may be repeated"),
]
RecordOption = Annotated[Path | None, typer.Option("--record", help="write the decision as Markdown")]
ChartOption = Annotated[
    list[Path] | None, typer.Option("--chart", help="write the chart: a .png or .html; may be repeated")
]
CodeFlag = Annotated[bool, typer.Option("--code", help="print the program that builds it, and nothing else")]


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line application.
    """
    app.command("advise")(advise)


def advise(
    stack: StackArgument = "chat",
    settings: SettingsOption = SETTINGS_FILE,
    bedrock: BedrockOption = None,
    model: ModelOption = None,
    region: RegionOption = None,
    rps: RpsOption = None,
    input_tokens: InputOption = None,
    output_tokens: OutputOption = None,
    ttft_ms: TtftOption = None,
    itl_ms: ItlOption = None,
    instance: InstanceOption = None,
    price: PriceOption = None,
    token_price: TokenPriceOption = None,
    unit: UnitOption = None,
    need: NeedOption = None,
    record: RecordOption = None,
    chart: ChartOption = None,
    code: CodeFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Say whether Bedrock or SageMaker should serve a model, by which rules and at what cost."""
    _check_charts(chart or [])
    overrides: dict[str, object] = {
        "region": region,
        "traffic.requests_per_second": rps,
        "traffic.input_tokens": input_tokens,
        "traffic.output_tokens": output_tokens,
        "slo.ttft_ms": ttft_ms,
        "slo.itl_ms": itl_ms,
        "limits.instances": instance or None,
    }
    flags = {"bedrock_model": bedrock, "open_model": model, "unit": unit, "token_price": token_price}
    given = {key: value for key, value in flags.items() if value is not None}
    made = _advice(stack, settings, overrides, given, need or [], price or [])
    _write(made, record, chart or [])
    _show(made, code=code, as_json=as_json)
    if not made.recommendation:
        if as_json or code:
            raise typer.Exit(NoPlanError.exit_code)
        raise NoPlanError(made.verdict)


def _check_charts(paths: list[Path]) -> None:
    for path in paths:
        if path.suffix not in CHART_TYPES:
            raise TokenmillError(f"--chart must end in {' or '.join(CHART_TYPES)}, got {str(path)!r}")


def _advice(
    stack: str,
    path: Path,
    overrides: dict[str, object],
    flags: dict[str, str],
    needs: list[str],
    given: list[str],
) -> Advice:
    from tokenmill.core.model_catalog import find_model
    from tokenmill.planner.advise import advise as decide
    from tokenmill.planner.advise.section import flatten, parse_file, read_inputs

    if path != SETTINGS_FILE and not path.exists():
        raise TokenmillError(
            f"settings file {path} does not exist; name one that does, or leave --settings out"
        )
    section = parse_file(path).get(stack, {})
    if not isinstance(section, dict):
        raise TokenmillError(f"{stack} must be a section [{stack}], got {section!r}")
    table = section.pop("advise", {})
    merged = {**table, **_flags(flags), **_needs(needs)} if isinstance(table, dict) else table
    inputs = read_inputs(stack, merged)
    keys = flatten(section) | {key: value for key, value in overrides.items() if value is not None}
    found, bedrock, reference = _settings(stack, path, keys, inputs)
    return decide(
        workload=found.workload,
        slo=found.slo,
        region=found.region,
        need=inputs.need,
        traffic=inputs.traffic,
        usage=inputs.usage,
        bedrock_model=bedrock,
        token_price=inputs.token_price,
        unit=inputs.unit,
        model=find_model(reference, path.parent)[0] if reference else None,
        limits=found.limits,
        prices=read_prices(given),
    )


def _settings(stack: str, path: Path, keys: dict[str, Any], inputs: Inputs) -> tuple[StackSettings, str, str]:
    """The section, and the two models: what the section runs today, and what the flags put beside it."""
    from tokenmill.core.settings import settings_from
    from tokenmill.planner.advise import NOTHING

    if "model" not in keys:
        named = inputs.open_model or inputs.bedrock_model
        if not named:
            raise TokenmillError(NOTHING)
        keys = {**keys, "model": named, "backend": "sagemaker" if inputs.open_model else "bedrock"}
    found = settings_from(stack, path, keys)
    mine = (found.model, "") if found.backend == "bedrock" else ("", found.model)
    return found, inputs.bedrock_model or mine[0], inputs.open_model or mine[1]


def _flags(flags: dict[str, str]) -> dict[str, object]:
    from tokenmill.planner.advise.section import numbers

    return {
        key: numbers(f"--{key.replace('_', '-')}", value) if key in ("unit", "token_price") else value
        for key, value in flags.items()
    }


def _needs(texts: list[str]) -> dict[str, object]:
    """KEY=VALUE; a repeated key of lists adds up, and values are read as TOML where they are TOML."""
    import tomllib

    from tokenmill.planner.advise.section import KEYS, TEXTS

    found: dict[str, Any] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign:
            raise TokenmillError(f"--need must be KEY=VALUE, such as shape=office-hours, got {text!r}")
        if KEYS.get(key) == TEXTS:
            found[key] = [*found.get(key, []), *value.split(",")]
            continue
        try:
            found[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[key] = value
    return found


def _write(made: Advice, record: Path | None, charts: list[Path]) -> None:
    if record is not None:
        from tokenmill.planner.advise.record import record as markdown

        record.write_text(markdown(made), encoding="utf-8")
    for path in charts:
        if path.suffix == ".html":
            from tokenmill.planner.advise.page import page

            path.write_text(page(made), encoding="utf-8")
        else:
            from tokenmill.planner.advise.charts import write_png

            write_png(made, path)


def _show(made: Advice, *, code: bool, as_json: bool) -> None:
    from tokenmill.planner.advise.code import code as program
    from tokenmill.planner.advise.code import code_problem

    problem = code_problem(made)
    if as_json:
        built = {"code": None if problem else program(made), "code_missing": problem}
        print_json({**made.to_json(), **built})
    elif code:
        typer.echo(program(made), nl=False)
    else:
        _tables(made)


def _tables(made: Advice) -> None:
    from tokenmill.planner.advise.words import breaks, load_sentence, names, traffic_sentence

    out = console()
    out.width = max(out.width, TEXT_WIDTH)
    out.print(f"{load_sentence(made)} {traffic_sentence(made)}")
    out.print(_ranked(made))
    out.print(_rejected(made))
    out.print(f"{made.verdict}.")
    if made.decides:
        out.print(f"what would decide: {made.decides}")
    out.print(f"confidence: {made.confidence}")
    for warning in made.warnings:
        out.print(f"note: {warning}", markup=False)
    for doubt in made.doubts:
        out.print(f"  {doubt}")
    for rule in made.fired:
        source = f" [{rule.source}]" if rule.source else ""
        whom = names(made, rule.options)
        out.print(f"rule {rule.id} {rule.effect} {whom}: {rule.sentence}{source}", markup=False)
    for line in breaks(made):
        out.print(f"changes: {line}")
    if made.quota is not None:
        out.print(
            f"Bedrock quota for the peak hour: {made.quota.ask_for_tpm:,.0f} tokens a minute "
            f"({made.quota.settled_tpm:,.0f} settled, {made.quota.reserved_tpm:,.0f} reserved)"
        )
        if made.quota.note:
            out.print(f"note: {made.quota.note}")


def _ranked(made: Advice) -> Table:
    from rich.table import Table

    from tokenmill.planner.advise.words import monthly_cost

    table = Table(box=None, title="meets every need, cheapest first", title_justify="left", pad_edge=False)
    table.add_column("option", no_wrap=True)
    table.add_column("USD a month (interval)", justify="right", no_wrap=True)
    table.add_column("USD/M tokens", justify="right", no_wrap=True)
    table.add_column("notes")
    for item in made.ranked:
        million = "" if item.usd_per_million_tokens is None else f"{item.usd_per_million_tokens:,.3f}"
        note = item.missing or next(iter(item.notes), "")
        table.add_row(item.title, monthly_cost(item), million, note)
    return table


def _rejected(made: Advice) -> Table:
    from rich.table import Table

    table = Table(box=None, title="rejected", title_justify="left", pad_edge=False)
    table.add_column("option", no_wrap=True)
    table.add_column("reason")
    for item in made.rejected:
        table.add_row(item.title, item.reason)
    return table
