"""What a team that installs the wheel gets, in an environment that has never seen this clone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(command: list[str], *, cwd: Path, **environment: str) -> str:
    clean = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV", "VIRTUAL"))
    }
    done = subprocess.run(
        command, cwd=cwd, env={**clean, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--wheel-dir", str(folder), str(ROOT)],
        cwd=folder,
    )  # fmt: skip
    (built,) = folder.glob("tokenmill-*.whl")
    return built


@pytest.fixture(scope="session")
def fresh_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment with the wheel and its pinned dependencies, and nothing else."""
    folder = tmp_path_factory.mktemp("fresh")
    run([sys.executable, "-m", "venv", str(folder / "venv")], cwd=folder)
    python = folder / "venv" / "bin" / "python"
    # with their markers: one package may be pinned apart for each release of Python
    pins = re.findall(r"^([\w.-]+==[^\\\n]+)", (ROOT / "requirements" / "dev.txt").read_text(), re.MULTILINE)
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(pins) + "\n")
    run(
        [str(python), "-m", "pip", "install", "--quiet", "--constraint", str(constraints), str(wheel)],
        cwd=folder,
    )
    return python


def test_the_wheel_holds_three_packages_and_the_gateway_layer(wheel: Path) -> None:
    """Constructs, stacks and runtime are top-level packages; the layer lies inside with its SBOM."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"tokenmill", "tokenmill_stacks", "tokenmill_runtime"}
    assert "tokenmill/gateway/_layer/sbom.cdx.json" in names
    assert "tokenmill/gateway/_layer/python/starlette/applications.py" in names
    assert not [name for name in names if "__pycache__" in name]


def test_the_bill_of_materials_names_every_vendored_library(wheel: Path) -> None:
    """Each pinned library of the gateway stands in the SBOM with its version, hash and licence."""
    bill = json.loads(zipfile.ZipFile(wheel).read("tokenmill/gateway/_layer/sbom.cdx.json"))
    listed = {
        f"{entry['name']}=={entry['version']}".lower().replace("_", "-") for entry in bill["components"]
    }
    pinned = re.findall(
        r"^([\w.-]+==[\w.]+)", (ROOT / "requirements" / "gateway.txt").read_text(), re.MULTILINE
    )
    assert listed == set(pinned)
    assert all(entry["hashes"] and entry["licenses"] for entry in bill["components"])


def test_the_wheel_synthesizes_from_another_folder_with_its_lambda_assets(
    fresh_python: Path, tmp_path: Path
) -> None:
    """A user's own app, elsewhere, finds the functions and the layer inside the wheel."""
    for name in ("app.py", "acknowledgements.py", "tokenmill.toml", "chat.plan.json", "cdk.json"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "models").mkdir()
    for config in (ROOT / "models").glob("*.json"):
        (tmp_path / "models" / config.name).write_bytes(config.read_bytes())
    context = json.loads((ROOT / "cdk.json").read_text())["context"]
    context.pop("tokenmill:packs", None)
    run(
        [str(fresh_python), "app.py"],
        cwd=tmp_path,
        CDK_VALIDATION="false",
        CDK_OUTDIR=str(tmp_path / "cdk.out"),
        CDK_CONTEXT_JSON=json.dumps(context),
    )
    template = json.loads((tmp_path / "cdk.out" / "tokenmill-chat.template.json").read_text())
    types = {resource["Type"] for resource in template["Resources"].values()}
    assert {"AWS::SageMaker::InferenceComponent", "AWS::Lambda::LayerVersion"} <= types
    assets = {path.name for path in (tmp_path / "cdk.out").glob("asset.*/*")}
    assert {"tokenmill_runtime", "python"} <= assets
    (wrapper,) = set((tmp_path / "cdk.out").glob("asset.*/tokenmill_runtime/streaming/run.sh"))
    assert os.access(wrapper, os.X_OK)


def test_the_command_line_comes_with_the_wheel(fresh_python: Path, tmp_path: Path) -> None:
    """`tokenmill --help` lists the commands without the optional extras."""
    listing = run([str(fresh_python.parent / "tokenmill"), "--help"], cwd=tmp_path, COLUMNS="100")
    for command in ("plan", "up", "lint", "doctor", "keys", "verify"):
        assert command in listing
