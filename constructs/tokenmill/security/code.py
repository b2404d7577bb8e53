"""The code assets of the functions: parts of the installed runtime package; no Docker, no network."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import aws_cdk as cdk

import tokenmill_runtime
from tokenmill.security.place import node_of, stack_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from aws_cdk import aws_lambda as lambda_
    from constructs import Construct

PACKAGE = "tokenmill_runtime"
# What `sam local` reads ("cdk synth" of the AWS CDK CLI reference: --asset-metadata).
ASSET_METADATA = "aws:cdk:enable-asset-metadata"


def runtime_root() -> Path:
    """Return the folder that holds the runtime package, in a checkout and in an installed wheel alike."""
    location = tokenmill_runtime.__file__
    if location is None:
        raise RuntimeError("the package tokenmill_runtime has no file; reinstall tokenmill")
    return Path(location).resolve().parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedCode:
    """Where a function's code is.

    Args:
        bucket: The bucket that deployments put it into.
        key: Its object there.
        metadata: What the CDK CLI asks to be told of it.
    """

    bucket: str
    key: str
    metadata: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class _Assembly:
    """Where a stack's assets go, asked once a stack."""

    assets: Path
    folder: str
    synthesizer: cdk.IStackSynthesizer
    told: bool


_assemblies: WeakKeyDictionary[cdk.Stack, _Assembly] = WeakKeyDictionary()


def runtime_code(parts: Sequence[str]) -> lambda_.Code:
    """Return a code asset of the named parts of the runtime package, as CDK's own functions take it.

    Args:
        parts: Modules ("authorizer.py", "gateway/sse.py") and folders ("gateway/") of `tokenmill_runtime`.

    Raises:
        FileNotFoundError: If a part is not there.
    """
    from tokenmill.security.l2_function import RuntimeCode

    check_parts(parts)
    return RuntimeCode(parts)


def check_parts(parts: Sequence[str]) -> None:
    """Refuse parts that an installation does not have.

    Args:
        parts: Modules and folders of `tokenmill_runtime`.

    Raises:
        FileNotFoundError: If a part is not there.
    """
    package = runtime_root() / PACKAGE
    for part in parts:
        if not (package / part).exists():
            raise FileNotFoundError(f"tokenmill_runtime has no {part!r} in {package}; reinstall tokenmill")


def stage_code(scope: Construct, parts: Sequence[str]) -> StagedCode:
    """Put the named parts of the runtime package into the assembly, to be uploaded with it.

    Only what a function needs goes in, so that a change elsewhere does not redeploy it. CDK's own asset would
    walk the whole package and load its table of all regions, half of what a function cost a synthesis.

    Args:
        scope: The function.
        parts: Modules and folders of `tokenmill_runtime`.
    """
    assembly = _assembly_of(stack_of(scope))
    digest, folder = _stage_files(parts, assembly.assets)
    path = os.path.relpath(folder, assembly.folder)
    place = assembly.synthesizer.add_file_asset(
        source_hash=digest,
        file_name=path,
        packaging=cdk.FileAssetPackaging.ZIP_DIRECTORY,
        display_name=cdk.Names.stack_relative_construct_path(scope),
    )
    about = {"path": path, "is-bundled": False, "property": "Code"} if assembly.told else {}
    metadata = {f"aws:asset:{key}": value for key, value in about.items()}
    return StagedCode(bucket=place.bucket_name, key=place.object_key, metadata=metadata)


def tell_of_code(resource: cdk.CfnResource, staged: StagedCode) -> None:
    """Tell `sam local` where the code is, if the CDK CLI asks for it.

    Args:
        resource: The function's resource.
        staged: Its code.
    """
    for key, value in staged.metadata.items():
        resource.add_metadata(key, value)


def _assembly_of(stack: cdk.Stack) -> _Assembly:
    found = _assemblies.get(stack)
    if found is None:
        stage = cdk.Stage.of(stack)
        if stage is None:
            raise RuntimeError(f"{stack.node.path} is in no app, so its code has nowhere to be staged")
        found = _Assembly(
            assets=Path(stage.asset_outdir),
            folder=stage.outdir,
            synthesizer=stack.synthesizer,
            told=bool(node_of(stack).try_get_context(ASSET_METADATA)),
        )
        _assemblies[stack] = found
    return found


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
