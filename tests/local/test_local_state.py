"""`.tokenmill/` belongs to one run at a time, and what is damaged there is said with the way out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tokenmill.core.errors import TokenmillError
from tokenmill.local.lint_memory import LintMemory
from tokenmill.local.state import only_run, running_cloud

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema": 1}', '{"schema": 9, "port": 1}'])
def test_fails_on_a_damaged_state_file_with_its_path_and_what_to_delete(tmp_path: Path, text: str) -> None:
    (tmp_path / "cloud.json").write_text(text)
    with pytest.raises(TokenmillError, match=r"cloud\.json cannot be read.*rm .*cloud\.json"):
        running_cloud(tmp_path)


def test_fails_while_another_run_of_up_is_at_work_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / ".tokenmill"
    with (
        only_run(folder),
        pytest.raises(TokenmillError, match="another `tokenmill up` is at work"),
        only_run(folder),
    ):
        raise AssertionError("two runs at once")
    with only_run(folder):
        assert folder.is_dir(), "the next run gets in when the one before is through"


def test_fails_when_the_state_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / ".tokenmill").write_text("")
    with (
        pytest.raises(TokenmillError, match=r"\.tokenmill cannot be written \(File exists\)"),
        only_run(tmp_path / ".tokenmill"),
    ):
        raise AssertionError("there is no folder")


@pytest.mark.parametrize("text", ["", "[]", '{"digest": 1}'])
def test_a_damaged_memory_of_lint_means_that_lint_runs_again(tmp_path: Path, text: str) -> None:
    assembly = tmp_path / "cdk.out"
    assembly.mkdir()
    (assembly / "manifest.json").write_text(json.dumps({}))
    kept = tmp_path / "lint.json"
    kept.write_text(text)
    memory = LintMemory(kept, assembly=assembly)
    assert memory.clean is None
    memory.remember("found nothing")
    assert memory.clean == "found nothing"


def test_what_a_slow_synth_took_does_not_make_another_assembly(tmp_path: Path) -> None:
    """aws-cdk-lib writes it only when synth was slow, and with other times each time."""
    assembly = tmp_path / "cdk.out"
    assembly.mkdir()
    (assembly / "manifest.json").write_text(json.dumps({}))
    LintMemory(tmp_path / "lint.json", assembly=assembly).remember("found nothing")
    for seconds in (11, 12):
        (assembly / "performance-counters.json").write_text(json.dumps({"App.synth(ms)": seconds}))
        assert LintMemory(tmp_path / "lint.json", assembly=assembly).clean == "found nothing"


def test_traces_do_not_make_another_assembly_but_acknowledgements_do(tmp_path: Path) -> None:
    """What is acknowledged late has a trace through a folder of jsii's that each synth names anew."""
    assembly = tmp_path / "cdk.out"
    assembly.mkdir()

    def write(reason: str, trace: str) -> None:
        entry = {"type": "aws:cdk:acknowledged-rules", "data": {"rule": reason}, "trace": [trace]}
        (assembly / "s.metadata.json").write_text(json.dumps({"/s/Role": [entry]}))

    write("a reason", "/tmp/jsii-kernel-1")
    LintMemory(tmp_path / "lint.json", assembly=assembly).remember("found nothing")
    write("a reason", "/tmp/jsii-kernel-2")
    assert LintMemory(tmp_path / "lint.json", assembly=assembly).clean == "found nothing"
    write("another reason", "/tmp/jsii-kernel-2")
    assert LintMemory(tmp_path / "lint.json", assembly=assembly).clean is None
