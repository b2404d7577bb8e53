"""What is missing on a machine is said with the command that mends it; every piece at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tokenmill.core.errors import SettingsError, TokenmillError
from tokenmill.local import environment
from tokenmill.local.processes import listener

if TYPE_CHECKING:
    from pathlib import Path


def install_cdk(folder: Path, version: str) -> None:
    package = folder / "node_modules" / "aws-cdk"
    package.mkdir(parents=True)
    (package / "package.json").write_text(json.dumps({"version": version}))
    binary = folder / "node_modules" / ".bin" / "cdk"
    binary.parent.mkdir()
    binary.touch()


def install_node(folder: Path, version: str) -> None:
    node = folder / "node"
    node.write_text(f"#!/bin/sh\necho {version}\n")
    node.chmod(0o755)


def test_fails_when_node_is_not_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "node is not on PATH; install Node.js 20 or newer" in str(environment.node_problem())


def test_fails_when_node_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_node(tmp_path, "v18.19.0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "is v18.19.0, the CDK CLI needs 20 or newer" in str(environment.node_problem())


@pytest.mark.parametrize("version", ["2.1147.9", "3.0.0", "1.204.0"])
def test_fails_when_the_cdk_cli_is_too_old_or_the_misleading_3(tmp_path: Path, version: str) -> None:
    """npm's 3.0.0 is an older build that cannot read our assemblies."""
    install_cdk(tmp_path, version)
    assert f"is {version}, it must be 2.x from 2.1148.0" in str(environment.cdk_problem(tmp_path))


def test_the_pinned_cdk_cli_is_fine(tmp_path: Path) -> None:
    install_cdk(tmp_path, "2.1148.1")
    assert environment.cdk_problem(tmp_path) is None


def test_every_missing_piece_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(environment, "_PACKAGES", ("ministack", "no_such_package"))
    with pytest.raises(SettingsError) as raised:
        environment.check_environment(tmp_path)
    assert len(raised.value.problems) == 3
    assert raised.value.exit_code == 2
    assert "npm install aws-cdk@2.1148.1" in raised.value.problems[1]
    assert "python -m pip install 'tokenmill[local]'" in raised.value.problems[2]


def test_fails_for_a_port_in_use_with_the_port_and_the_way_out() -> None:
    taken = listener()
    port = taken.getsockname()[1]
    try:
        with pytest.raises(TokenmillError, match=f"port {port} on 127.0.0.1 .* --port"):
            listener(port)
    finally:
        taken.close()


def test_fails_when_node_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = tmp_path / "node"
    node.write_text("#!/nonexistent/interpreter\n")
    node.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert f"{node} does not start" in str(environment.node_problem())


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 2}'])
def test_fails_when_the_cli_has_a_damaged_package_json(tmp_path: Path, text: str) -> None:
    install_cdk(tmp_path, "2.1148.1")
    (tmp_path / "node_modules" / "aws-cdk" / "package.json").write_text(text)
    assert "package.json names no version; run: npm install" in str(environment.cdk_problem(tmp_path))


def test_the_cli_of_a_folder_above_is_found_before_that_of_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `npx cdk` does: an example has no node_modules of its own."""
    monkeypatch.setenv("PATH", str(tmp_path / "node_modules" / ".bin"))
    install_cdk(tmp_path, "2.1148.1")
    example = tmp_path / "project" / "example"
    example.mkdir(parents=True)
    install_cdk(tmp_path / "project", "2.1150.0")
    assert environment.find_cdk(example) == tmp_path / "project" / "node_modules" / ".bin" / "cdk"
    assert environment.cdk_problem(example) is None


@pytest.mark.parametrize(
    ("says", "problem"), [("2.1148.1 (build 1)", None), ("2.100.0 (build 1)", "is 2.100.0")]
)
def test_a_cli_on_path_without_a_package_beside_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, problem: str | None
) -> None:
    """A version manager's cdk is a program of its own."""
    program = tmp_path / "bin" / "cdk"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    example = tmp_path / "example"
    example.mkdir()
    found = environment.cdk_problem(example)
    assert found is None if problem is None else problem in str(found)


def test_fails_without_any_cli_with_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert f"no node_modules of {tmp_path} or a folder above it" in str(environment.cdk_problem(tmp_path))
