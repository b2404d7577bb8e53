"""Every fenced example in README.md and docs/ runs, parses or names commands that exist."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# tests/e2e runs these, where a cloud is up
NEEDS_CLOUD = "<!-- runs against the local cloud -->\n"
KNOWN_LANGUAGES = {"python", "toml", "json", "sh", "text", "console"}


@dataclass(frozen=True)
class Example:
    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def examples(*languages: str) -> list[Example]:
    found = []
    for page in PAGES:
        content = page.read_text()
        for match in FENCE.finditer(content):
            before = content[: match.start()]
            if before.rstrip("\n").endswith(NEEDS_CLOUD.rstrip("\n")):
                continue
            line = before.count("\n") + 1
            found.append(Example(page, line, match[1], match[2]))
    return [example for example in found if not languages or example.language in languages]


def test_every_fence_names_a_language_that_is_checked() -> None:
    """A block without a known language would escape the checks below."""
    assert [str(example) for example in examples() if example.language not in KNOWN_LANGUAGES] == []


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that a user's project has."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("tokenmill.toml", "chat.plan.json", "cdk.json"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    (folder / "models").mkdir()
    for config in (ROOT / "models").glob("*.json"):
        (folder / "models" / config.name).write_bytes(config.read_bytes())
    return folder


@pytest.mark.parametrize("example", examples("python"), ids=str)
def test_a_python_example_runs(example: Example, project: Path) -> None:
    """Each block is a whole program: it runs alone, in a project's folder, and ends well."""
    done = subprocess.run(
        [sys.executable, "-c", example.text],
        cwd=project,
        env={
            **os.environ,
            "CDK_VALIDATION": "false",
            "CDK_OUTDIR": str(project / f"out-{example.page.stem}-{example.line}"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("example", examples("toml", "json"), ids=str)
def test_a_data_example_parses(example: Example) -> None:
    """Settings and documents shown are well-formed."""
    assert tomllib.loads(example.text) if example.language == "toml" else json.loads(example.text)


@pytest.mark.parametrize(
    "example", [each for each in examples("toml") if "[batch]" in each.text.splitlines()], ids=str
)
def test_a_shown_batch_section_is_one_that_is_read(example: Example, tmp_path: Path) -> None:
    """Its keys, values and model names pass the reader of the settings."""
    from tokenmill.core.settings import load_batch

    path = tmp_path / "tokenmill.toml"
    path.write_text(example.text)
    assert load_batch(path) is not None


def shown_commands() -> list[tuple[str, str]]:
    commands = []
    for example in examples("sh", "console"):
        for line in example.text.splitlines():
            text = line.removeprefix("$ ") if example.language == "console" else line
            if example.language == "console" and not line.startswith("$ "):
                continue
            words = shlex.split(text, comments=True)
            if words and Path(words[0]).name == "tokenmill":
                commands.append((str(example), shlex.join(words[1:])))
    return commands


@pytest.mark.parametrize(("place", "arguments"), shown_commands(), ids=lambda value: value)
def test_a_shown_command_exists_with_its_options(place: str, arguments: str) -> None:
    """The command line shown names a command, and options, that the program has."""
    from typer.main import get_command

    from tokenmill.cli import build_app

    command = get_command(build_app())
    words = shlex.split(arguments)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert not getattr(command, "commands", {}), f"{place}: {arguments} names no command"
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    shown = {word.split("=")[0] for word in words if word.startswith("-")}
    assert shown <= known, f"{place}: {arguments} has unknown options {sorted(shown - known)}"


def test_links_between_pages_lead_somewhere() -> None:
    """A relative link in README.md or docs/ names a file that is there."""
    broken = [
        f"{page.relative_to(ROOT)} -> {target}"
        for page in [*PAGES, *(ROOT / "docs" / "decisions").glob("*.md")]
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []
