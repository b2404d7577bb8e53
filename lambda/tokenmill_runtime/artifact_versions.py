"""Versions of model artifacts: where one is recorded, what is recorded, and what is said of a missing one.

A version is one parameter of the Parameter Store below the artifact's path. Whoever records one may create
parameters and never change them ("Preventing changes to existing parameters using ssm:Overwrite", AWS Systems
Manager user guide), so that a version that a consumer pins stays what it was.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SCHEMA: Final = 1
ROOT: Final = "/tokenmill/artifacts/"
# A version becomes part of a model's name, which takes letters, digits and single dashes
# (botocore, bedrock: CustomModelName, ImportedModelName).
VERSION: Final = re.compile(r"[0-9A-Za-z](?:-?[0-9A-Za-z])*")
LONGEST_VERSION: Final = 16
VERSION_RULE: Final = (
    f"1 to {LONGEST_VERSION} letters or digits, with single dashes between them, such as '1' or '2026-07-01'"
)
FIELDS: Final = ("artifact", "version", "kind", "model_arn", "model_name", "recipe", "run")


def version_problem(version: object) -> str:
    """Why a text is no version; empty where it is one."""
    if isinstance(version, str) and len(version) <= LONGEST_VERSION and VERSION.fullmatch(version):
        return ""
    return f"version is {version!r:.80}; it must have {VERSION_RULE}"


def parameter_name(artifact: str, version: str) -> str:
    """The parameter of a version, such as "/tokenmill/artifacts/import-model-Artifact/1"."""
    return f"{artifact}/{version}"


def read_manifest(text: str) -> dict[str, Any]:
    """The document of a version.

    Raises ValueError for a text that no job of this schema wrote.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ValueError(f"the manifest of the version is no JSON: {text[:60]!r}") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ValueError(f"the manifest of the version is not of schema {SCHEMA}: {text[:60]!r}")
    missing = [name for name in FIELDS if not document.get(name)]
    if missing:
        raise ValueError(f"the manifest of the version has no {', '.join(missing)}")
    return document


def run_command(kind: str, stack: str, name: str, version: str) -> str:
    """The command that builds a version."""
    given = json.dumps({"version": version})
    return f"tokenmill jobs run {kind} --stack {stack} --name {name} --input '{given}'"


def missing_version(wanted: Mapping[str, Any], there: Iterable[str]) -> str:
    """What a consumer is told of a version that is not there.

    ``wanted`` has Artifact, Version and the job that builds it: Kind, Stack, Job.
    """
    found = sorted(there)
    others = f"there are {', '.join(found)}" if found else "there is none yet"
    command = run_command(wanted["Kind"], wanted["Stack"], wanted["Job"], wanted["Version"])
    which = f"version {wanted['Version']} of {wanted['Artifact']}"
    return f"{which} is not built ({others}); build it with: {command}"
