"""Unpack the gateway function's pinned, pure Python libraries into the folder of its Lambda layer.

The wheels are fetched by pip with their hashes checked and unpacked as they are: every user deploys the
same bytes. A CycloneDX bill of materials lies beside them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements" / "gateway.txt"
LAYER = ROOT / "constructs" / "tokenmill" / "gateway" / "_layer"
SBOM_NAME = "sbom.cdx.json"
STAMP = "tokenmill:requirements-sha256"


def vendor(*, requirements: Path = REQUIREMENTS, layer: Path = LAYER) -> Path:
    """Fill the layer folder, unless it already holds exactly these requirements.

    Args:
        requirements: A pip requirements file in which every line is pinned and hashed.
        layer: The folder to fill: `python/` with the libraries, and the bill of materials.

    Returns:
        The path of the bill of materials.

    Raises:
        ValueError: A wheel is not pure Python.
        subprocess.CalledProcessError: pip could not fetch the wheels.
    """
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    sbom = layer / SBOM_NAME
    if _vendored(sbom) == digest:
        return sbom
    with tempfile.TemporaryDirectory() as scratch:
        wheels = _fetch(requirements, Path(scratch) / "wheels")
        staging = Path(scratch) / "layer"
        components = [_unpack(wheel, staging / "python") for wheel in wheels]
        staging.joinpath(SBOM_NAME).write_text(json.dumps(_bill(components, digest), indent=2) + "\n")
        shutil.rmtree(layer, ignore_errors=True)
        shutil.copytree(staging, layer)
    return sbom


def _vendored(sbom: Path) -> str | None:
    if not sbom.is_file():
        return None
    properties = json.loads(sbom.read_text())["metadata"]["properties"]
    return next((entry["value"] for entry in properties if entry["name"] == STAMP), None)


def _fetch(requirements: Path, folder: Path) -> list[Path]:
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes",
         "--only-binary", ":all:", "--dest", str(folder), "--requirement", str(requirements)],
        check=True,
    )  # fmt: skip
    wheels = sorted(folder.glob("*.whl"))
    impure = [wheel.name for wheel in wheels if not wheel.name.endswith("-none-any.whl")]
    if impure:
        raise ValueError(f"the layer takes pure Python wheels only, got {', '.join(impure)}")
    return wheels


def _unpack(wheel: Path, target: Path) -> dict[str, object]:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
        metadata_name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(metadata_name).decode())
    name, version = metadata["Name"], metadata["Version"]
    component: dict[str, object] = {
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name.lower().replace('_', '-')}@{version}",
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(wheel.read_bytes()).hexdigest()}],
    }
    expression = metadata.get("License-Expression")
    if expression:
        component["licenses"] = [{"expression": expression}]
    return component


def _bill(components: list[dict[str, object]], digest: str) -> dict[str, object]:
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "name": "tokenmill-gateway-layer"},
            "properties": [{"name": STAMP, "value": digest}],
        },
        "components": components,
    }


if __name__ == "__main__":
    print(vendor().relative_to(ROOT))
