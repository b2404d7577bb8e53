"""`tokenmill lint` as a pipeline calls it: exit codes, formats, files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support_lint import plugin_report, write_assembly, write_record, write_report
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from pathlib import Path

    from support_commands import Run

RECORDED_ONLY = ("--skip", "cfn-lint", "--skip", "checkov")


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    root = write_assembly(tmp_path / "cdk.out")
    write_record(root, packs=["AwsSolutions"])
    write_report(root)
    return root


def test_a_clean_assembly_exits_0(run: Run, clean: Path) -> None:
    result = run("lint", str(clean), *RECORDED_ONLY)
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "clean")


def test_findings_exit_1(run: Run, clean: Path) -> None:
    write_report(clean, plugin_report("AwsSolutions", "AwsSolutions-S1"))
    result = run("lint", str(clean), *RECORDED_ONLY)
    assert result.exit_code == 1
    assert "error AwsSolutions-S1 at Demo/Bucket/Resource (Demo.template.json B1)" in result.stdout


def test_a_check_that_never_ran_exits_2(run: Run, tmp_path: Path) -> None:
    result = run("lint", str(write_assembly(tmp_path)), *RECORDED_ONLY)
    assert result.exit_code == 2
    assert "nothing found, but never checked: cloudformation-validate" in result.stdout


def test_json_is_one_document_on_standard_output(run: Run, clean: Path) -> None:
    assert json.loads(run("lint", str(clean), *RECORDED_ONLY, "--json").stdout)["clean"] is True


def test_output_goes_to_a_file_and_a_summary_to_the_screen(run: Run, clean: Path, tmp_path: Path) -> None:
    target = tmp_path / "lint.sarif"
    result = run("lint", str(clean), *RECORDED_ONLY, "--format", "sarif", "--output", str(target))
    assert json.loads(target.read_text(encoding="utf-8"))["version"] == "2.1.0"
    assert result.stdout.splitlines()[-1] == "clean"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing.out",), "missing.out is not a directory; synthesize first"),
        (("--format", "yaml"), "--format is 'yaml'; allowed are text, json, sarif, junit"),
    ],
)
def test_fails_with_one_sentence_on_bad_input(run: Run, arguments: tuple[str, ...], message: str) -> None:
    error = run("lint", *arguments).exception
    assert isinstance(error, TokenmillError)
    assert (str(error)[: len(message)], error.exit_code) == (message, 2)


def test_fails_when_the_output_cannot_be_written(run: Run, clean: Path, tmp_path: Path) -> None:
    error = run("lint", str(clean), *RECORDED_ONLY, "--output", str(tmp_path / "no" / "such.json")).exception
    assert isinstance(error, TokenmillError)
    assert "choose another --output" in str(error)
