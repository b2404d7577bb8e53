"""app.py as a user runs it: settings in, an assembly or one clean message out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from support_stack import ROOT, recommended_context

if TYPE_CHECKING:
    from pathlib import Path

FILES = ("app.py", "acknowledgements.py", "tokenmill.toml", "chat.plan.json", "cdk.json")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with what a user's project has."""
    for name in FILES:
        shutil.copy2(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "models", tmp_path / "models")
    return tmp_path


def run(
    project: Path, *, wrapper: tuple[str, ...] = (), environment: dict[str, str] | None = None, **context: Any
) -> subprocess.CompletedProcess[str]:
    """Run app.py with CDK context, without CloudFormation validation."""
    flags = {**recommended_context(), **{f"tokenmill:{key}": value for key, value in context.items()}}
    variables = {
        **os.environ,
        "CDK_CONTEXT_JSON": json.dumps(flags),
        "CDK_OUTDIR": str(project / "cdk.out"),
        "CDK_VALIDATION": "false",
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "18,20",
        **(environment or {}),
    }
    command = [*wrapper, sys.executable, "app.py"]
    return subprocess.run(command, cwd=project, env=variables, capture_output=True, text=True, check=False)


def test_the_committed_project_synthesizes(project: Path) -> None:
    """A clone needs no step before it."""
    found = run(project)
    assert found.returncode == 0, found.stderr
    template = json.loads((project / "cdk.out" / "tokenmill-chat.template.json").read_text())
    assert "BaseUrl" in template["Outputs"]


def test_context_overrides_a_key(project: Path) -> None:
    """What is not an input of the plan can change without a new plan."""
    found = run(project, **{"chat.compliance": "true"})
    assert found.returncode == 0, found.stderr
    template = (project / "cdk.out" / "tokenmill-chat.template.json").read_text()
    assert "AWS::Backup::BackupPlan" in template


def test_fails_with_every_wrong_setting_at_once(project: Path) -> None:
    """Each with key, bad value and what is allowed; no traceback; exit code 2."""
    found = run(project, **{"chat.region": "mars", "chat.slo.ttft_ms": "-1", "chat.profile": "test"})
    assert found.returncode == 2
    assert sorted(found.stderr.splitlines()) == [
        "error: chat.profile must be one of dev, prod, got 'test'",
        "error: chat.region must be an AWS region such as us-east-1, got 'mars'",
        "error: chat.slo.ttft_ms must be above 0, got -1",
    ]
    assert not (project / "cdk.out" / "manifest.json").exists()


def test_fails_when_the_inputs_changed_since_the_plan(project: Path) -> None:
    """The fleet is never planned again behind the user's back; the command stands in the message."""
    found = run(project, **{"chat.traffic.requests_per_second": "99"})
    assert found.returncode == 2
    assert "error: plan file" in found.stderr
    assert "accept it with: tokenmill plan chat --write" in found.stderr
    assert "Traceback" not in found.stderr


def test_fails_without_a_plan_file(project: Path) -> None:
    """The message names the command that writes it."""
    (project / "chat.plan.json").unlink()
    found = run(project)
    assert (found.returncode, "Traceback" in found.stderr) == (2, False)
    assert "does not exist; run: tokenmill plan chat --write" in found.stderr


def test_fails_on_malformed_toml(project: Path) -> None:
    """Line and column, no traceback."""
    (project / "tokenmill.toml").write_text("[chat\n")
    found = run(project)
    assert (found.returncode, "Traceback" in found.stderr) == (2, False)
    assert "is not TOML" in found.stderr
    assert "line 1" in found.stderr


def test_fails_without_its_section(project: Path) -> None:
    """The sections that there are stand in the message."""
    settings = project / "tokenmill.toml"
    settings.write_text(settings.read_text().replace("[chat", "[rag"))
    found = run(project)
    message = f"error: {settings} has no section [chat] or [batch]; it has rag\n"
    assert (found.returncode, found.stderr) == (2, message)


def test_fails_with_1_when_the_plan_has_no_candidate(project: Path) -> None:
    """Nothing is wrong with the input; nothing meets the goals."""
    path = project / "chat.plan.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "candidates": []}))
    found = run(project)
    assert (found.returncode, found.stderr) == (
        1,
        "error: the plan of chat has no candidate; write it again with: tokenmill plan chat --write\n",
    )


def test_fails_for_a_pack_that_does_not_exist(project: Path) -> None:
    """The allowed names are listed."""
    found = run(project, packs=["AwsSolution"])
    assert found.returncode == 2
    assert found.stderr.startswith("error: no rule pack is called 'AwsSolution'; allowed are AwsSolutions, ")


def test_synth_needs_neither_network_nor_docker(project: Path) -> None:
    """In a namespace without interfaces, with a PATH that has node alone."""
    alone = project / "bin"
    alone.mkdir()
    node = shutil.which("node")
    assert node is not None
    (alone / "node").symlink_to(node)
    unshare = shutil.which("unshare")
    namespace = (unshare, "--map-root-user", "--net") if unshare else ()
    if not namespace or subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets no process leave its network namespace")
    found = run(project, wrapper=namespace, environment={"PATH": str(alone)}, **{"chat.compliance": "true"})
    assert found.returncode == 0, found.stderr


def test_a_section_batch_is_a_stack_of_its_own(project: Path) -> None:
    """From its committed choice; without one, the message names the command that writes it."""
    settings = project / "tokenmill.toml"
    batch = (ROOT / "examples" / "nightly_batch" / "tokenmill.toml").read_text(encoding="utf-8")
    settings.write_text(settings.read_text(encoding="utf-8") + batch, encoding="utf-8")
    missing = run(project)
    assert missing.returncode == 2
    assert "does not exist; write it with: tokenmill plan batch --write" in missing.stderr
    shutil.copy2(ROOT / "examples" / "nightly_batch" / "batch.plan.json", project)
    found = run(project)
    assert found.returncode == 0, found.stderr
    template = json.loads((project / "cdk.out" / "tokenmill-batch.template.json").read_text(encoding="utf-8"))
    assert template["Metadata"]["tokenmill"]["kind"] == "bedrock-batch"
    assert (project / "cdk.out" / "tokenmill-chat.template.json").exists()
