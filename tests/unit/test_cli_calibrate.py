"""`tokenmill calibrate` shows what it found, writes what plan picks up, and refuses nonsense."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from tokenmill.cli import calibrate as calibrate_command
from tokenmill.cli import plan as plan_command
from tokenmill.core.errors import TokenmillError
from tokenmill.core.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    SettingsFile = Callable[..., Path]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings_file: SettingsFile
) -> Callable[..., Result]:
    """Run a command in the folder of a settings file with a written plan."""
    app = typer.Typer()
    plan_command.register(app)
    calibrate_command.register(app)
    monkeypatch.chdir(tmp_path)
    settings_file()

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    assert call("plan", "--write").exit_code == 0
    return call


def measurements(folder: Path, factor: float = 1.3) -> Path:
    """Return measurements of the chosen candidate's endpoint, all so many times slower than planned."""
    engine = Plan.read(folder / "chat.plan.json").chosen.engine
    rows = [
        f"1,512,128,{engine.prefill_ms(512) * factor},{engine.step_ms(1, 576) * factor}" for _ in range(4)
    ]
    path = folder / "measured.csv"
    path.write_text("concurrency,input_tokens,output_tokens,ttft_ms,itl_ms\n" + "\n".join(rows) + "\n")
    return path


def test_people_see_factors_and_errors(run: Callable[..., Result], tmp_path: Path) -> None:
    """Before and after; nothing is written unasked."""
    measurements(tmp_path)
    shown = run("calibrate", "measured.csv")
    assert shown.exit_code == 0
    assert "Qwen/Qwen3-8B on ml.inf2." in shown.stdout
    assert "4 points" in shown.stdout
    assert "error before" in shown.stdout
    assert not (tmp_path / "chat.calibration.json").exists()


def test_a_written_calibration_is_picked_up_by_the_next_plan(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    """Until it is accepted, synth sees changed inputs; afterwards the times are the measured ones."""
    before = Plan.read(tmp_path / "chat.plan.json").chosen
    measurements(tmp_path)
    shown = run("calibrate", "measured.csv", "--write")
    assert "accept it with: tokenmill plan chat --write" in shown.stdout
    assert "inputs" in run("plan", "--diff").stdout
    assert run("plan", "--write").exit_code == 0
    made = Plan.read(tmp_path / "chat.plan.json")
    assert made.calibration is not None
    assert made.calibration.source == "measured.csv"
    after = next(item for item in made.candidates if item.instance_type == before.instance_type)
    assert any("corrected by 8 of your own measurements" in note for note in after.notes)


def test_machines_get_the_calibration(run: Callable[..., Result], tmp_path: Path) -> None:
    """One document, with the file that was written or null."""
    measurements(tmp_path)
    document = json.loads(run("calibrate", "measured.csv", "--json").stdout)
    assert document["written"] is None
    assert document["calibration"]["decode"]["factor"] > 1.1
    written = json.loads(run("calibrate", "measured.csv", "--json", "--write").stdout)["written"]
    assert written.endswith("chat.calibration.json")


def test_another_candidate_of_the_plan_can_be_measured(run: Callable[..., Result], tmp_path: Path) -> None:
    """By its instance type; one that the plan does not have is refused with those that it has."""
    measurements(tmp_path, factor=1.1)
    document = json.loads(run("calibrate", "measured.csv", "--json", "--instance", "ml.inf2.8xlarge").stdout)
    assert document["calibration"]["accelerator"] == "Inferentia2"
    failed = run("calibrate", "measured.csv", "--instance", "ml.g5.xlarge")
    with pytest.raises(TokenmillError, match="the plan has no candidate on 'ml.g5.xlarge'; it has ml.inf2"):
        raise failed.exception or AssertionError("it succeeded")


def test_nonsense_is_refused(run: Callable[..., Result], tmp_path: Path) -> None:
    """Seconds for milliseconds; nothing is written."""
    measurements(tmp_path, factor=0.001)
    failed = run("calibrate", "measured.csv", "--write")
    with pytest.raises(TokenmillError, match="looks like seconds"):
        raise failed.exception or AssertionError("it succeeded")
    assert not (tmp_path / "chat.calibration.json").exists()


def test_a_correction_that_fits_worse_is_warned_of(run: Callable[..., Result], tmp_path: Path) -> None:
    """Points that scatter more than they agree."""
    path = measurements(tmp_path, 1.0)
    header, *rows = path.read_text().splitlines()
    fields = [row.split(",") for row in rows]
    for row, factor in zip(fields, (0.5, 1.0, 1.0, 1.9), strict=True):
        row[4] = str(float(row[4]) * factor)
    path.write_text("\n".join([header, *(",".join(row) for row in fields)]) + "\n")
    shown = run("calibrate", "measured.csv").stdout
    assert "warning: the points scatter more than the decode factor corrects" in shown
    assert "prefill factor corrects" not in shown
