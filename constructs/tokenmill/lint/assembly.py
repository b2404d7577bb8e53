"""A cloud assembly, read from its files: templates, logical ids, construct paths, acknowledged rules.

The layout is that of `@aws-cdk/cloud-assembly-schema` 55: manifest.json, `<stack>.metadata.json`,
`<stack>.assets.json`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "manifest.json"
VALIDATION_REPORT = "validation-report.json"
_ACKNOWLEDGED = "aws:cdk:acknowledged-rules"
_UNKNOWN_REGION = "unknown-region"


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One CloudFormation template of the assembly.

    Args:
        name: Its file, relative to the assembly's root.
        path: Its file.
        nested: Whether it is a nested stack's.
        region: The region it is for, or None when the stack is agnostic.
    """

    name: str
    path: Path
    nested: bool
    region: str | None


@dataclass(frozen=True)
class Assembly:
    """Every template of an assembly with what the metadata says of its resources."""

    root: Path
    templates: tuple[Template, ...]
    construct_paths: dict[tuple[str, str], str] = field(default_factory=dict)
    acknowledged: tuple[tuple[str, str, str], ...] = ()

    @cached_property
    def _by_path(self) -> dict[str, tuple[str, str]]:
        return {path: key for key, path in self.construct_paths.items()}

    @cached_property
    def _lines(self) -> dict[str, dict[str, int]]:
        return {template.name: _resource_lines(template.path) for template in self.templates}

    def locate(self, construct_path: str) -> tuple[str, str]:
        """Return (template, logical id) of the resource a construct made; empty strings if it made none."""
        return self._by_path.get(construct_path, ("", ""))

    def construct_path(self, template: str, logical_id: str) -> str:
        """Return the construct path of a resource, or an empty string."""
        return self.construct_paths.get((template, logical_id), "")

    def line(self, template: str, logical_id: str) -> int:
        """Return the line (from 1) on which a resource begins in its template; 1 when it cannot be found."""
        return self._lines.get(template, {}).get(logical_id, 1)


def read_assembly(directory: Path) -> Assembly:
    """Read an assembly, with its stages and nested stacks.

    Args:
        directory: What `cdk synth` wrote, `cdk.out` by default.

    Raises:
        TokenmillError: There is no such directory, or it is not a cloud assembly.
    """
    if not directory.is_dir():
        raise TokenmillError(
            f"{directory} is not a directory; synthesize first, for example with: npx cdk synth"
        )
    if not (directory / MANIFEST).is_file():
        raise TokenmillError(
            f"{directory} is not a cloud assembly, it has no {MANIFEST}; "
            "pass the directory that cdk synth wrote (cdk.out)"
        )
    templates: dict[str, Template] = {}
    paths: dict[tuple[str, str], str] = {}
    acknowledged: list[tuple[str, str, str]] = []
    for folder in _assembly_folders(directory):
        for artifact in load_document(folder / MANIFEST).get("artifacts", {}).values():
            if artifact.get("type") != "aws:cloudformation:stack":
                continue
            stack = _read_stack(directory, folder, artifact)
            for template in stack.templates:
                load_document(template.path)  # refused here, by name, and not in the middle of a check
            templates |= {template.name: template for template in stack.templates}
            paths |= stack.construct_paths
            acknowledged += stack.acknowledged
    return Assembly(directory, tuple(templates.values()), paths, tuple(acknowledged))


