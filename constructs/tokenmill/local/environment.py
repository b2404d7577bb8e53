"""What `tokenmill up` needs on the machine, and the command that mends each missing piece."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from tokenmill.core.errors import SettingsError, TokenmillError

if TYPE_CHECKING:
    from pathlib import Path

MINIMUM_NODE = 20
MINIMUM_CDK = (2, 1148, 0)
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
    """Return what is wrong with the project's CDK CLI; nothing when it is fine.

    Args:
        directory: The project's folder.
    """
    package = directory / "node_modules" / "aws-cdk" / "package.json"
    if not package.exists() or not cdk_path(directory).exists():
        return f"the CDK CLI is not in {directory / 'node_modules'}; run: npm install aws-cdk@2.1148.1"
    found = _version_in(package)
    if found is None:
        return f"{package} names no version; run: npm install aws-cdk@2.1148.1"
    version = tuple(int(part) for part in re.findall(r"\d+", found)[:3])
    if version < MINIMUM_CDK or version[0] != MINIMUM_CDK[0]:
        wanted = ".".join(map(str, MINIMUM_CDK))
        return (
            f"the CDK CLI in node_modules is {found}, it must be 2.x from {wanted}; "
            "run: npm install aws-cdk@2.1148.1"
        )
    return None


def _version_in(package: Path) -> str | None:
    try:
        document = json.loads(package.read_text())
    except ValueError:
        return None
    version = document.get("version") if isinstance(document, dict) else None
    return version if isinstance(version, str) else None


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


def cdk_path(directory: Path) -> Path:
    """Return where the project's CDK CLI is.

    Args:
        directory: The project's folder.
    """
    return directory / "node_modules" / ".bin" / "cdk"
