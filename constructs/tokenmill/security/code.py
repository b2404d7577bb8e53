"""The code assets of the functions: parts of the installed runtime package; no Docker, no network."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_

import tokenmill_runtime

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from constructs import Construct

PACKAGE = "tokenmill_runtime"
# What `sam local` reads ("Synthesize" of the AWS CDK CLI reference: --asset-metadata).
ASSET_METADATA = "aws:cdk:enable-asset-metadata"


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
    package = runtime_root() / PACKAGE
    for part in parts:
        if not (package / part).exists():
            raise FileNotFoundError(f"tokenmill_runtime has no {part!r} in {package}; reinstall tokenmill")
    return _RuntimeCode(tuple(parts))


class _RuntimeCode(lambda_.Code):
    """Stages the files itself: CDK's asset walks the whole package and loads its table of all regions.

    That took half of what a function costs a synthesis.
    """

    def __init__(self, parts: tuple[str, ...]) -> None:
        super().__init__()
        self._parts = parts
        self._staged = ""

    @property
    def is_inline(self) -> bool:
        """The code is an asset."""
        return False

    def bind(self, scope: Construct) -> lambda_.CodeConfig:
        """Stage the code and say where it will be.

        Args:
            scope: The function.
        """
        stage, stack = cdk.Stage.of(scope), cdk.Stack.of(scope)
        if stage is None:
            raise RuntimeError(f"{scope.node.path} is in no app, so its code has nowhere to be staged")
        digest, folder = _stage_files(self._parts, Path(stage.asset_outdir))
        self._staged = os.path.relpath(folder, stage.outdir)
        place = stack.synthesizer.add_file_asset(
            source_hash=digest,
            file_name=self._staged,
            packaging=cdk.FileAssetPackaging.ZIP_DIRECTORY,
            display_name=cdk.Names.stack_relative_construct_path(scope),
        )
        return lambda_.CodeConfig(
            s3_location={"bucket_name": place.bucket_name, "object_key": place.object_key}
        )

    def bind_to_resource(self, resource: cdk.CfnResource, *, resource_property: str | None = None) -> None:
        """Tell `sam local` where the code is.

        Args:
            resource: The function's resource.
            resource_property: Its property with the code.
        """
        if not resource.node.try_get_context(ASSET_METADATA):
            return
        about: dict[str, Any] = {
            "aws:asset:path": self._staged,
            "aws:asset:is-bundled": False,
            "aws:asset:property": resource_property or "Code",
        }
        for key, value in about.items():
            resource.add_metadata(key, value)


def _stage_files(parts: Sequence[str], outdir: Path) -> tuple[str, Path]:
    """Copy the files into an assembly, unless they are there; return their hash and the folder."""
    root = runtime_root()
    files = sorted(set(_files(root / PACKAGE, parts)))
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        executable = os.access(file, os.X_OK)
        digest.update(f"{file.relative_to(root).as_posix()}\n{executable}\n{len(content)}\n".encode())
        digest.update(content)
    folder = outdir / f"asset.{digest.hexdigest()}"
    if folder.is_dir():
        return digest.hexdigest(), folder
    # Under its own name only when it is whole: what is there is taken as it is.
    with tempfile.TemporaryDirectory(dir=outdir) as scratch:
        made = Path(scratch) / "asset"
        for file in files:
            target = made / file.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)
        made.rename(folder)
    return digest.hexdigest(), folder


def _files(package: Path, parts: Sequence[str]) -> Iterator[Path]:
    yield package / "__init__.py"
    for part in parts:
        if not part.endswith("/"):
            yield package / part
            continue
        for file in (package / part).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".pyc":
                yield file
