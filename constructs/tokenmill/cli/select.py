"""`tokenmill select`: the cheapest model over a quality bar, and whether a cascade is cheaper still."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenmill.cli._output import JsonFlag, console, print_json
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from rich.table import Table

    from tokenmill.planner.cascade import Cascade
    from tokenmill.planner.resampling import Interval
    from tokenmill.planner.selection import ModelPrice, Selection

TEXT_WIDTH = 118
BEDROCK = "bedrock:"
ScoresArgument = Annotated[Path, typer.Argument(help="JSON lines: model, example, score or correct")]
BarOption = Annotated[float, typer.Option(help="mean score to reach, above 0 and below 1")]
CostOption = Annotated[
    list[str] | None,
    typer.Option(
        help="MODEL=USD per million tokens, MODEL=INPUT/OUTPUT, MODEL=FILE.plan.json or "
        "MODEL=bedrock:ID; may be repeated"
    ),
]
RegionOption = Annotated[str, typer.Option(help="AWS region of the prices of bedrock: models")]
CascadeOption = Annotated[str | None, typer.Option(help="SMALL,LARGE: look for a threshold between the two")]
MarginOption = Annotated[float, typer.Option(help="mean score that the cascade may lose against LARGE")]
ConfidenceOption = Annotated[float, typer.Option(help="rate at which bounds and intervals hold")]
RuleOption = Annotated[str, typer.Option(help="lower: the lower bound clears the bar; point: the mean does")]
SeedOption = Annotated[int, typer.Option(help="seed of the bootstrap and the folds")]
ChartOption = Annotated[Path | None, typer.Option(help="write a chart: .png, .svg or .html")]


def register(app: typer.Typer) -> None:
    """Add `select` to the command line.

    Args:
        app: The application.
    """
    app.command("select")(select)


def select(
    scores: ScoresArgument,
    bar: BarOption,
    cost: CostOption = None,
    region: RegionOption = "us-east-1",
    cascade: CascadeOption = None,
    margin: MarginOption = 0.01,
    confidence: ConfidenceOption = 0.95,
    rule: RuleOption = "lower",
    seed: SeedOption = 20_260,
    chart: ChartOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Find the cheapest model whose quality on your task is over a bar, from scores that you supply.

    Exit code 0: a model is chosen; 1: none is shown to be over the bar, or none of those has a cost.
    """
    from tokenmill.planner import cascade as cascades
    from tokenmill.planner import selection
    from tokenmill.planner.scores import read_scores

    if seed < 0:
        raise TokenmillError(f"--seed must be 0 or more, got {seed}")
    found = read_scores(scores)
    prices = _prices(cost or [], region)
    chosen = selection.select(found, bar=bar, prices=prices, confidence=confidence, rule=rule, seed=seed)
    two = None
    if cascade is not None:
        small, large = _pair(cascade)
        two = cascades.cascade(
            found,
            small=small,
            large=large,
            margin=margin,
            prices=prices,
            confidence=confidence,
            seed=seed,
        )
    if chart is not None:
        from tokenmill.planner.selection_chart import draw

        draw(chart, chosen, two)
    if as_json:
        print_json(_document(chosen, two, prices))
    else:
        _show(chosen, two, prices)
        if chart is not None:
            console().print(f"wrote {chart}", markup=False)
    raise typer.Exit(0 if chosen.chosen is not None else 1)


def _prices(texts: list[str], region: str) -> dict[str, ModelPrice]:
    found: dict[str, ModelPrice] = {}
    for text in texts:
        model, price = _price(text, region)
        if model in found:
            raise TokenmillError(f"--cost has two prices of {model}; keep one")
        found[model] = price
    return found


def _price(text: str, region: str) -> tuple[str, ModelPrice]:
    from tokenmill.planner.selection import ModelPrice

    model, sign, value = text.partition("=")
    if not (model and sign and value):
        raise TokenmillError(f"--cost must be MODEL=USD per million tokens, such as small=0.06, got {text!r}")
    if value.startswith(BEDROCK):
        return model, _bedrock(model, value.removeprefix(BEDROCK), region)
    if value.endswith(".json"):
        return model, _planned(value)
    first, _, second = value.partition("/")
    try:
        return model, ModelPrice(input_usd=float(first), output_usd=float(second or first))
    except TokenmillError as error:
        raise TokenmillError(f"--cost of {model}: {error}") from None
    except ValueError:
        raise TokenmillError(
            f"--cost of {model} must be USD per million tokens (0.06), INPUT/OUTPUT (0.06/0.24), a plan file "
            f"or bedrock:ID, got {value!r}"
        ) from None


def _bedrock(model: str, model_id: str, region: str) -> ModelPrice:
    from tokenmill.core.bedrock_prices import STANDARD, bedrock_price
    from tokenmill.planner.selection import ModelPrice

    quote = bedrock_price(
        model_id, region, way_out=f"give --cost {model}=INPUT/OUTPUT, USD per million tokens"
    )
    if quote.price is None:
        raise TokenmillError(quote.note)
    standard = quote.price.tiers[STANDARD]
    note = f"; {quote.note}" if quote.note else ""
    return ModelPrice(
        input_usd=standard.input,
        output_usd=standard.output,
        source=f"{quote.price.source}, {quote.price.source_date}{note}",
    )


