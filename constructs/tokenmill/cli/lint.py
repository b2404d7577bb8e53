"""`tokenmill lint`: every check over a synthesized assembly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenmill.cli._output import JsonFlag, console
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from tokenmill.lint import LintReport


def register(app: typer.Typer) -> None:
    """Add `lint` to the command line.

    Args:
        app: The application.
    """
    app.command("lint")(lint)


def lint(
    cdk_out: Annotated[Path, typer.Argument(help="the assembly that cdk synth wrote")] = Path("cdk.out"),
    form: Annotated[str, typer.Option("--format", help="text, json, sarif or junit")] = "text",
    skip: Annotated[
        list[str] | None, typer.Option(help="leave out a check (repeatable); nag for all packs")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="write the report to a file, and a summary here")
    ] = None,
    verbose: Annotated[bool, typer.Option(help="list what is acknowledged, with its reason")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Check a synthesized assembly: CloudFormation validation, rule packs, cfn-lint, checkov.

    Exit code 0: all ran and clean; 1: findings; 2: bad input, or a check that should have run did not.
    """
    from tokenmill.lint.formats import FORMATS, as_text

    chosen = "json" if as_json else form
    if chosen not in FORMATS:
        raise TokenmillError(f"--format is {form!r}; allowed are {', '.join(FORMATS)}")
    report = _run(cdk_out, skip or [], quiet=chosen != "text" and output is None)
    rendered = as_text(report, verbose=verbose) if chosen == "text" else FORMATS[chosen](report)
    if output is None:
        typer.echo(rendered, nl=False)
    else:
        _write(output, rendered)
        typer.echo(as_text(report, verbose=verbose), nl=False)
    raise typer.Exit(report.exit_code)


def _run(cdk_out: Path, skip: list[str], *, quiet: bool) -> LintReport:
    from tokenmill.lint import CheckResult, lint_assembly

    screen = console()
    if quiet or not screen.is_terminal:
        return lint_assembly(cdk_out, skip=skip)
    with screen.status("cfn-lint and checkov are reading the templates") as status:

        def progress(result: CheckResult) -> None:
            status.update(f"{result.check}: {result.state}; waiting for the others")

        return lint_assembly(cdk_out, skip=skip, progress=progress)


def _write(output: Path, text: str) -> None:
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise TokenmillError(f"cannot write {output}: {error.strerror}; choose another --output") from error
