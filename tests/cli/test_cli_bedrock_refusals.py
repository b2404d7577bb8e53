"""Bad input of Bedrock's commands ends with exit code 2 and a sentence, never with a traceback."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tokenmill.cli import main
from tokenmill.cli._session import session_in
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from pathlib import Path

BATCH = '[batch]\nregion = "us-east-1"\nbedrock_model = "amazon.nova-lite-v1:0"\n'
RUN = "[batch.run]\nrecords = 1000\ninput_tokens = 100\noutput_tokens = 10\ndeadline_hours = 48\n"


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["tokenmill", *arguments])
    with pytest.raises(SystemExit) as raised:
        main()
    assert raised.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("batch = 3\n", "batch must be a section"),
        (BATCH + 'bakend = "auto"\n' + RUN, "did you mean backend?"),
        (BATCH + RUN.replace("1000", "0"), "batch.run.records must be above 0"),
        (BATCH + RUN.replace("1000", "1.5"), "batch.run.records must be a whole number"),
        (BATCH + RUN.replace("48", "nan"), "batch.run.deadline_hours must be above 0"),
        (BATCH + RUN.replace("48", '"48"'), "batch.run.deadline_hours must be a number"),
        (BATCH + RUN + "[batch.token_prices]\nbatch_imput = 1\n", "did you mean batch_input?"),
        (BATCH.replace("nova-lite", "nova-light") + RUN, "nearest known: amazon.nova-lite-v1:0"),
        (BATCH.replace("amazon.", "eu.amazon.") + RUN, "cannot be called from us-east-1"),
        (
            BATCH.replace("amazon.nova-lite-v1:0", "arn:aws:bedrock:us-east-1:1:provisioned-model/x") + RUN,
            "does not say which model it runs",
        ),
        (
            BATCH.replace("amazon.", "arn:aws:bedrock:eu-west-1::foundation-model/amazon.") + RUN,
            "is in eu-west-1 and batch.region us-east-1",
        ),
        (BATCH.replace("us-east-1", "cn-north-1") + RUN, "cn-north-1 has no Amazon Bedrock"),
    ],
)
def test_plan_batch_fails_for(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: str,
    says: str,
) -> None:
    """What the stack would refuse is refused when it is planned."""
    (project / "tokenmill.toml").write_text(settings, encoding="utf-8")
    assert says in refused(monkeypatch, capsys, "plan", "batch")


@pytest.mark.parametrize(
    "command", [("jobs", "list"), ("jobs", "run", "commit-units"), ("jobs", "wait", "batch")]
)
def test_jobs_fail_for_a_region_that_is_none(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
) -> None:
    """boto3 itself would raise an error of its own."""
    assert "region is 'x y'" in refused(monkeypatch, capsys, *command, "--region", "x y")


def test_jobs_fail_for_a_profile_that_is_none(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the variable that names it."""
    monkeypatch.setenv("AWS_PROFILE", "nothing")
    assert "profile 'nothing' is not in the AWS configuration" in refused(monkeypatch, capsys, "jobs", "list")


def test_regions_of_every_partition_are_taken(project: Path) -> None:
    """Their names differ in form."""
    for region in ("us-east-1", "us-gov-west-1", "cn-north-1", "ap-southeast-7", "eusc-de-east-1"):
        assert session_in(region).region_name == region
    with pytest.raises(TokenmillError, match="no region is configured"):
        session_in("")
