"""A fake AWS, credentials for it, and the commands under test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from support_fake_aws import FakeAws, Resources, running
from tokenmill.cli import doctor, keys, lint, verify
from tokenmill.verification import component_stack, endpoints, front_door, gateway_lines, looking

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

    from support_commands import Run

SETTINGS = """\
[chat]
model = "Qwen/Qwen3-8B"
backend = "sagemaker"
region = "us-east-1"
[chat.traffic]
requests_per_second = 2
input_tokens = 1000
output_tokens = 200
[chat.slo]
ttft_ms = 2000
itl_ms = 60
percentile = 95
"""


@pytest.fixture
def run() -> Run:
    app = typer.Typer()
    for module in (doctor, keys, lint, verify):
        module.register(app)

    def invoke(*arguments: str, input: str | None = None) -> Result:
        return CliRunner().invoke(app, list(arguments), input=input)

    return invoke


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a settings file and nothing else, as the working directory, without the machine's AWS."""
    for name in (
        "AWS_PROFILE",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    (tmp_path / "tokenmill.toml").write_text(SETTINGS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fake_aws(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAws]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    for fake in running():
        monkeypatch.setenv("AWS_ENDPOINT_URL", fake.url)
        yield fake


@pytest.fixture
def resources(fake_aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> Resources:
    monkeypatch.setattr(looking, "METRIC_SECONDS", 0.05)
    monkeypatch.setattr(gateway_lines, "_LEFT_SECONDS", 0.05)
    monkeypatch.setattr(component_stack, "STACK_SECONDS", 0.2)
    monkeypatch.setattr(component_stack, "UPDATE_SECONDS", 0.2)
    monkeypatch.setattr(front_door, "SECONDS_BETWEEN", 0.05)
    monkeypatch.setattr(endpoints, "_COMPONENT_SECONDS", 0.2)
    monkeypatch.setattr(endpoints, "_ENDPOINT_SECONDS", 0.2)
    return Resources(fake_aws)
