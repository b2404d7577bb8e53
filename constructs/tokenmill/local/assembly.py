"""What a synthesized assembly deploys: its stacks, where to, and at which level each resource type stands."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError
from tokenmill.local.cloud import DEFAULT_ACCOUNT
from tokenmill.local.levels import Level, level_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AssembledStack:
    """One stack of an assembly."""

    id: str
    name: str
    account: str
    region: str
    template: Mapping[str, Any]

    @property
    def environment(self) -> str:
        """The environment as `cdk bootstrap` takes it."""
        return f"aws://{self.account}/{self.region}"

    @property
    def resource_types(self) -> list[str]:
        """The types of its resources."""
        return sorted({resource["Type"] for resource in (self.template.get("Resources") or {}).values()})


def read_stacks(folder: Path, *, region: str) -> list[AssembledStack]:
    """Return an assembly's stacks.

    Args:
        folder: The assembly, usually `cdk.out`.
        region: Region of stacks that name none.
    """
    manifest = json.loads((folder / "manifest.json").read_text())
    stacks = []
    for artifact_id, artifact in (manifest.get("artifacts") or {}).items():
        if artifact["type"] == "cdk:cloud-assembly":
            stacks += read_stacks(folder / artifact["properties"]["directoryName"], region=region)
        if artifact["type"] != "aws:cloudformation:stack":
            continue
        account, _, stack_region = artifact["environment"].removeprefix("aws://").partition("/")
        properties = artifact["properties"]
        stacks.append(
            AssembledStack(
                id=artifact.get("displayName") or artifact_id,
                name=properties.get("stackName") or artifact_id,
                account=account if account.isdigit() else DEFAULT_ACCOUNT,
                region=region if stack_region.startswith("unknown") else stack_region,
                template=json.loads((folder / properties["templateFile"]).read_text()),
            )
        )
    return stacks


def choose(stacks: list[AssembledStack], wanted: str | None) -> list[AssembledStack]:
    """Return the stacks to deploy.

    Args:
        stacks: Those of the assembly.
        wanted: Id of one, with or without the prefix `tokenmill-`; every stack when not given.

    Raises:
        TokenmillError: There is no such stack, none at all, or they are in several accounts or regions.
    """
    known = ", ".join(stack.id for stack in stacks) or "none"
    chosen = [stack for stack in stacks if wanted in (None, stack.id, stack.id.removeprefix("tokenmill-"))]
    if not chosen:
        raise TokenmillError(f"the app has no stack {wanted!r}; it has: {known}")
    places = sorted({stack.environment for stack in chosen})
    if len(places) > 1:
        raise TokenmillError(
            f"the stacks are in several environments ({', '.join(places)}); name one stack: {known}"
        )
    return chosen


def refuse_unknown_types(stacks: list[AssembledStack]) -> None:
    """Refuse stacks with resource types that the local cloud does not stand for, before anything is created.

    Args:
        stacks: The stacks to deploy.

    Raises:
        TokenmillError: It names every such type.
    """
    refused = sorted(
        {
            f"{name} ({stack.id})"
            for stack in stacks
            for name in stack.resource_types
            if level_of(name).level is Level.REFUSED
        }
    )
    if refused:
        raise TokenmillError(
            f"the local cloud refuses {', '.join(refused)}; nothing was created. Leave them out of what "
            "you try out here, or deploy to an account; docs/local-cloud.md lists what there is"
        )
