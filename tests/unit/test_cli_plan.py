"""`tokenmill plan` answers people and machines, and leaves nothing half-written."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from tokenmill.cli.plan import register
from tokenmill.core.errors import NoPlanError, SettingsError, TokenmillError
from tokenmill.core.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    SettingsFile = Callable[..., Path]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Run the command in the folder of the settings file."""
    app = typer.Typer()
    register(app)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    return call


def test_people_see_candidates_reasons_and_notes(
    run: Callable[..., Result], settings_file: SettingsFile
) -> None:
    """Cheapest first, intervals in brackets, rejected types with their reason."""
    settings_file()
    shown = run("chat")
    assert shown.exit_code == 0
    assert "Qwen/Qwen3-8B: 8.19 billion parameters" in shown.stdout
    table, reasons = shown.stdout.split("rejected\n")
    assert table.index("meets the goals") < table.index("ml.inf2.24xlarge")
    assert "ml.inf2.xlarge" in reasons
    assert re.search(r"ml\.trn1\.2xlarge and \d+ more +limits", shown.stdout)
    assert "prompts are padded to 2,048 tokens" in shown.stdout
    assert re.search(
        r"left on ml\.inf2\.24xlarge: \d+\.\d\d GiB of each core, [\d,]+ tokens of KV", shown.stdout
    )
    assert "note on ml.inf2.24xlarge: price is of" in shown.stdout
    trained = run("--instance", "ml.trn2.48xlarge", "--instance", "ml.inf2.24xlarge").stdout
    assert "would meet the goals, but must be tried first" in trained


def test_types_without_price_show_where_they_would_tie(
    run: Callable[..., Result], settings_file: SettingsFile
) -> None:
    """And where nothing has a price, only that."""
    settings_file()
    assert "no price  even at" in run("--instance", "ml.g*").stdout
    alone = run("--instance", "ml.p5.4xlarge").stdout
    assert "no price" in alone
    assert "even at" not in alone


def test_machines_get_one_document(run: Callable[..., Result], settings_file: SettingsFile) -> None:
    """It can be read back as the plan."""
    settings_file()
    document = json.loads(run("--json").stdout)
    digest = document.pop("hash")
    assert Plan.from_json(document).hash == digest


def test_write_then_diff(run: Callable[..., Result], settings_file: SettingsFile) -> None:
    """An unchanged world changes nothing; a price changes cost; both exit with 0."""
    path = settings_file().parent / "chat.plan.json"
    assert "wrote chat.plan.json" in run("--write").stdout.replace(str(path.parent) + "/", "")
    before = path.read_bytes()
    assert "a new plan would change nothing" in run("--diff").stdout
    priced = run("--diff", "--price", "ml.inf2.24xlarge=9.5")
    assert priced.exit_code == 0
    assert "chosen.usd_per_hour: 7.79 -> 9.5" in priced.stdout
    faster = run("--diff", "--itl-ms", "30")
    assert "chosen.cores_per_copy: 4 -> 8" in faster.stdout
    assert "(changes what runs)" in faster.stdout
    changes = json.loads(run("--diff", "--json", "--price", "ml.inf2.24xlarge=9.5").stdout)["changes"]
    assert {"what": "chosen.usd_per_hour", "old": 7.79, "new": 9.5, "replaces_fleet": False} in changes
    assert path.read_bytes() == before


def test_write_with_json_prints_the_document_only(
    run: Callable[..., Result], settings_file: SettingsFile
) -> None:
    """Nothing else on standard output."""
    path = settings_file().parent / "chat.plan.json"
    document = json.loads(run("--write", "--json").stdout)
    assert Plan.read(path).hash == document["hash"]


def test_a_plan_can_be_asked_for_without_a_file(run: Callable[..., Result]) -> None:
    """Everything stands on the command line."""
    shown = run(
        *("--model", "Qwen/Qwen3-0.6B", "--rps", "1", "--input-tokens", "200", "--output-tokens", "100"),
        *("--ttft-ms", "1000", "--itl-ms", "50", "--region", "us-east-1", "--json"),
    )
    assert json.loads(shown.stdout)["model"]["id"] == "Qwen/Qwen3-0.6B"


def test_goals_that_nothing_meets_exit_with_1(
    run: Callable[..., Result], settings_file: SettingsFile
) -> None:
    """The reasons are shown first; with --json the document carries the nearest miss; nothing is written."""
    path = settings_file().parent / "chat.plan.json"
    failed = run("--itl-ms", "0.1")
    assert isinstance(failed.exception, NoPlanError)
    assert "rejected" in failed.stdout
    assert "meets the goals" not in failed.stdout
    machine = run("--itl-ms", "0.1", "--json")
    assert machine.exit_code == 1
    assert "raise slo.itl_ms" in json.loads(machine.stdout)["nearest_miss"]
    assert not path.exists()


