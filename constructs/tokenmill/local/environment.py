"""What `tokenmill up` needs on the machine, and the command that mends each missing piece."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path

from tokenmill.core.errors import SettingsError, TokenmillError

MINIMUM_NODE = 20
MINIMUM_CDK = (2, 1148, 0)
INSTALL_CDK = "npm install aws-cdk@2.1148.1"
_PACKAGES = ("ministack", "hypercorn", "uvicorn", "starlette", "httpx", "cryptography")


def check_environment(directory: Path) -> None:
    """Refuse a machine or a project on which the local cloud cannot run; every missing piece at once.

    Args:
        directory: The project's folder.

    Raises:
        SettingsError: One sentence for each missing piece, with the command that mends it.
    """
    problems = [
        problem for problem in (node_problem(), cdk_problem(directory), *packages_problems()) if problem
    ]
    if problems:
        raise SettingsError(problems)


def node_problem() -> str | None:
    """Return what is wrong with Node.js; nothing when it is fine."""
    node = shutil.which("node")
    if node is None:
        return f"node is not on PATH; install Node.js {MINIMUM_NODE} or newer, for example: nvm install 22"
    try:
        asked = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{node} does not start ({error.strerror}); run: nvm install 22"
    shown = asked.stdout.strip()
    match = re.match(r"v(\d+)\.", shown)
    if match is None or int(match.group(1)) < MINIMUM_NODE:
        return (
            f"{node} is {shown or 'of an unknown version'}, the CDK CLI needs {MINIMUM_NODE} or newer; "
            "run: nvm install 22"
        )
    return None


def cdk_problem(directory: Path) -> str | None:
    """Return what is wrong with the CDK CLI that a project runs; nothing when it is fine.

    Args:
        directory: The project's folder.
    """
    found = find_cdk(directory)
    if found is None:
        return (
            f"the CDK CLI is in no node_modules of {directory} or a folder above it, and cdk is not on PATH; "
            f"run: {INSTALL_CDK}"
        )
    package = found.resolve().parent.parent / "package.json"
    if found.parent.name == ".bin":
        package = found.parent.parent / "aws-cdk" / "package.json"
    shown = _version_in(package) if package.exists() else _version_said_by(found)
    if shown is None:
        return f"{package if package.exists() else found} names no version; run: {INSTALL_CDK}"
    version = tuple(int(part) for part in re.findall(r"\d+", shown)[:3])
    if version < MINIMUM_CDK or version[0] != MINIMUM_CDK[0]:
        wanted = ".".join(map(str, MINIMUM_CDK))
        return f"the CDK CLI {found} is {shown}, it must be 2.x from {wanted}; run: {INSTALL_CDK}"
    return None


def _version_in(package: Path) -> str | None:
    try:
        document = json.loads(package.read_text())
    except ValueError:
        return None
    version = document.get("version") if isinstance(document, dict) else None
    return version if isinstance(version, str) else None


def _version_said_by(cdk: Path) -> str | None:
    """Ask a cdk that stands beside no package, such as a version manager's, for its version."""
    try:
        asked = subprocess.run([cdk, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    match = re.match(r"\d+\.\d+\.\d+", asked.stdout.strip())
    return match.group() if match else None


def packages_problems() -> list[str]:
    """Return which Python packages of the local cloud are missing or of the wrong version."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        return [
            f"python packages missing: {', '.join(missing)}; run: python -m pip install 'tokenmill[local]'"
        ]
    from tokenmill.local.ministack_seams import require_pinned_version

    try:
        require_pinned_version()
    except TokenmillError as error:
        return [str(error)]
    return []


def find_cdk(directory: Path) -> Path | None:
    """Return the CDK CLI that a project runs: of the nearest node_modules, as `npx cdk` does, or PATH's.

    Args:
        directory: The project's folder.
    """
    for folder in (directory, *directory.parents):
        binary = folder / "node_modules" / ".bin" / "cdk"
        if binary.exists():
            return binary
    installed = shutil.which("cdk")
    return Path(installed) if installed else None
