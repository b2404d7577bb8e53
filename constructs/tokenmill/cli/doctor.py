"""`tokenmill doctor`: what is still to do before a real deployment."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenmill.cli._output import JsonFlag, console, print_json
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.core.settings import StackSettings
    from tokenmill.doctor import DoctorReport

AssemblyOption = Annotated[
    Path | None, typer.Option(help="look at what this assembly of cdk synth needs, instead of a section")
]
QuotaRequestFlag = Annotated[
    bool,
    typer.Option(
        help="write a request for more of Bedrock's token quota, from the section's traffic, instead"
    ),
]
_MARKS = {
    "ok": "[green]ok[/green]     ",
    "to do": "[red]to do[/red]  ",
    "unknown": "[yellow]unknown[/yellow]",
}


def register(app: typer.Typer) -> None:
    """Add `doctor` to the command line.

    Args:
        app: The application.
    """
    app.command("doctor")(doctor)


def doctor(
    stack: Annotated[str, typer.Argument(help="section of the settings file")] = "chat",
    settings: Annotated[Path, typer.Option(help="settings file")] = Path("tokenmill.toml"),
    assembly: AssemblyOption = None,
    quota_request: QuotaRequestFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """List what is still to do before deploying to a real account, each with the command that does it.

    Exit code 0: nothing; 1: something is to do or could not be told; 2: bad input.
    """
    if quota_request:
        _write_quota_request(section(settings, stack), as_json=as_json)
        return
    screen = console()
    if as_json or not screen.is_terminal:
        report = _report(stack, settings, assembly, lambda _: None)
    else:
        with screen.status("looking") as status:
            report = _report(stack, settings, assembly, lambda what: status.update(f"looking at {what}"))
    if as_json:
        print_json(
            {
                "schema": 1,
                "stack": report.stack,
                "region": report.region,
                "exit_code": report.exit_code,
                "items": [dataclasses.asdict(item) for item in report.items],
            }
        )
    else:
        _print(report)
    raise typer.Exit(report.exit_code)


def _write_quota_request(chosen: StackSettings, *, as_json: bool) -> None:
    from tokenmill.core.quota_request import QuotaRequest
    from tokenmill.core.settings import BEDROCK
    from tokenmill.planner.advise.need import ROOM_FOR_LONG_ANSWERS

    if chosen.backend != BEDROCK:
        raise TokenmillError(
            f"section {chosen.stack!r} runs on {chosen.backend!r}, which has no token quota; set backend = "
            '"bedrock" in it, or look at the quotas of instances with tokenmill doctor'
        )
    room = chosen.workload.output_tokens * ROOM_FOR_LONG_ANSWERS
    context = chosen.limits.context_tokens
    request = QuotaRequest.from_workload(
        chosen.workload,
        model=chosen.model,
        region=chosen.region,
        max_tokens=room if context is None else min(context, room),
    )
    if as_json:
        print_json(request.to_json())
    else:
        typer.echo(request.to_markdown(), nl=False)


def _report(
    stack: str, settings: Path, assembly: Path | None, progress: Callable[[str], None]
) -> DoctorReport:
    import boto3

    folder = settings.parent
    if assembly is not None:
        from tokenmill.doctor.synthesized import diagnose_assembly

        return diagnose_assembly(assembly, session=boto3.Session(), folder=folder, progress=progress)
    from tokenmill.doctor import diagnose

    chosen = section(settings, stack)
    session = boto3.Session(region_name=chosen.region)
    return diagnose(chosen, session=session, folder=folder, progress=progress)


def section(path: Path, stack: str) -> StackSettings:
    """Return one section of a settings file.

    Args:
        path: The settings file.
        stack: The section's name.

    Raises:
        TokenmillError: The file is missing or wrong, or has no such section.
    """
    from tokenmill.core.settings import load_settings

    sections = load_settings(path)
    if stack not in sections:
        raise TokenmillError(f"{path} has no section {stack!r}; it has {', '.join(sections)}")
    return sections[stack]


def _print(report: DoctorReport) -> None:
    from rich.markup import escape

    screen = console()
    screen.print(f"{report.stack} in {report.region}", markup=False)
    for item in report.items:
        when = " (after the deploy)" if item.after_deploy else ""
        screen.print(f"  {_MARKS[item.state]} {escape(f'{item.name}: {item.detail}{when}')}")
        if item.command:
            screen.print(f"          -> {escape(item.command)}")
    remaining = len(report.remaining)
    verdict = "nothing is to do before the deploy" if not remaining else f"{remaining} to do or to look at"
    screen.print(verdict, markup=False)