def test_bedrock_needs_no_plan(run: Callable[..., Result], settings_file: SettingsFile) -> None:
    """Said to people and machines, exit 0."""
    settings_file(('"Qwen__Qwen3-8B.json"', '"amazon.nova-lite-v1:0"\nbackend = "bedrock"'))
    assert "chat runs on bedrock, which needs no instances" in run().stdout
    assert json.loads(run("--json").stdout) == {"stack": "chat", "backend": "bedrock", "plan": None}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--write", "--diff"), "--write and --diff exclude each other"),
        (("--write", "--rps", "3"), "set chat.traffic.requests_per_second there"),
        (
            ("--price", "ml.inf2.xlarge"),
            "--price must be TYPE=USD with a price above 0, such as ml.inf2.8xlarge=2.36, "
            "got 'ml.inf2.xlarge'",
        ),
        (("--price", "ml.inf2.xlarge=x"), "got 'ml.inf2.xlarge=x'"),
        (("rag",), r"has no section \[rag\]; it has chat"),
        (("--diff",), "does not exist; run: tokenmill plan --write"),
    ],
)
def test_fails_for_options_that_contradict(
    run: Callable[..., Result], settings_file: SettingsFile, arguments: tuple[str, ...], message: str
) -> None:
    """One sentence each, exit code 2."""
    settings_file()
    failed = run(*arguments)
    with pytest.raises(TokenmillError, match=message) as caught:
        raise failed.exception or AssertionError("it succeeded")
    assert caught.value.exit_code == 2


def test_fails_for_an_unknown_stack_on_the_command_line(run: Callable[..., Result]) -> None:
    """Without a file, too."""
    assert isinstance(run("chet", "--rps", "1").exception, SettingsError)
    assert "does not exist" in str(run("chat").exception)


def test_the_planner_is_light() -> None:
    """No CDK, no SDK, no NumPy behind `import tokenmill.planner`; benchmarks/ has its cost."""
    code = (
        "import sys; import tokenmill.planner; "
        "print(' '.join(sorted({m.split('.')[0] for m in sys.modules})))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"aws_cdk", "jsii", "boto3", "botocore", "numpy", "rich", "typer"} & set(shown.split())


def test_no_cell_of_the_table_is_cut_off(run: Callable[..., Result], settings_file: SettingsFile) -> None:
    """Whatever the terminal's width: a price that ends in dots is no price."""
    settings_file()
    shown = run("--instance", "ml.*", "--rps", "200").stdout
    assert "\u2026" not in shown
    assert re.search(r"ml\.g6e\.xlarge +\d+ with \d+ x 1 core +bfloat16 ", shown)


def test_a_queue_of_the_whole_peak_hour_is_said_so(
    run: Callable[..., Result], settings_file: SettingsFile
) -> None:
    """3,600,000 ms compare with nothing."""
    settings_file()
    shown = run("--instance", "ml.g5.xlarge", "--rps", "20").stdout
    assert "-1 h)" in shown
    assert "3,600,000" not in shown


def test_without_a_settings_file_the_missing_options_are_named(run: Callable[..., Result]) -> None:
    """Keys of a file that is not there would not help."""
    failed = run("--model", "Qwen/Qwen3-8B")
    assert isinstance(failed.exception, SettingsError)
    assert "missing key chat.region" in str(failed.exception)
    assert "there is no tokenmill.toml; write it, or give --model, --region, --rps" in str(failed.exception)
    other = run("--model", "Qwen/Qwen3-8B", "--region", "mars", "--rps", "1", "--input-tokens", "1")
    whole = ("--output-tokens", "1", "--ttft-ms", "900", "--itl-ms", "50")
    bad = run("--model", "Qwen/Qwen3-8B", "--region", "mars", "--rps", "1", "--input-tokens", "1", *whole)
    assert "there is no tokenmill.toml" in str(other.exception)
    assert str(bad.exception) == "chat.region must be an AWS region such as us-east-1, got 'mars'"


def test_a_trace_in_milliseconds_is_warned_of(
    run: Callable[..., Result], settings_file: SettingsFile
) -> None:
    """Its busiest hour has next to no requests."""
    folder = settings_file().parent
    rows = "".join(f"{n * 500},300,100\n" for n in range(500))
    (folder / "t.csv").write_text("arrival_s,input_tokens,output_tokens\n" + rows)
    shown = run("--trace", "t.csv").stdout
    assert "warning: the busiest hour of traffic.trace has 0.00222 requests/s" in shown
    assert "arrival_s is in seconds, not milliseconds" in shown
