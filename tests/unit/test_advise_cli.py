"""`tokenmill advise` on a settings file, on flags, and on bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from tokenmill.cli.advise import register
from tokenmill.core.errors import NoPlanError, SettingsError, TokenmillError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    Run = Callable[..., Result]
    SettingsFile = Callable[..., Path]

FLAGS = (
    "--region",
    "us-east-1",
    "--rps",
    "2",
    "--input-tokens",
    "512",
    "--output-tokens",
    "256",
    "--ttft-ms",
)
FLAGS = (*FLAGS, "2000", "--itl-ms", "60")
NOVA = ("--bedrock", "amazon.nova-pro-v1:0")
SECTION = """
[chat.advise]
bedrock_model = "amazon.nova-pro-v1:0"
shape = "office-hours"
operations = "part-time"
regions = ["us-east-1"]
unit = { input_tpm = 100000, output_tpm = 50000, usd_per_hour = 40 }
"""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run the command in an empty folder."""
    app = typer.Typer()
    register(app)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    return call


def fails(result: Result) -> str:
    assert isinstance(result.exception, TokenmillError), result.output
    return str(result.exception)


def test_the_section_compares_what_runs_with_what_is_named(run: Run, settings_file: SettingsFile) -> None:
    """`model` of [chat] on SageMaker, `bedrock_model` of [chat.advise] on Bedrock."""
    path = settings_file()
    path.write_text(path.read_text() + SECTION)
    shown = run("chat")
    assert shown.exit_code == 0, shown.exception
    assert "Traffic is office-hours: 217 hours a month" in shown.stdout
    assert "Bedrock on demand is the cheapest that meets every need" in shown.stdout
    assert "SageMaker on Inferentia2" in shown.stdout
    assert "Bedrock provisioned throughput" in shown.stdout
    assert "rule little-operations favours" in shown.stdout
    assert "Bedrock quota for the peak hour: 184,320 tokens a minute" in shown.stdout


def test_the_other_commands_accept_the_section(settings_file: SettingsFile) -> None:
    """Planning and synth read the same file and leave the table alone."""
    from tokenmill.core.settings import load_section

    path = settings_file()
    path.write_text(path.read_text() + SECTION)
    assert load_section(path, "chat").region == "us-east-1"


def test_flags_stand_over_the_file(run: Run, settings_file: SettingsFile) -> None:
    """Another model, another need, another rate."""
    path = settings_file()
    path.write_text(path.read_text() + SECTION)
    arguments = (
        "chat",
        "--json",
        "--bedrock",
        "amazon.nova-lite-v1:0",
        "--rps",
        "3",
        "--need",
        "shape=steady",
    )
    document = json.loads(run(*arguments, "--need", "control=engine", "--need", "control=lifecycle").stdout)
    assert document["bedrock_model"] == "amazon.nova-lite-v1:0"
    assert document["workload"]["requests_per_second"] == 3
    assert document["traffic"]["shape"] == "steady"
    assert document["need"]["control"] == ["engine", "lifecycle"]


def test_no_file_is_needed(run: Run) -> None:
    """Flags say everything; JSON carries the program."""
    document = json.loads(run(*NOVA, *FLAGS, "--json", "--need", "scale_to_zero=true").stdout)
    assert document["schema"] == 1
    assert document["open_model"] == ""
    assert document["recommendation"] == "bedrock-on-demand"
    assert "ChatStack" in document["code"]
    assert document["code_missing"] == ""
    assert document["traffic"]["scale_to_zero"] is True


def test_a_model_alone_is_planned_for_sagemaker(run: Run) -> None:
    """With prices and units of the user's own."""
    arguments = (
        "--model",
        "Qwen/Qwen3-8B",
        *FLAGS,
        "--instance",
        "ml.g6e.xlarge",
        "--price",
        "ml.g6e.xlarge=9",
    )
    document = json.loads(run(*arguments, "--json").stdout)
    assert document["prices"][0]["usd"] == 9
    assert document["recommendation"] == "sagemaker-l40s"
    assert "LlmEndpoint" in document["code"]


