"""Options and their values that several commands share."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from tokenmill.core.errors import TokenmillError

StackArgument = Annotated[str, typer.Argument(help="section of the settings file: chat, rag or batch")]
RpsOption = Annotated[float | None, typer.Option("--rps", help="requests a second at the peak hour")]
InputOption = Annotated[int | None, typer.Option("--input-tokens", help="mean prompt, tokens")]
OutputOption = Annotated[int | None, typer.Option("--output-tokens", help="mean answer, tokens")]
TtftOption = Annotated[float | None, typer.Option("--ttft-ms", help="time to first token, ms")]
ItlOption = Annotated[float | None, typer.Option("--itl-ms", help="inter-token latency, ms")]
InstanceOption = Annotated[
    list[str] | None, typer.Option("--instance", help="instance type or pattern; may be repeated")
]
PriceOption = Annotated[list[str] | None, typer.Option("--price", help="TYPE=USD an hour; may be repeated")]


def read_prices(
    texts: list[str], *, item: str = "TYPE", example: str = "ml.inf2.8xlarge=2.36"
) -> dict[str, float]:
    """Return US dollars by name from values of --price.

    Args:
        texts: NAME=USD each.
        item: What the name is called, for messages.
        example: A value, for messages.

    Raises:
        TokenmillError: One is not that, or its price is no number above 0.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, _, usd = text.partition("=")
        try:
            price = float(usd)
        except ValueError:
            price = math.nan
        if not name or not 0 < price < math.inf:
            raise TokenmillError(
                f"--price must be {item}=USD with a price above 0, such as {example}, got {text!r}"
            )
        found[name] = price
    return found
