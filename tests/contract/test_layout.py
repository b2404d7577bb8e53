"""The layout that makes imports work from a clone, an editable install and a wheel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE_ROOTS = ("constructs", "stacks", "lambda")


def loaded_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    listing = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    return {name.split(".")[0] for name in listing.split()} | set(listing.split())


@pytest.mark.parametrize("root", SOURCE_ROOTS)
def test_a_source_root_is_not_a_package(root: str) -> None:
    """One __init__.py here would shadow the PyPI package `constructs` and break every import."""
    assert not (ROOT / root / "__init__.py").exists()


def test_constructs_is_the_package_from_pypi() -> None:
    """`import constructs` from the repository's root finds the CDK's package, not our folder."""
    code = "import constructs; print(constructs.__file__); constructs.Construct"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "site-packages" in found.stdout


@pytest.mark.parametrize(
    "statement",
    ["import tokenmill", "import tokenmill.core", "import tokenmill.planner", "import tokenmill.cli"],
)
def test_importing_the_pure_layers_leaves_the_cdk_unloaded(statement: str) -> None:
    """Planning and the command line never start the jsii kernel."""
    assert loaded_after(statement).isdisjoint({"aws_cdk", "jsii", "constructs"})


def test_the_runtime_imports_nothing_of_tokenmill() -> None:
    """What runs in Lambda is its own package: the wheel's other layers are not deployed."""
    offenders = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in (ROOT / "lambda").rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if line.strip().startswith(
            ("import tokenmill.", "from tokenmill.", "from tokenmill import", "import tokenmill ")
        )
        or line.strip() == "import tokenmill"
    ]
    assert offenders == []


def test_every_package_is_typed() -> None:
    """py.typed lies in each package that the wheel ships."""
    for package in ("constructs/tokenmill", "stacks/tokenmill_stacks", "lambda/tokenmill_runtime"):
        assert (ROOT / package / "py.typed").is_file()


LAYERS = [
    {"cli", "cost", "local", "lint", "doctor", "verification"},
    {
        "batch",
        "bedrock",
        "customization",
        "endpoints",
        "gateway",
        "scaling",
        "observability",
        "security",
    },
    {"planner"},
    {"core"},
]


def test_layers_import_downwards_only() -> None:
    """A layer imports what stands below it, never what stands above."""
    level = {name: depth for depth, names in enumerate(LAYERS) for name in names}
    package = ROOT / "constructs" / "tokenmill"
    offenders = []
    for path in package.rglob("*.py"):
        here = path.relative_to(package).parts[0]
        if here not in level:
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            words = line.split()
            if len(words) > 1 and words[0] in ("from", "import") and words[1].startswith("tokenmill."):
                target = words[1].split(".")[1]
                if level.get(target, len(LAYERS)) < level[here]:
                    offenders.append(f"{path.relative_to(ROOT)}:{number} imports {target}")
    assert offenders == []


def test_every_layer_folder_is_known() -> None:
    """A new folder under tokenmill/ takes its place on the layer map above."""
    folders = {
        path.name
        for path in (ROOT / "constructs" / "tokenmill").iterdir()
        if path.is_dir() and path.name != "__pycache__"
    }
    assert folders <= set().union(*LAYERS)
