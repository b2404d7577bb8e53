"""The request for more tokens a minute, and the command that writes it."""

from __future__ import annotations

import json
import math
import random
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

from tokenmill.cli import doctor
from tokenmill.core.errors import TokenmillError
from tokenmill.core.quota_request import QuotaRequest, peak_factor
from tokenmill.core.workload import TokenSpread, Workload

if TYPE_CHECKING:
    from pathlib import Path

LOAD = Workload(requests_per_second=2, input_tokens=1000, output_tokens=200)
SONNET = "us.anthropic.claude-sonnet-4-20250514-v1:0"
SETTINGS = """\
[chat]
model = "{model}"
backend = "{backend}"
region = "us-west-2"
[chat.traffic]
requests_per_second = 2
input_tokens = 1000
output_tokens = 200
[chat.slo]
ttft_ms = 2000
itl_ms = 60
percentile = 95
[chat.limits]
context_tokens = 8192
"""


def request(workload: Workload = LOAD, **changes: Any) -> QuotaRequest:
    asked: dict[str, Any] = {"model": SONNET, "region": "us-west-2", "max_tokens": 800}
    return QuotaRequest.from_workload(workload, **{**asked, **changes})


def test_the_numbers_by_hand() -> None:
    """Steady is the mean minute, peak the busiest of a thousand, and the ask has a fifth to spare."""
    found = request()
    assert found.steady.requests_per_minute == 120
    assert found.steady.reserved_tpm == 120 * 1800
    assert found.steady.settled_tpm == 120 * 2000
    factor = 1 + 3.0902 / math.sqrt(120)
    assert found.peak.requests_per_minute == pytest.approx(120 * factor, rel=1e-4)
    needed = 120 * factor * 2000
    assert found.desired_tpm == math.ceil(needed * 1.2 / 10_000) * 10_000


def test_the_peak_is_the_busiest_minute_of_a_thousand() -> None:
    """Against Poisson arrivals drawn by chance: about one minute of a thousand is above it."""
    draw = random.Random(7)
    rate, minutes = 1.0, 20_000
    counts = []
    for _ in range(minutes):
        passed, count = draw.expovariate(rate), 0
        while passed < 60:
            passed += draw.expovariate(rate)
            count += 1
        counts.append(count)
    workload = Workload(requests_per_second=rate, input_tokens=1, output_tokens=1)
    above = sum(count > 60 * peak_factor(workload) for count in counts)
    # The normal approximation misses Poisson's skew by a factor of about two at this rate.
    assert 0.0005 < above / minutes < 0.004


def test_burstier_arrivals_ask_for_more() -> None:
    """The peak grows with the variation between arrivals; the steady state does not."""
    calm, bursty = request(), request(burst(3.0))
    assert bursty.peak.needed_tpm > calm.peak.needed_tpm
    assert bursty.steady == calm.steady


def burst(burstiness: float) -> Workload:
    return Workload(requests_per_second=2, input_tokens=1000, output_tokens=200, burstiness=burstiness)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("amazon.nova-lite-v1:0", "On-demand model inference tokens per minute for"),
        (SONNET, "Cross-region model inference tokens per minute for"),
        ("global.anthropic.claude-sonnet-4-5-20250929-v1:0", "Global cross-region model inference tokens"),
    ],
)
def test_the_quota_that_a_model_counts_against(model: str, name: str) -> None:
    """Profiles have quotas of their own."""
    found = request(model=model)
    assert found.quota_name.startswith(name)
    assert f"starts_with(QuotaName, '{found.quota_name}')" in found.commands[0]
    assert f"--desired-value {found.desired_tpm}" in found.commands[1]
    assert all("--region us-west-2" in command for command in found.commands)


def test_the_text_has_what_support_asks_for() -> None:
    """Each question of the support case, with its answer."""
    spread = TokenSpread.lognormal(p50=10_000, p95=30_000)
    load = Workload(requests_per_second=2, input_tokens=12_000, output_tokens=200, input_spread=spread)
    text = request(load).to_markdown()
    rows = dict(
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in text.splitlines()
        if line.startswith("| ") and line.count("|") == 3
    )
    assert rows["Steady state TPM"] == f"{120 * 12_200:,}"
    assert rows["Steady state RPM"] == "120"
    assert rows["Average input tokens"] == "12,000"
    assert rows["Average output tokens"] == "200"
    assert rows["Burndown of an output token"] == "5"
    # ln(2.5) over ln(3) / 1.645 is 1.372 standard deviations: 8.5 percent are above.
    assert rows["Share of requests above 25,000 input tokens"] == "8.5%"
    assert {"Peak state TPM", "Peak state RPM", "max_tokens of a request"} <= set(rows)


def test_without_a_spread_the_share_of_long_prompts_is_not_made_up() -> None:
    """It is said to be unknown."""
    assert request().long_prompt_share is None
    assert "| Share of requests above 25,000 input tokens | not known |" in request().to_markdown()
    same = TokenSpread(p50=30_000, p95=30_000, cv=0)
    long = Workload(requests_per_second=1, input_tokens=30_000, output_tokens=1, input_spread=same)
    assert request(long).long_prompt_share == 1


def test_the_document_is_json() -> None:
    """For a pipeline."""
    found = json.loads(json.dumps(request().to_json()))
    assert (found["schema"], found["model_id"], found["desired_tpm"]) == (1, SONNET, request().desired_tpm)


def test_an_arn_without_a_model_is_refused() -> None:
    """Its quota cannot be told."""
    arn = "arn:aws:bedrock:us-west-2:111122223333:application-inference-profile/abc"
    with pytest.raises(TokenmillError, match="does not say which model it runs"):
        request(model=arn)


def run(tmp_path: Path, *arguments: str, model: str = SONNET, backend: str = "bedrock") -> Any:
    """The command on a settings file."""
    path = tmp_path / "tokenmill.toml"
    path.write_text(SETTINGS.format(model=model, backend=backend))
    app = typer.Typer()
    doctor.register(app)
    return CliRunner().invoke(app, ["--settings", str(path), "--quota-request", *arguments])


def test_the_command_writes_the_request(tmp_path: Path) -> None:
    """From the section's own traffic, without asking any account."""
    result = run(tmp_path)
    assert result.exit_code == 0
    assert result.stdout == request().to_markdown()
    assert json.loads(run(tmp_path, "--json").stdout) == json.loads(json.dumps(request().to_json()))


def test_the_command_refuses_a_section_without_token_quota(tmp_path: Path) -> None:
    """Instances have quotas of another kind."""
    result = run(tmp_path, model="Qwen/Qwen3-8B", backend="sagemaker")
    assert isinstance(result.exception, TokenmillError)
    assert "section 'chat' runs on 'sagemaker', which has no token quota" in str(result.exception)
