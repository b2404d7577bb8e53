"""`tokenmill accuracy` as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

from support_timing import FOLDER, GPU_ROW, NEURON_ROW, write_csv
from tokenmill.cli.accuracy import register
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

FACTS = "model,instance_type,tp_degree,batch_size,seq_len,dtype,fact,value,unit,source\n"


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    result = CliRunner().invoke(app, ["accuracy", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    rows = [
        NEURON_ROW,
        NEURON_ROW,
        GPU_ROW,
        NEURON_ROW | {"id": "3", "tpot_ms": "", "fit_prefill": "n"},
        NEURON_ROW | {"id": "4", "tpot_ms": "0.02", "fit_prefill": "n"},
    ]
    return write_csv(tmp_path / "measured.csv", rows)


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    path = tmp_path / "facts.csv"
    row = "meta-llama/Llama-3.1-8B,inf2.48xlarge,8,1,4096,bf16,{},{},{},test\n"
    path.write_text(FACTS + row.format("weights a core", "2.0", "GB") + row.format("fits", "1", "bool"))
    return path


def test_a_file_is_scored_with_its_skipped_rows_and_duplicates(measured: Path) -> None:
    document = json.loads(run(measured, "--json").stdout)

    assert document["schema"] == 1
    assert (document["skipped"], document["duplicates"], document["fitted_on"]) == (1, 1, 0)
    alls = [(g["metric"], g["rows"]) for g in document["groups"] if g["by"] == "all"]
    assert alls == [("itl", 2), ("tpot", 1), ("ttft", 1)]
    assert "they look like seconds" in document["warnings"][0]
    assert "memory" not in document


def test_the_text_has_a_table_of_groups_and_says_what_was_skipped(measured: Path) -> None:
    shown = run(measured).stdout

    assert "4 times scored, 1 skipped, 1 duplicates" in shown
    assert "skipped: tpot_ms '' is not a number (1)" in shown
    assert "warning: 1 of 2 itl rows are implausible" in shown
    assert "errors by group" in shown
    assert "covered by 80 % interval, %" in shown
    assert "used in the fit" not in shown
    assert "worst rows" not in shown


def test_the_worst_rows_are_listed_worst_first(measured: Path) -> None:
    lines = run(measured, "--worst", "2").stdout.splitlines()

    start = next(number for number, line in enumerate(lines) if line.startswith("worst rows"))
    listed = [line.split() for line in lines[start + 2 : start + 4]]
    assert listed[0][:3] == ["itl", "4", "0.02"]
    assert float(listed[0][-1]) > float(listed[1][-1])


def test_a_file_that_was_fitted_on_is_said_to_be_no_evidence() -> None:
    shown = run(FOLDER / "measurements.csv.gz").stdout
    assert "561 of the scored times were used in the fit: their errors are no evidence" in shown


def test_without_a_file_the_errors_of_rows_left_out_are_shown() -> None:
    document = json.loads(run("--json").stdout)
    assert {"schema", "summary", "groups"} <= set(document)
    shown = run().stdout
    assert "every configuration was left out of the fit that predicts it" in shown
    assert "by what was left out" in shown


def test_markdown_has_a_heading_and_a_ruler_for_each_table(measured: Path) -> None:
    shown = run(measured, "--markdown", "--worst", "1").stdout
    assert "### Errors by group\n\n| metric | by | key | rows |" in shown
    assert "|---|---|---|---|---|---|---|\n| itl | all | all | 2 |" in shown
    assert "### Worst rows" in shown


def test_the_memory_model_is_scored_alone_or_beside_the_times(measured: Path, facts: Path) -> None:
    alone: dict[str, Any] = json.loads(run("--memory", facts, "--json").stdout)
    assert set(alone) == {"schema", "memory"}
    both = json.loads(run(measured, "--memory", facts, "--json").stdout)
    assert both["memory"] == alone["memory"]
    assert both["groups"]
    shown = run("--memory", facts).stdout
    assert "memory by fact" in shown
    assert "fits or not" in shown
    assert "left out" not in shown


def test_a_chart_is_drawn_beside_the_tables(measured: Path, tmp_path: Path) -> None:
    result = run(measured, "--chart", tmp_path / "c.svg", "--json")
    json.loads(result.stdout)
    assert "<svg" in (tmp_path / "c.svg").read_text()


def test_fails_for_a_chart_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(TokenmillError, match="--chart draws the rows of a file; name a measurement file"):
        run("--chart", tmp_path / "c.png")


def test_fails_for_a_missing_file_with_exit_code_2_and_no_traceback(tmp_path: Path) -> None:
    code = "from tokenmill.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "accuracy", str(tmp_path / "none.csv"), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "none.csv does not exist" in json.loads(done.stdout)["error"]["message"]
    assert done.stderr == ""