def test_a_bedrock_section_is_compared_with_an_open_model(run: Run, tmp_path: Path) -> None:
    """The other way round: [chat] runs on Bedrock."""
    (tmp_path / "tokenmill.toml").write_text(
        '[chat]\nmodel = "amazon.nova-pro-v1:0"\nbackend = "bedrock"\nregion = "us-east-1"\n'
        "[chat.traffic]\nrequests_per_second = 2\ninput_tokens = 512\noutput_tokens = 256\n"
        "[chat.slo]\nttft_ms = 2000\nitl_ms = 60\n"
        '[chat.advise]\nopen_model = "Qwen/Qwen3-8B"\n'
    )
    document = json.loads(run("chat", "--json").stdout)
    assert (document["bedrock_model"], document["open_model"]) == ("amazon.nova-pro-v1:0", "Qwen/Qwen3-8B")


def test_files_are_written(run: Run, tmp_path: Path) -> None:
    """Record, page and picture."""
    shown = run(*NOVA, *FLAGS, "--record", "a.md", "--chart", "a.html", "--chart", "a.png")
    assert shown.exit_code == 0
    assert (tmp_path / "a.md").read_text().startswith("# Serve amazon.nova-pro-v1:0")
    assert "<svg" in (tmp_path / "a.html").read_text()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "resource"),
    [
        (NOVA, "AWS::ApiGateway::RestApi"),
        (("--model", "Qwen/Qwen3-8B", "--instance", "ml.inf2.*"), "AWS::SageMaker::InferenceComponent"),
    ],
    ids=["bedrock", "sagemaker"],
)
def test_the_printed_program_synthesizes(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], resource: str
) -> None:
    """It runs as it is, and its template has what was recommended."""
    shown = run(*arguments, *FLAGS, "--code")
    assert shown.exit_code == 0, shown.exception
    done = subprocess.run(
        [sys.executable, "-c", shown.stdout],
        cwd=tmp_path,
        env={**os.environ, "CDK_OUTDIR": str(tmp_path / "out"), "CDK_VALIDATION": "false", **python_path()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (template,) = (tmp_path / "out").glob("*.template.json")
    kinds = {item["Type"] for item in json.loads(template.read_text())["Resources"].values()}
    assert resource in kinds


def python_path() -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(sys.path)}


def test_no_recommendation_ends_with_one(run: Run) -> None:
    """A message for people, a document for machines, the same exit code."""
    need = ("--need", "regions=eu-west-1")
    shown = run(*NOVA, *FLAGS, *need)
    assert isinstance(shown.exception, NoPlanError)
    assert "rejected" in shown.stdout
    assert "prompts may not be processed in the region asked for" in shown.stdout
    machine = run(*NOVA, *FLAGS, *need, "--json")
    assert machine.exit_code == 1
    assert json.loads(machine.stdout)["code"] is None


def test_close_calls_and_undocumented_rates_are_printed(run: Run) -> None:
    """What would decide, and what was assumed of the quota."""
    batch = ("--need", "shape=batch", "--need", "hours_per_month=20", "--need", "deadline_hours=48")
    shown = run("--bedrock", "qwen.qwen3-32b-v1:0", *FLAGS, *batch)
    assert "what would decide: how requests come" in shown.stdout
    assert "note: no burndown rate" in run("--bedrock", "us.anthropic.claude-opus-4-7", *FLAGS).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--chart", "a.svg"), "--chart must end in .png or .html, got 'a.svg'"),
        (("--need", "shape"), "--need must be KEY=VALUE"),
        (("--need", "shap=steady"), "unknown key chat.advise.shap; did you mean shape?"),
        (("--need", "zzz=1"), "unknown key chat.advise.zzz; allowed: customization"),
        (("--need", "shape=calm"), "chat.advise: traffic shape is 'calm'"),
        (("--need", "cached_share=a"), "chat.advise.cached_share must be a number, got 'a'"),
        (("--need", "max_tokens=1.5"), "chat.advise.max_tokens must be a whole number"),
        (("--need", "scale_to_zero=yes"), "chat.advise.scale_to_zero must be true or false"),
        (("--need", "operations="), "chat.advise.operations must be a text"),
        (
            ("--unit", "input_tpm=5"),
            "chat.advise.unit must have input_tpm, output_tpm, usd_per_hour, got input_tpm",
        ),
        (("--unit", "input_tpm=5,output_tpm=5,usd_per_hour=1"), "chat.advise: input_tpm is 5.0"),
        (("--unit", "fast"), "--unit must be NAME=NUMBER"),
        (("--token-price", "input=nan,output=1"), "--token-price must be NAME=NUMBER"),
        (("--token-price", "input=0.00025,output=0.00125"), "token price input is 0.00025"),
        (("--price", "ml.g6e.xlarge"), "--price must be TYPE=USD"),
        (("--model", "Qwen/Qwen3-9B"), "nearest in the catalog"),
        (("--bedrock", "amazon.nova-prp-v1:0"), "nearest known: amazon.nova-pro-v1:0"),
    ],
)
def test_fails_with_one_sentence(run: Run, arguments: tuple[str, ...], message: str) -> None:
    """The value, what is allowed, the way out."""
    said = fails(run(*NOVA, *FLAGS, *arguments))
    assert message in said
    assert said.count("\n") == 0


