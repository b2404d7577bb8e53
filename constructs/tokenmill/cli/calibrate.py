"""`tokenmill calibrate`: correct a plan's timing by measurements of your own endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenmill.cli._output import JsonFlag, console, print_json, print_table
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from tokenmill.core.calibration import CalibratedPhase, Calibration
    from tokenmill.core.plan import Candidate, Plan

SETTINGS_FILE = Path("tokenmill.toml")

MeasurementsArgument = Annotated[
    Path,
    typer.Argument(
        help="CSV of concurrency, input_tokens, output_tokens, ttft_ms, itl_ms [and requests_per_second]"
    ),
]
StackOption = Annotated[str, typer.Option("--stack", help="section of the settings file: chat, rag or batch")]
SettingsOption = Annotated[Path, typer.Option("--settings", help="settings file; the plan stands beside it")]
InstanceOption = Annotated[
    str | None, typer.Option("--instance", help="measured instance type; the plan's chosen one without")
]
WriteFlag = Annotated[bool, typer.Option("--write", help="write the calibration file that plan picks up")]


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line application.
    """
    app.command("calibrate")(calibrate)


def calibrate(
    measurements: MeasurementsArgument,
    stack: StackOption = "chat",
    settings: SettingsOption = SETTINGS_FILE,
    instance: InstanceOption = None,
    write: WriteFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Correct a plan's timing by measurements of the endpoint that it deployed."""
    import datetime

    from tokenmill.core._codec import encode
    from tokenmill.core.plan import Plan
    from tokenmill.core.settings import load_section
    from tokenmill.planner import calibration

    section = load_section(settings, stack)
    plan = Plan.read(section.plan_path)
    points, digest = calibration.read_points(measurements)
    measured = _measured(plan, instance)
    made = calibration.calibrate(
        plan, measured, points, source=measurements.name, source_digest=digest, today=datetime.date.today()
    )
    if write:
        made.write(section.calibration_path)
    if as_json:
        print_json({"calibration": encode(made), "written": str(section.calibration_path) if write else None})
        return
    _show(made, measured)
    if write:
        console().print(f"wrote {section.calibration_path}; accept it with: tokenmill plan {stack} --write")


def _measured(plan: Plan, instance: str | None) -> Candidate:
    if instance is None:
        return plan.chosen
    offered = (*plan.candidates, *plan.experimental)
    for candidate in offered:
        if candidate.instance_type == instance:
            return candidate
    names = ", ".join(candidate.instance_type for candidate in offered)
    raise TokenmillError(f"the plan has no candidate on {instance!r}; it has {names}")


def _show(made: Calibration, measured: Candidate) -> None:
    from rich.table import Table

    out = console()
    where = f"{measured.instance_type}, tensor parallel {made.tensor}"
    out.print(f"{made.model} on {where}: {made.decode.points} points")
    table = Table(box=None, pad_edge=False)
    for name in ("", "factor", "80 % interval", "error before", "error after"):
        table.add_column(name, no_wrap=True, justify="right" if name else "left")
    table.add_row("decode (inter-token latency)", *_cells(made.decode))
    table.add_row("prefill (time to first token)", *_cells(made.prefill))
    print_table(out, table)
    for name, phase in (("decode", made.decode), ("prefill", made.prefill)):
        if phase.error_after_percent > phase.error_before_percent:
            out.print(
                f"warning: the points scatter more than the {name} factor corrects; measure more of them, "
                "each over several minutes of steady load, before a plan relies on it"
            )


def _cells(phase: CalibratedPhase) -> tuple[str, ...]:
    return (
        f"{phase.factor:.3f}",
        f"{(phase.low - 1) * 100:+.0f} % to {(phase.high - 1) * 100:+.0f} %",
        f"{phase.error_before_percent:.1f} %",
        f"{phase.error_after_percent:.1f} %",
    )
