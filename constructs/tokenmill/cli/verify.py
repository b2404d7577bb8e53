"""`tokenmill verify`: settle on an account what could not be checked here."""

from __future__ import annotations

import dataclasses
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from tokenmill.cli._options import read_prices
from tokenmill.cli._output import JsonFlag, print_json
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    import boto3

    from tokenmill.verification import Line
    from tokenmill.verification.run import Result

STATE = Path(".tokenmill")
SETTINGS = Path("tokenmill.toml")
DEFAULT_REGION = "us-east-1"


def register(app: typer.Typer) -> None:
    """Add `verify` to the command line.

    Args:
        app: The application.
    """
    app.command("verify")(verify)


def verify(
    account: Annotated[
        bool, typer.Option("--account", help="probe, on the account of your credentials")
    ] = False,
    line: Annotated[list[str] | None, typer.Option(help="a line of docs/unverified.md (repeatable)")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    max_usd: Annotated[float, typer.Option(min=0, help="refuse what may cost more")] = 5.0,
    price: Annotated[list[str] | None, typer.Option(help="TYPE=USD an hour (repeatable)")] = None,
    region: Annotated[str, typer.Option(help="AWS region; else the settings', else yours")] = "",
    cleanup: Annotated[bool, typer.Option("--cleanup", help="delete what a killed run left")] = False,
    as_json: JsonFlag = False,
) -> None:
    """List what only an account can settle, with its price; with --account, settle it.

    Exit code 0: listed, or every line holds; 1: one does not or is unclear; 2: bad input.
    """
    import boto3

    from tokenmill.verification.lines import find_lines, unnamed

    if cleanup:
        _clean_up(boto3.Session(), as_json=as_json)
    lines = find_lines(tuple(line or ()))
    prices = read_prices(price or [])
    where = region or _region(boto3.Session())
    _show_lines(lines, where, prices, as_json=as_json and not account, quiet=as_json and account)
    if not account:
        return
    if not line:
        lines = unnamed(lines)
    _agree(lines, where, prices, max_usd=max_usd, yes=yes)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    _report(_run(lines, where, prices, boto3.Session(), quiet=as_json), as_json=as_json)


def _run(
    lines: tuple[Line, ...], region: str, prices: dict[str, float], session: boto3.Session, *, quiet: bool
) -> Result:
    from tokenmill.verification import run_lines

    def tell(text: str) -> None:
        if not quiet:
            typer.echo(text)

    return run_lines(lines, session=session, region=region, state=STATE, prices=prices, tell=tell)


def _show_lines(
    lines: tuple[Line, ...], region: str, prices: dict[str, float], *, as_json: bool, quiet: bool
) -> None:
    from tokenmill.verification.lines import price_at_most

    each: list[tuple[Line, float | None, str]] = []
    for line in lines:
        try:
            each.append((line, price_at_most((line,), region=region, prices=prices), ""))
        except TokenmillError as error:
            each.append((line, None, str(error)))
    if as_json:
        listed = [
            {**dataclasses.asdict(line), "usd_at_most": usd, "price_missing": missing}
            for line, usd, missing in each
        ]
        print_json({"schema": 1, "region": region, "lines": listed})
    elif not quiet:
        for line, usd, missing in each:
            typer.echo(f"{line.id}: {f'at most {usd:.2f} USD' if usd is not None else missing}")
            typer.echo(f"    {line.claim}")


def _agree(
    lines: tuple[Line, ...], region: str, prices: dict[str, float], *, max_usd: float, yes: bool
) -> None:
    from tokenmill.verification.lines import price_at_most

    total = price_at_most(lines, region=region, prices=prices)
    if total > max_usd:
        raise TokenmillError(
            f"these lines may cost {total:.2f} USD in {region}, --max-usd is {max_usd:.2f}; raise it or "
            "choose fewer with --line"
        )
    if yes:
        return
    if not sys.stdin.isatty():
        raise TokenmillError(f"this may cost {total:.2f} USD and nobody is there to ask; agree with --yes")
    if not typer.confirm(f"deploy into your account in {region}, for at most {total:.2f} USD?", err=True):
        raise TokenmillError("not agreed, nothing was deployed")


def _report(result: Result, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "schema": 1,
                "exit_code": result.exit_code,
                "evidence": [dataclasses.asdict(piece) for piece in result.evidence],
                "files": [str(path) for path in result.files],
                "left": list(result.left),
            }
        )
    else:
        for piece, path in zip(result.evidence, result.files, strict=True):
            aside = " (answered locally: no evidence about an account)" if piece.source == "local" else ""
            typer.echo(f"{piece.line}: {piece.verdict}{aside}; {path}")
        for text in result.left:
            typer.echo(f"still there: {text}; run: tokenmill verify --cleanup", err=True)
    raise typer.Exit(result.exit_code)


def _clean_up(session: boto3.Session, *, as_json: bool) -> NoReturn:
    from tokenmill.verification import clean_up

    def tell(text: str) -> None:
        if not as_json:
            typer.echo(text)

    left = clean_up(session=session, state=STATE, tell=tell)
    if as_json:
        print_json({"schema": 1, "left": list(left)})
    elif left:
        for text in left:
            typer.echo(f"still there: {text}", err=True)
    else:
        typer.echo("nothing is left")
    raise typer.Exit(1 if left else 0)


def _region(session: boto3.Session) -> str:
    if SETTINGS.exists():
        from tokenmill.core.settings import load_settings

        return next(iter(load_settings(SETTINGS).values())).region
    return session.region_name or DEFAULT_REGION


def _stop(signum: int, _frame: object) -> NoReturn:
    # An exception lets the teardown run, which the default action would not.
    raise SystemExit(128 + signum)