def test_fails_without_any_model(run: Run) -> None:
    """One sentence with both flags, since either is enough."""
    assert "name a Bedrock model (--bedrock), an open-weights model (--model)" in fails(run(*FLAGS))


def test_fails_on_a_settings_file_that_was_named_and_is_not_there(run: Run) -> None:
    """Only the default may be absent."""
    message = fails(run(*FLAGS, *NOVA, "--settings", "nope.toml"))
    assert "settings file nope.toml does not exist; name one that does" in message


def test_goals_that_look_like_seconds_are_noted(run: Run) -> None:
    """As `tokenmill plan` does."""
    result = run(*FLAGS, *NOVA, "--ttft-ms", "3")
    assert "note: slo.ttft_ms = 3 looks like seconds" in result.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[chat", "is not TOML"),
        ("chat = 3", "chat must be a section [chat], got 3"),
        ("[chat]\nadvise = 3", "chat.advise must be a table [chat.advise], got 3"),
        ('[chat.advise]\nregions = "us-east-1"', "chat.advise.regions must be a list of texts"),
        ("[chat.advise]\nunit = 3", "chat.advise.unit must be a table of numbers"),
        (
            "[chat.advise]\nunit = {}",
            "chat.advise.unit must have input_tpm, output_tpm, usd_per_hour, got nothing",
        ),
    ],
)
def test_fails_on_a_file_that_says_something_else(run: Run, tmp_path: Path, text: str, message: str) -> None:
    """The path or the key stands in the sentence."""
    (tmp_path / "tokenmill.toml").write_text(text)
    assert message in fails(run())


def test_every_mistake_of_the_table_is_told_at_once(run: Run, tmp_path: Path) -> None:
    """One line each."""
    (tmp_path / "tokenmill.toml").write_text("[chat.advise]\nshap = 1\ncontrol = 2\n")
    result = run()
    assert isinstance(result.exception, SettingsError)
    assert len(result.exception.problems) == 2
    (tmp_path / "tokenmill.toml").write_text('[chat.advise]\noperations = "x"\nshape = "y"\n')
    assert len(fails(run()).splitlines()) == 2


def test_fails_on_a_file_that_is_no_text(run: Run, tmp_path: Path) -> None:
    """Bytes that are not UTF-8."""
    (tmp_path / "tokenmill.toml").write_bytes(b"\xff\xfe\x00")
    assert "is not TOML" in fails(run())


def test_the_advice_loads_without_matplotlib_or_numpy() -> None:
    """Only a PNG pays for Matplotlib, and the package itself stays pure."""
    code = (
        "import sys; import tokenmill.planner.advise, tokenmill.cli.advise; "
        "print([name for name in ('matplotlib', 'numpy', 'aws_cdk') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **python_path()},
    )
    assert done.stdout.strip() == "[]"
