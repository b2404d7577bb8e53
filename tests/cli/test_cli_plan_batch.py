"""`tokenmill plan batch`: the choice with every reason, as a table, as JSON, written and compared."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from tokenmill.cli.plan import register

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

SECTION = """
[batch]
region = "us-east-1"
bedrock_model = "amazon.nova-lite-v1:0"

[batch.run]
records = 100_000
input_tokens = 400
output_tokens = 100
deadline_hours = 30
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tokenmill.toml").write_text(SECTION, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def plan(*arguments: str) -> Result:
    """Run the command as it is registered."""
    app = typer.Typer()
    register(app)
    return CliRunner().invoke(app, ["batch", *arguments])


def test_the_choice_is_shown_with_its_price(folder: Path) -> None:
    """And why the others are out; nothing is written unasked."""
    found = plan()
    assert found.exit_code == 0, found.output
    assert "100,000 records of 400 + 100 tokens in us-east-1, answered within 30 hours" in found.output
    assert "chosen: bedrock-batch on amazon.nova-lite-v1:0 at 2.40 USD a run" in found.output
    assert "the section names no model for SageMaker" in found.output
    assert not (folder / "batch.plan.json").exists()


def test_the_choice_is_written_and_compared(folder: Path) -> None:
    """--write, then --diff says nothing changes, then what changes."""
    assert plan("--write").exit_code == 0
    document = json.loads((folder / "batch.plan.json").read_text(encoding="utf-8"))
    assert (document["schema"], document["options"][0]["kind"]) == (1, "bedrock-batch")
    assert "would change nothing" in plan("--diff").output
    told = json.loads(plan("--diff", "--json").output)
    assert told["changed"] is False
    (folder / "tokenmill.toml").write_text(SECTION.replace("100_000", "200_000"), encoding="utf-8")
    changed = plan("--diff")
    assert "new: bedrock-batch on amazon.nova-lite-v1:0 at 4.80 USD" in changed.output


def test_nothing_in_time_ends_with_one(folder: Path) -> None:
    """As a plan without candidates does, in text and in JSON."""
    (folder / "tokenmill.toml").write_text(SECTION.replace("= 30", "= 8"), encoding="utf-8")
    for flags in ([], ["--json"]):
        found = plan(*flags)
        assert found.exit_code == 1 or getattr(found.exception, "exit_code", None) == 1
        assert "a job may take 24 hours and the deadline is 8" in found.output + str(found.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rps", "2"], "a batch has no traffic.requests_per_second; set records"),
        (["--input-tokens", "9", "--write"], "--write takes its inputs from tokenmill.toml"),
        (["--settings", "other.toml"], "settings file other.toml does not exist"),
    ],
)
def test_options_that_do_not_fit_are_refused(folder: Path, arguments: list[str], message: str) -> None:
    """With the key to set."""
    found = plan(*arguments)
    assert found.exit_code != 0
    assert message in found.output + str(found.exception)


def test_a_length_can_be_tried_out(folder: Path) -> None:
    """Without writing it into the file."""
    found = plan("--input-tokens", "800")
    assert "100,000 records of 800 + 100 tokens" in found.output


def test_a_file_without_the_section_is_told_what_to_add(folder: Path) -> None:
    """Its keys by name."""
    (folder / "tokenmill.toml").write_text("", encoding="utf-8")
    found = plan()
    assert "has no section [batch]; add one with region" in found.output + str(found.exception)
