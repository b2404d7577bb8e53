"""Every look-up for a synthesized assembly: what its templates need of the region and the account."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError
from tokenmill.cost.assembly import TOKEN, NotKnownError, plain_text, read_stacks
from tokenmill.cost.endpoints import COMPONENT, ENDPOINT, fleets
from tokenmill.cost.loads import models_served
from tokenmill.cost.quotas import quotas_of
from tokenmill.doctor import machine
from tokenmill.doctor.account import Account, Compiled
from tokenmill.doctor.diagnose import DoctorReport
from tokenmill.doctor.quotas import Quota
from tokenmill_runtime.compiled_model import RESOURCE_TYPE as COMPILED_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import boto3

    from tokenmill.cost.assembly import CostStack, Resource
    from tokenmill.doctor.item import Item

PROJECT = "AWS::CodeBuild::Project"
# "Get a secret or secret value from Secrets Manager" (AWS CloudFormation User Guide)
_RESOLVED = re.compile(r"\{\{resolve:secretsmanager:([^{}]+)\}\}")
_PARTS_OF_AN_ARN = 6


def diagnose_assembly(
    directory: Path,
    *,
    session: boto3.Session,
    folder: Path,
    progress: Callable[[str], None] = lambda _: None,
) -> DoctorReport:
    """Look up everything that a deployment of an assembly needs.

    Args:
        directory: What `cdk synth` wrote.
        session: A boto3 session; without credentials or network the account's items are unknown.
        folder: The project's folder.
        progress: Told what is being looked up.

    Raises:
        TokenmillError: It is no assembly, a template is malformed, or its stacks name no region and neither
            does the session.
    """
    stacks = read_stacks(directory, session.region_name)
    regions = sorted({stack.region for stack in stacks})
    progress("this machine")
    items = [machine.node(), machine.cdk_command(folder), machine.linters(folder)]
    items += _licences(stacks)
    for region in regions:
        here = [stack for stack in stacks if stack.region == region]
        items += _region(here, region)
        progress(f"the account in {region}")
        items += _account(Account(session, region), here)
    return DoctorReport(stack=str(directory), region=", ".join(regions), items=tuple(dict.fromkeys(items)))


def _region(stacks: Iterable[CostStack], region: str) -> Iterator[Item]:
    endpoints = [(endpoint, stack) for stack in stacks for endpoint in stack.of_type(ENDPOINT)]
    if not endpoints:
        return
    components = any(True for stack in stacks for _ in stack.of_type(COMPONENT))
    yield machine.endpoints_in_region(region, components=components)
    types: dict[str, None] = {}
    for endpoint, stack in endpoints:
        try:
            types |= {pool.instance_type: None for fleet in fleets(endpoint, stack) for pool in fleet.pools}
        except NotKnownError:
            continue  # only the deployment knows what it runs on
    for name in types:
        yield machine.instance_in_region(name, region)


def _account(account: Account, stacks: list[CostStack]) -> Iterator[Item]:
    yield account.credentials()
    yield account.bootstrap()
    for need in quotas_of(stacks):
        if need.at_most:
            quota = Quota(service=need.service, name=need.name, code=need.code)
            yield account.quota(quota, needed=need.at_most)
    for name in sorted(_secrets(stacks)):
        yield account.secret(name)
    for stack in stacks:
        for resource in stack.of_type(COMPILED_MODEL):
            wanted = _compiled(resource)
            if wanted is not None:
                yield account.compiled(wanted)


def _licences(stacks: Iterable[CostStack]) -> Iterator[Item]:
    """The licence of each model once, whether it is served, copied or both."""
    found: dict[str, bool] = {}
    for stack in stacks:
        for item in models_served(stack):
            facts = item.metadata.get("tokenmill")
            if isinstance(facts, dict) and isinstance(facts.get("model"), str):
                found.setdefault(facts["model"], False)
        for project in stack.of_type(PROJECT):
            variables = _variables(project)
            copied = variables.get("MIRROR_MODEL", {}).get("Value")
            if isinstance(copied, str):
                found[copied] = found.get(copied, False) or "HF_TOKEN" in variables
        if any("HF_TOKEN" in item for item in _objects(stack)):
            found = dict.fromkeys(found, True)
    for model, token in found.items():
        yield machine.weights_licence(model, token=token)


def _secrets(stacks: Iterable[CostStack]) -> set[str]:
    """Names of secrets that the templates read and name in full: what they make has no name yet."""
    found: set[str] = set()
    for stack in stacks:
        for text in _texts(stack):
            found |= {_secret_name(reference) for reference in _RESOLVED.findall(text)}
        for project in stack.of_type(PROJECT):
            found |= {
                _secret_name(plain_text(value.get("Value")))
                for value in _variables(project).values()
                if value.get("Type") == "SECRETS_MANAGER"
            }
    return {name for name in found if TOKEN not in name}


def _secret_name(reference: str) -> str:
    """The name in a name or an ARN that the key and the version of a value may follow."""
    parts = reference.split(":")
    return parts[_PARTS_OF_AN_ARN] if parts[0] == "arn" and len(parts) > _PARTS_OF_AN_ARN else parts[0]


def _variables(project: Resource) -> dict[str, dict[str, Any]]:
    entries = project.section("Environment").get("EnvironmentVariables", [])
    return {str(entry.get("Name")): entry for entry in entries if isinstance(entry, dict)}


def _objects(stack: CostStack) -> Iterator[dict[str, Any]]:
    """Every object in the properties of a template's resources."""
    waiting: list[Any] = [item.properties for item in stack.resources.values()]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _texts(stack: CostStack) -> Iterator[str]:
    """Every text there that is a value, whole or joined."""
    for item in _objects(stack):
        yield plain_text(item)
        yield from (text for text in item.values() if isinstance(text, str))


def _compiled(resource: Resource) -> Compiled | None:
    """What a serving stack expects of another one; None where both are one, which the deployment looks at."""
    properties = resource.properties
    imports = [_import(properties.get(key)) for key in ("Bucket", "Repository")]
    if not all(imports):
        return None
    try:
        artifact = json.loads(str(properties.get("Artifact")))
    except ValueError as error:
        raise TokenmillError(
            f"{resource.stack}: {resource.logical_id}.Artifact is no JSON; synthesize again"
        ) from error
    return Compiled(
        stack=str(properties.get("Stack")),
        bucket=imports[0],
        prefix=str(properties.get("Prefix")),
        repository=imports[1],
        tag=str(properties.get("Tag")),
        artifact=artifact,
    )


def _import(value: object) -> str:
    name = value.get("Fn::ImportValue") if isinstance(value, dict) else None
    return name if isinstance(name, str) else ""