def _planned(path: str) -> ModelPrice:
    from tokenmill.core.plan import Plan
    from tokenmill.planner.selection import ModelPrice

    candidate = Plan.read(path).chosen
    usd = candidate.usd_per_million_tokens
    if usd is None:
        raise TokenmillError(
            f"{path} has no price of {candidate.instance_type}; plan with --price "
            f"{candidate.instance_type}=USD"
        )
    return ModelPrice(input_usd=usd, output_usd=usd, source=f"{path} at its planned load")


def _pair(text: str) -> tuple[str, str]:
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2 or not all(names):
        raise TokenmillError(f"--cascade must be SMALL,LARGE, two names of the file, got {text!r}")
    return names[0], names[1]


def _document(chosen: Selection, two: Cascade | None, prices: dict[str, ModelPrice]) -> dict[str, Any]:
    from tokenmill.core._codec import encode

    return {
        "schema": 1,
        "selection": encode(chosen),
        "prices": encode(prices),
        "cascade": None if two is None else _cascade_document(two),
    }


def _cascade_document(two: Cascade) -> dict[str, Any]:
    from tokenmill.core._codec import encode

    plain = {
        part.name: getattr(two, part.name)
        for part in dataclasses.fields(two)
        if part.name not in ("curve", "threshold")
    }
    curve = two.curve
    return {
        **{name: encode(value) for name, value in plain.items()},
        "serve": _serve(two.threshold),
        "threshold": two.threshold if math.isfinite(two.threshold) else None,
        "curve": [
            {
                "serve": _serve(float(threshold)),
                "threshold": float(threshold) if math.isfinite(threshold) else None,
                "escalated": float(curve.escalated[row]),
                "quality": float(curve.quality[row]),
                "cost": float(curve.cost[row]),
                "difference_low": float(curve.difference_low[row]),
            }
            for row, threshold in enumerate(curve.thresholds)
        ],
    }


def _serve(threshold: float) -> str:
    if math.isfinite(threshold):
        return "cascade"
    return "large" if threshold > 0 else "small"


def _show(chosen: Selection, two: Cascade | None, prices: dict[str, ModelPrice]) -> None:
    out = console()
    # a table squeezed into a narrow terminal or a log file cannot be read at all
    out.width = max(out.width, TEXT_WIDTH)
    out.print(_table(chosen))
    for name, price in prices.items():
        if price.source != "given on the command line":
            out.print(f"price of {name}: {price.source}", markup=False)
    for warning in chosen.warnings:
        out.print(f"note: {warning}", markup=False)
    out.print(_verdict(chosen), markup=False)
    out.print(f"guarantee: {chosen.guarantee}", markup=False)
    if two is not None:
        _show_cascade(two)
        taken = None if chosen.chosen is None else chosen.result(chosen.chosen)
        if taken is not None and two.pays and (taken.cost or 0.0) < two.expected.cost:
            out.print(
                f"note: {taken.model} alone clears the bar and costs less than this cascade", markup=False
            )


def _verdict(chosen: Selection) -> str:
    if chosen.chosen is None:
        said = f"no model is shown to be over {chosen.bar:g} and has a cost"
        return said + (f"; by the means alone it would be {chosen.by_point}" if chosen.by_point else "")
    said = f"cheapest over {chosen.bar:g}: {chosen.chosen}"
    if chosen.difference is not None:
        said += f"; its score minus that of {chosen.best}, the best: {_span(chosen.difference, '+.3f')}"
    if chosen.by_point != chosen.chosen:
        said += f"; by the means alone it would be {chosen.by_point}"
    return said


def _table(chosen: Selection) -> Table:
    from rich.markup import escape
    from rich.table import Table

    title = f"{chosen.examples} examples, {100 * chosen.confidence:g} % bounds, cheapest first"
    table = Table(box=None, title=title, title_justify="left", pad_edge=False)
    for name in ("model", "mean", "interval", "lower bound", chosen.cost_unit):
        table.add_column(name, no_wrap=True, justify="left" if name == "model" else "right")
    table.add_column("verdict")
    for item in chosen.models:
        table.add_row(
            escape(item.model),
            f"{item.mean:.3f}",
            _span(item.interval, ".3f"),
            f"{item.lower:.3f}",
            "no cost" if item.cost is None else f"{item.cost:,.4g}",
            escape(item.verdict),
        )
    return table


def _show_cascade(two: Cascade) -> None:
    out = console()
    out.print(f"\ncascade {two.small} -> {two.large}: {two.verdict}", markup=False)
    out.print(
        f"  breaks even at {100 * two.break_even:.0f} % sent on; costs in {two.cost_unit}; "
        f"within {two.margin:g} of {two.large} at {100 * two.confidence:g} %",
        markup=False,
    )
    for name, item in (
        (f"{two.small} alone", two.always_small),
        (f"{two.large} alone", two.always_large),
        ("cascade, as expected (cross-fitted)", two.expected),
        ("cascade, on the examples that chose it", two.fitted),
    ):
        out.print(
            f"  {name}: score {item.quality:.3f} ({_span(item.quality_interval, '.3f')}), "
            f"cost {item.cost:,.4g} ({_span(item.cost_interval, ',.4g')})",
            markup=False,
        )
    out.print(
        f"  saving against {two.large}: {_span(two.saving, ',.4g')}; score against {two.large}: "
        f"{_span(two.difference, '+.3f')}; against sending on at random: {_span(two.over_random, '+.3f')}",
        markup=False,
    )


def _span(interval: Interval, form: str) -> str:
    return f"{interval.low:{form}} to {interval.high:{form}}"
