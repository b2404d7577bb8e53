"""cfn-lint and checkov as programs: found or named as missing, broken or silent is never clean."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support_lint import BUCKET, write_assembly
from tokenmill.lint import CheckState, assembly, tools

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.lint import CheckResult

BOTH = pytest.mark.parametrize(
    ("find", "run"), [("find_cfn_lint", "run_cfn_lint"), ("find_checkov", "run_checkov")]
)


def program(tmp_path: Path, body: str) -> str:
    path = tmp_path / "program"
    path.write_text(f"#!{sys.executable}\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, find: str, run: str, found: str | None
) -> CheckResult:
    monkeypatch.setattr(tools, find, lambda *_: found)
    checker: Callable[[assembly.Assembly], CheckResult] = getattr(tools, run)
    return checker(assembly.read_assembly(write_assembly(tmp_path / "cdk.out")))


@BOTH
def test_a_missing_program_is_not_run_and_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, find: str, run: str
) -> None:
    result = outcome(tmp_path, monkeypatch, find, run, None)
    assert result.state is CheckState.NOT_RUN
    assert "install" in result.detail


@BOTH
@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ("import sys; sys.exit('no memory left')", "no memory left"),
        ("print('not json')", "printed no JSON: not json"),
        ("", "printed no JSON: it printed nothing"),
    ],
)
def test_a_program_that_breaks_down_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, find: str, run: str, body: str, detail: str
) -> None:
    broken = f"import sys\nif '--version' not in sys.argv:\n    {body or 'pass'}"
    result = outcome(tmp_path, monkeypatch, find, run, program(tmp_path, broken))
    assert result.state is CheckState.NOT_RUN
    assert detail in result.detail


@BOTH
def test_a_program_that_cannot_be_started_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, find: str, run: str
) -> None:
    result = outcome(tmp_path, monkeypatch, find, run, str(tmp_path / "gone"))
    assert result.state is CheckState.NOT_RUN
    assert "could not be run" in result.detail


def test_a_template_that_checkov_cannot_read_is_not_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = {"results": {"parsing_errors": ["Demo.template.json"]}, "summary": {}}
    fake = program(tmp_path, f"print({json.dumps(document)!r})")
    result = outcome(tmp_path, monkeypatch, "find_checkov", "run_checkov", fake)
    assert result.state is CheckState.NOT_RUN
    assert result.detail == "checkov could not read Demo.template.json"


def test_a_template_without_anything_that_checkov_knows_is_clean(tmp_path: Path) -> None:
    root = write_assembly(tmp_path, {"Wait": {"Type": "AWS::CloudFormation::WaitConditionHandle"}})
    result = tools.run_checkov(assembly.read_assembly(root))
    assert (result.state, result.findings) == (CheckState.CLEAN, ())


def test_where_an_app_stands_is_no_secret_of_its_functions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 letters and slashes of a path look like a secret access key to checkov's CKV_AWS_45."""
    run = re.search("[A-Za-z0-9/]*$", str(tmp_path))
    assert run is not None
    app = tmp_path / ("a" * (38 - len(run[0])))
    function = {
        "Type": "AWS::Lambda::Function",
        "Properties": {
            "Code": {"ZipFile": "def handler(event, context): ..."},
            "Role": "arn:aws:iam::111122223333:role/r",
            "Environment": {"Variables": {"NAME": {"Fn::Join": ["", ["a-", {"Ref": "AWS::Region"}]]}}},
        },
    }
    root = write_assembly(app / "_cdk.out", {"Function": function})
    checkov = tools.find_checkov(Path.cwd())
    monkeypatch.setattr(tools, "find_checkov", lambda _: checkov)
    monkeypatch.chdir(app)
    result = tools.run_checkov(assembly.read_assembly(root))
    assert result.state is CheckState.FINDINGS, "it was run, and knows functions"
    assert "CKV_AWS_45" not in {finding.rule for finding in result.findings}


def test_cfn_lint_takes_the_region_of_the_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_assembly(tmp_path / "cdk.out")
    manifest = (root / "manifest.json").read_text(encoding="utf-8")
    (root / "manifest.json").write_text(manifest.replace("unknown-region", "eu-west-1"), encoding="utf-8")
    log = tmp_path / "arguments"
    note = f"pathlib.Path({str(log)!r}).open('a').write(' '.join(sys.argv) + chr(10))"
    body = f"import pathlib, sys\n{note}\nprint('[]')"
    monkeypatch.setattr(tools, "find_cfn_lint", lambda: program(tmp_path, body))
    tools.run_cfn_lint(assembly.read_assembly(root))
    assert "--regions eu-west-1" in log.read_text(encoding="utf-8").splitlines()[0]


def test_cfn_lint_honours_what_a_resource_acknowledges_and_nothing_else(tmp_path: Path) -> None:
    wrong = {**BUCKET, "Properties": {"Shape": "round"}}
    ignored = {
        "cfn-lint": {"config": {"ignore_checks": ["E3002"]}, "reasons": {"E3002": "It is only a test."}}
    }
    root = write_assembly(tmp_path, {"B1": {**wrong, "Metadata": ignored}, "B2": wrong})
    result = tools.run_cfn_lint(assembly.read_assembly(root))
    assert [(finding.rule, finding.logical_id) for finding in result.findings] == [("E3002", "B2")]
    assert [(entry.place, entry.reason) for entry in result.acknowledged] == [
        ("Demo/Bucket/Resource", "It is only a test.")
    ]


def test_checkov_is_found_in_the_environment_beside_the_project(tmp_path: Path) -> None:
    own = tmp_path / ".venv-checkov" / "bin" / "checkov"
    own.parent.mkdir(parents=True)
    own.touch()
    below = tmp_path / "app" / "deep"
    below.mkdir(parents=True)
    assert tools.find_checkov(below) == str(own)


def test_checkov_on_path_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = tmp_path / "bin" / "checkov"
    on_path.parent.mkdir()
    on_path.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert tools.find_checkov(tmp_path) == str(on_path)
    monkeypatch.setenv("PATH", "")
    assert tools.find_checkov(tmp_path) is None
