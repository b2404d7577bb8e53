"""The code assets of the functions: parts of the installed runtime package; no Docker, no network."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_

import tokenmill_runtime

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGE = "tokenmill_runtime"


def runtime_root() -> Path:
    """Return the folder that holds the runtime package, in a checkout and in an installed wheel alike."""
    location = tokenmill_runtime.__file__
    if location is None:
        raise RuntimeError("the package tokenmill_runtime has no file; reinstall tokenmill")
    return Path(location).resolve().parent.parent


def runtime_code(parts: Sequence[str]) -> lambda_.Code:
    """Return a code asset of the named parts of the runtime package.

    Only what a function needs goes in, so that a change elsewhere does not redeploy it.

    Args:
        parts: Modules ("authorizer.py", "gateway/sse.py") and folders ("gateway/") of `tokenmill_runtime`.

    Raises:
        FileNotFoundError: If a part is not there.
    """
    root = runtime_root()
    for part in parts:
        if not (root / PACKAGE / part).exists():
            raise FileNotFoundError(
                f"tokenmill_runtime has no {part!r} in {root / PACKAGE}; reinstall tokenmill"
            )
    patterns = ["*", f"!{PACKAGE}/", f"!{PACKAGE}/__init__.py"]
    for part in parts:
        # A file of a folder that is itself left out cannot be taken in again ("gitignore").
        *folders, _ = PurePosixPath(part).parts
        patterns += [f"!{PACKAGE}/{'/'.join(folders[:depth])}/" for depth in range(1, len(folders) + 1)]
        patterns.append(f"!{PACKAGE}/{part}")
        if part.endswith("/"):
            patterns.append(f"!{PACKAGE}/{part}**")
    patterns += ["__pycache__", "*.pyc"]
    return lambda_.Code.from_asset(str(root), ignore_mode=cdk.IgnoreMode.GIT, exclude=patterns)