def template_digests(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of every template, by its name relative to the assembly.

    Args:
        directory: The assembly's root.
    """
    return {
        template.name: hashlib.sha256(template.path.read_bytes()).hexdigest()
        for template in read_assembly(directory).templates
    }


def _resource_lines(template: Path) -> dict[str, int]:
    """Return the line of each resource, in the one-space indentation that CDK writes."""
    lines: dict[str, int] = {}
    in_resources = False
    for number, line in enumerate(template.read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith(' "'):
            in_resources = line.startswith(' "Resources"')
        elif in_resources and line.startswith('  "'):
            lines[line.strip().removesuffix(": {").strip('"')] = number
    return lines


def _assembly_folders(directory: Path) -> list[Path]:
    folders = [directory]
    for artifact in load_document(directory / MANIFEST).get("artifacts", {}).values():
        if artifact.get("type") == "cdk:cloud-assembly":
            folders += _assembly_folders(directory / artifact["properties"]["directoryName"])
    return folders


def _read_stack(root: Path, folder: Path, artifact: dict[str, Any]) -> Assembly:
    properties = artifact["properties"]
    region = str(artifact.get("environment", "")).rpartition("/")[2]
    own = Template(
        name=_name(root, folder / properties["templateFile"]),
        path=folder / properties["templateFile"],
        nested=False,
        region=None if region in ("", _UNKNOWN_REGION) else region,
    )
    metadata: dict[str, list[dict[str, Any]]] = dict(artifact.get("metadata", {}))
    if "additionalMetadataFile" in artifact:
        metadata |= load_document(folder / artifact["additionalMetadataFile"])
    nested = {template.name: template for template in _nested(root, folder, artifact, metadata, own.region)}
    # The metadata names the stack's own template beside the nested ones; the plain entry wins.
    files = {own.name: own} | nested | {own.name: own}
    paths, acknowledged = _read_metadata(root, folder, metadata, own.name)
    return Assembly(root, tuple(files.values()), paths, tuple(acknowledged))


def _nested(
    root: Path,
    folder: Path,
    artifact: dict[str, Any],
    metadata: dict[str, list[dict[str, Any]]],
    region: str | None,
) -> list[Template]:
    """Return nested stacks' templates: named by the metadata, or else packaged as assets."""
    found = {
        folder / str(entry["data"])
        for entries in metadata.values()
        for entry in entries
        if _is_template(entry)
    }
    for dependency in artifact.get("dependencies", []):
        assets = folder / f"{dependency}.json"
        if dependency.endswith(".assets") and assets.is_file():
            sources = [
                file["source"].get("path", "") for file in load_document(assets).get("files", {}).values()
            ]
            found |= {folder / source for source in sources if source.endswith(".nested.template.json")}
    return [
        Template(name=_name(root, path), path=path, nested=True, region=region)
        for path in sorted(found)
        if path.is_file()
    ]


def _read_metadata(
    root: Path, folder: Path, metadata: dict[str, list[dict[str, Any]]], own_template: str
) -> tuple[dict[tuple[str, str], str], list[tuple[str, str, str]]]:
    template_of = {
        path: _name(root, folder / str(entry["data"]))
        for path, entries in metadata.items()
        for entry in entries
        if _is_template(entry)
    }
    paths: dict[tuple[str, str], str] = {}
    acknowledged: list[tuple[str, str, str]] = []
    for path, entries in metadata.items():
        for entry in entries:
            if entry["type"] == "aws:cdk:logicalId":
                paths[(_nearest(path, template_of, own_template), str(entry["data"]))] = path.lstrip("/")
            elif entry["type"] == _ACKNOWLEDGED:
                acknowledged += [
                    (path.lstrip("/"), rule, str(reason)) for rule, reason in entry["data"].items()
                ]
    return paths, acknowledged


def _nearest(path: str, template_of: dict[str, str], default: str) -> str:
    while path:
        if path in template_of:
            return template_of[path]
        path = path.rpartition("/")[0]
    return default


def _is_template(entry: dict[str, Any]) -> bool:
    return bool(entry["type"] == "aws:cdk:templateFile")


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def load_document(path: Path) -> dict[str, Any]:
    """Return a JSON object of the assembly.

    Args:
        path: The file.

    Raises:
        TokenmillError: It cannot be read, or is not a JSON object.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TokenmillError(f"cannot read {path}: {error}; synthesize again") from error
    if not isinstance(document, dict):
        raise TokenmillError(f"{path} is not a JSON object; synthesize again")
    return document
