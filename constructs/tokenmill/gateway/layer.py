"""The gateway function's libraries, vendored into the package: no Docker and no network at synth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aws_cdk import aws_lambda as lambda_

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from constructs import Construct

LAYER_FOLDER = Path(__file__).resolve().parent / "_layer"


def vendored_layer(scope: Construct, id: str, *, folder: Path = LAYER_FOLDER) -> lambda_.LayerVersion:
    """Make the layer of the vendored libraries.

    Args:
        scope: The parent construct.
        id: The construct's id.
        folder: Where the libraries are.

    Raises:
        TokenmillError: If they have not been vendored, which a checkout does once.
    """
    check_vendored(folder)
    return lambda_.LayerVersion(
        scope,
        id,
        code=lambda_.Code.from_asset(str(folder), exclude=["**/__pycache__", "*.pyc"]),
        compatible_runtimes=[lambda_.Runtime.PYTHON_3_13],
        compatible_architectures=[lambda_.Architecture.ARM_64, lambda_.Architecture.X86_64],
        description="Libraries of the tokenmill gateway, pure Python",
    )


def check_vendored(folder: Path = LAYER_FOLDER) -> None:
    """Refuse to go on when the vendored libraries are not there.

    Args:
        folder: Where the libraries should be.

    Raises:
        TokenmillError: If they are not.
    """
    if not (folder / "python" / "starlette").is_dir():
        raise TokenmillError(
            f"the gateway's libraries are not in {folder}; run `make setup`, "
            "or give runtime_dependencies= a layer with starlette and anyio"
        )
