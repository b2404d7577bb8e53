"""`tokenmill cost` as a pipeline calls it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from support_cost import assembly, endpoint, managed, resource, template
from tokenmill.cli.cost import register
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

LARGE = "ml.inf2.24xlarge"
DATABASE = resource("AWS::RDS::DBInstance")


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    result = CliRunner().invoke(app, ["cost", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command looks for plans where it runs; here are none."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def one(tmp_path: Path) -> Path:
    fleet = endpoint(variant=managed(LARGE, 1, 4), copies=0)
    log, other = resource("AWS::Logs::LogGroup"), resource("Custom::Thing")
    return assembly(tmp_path / "one", Demo=template(Log=log, Other=other, **fleet))


@pytest.fixture
def two(tmp_path: Path) -> Path:
    fleet = endpoint(variant=managed(LARGE, 2, 5), copies=0)
    reserved = resource("AWS::Lambda::Function", ReservedConcurrentExecutions=5)
    return assembly(tmp_path / "two", Demo=template(Key=resource("AWS::KMS::Key"), F=reserved, **fleet))


def test_the_report_has_floor_quotas_use_and_what_is_unknown(one: Path) -> None:
    result = run(one)
    assert result.exit_code == 0
    assert "$5,686.70 a month with no traffic" in result.stdout
    assert f"{LARGE} for endpoint usage  L-9C39178F" in result.stdout
    assert "by use: AWS::Logs::LogGroup (log data and its storage)" in result.stdout
    assert "cost not known: 1 x Custom::Thing" in result.stdout
    assert "its template names no plan" in result.stdout


def test_quota_notes_and_item_notes_are_printed_once(two: Path) -> None:
    out = run(two, "--price", "kms-key=1").stdout
    assert out.count("Concurrent executions: functions reserve it") == 1


def test_an_assembly_with_nothing_to_pay_says_zero(tmp_path: Path) -> None:
    root = assembly(tmp_path / "empty", Demo=template(R=resource("AWS::IAM::Role")))
    assert run(root).stdout == "$0.00 a month with no traffic\n"


def test_json_is_one_document(one: Path, two: Path) -> None:
    found = json.loads(run(one, "--json").stdout)
    assert found["usd_per_month"] == pytest.approx(5686.7)
    assert "difference" not in found
    held = json.loads(run(two, "--against", one, "--json").stdout)["difference"]
    assert held["usd_per_month"] == pytest.approx(5687.7)
    assert {item["kind"] for item in held["lines"]} == {"added", "changed"}


def test_against_prints_what_changes(one: Path, two: Path) -> None:
    out = run(two, "--against", one).stdout
    assert "+$5,687.70 a month with no traffic" in out
    assert f"quota {LARGE} for endpoint usage in us-east-1: 4 -> 5" in out
    assert "now $11,374.40 a month with no traffic" in out


def test_against_itself_nothing_changes(one: Path) -> None:
    assert "$0.00 a month with no traffic\nnow $5,686.70" in run(one, "--against", one).stdout


def test_a_token_price_that_moves_is_printed(one: Path, tmp_path: Path) -> None:
    from support_stack import plan

    made = plan()
    made.write(tmp_path / "made.plan.json")
    fleet = endpoint(variant=managed(LARGE, 1, 4), copies=0)
    fleet["Model"]["Metadata"] = {"tokenmill": {"model": "m", "plan": made.hash}}
    root = assembly(tmp_path / "planned", Demo=template(**fleet))
    price = ("--price", "ml.inf2.8xlarge=2.36")
    assert "m: not known -> $1.31 per million tokens" in run(root, "--against", one, *price).stdout
    assert (
        "m at 1 requests/s of 800 + 200 tokens: $1.31 per million tokens ($1.31 with"
        in run(root, *price).stdout
    )
    (tmp_path / "made.plan.json").rename(tmp_path / "moved.json")
    assert "lies neither beside the assembly nor here" in run(root, *price).stdout
    assert "$1.31 per million tokens" in run(root, *price, "--plan", tmp_path / "moved.json").stdout


def test_markdown_is_for_a_pull_request(one: Path, two: Path) -> None:
    assert run(two, "--against", one, "--markdown").stdout.startswith("### Cost: +$5,687.70 a month")
    assert run(one, "--markdown").stdout.startswith("### Cost: $5,686.70 a month")


def test_a_floor_over_the_limit_exits_1_and_says_by_how_much(one: Path, two: Path) -> None:
    assert run(one, "--fail-over", 6000).exit_code == 0
    over = run(one, "--fail-over", 5000)
    assert (over.exit_code, over.stderr) == (1, "error: the floor is $5,686.70 a month, over $5,000.00\n")
    assert run(two, "--against", one, "--fail-over", 6000).exit_code == 0
    grown = run(two, "--against", one, "--fail-over", 100)
    assert (grown.exit_code, "the increase of the floor is $5,687.70" in grown.stderr) == (1, True)
    quiet = run(one, "--fail-over", 5000, "--json")
    assert (quiet.exit_code, quiet.stderr) == (1, "")


def test_a_limit_is_not_met_by_a_price_that_is_missing(tmp_path: Path) -> None:
    root = assembly(tmp_path / "db", Demo=template(Db=DATABASE))
    result = run(root, "--fail-over", 1000)
    assert result.exit_code == 1
    assert "cannot be held against $1,000.00: no price of AWS::RDS::DBInstance" in result.stderr
    assert run(root, "--fail-over", 1000, "--price", "AWS::RDS::DBInstance=60").exit_code == 0
    assert run(root, "--against", root, "--fail-over", 0).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--json", "--markdown"), "--json and --markdown exclude each other"),
        (("--price", "ml.x"), "--price must be ITEM=USD"),
        (("--price", "=1"), "--price must be ITEM=USD"),
        (("--price", "ml.x=much"), "--price must be ITEM=USD"),
        (("--fail-over", "nan"), "--fail-over must be a number"),
        (("--plan", "none.json"), "plan file none.json does not exist"),
        (("--against", "none"), "none is not a directory"),
    ],
)
def test_bad_input_is_one_sentence(one: Path, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(TokenmillError, match=message):
        run(one, *arguments)


def test_nothing_of_the_cdk_is_loaded(one: Path) -> None:
    """Pricing reads files; it never starts the jsii kernel."""
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from tokenmill.cost import cost_of; "
        f"cost_of(Path({str(one)!r})); print({{'aws_cdk', 'jsii', 'boto3'}} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_price_that_nothing_uses_is_told(one: Path) -> None:
    """A slip in the name would leave the old price in place without a word."""
    assert "ml.inf2.24large is used by nothing here" in run(one, "--price", "ml.inf2.24large=7").stdout
    assert "used by nothing" not in run(one, "--price", f"{LARGE}=7").stdout


def test_fails_on_a_region_that_is_none(one: Path) -> None:
    with pytest.raises(TokenmillError, match="--region must be an AWS region such as us-east-1, got 'mars'"):
        run(one, "--region", "mars")
