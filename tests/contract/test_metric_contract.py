"""The metric contract: what the functions emit and what the templates read are one list."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support_runtime import FakeAws, Ticks, gateway_config
from tokenmill_runtime import aws as aws_clients
from tokenmill_runtime import functions, heartbeat, metric_contract
from tokenmill_runtime.gateway.metering import Meters, Usage

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = ROOT / "lambda" / "tokenmill_runtime"
NAMES = {metric.name for metric in metric_contract.METRICS}


def published_by(publisher: str) -> set[str]:
    return {metric.name for metric in metric_contract.METRICS if publisher in metric.publisher}


def test_every_metric_is_defined_once_and_in_full() -> None:
    """Name, unit, publisher, statistic, resolution, description."""
    assert len(NAMES) == len(metric_contract.METRICS) >= 13
    for metric in metric_contract.METRICS:
        assert metric.publisher and set(metric.publisher) <= {"gateway", "heartbeat", "units"}
        assert metric.storage_resolution in (1, 60)
        assert metric.description and metric.description[0].islower() and not metric.description.endswith(".")
        assert metric_contract.BY_NAME[metric.name] is metric


def test_each_constant_names_a_metric() -> None:
    """Constants are what others import."""
    constants = {
        value
        for name, value in vars(metric_contract).items()
        if name.isupper() and isinstance(value, str) and name not in ("NAMESPACE", "TARGET_DIMENSION")
    }
    assert constants == NAMES
    assert (metric_contract.NAMESPACE, metric_contract.TARGET_DIMENSION) == ("tokenmill", "Target")


def test_the_gateway_publishes_exactly_its_metrics() -> None:
    """A request with everything in it touches every metric of the gateway, and no other exists."""
    ticks, lines = Ticks(), []
    meter = Meters(clock=ticks.clock(), emit=lambda line: lines.append(json.loads(line))).start(
        gateway_config().models[1], input_tokens=5, request_id="r", arrived=ticks.now
    )
    meter.overflow()
    for _ in range(3):
        meter.text("a", single_token=True)
        ticks.now += 6
    meter.correct(Usage(input_tokens=6, output_tokens=3, cached_input_tokens=2, cache_write_tokens=1))
    meter.finish(failed=False, streamed=True)
    seen = {item["Name"] for line in lines for item in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    assert seen == published_by("gateway")


def test_the_heartbeat_publishes_exactly_its_metrics(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Zero demand and copies."""
    aws = FakeAws(copies={"comp": 1})
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    monkeypatch.setenv("TOKENMILL_HEARTBEAT", '{"targets": [{"target": "comp", "component": "comp"}]}')
    aws_clients.sagemaker.cache_clear()
    try:
        heartbeat.handler({}, None)
    finally:
        aws_clients.sagemaker().close()
        aws_clients.sagemaker.cache_clear()
        aws.close()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = {item["Name"] for line in lines for item in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    assert names == published_by("heartbeat")


def test_no_other_file_spells_a_metric_name() -> None:
    """Whoever needs a name imports it, so that a renamed metric cannot leave an alarm behind."""
    offenders = []
    for source in (
        source for root in ("lambda", "constructs/tokenmill", "stacks") for source in _sources(root)
    ):
        for node in ast.walk(ast.parse(source.read_text())):
            named = isinstance(node, ast.keyword) and node.arg in ("metric_name", "namespace")
            value = node.value if isinstance(node, ast.keyword) and named else None
            if isinstance(value, ast.Constant) and value.value in {*NAMES, metric_contract.NAMESPACE}:
                offenders.append(f"{source.relative_to(ROOT)}:{value.lineno} {value.value}")
    emitters = [RUNTIME / "heartbeat.py", *RUNTIME.glob("gateway/*.py")]
    for source in emitters:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Constant) and node.value in NAMES:
                offenders.append(f"{source.relative_to(ROOT)}:{node.lineno} {node.value}")
    assert offenders == []


def _sources(root: str) -> list[Path]:
    return [source for source in (ROOT / root).glob("**/*.py") if "_layer" not in source.parts]


def test_the_documentation_has_every_metric() -> None:
    """docs/metrics.md says the same as the contract."""
    rows = {}
    for line in (ROOT / "docs" / "metrics.md").read_text().splitlines():
        cells = [cell.strip(" `") for cell in line.split("|")]
        if len(cells) > 6 and cells[1] in NAMES:
            rows[cells[1]] = tuple(cells[2:6])
    assert rows == {
        metric.name: (
            metric.unit,
            metric.statistic,
            ", ".join(metric.publisher),
            f"{metric.storage_resolution} s",
        )
        for metric in metric_contract.METRICS
    }


@pytest.mark.parametrize("name", ["AUTHORIZER", "HEARTBEAT", "GATEWAY"])
def test_a_function_s_parts_are_exactly_what_it_imports(name: str, tmp_path: Path) -> None:
    """The handler imports from a folder with these files and no others, and none of them is spare."""
    function: functions.FunctionParts = getattr(functions, name)
    package = tmp_path / "tokenmill_runtime"
    package.mkdir()
    for part in ("__init__.py", *function.parts):
        source = RUNTIME / part
        if source.is_dir():
            shutil.copytree(source, package / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, package / part)
    module, attribute = re.split(r"[:.](?=[^:.]+$)", function.handler)
    loaded = "*(name for name in sys.modules if name.startswith('tokenmill'))"
    code = f"import sys, {module} as m; m.{attribute}; print({loaded})"
    if function.environment:
        code = f"import tokenmill_runtime.streaming.bootstrap; {code}"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    needed = {name.split(".")[1] for name in found.stdout.split() if "." in name}
    assert needed == {part.removesuffix(".py").removesuffix("/") for part in function.parts}


def test_the_wrapper_script_can_be_started() -> None:
    """Lambda executes it, so its mode is part of the package."""
    script = RUNTIME / "streaming" / "run.sh"
    assert script.stat().st_mode & 0o777 == 0o755
    assert script.read_text().startswith("#!/bin/sh\n")
    assert functions.GATEWAY.environment["AWS_LAMBDA_EXEC_WRAPPER"].endswith(
        "tokenmill_runtime/streaming/run.sh"
    )
