"""The resources of a cloud assembly, template by template, with numbers that may be intrinsic functions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tokenmill.core._settings_reader import REGION
from tokenmill.core.errors import TokenmillError
from tokenmill.lint.assembly import load_document, read_assembly
from tokenmill_runtime.deployment import COPIES_ATTRIBUTE, HOLD_TYPE, INSTANCES_ATTRIBUTE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMIT = 1e9
TOKEN = "<token>"
ENDINGS = (".nested.template.json", ".template.json")


class NotKnownError(Exception):
    """A number that only the deployment knows; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One resource of a template.

    Args:
        stack: The template's name.
        logical_id: Its logical id.
        type: Its CloudFormation type.
        properties: Its properties.
        metadata: Its metadata.
        condition: The condition that it is made under, or empty.
        settled: What references stand for: defaults of the template's parameters by name, and what a
            deployment declares at first by "logical id.attribute".
    """

    stack: str
    logical_id: str
    type: str
    properties: dict[str, Any] = field(hash=False)
    metadata: dict[str, Any] = field(hash=False)
    condition: str
    settled: dict[str, Any] = field(hash=False)

    @property
    def name(self) -> str:
        """Its construct path within the stack where the template has it, or else its logical id."""
        path = self.metadata.get("aws:cdk:path")
        if not isinstance(path, str) or "/" not in path:
            return self.logical_id
        return path.partition("/")[2].removesuffix("/Resource")

    def section(self, key: str) -> dict[str, Any]:
        """Return a property that is an object, empty where it is absent.

        Args:
            key: The property.

        Raises:
            NotKnownError: It is an intrinsic function.
            TokenmillError: It is something else.
        """
        return as_object(self.properties.get(key, {}), self._at(key))

    def items(self, key: str) -> list[Any]:
        """Return a property that is a list, empty where it is absent.

        Args:
            key: The property.

        Raises:
            NotKnownError: It is an intrinsic function.
            TokenmillError: It is something else.
        """
        return as_list(self.properties.get(key, []), self._at(key))

    def number(
        self, key: str, default: float | None = None, *, within: dict[str, Any] | None = None
    ) -> float:
        """Return a property that is a number of 0 or more.

        Args:
            key: The property.
            default: What an absent property means; None where it must be there.
            within: The object that holds it, if not the properties themselves.

        Raises:
            NotKnownError: It is an intrinsic function that the template does not settle.
            TokenmillError: It is absent or no such number.
        """
        value = (self.properties if within is None else within).get(key, default)
        value = self.settled.get(_referred(value), value)
        where = self._at(key)
        if isinstance(value, dict) and is_intrinsic(value):
            raise NotKnownError(f"{key} is {next(iter(value))}, which only the deployment knows")
        try:
            # CloudFormation takes numbers written as text
            number = math.nan if isinstance(value, bool | list | dict | None) else float(value)
        except ValueError:
            number = math.nan
        if not 0 <= number <= LIMIT:
            raise TokenmillError(
                f"{where} must be a number of 0 or more, got {value!r:.60}; synthesize again"
            )
        return number

    def _at(self, key: str) -> str:
        return f"{self.stack}: {self.logical_id}.{key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CostStack:
    """One template of an assembly.

    Args:
        name: Its file without the ending, which is the stack's name for stacks that are not nested.
        region: Its region.
        nested: Whether it is a nested stack's.
        resources: Its resources by logical id.
    """

    name: str
    region: str
    nested: bool
    resources: dict[str, Resource] = field(hash=False)

    def of_type(self, *types: str) -> Iterator[Resource]:
        """Yield the resources of some types.

        Args:
            types: CloudFormation types.
        """
        return (item for item in self.resources.values() if item.type in types)

    def behind(self, value: object, *types: str) -> Resource | None:
        """Return the resource of a type that a value refers to, or names; None where there is none here.

        Args:
            value: A property: a reference, a join of several, or a name.
            types: CloudFormation types.
        """
        names = references(value)
        for item in self.of_type(*types):
            if item.logical_id in names or (isinstance(value, str) and value in _literal_names(item)):
                return item
        return None


def read_stacks(directory: Path, region: str | None = None) -> tuple[CostStack, ...]:
    """Read every template of an assembly.

    Args:
        directory: What `cdk synth` wrote.
        region: Region of the stacks that name none.

    Raises:
        TokenmillError: It is no assembly, a template has another shape, or a region is not known.
    """
    if region is not None and not REGION.fullmatch(region):
        raise TokenmillError(f"--region must be an AWS region such as us-east-1, got {region!r}")
    try:
        found = read_assembly(directory)
    except TokenmillError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise TokenmillError(
            f"{directory} is not laid out as cdk synth writes it ({type(error).__name__}: {error}); "
            "synthesize again"
        ) from error
    if not found.templates:
        raise TokenmillError(f"{directory} has no stack; add one to the app and synthesize again")
    stacks = []
    for template in found.templates:
        name = template.name
        for ending in ENDINGS:
            name = name.removesuffix(ending)
        where = template.region or region
        if where is None:
            raise TokenmillError(f"stack {name} names no region, and prices need one; give --region")
        stacks.append(
            CostStack(
                name=name,
                region=where,
                nested=template.nested,
                resources=_resources(name, load_document(template.path)),
            )
        )
    return tuple(stacks)


def _resources(stack: str, document: dict[str, Any]) -> dict[str, Resource]:
    parameters = _object(document.get("Parameters", {}), f"{stack}: Parameters")
    settled = {
        key: value["Default"]
        for key, value in parameters.items()
        if isinstance(value, dict) and "Default" in value
    }
    found = {}
    for logical_id, body in _object(document.get("Resources", {}), f"{stack}: Resources").items():
        where = f"{stack}: {logical_id}"
        body = _object(body, where)
        kind = body.get("Type")
        if not isinstance(kind, str):
            raise TokenmillError(f"{where} has no Type, so it is no resource; synthesize again")
        found[logical_id] = Resource(
            stack=stack,
            logical_id=logical_id,
            type=kind,
            properties=_object(body.get("Properties", {}), f"{where}.Properties"),
            metadata=_object(body.get("Metadata", {}), f"{where}.Metadata"),
            condition=str(body.get("Condition", "")),
            settled=settled,
        )
        if kind == HOLD_TYPE:
            settled |= _declared(found[logical_id])
    return found


def _declared(hold: Resource) -> dict[str, Any]:
    """What a hold returns at the first deployment; later it returns what runs, which no template knows."""
    count = hold.properties.get("Declared")
    if count is None:
        return {}
    return {
        f"{hold.logical_id}.{COPIES_ATTRIBUTE}": count,
        f"{hold.logical_id}.{INSTANCES_ATTRIBUTE}": 1 if count == 0 else count,
    }


def _referred(value: object) -> str:
    """The name that a plain reference settles by, or nothing."""
    if not isinstance(value, dict) or len(value) != 1:
        return ""
    target = value.get("Fn::GetAtt")
    if isinstance(target, list):
        return ".".join(map(str, target))
    return str(value.get("Ref", target))


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TokenmillError(f"{where} must be a JSON object, got {value!r:.60}; synthesize again")
    return value


def as_object(value: object, where: str) -> dict[str, Any]:
    """Return a JSON object that is no intrinsic function.

    Args:
        value: What the template has.
        where: What it is, for messages.

    Raises:
        NotKnownError: It is an intrinsic function.
        TokenmillError: It is something else.
    """
    if is_intrinsic(value):
        raise NotKnownError(f"{where.rpartition('.')[2]} is decided by the deployment")
    return _object(value, where)


def as_list(value: object, where: str) -> list[Any]:
    """Return a list that is no intrinsic function.

    Args:
        value: What the template has.
        where: What it is, for messages.

    Raises:
        NotKnownError: It is an intrinsic function.
        TokenmillError: It is something else.
    """
    if is_intrinsic(value):
        raise NotKnownError(f"{where.rpartition('.')[2]} is decided by the deployment")
    if not isinstance(value, list):
        raise TokenmillError(f"{where} must be a list, got {value!r:.60}; synthesize again")
    return value


def is_intrinsic(value: object) -> bool:
    """Return whether a value is an intrinsic function of CloudFormation.

    Args:
        value: What the template has.
    """
    return (
        isinstance(value, dict)
        and len(value) == 1
        and next(iter(value)).startswith(("Ref", "Fn::", "Condition"))
    )


def plain_text(value: object) -> str:
    """Return a text in which `TOKEN` stands for what only the deployment knows.

    Args:
        value: A text, or what CloudFormation joins to one.
    """
    if isinstance(value, str):
        return value
    joined = value.get("Fn::Join") if isinstance(value, dict) else None
    if isinstance(joined, list) and len(joined) == 2 and isinstance(joined[1], list):
        return str(joined[0]).join(map(plain_text, joined[1]))
    return TOKEN


def references(value: object) -> set[str]:
    """Return the logical ids that a value refers to, at any depth.

    Args:
        value: What the template has.
    """
    if isinstance(value, list):
        return set().union(*(references(item) for item in value))
    if not isinstance(value, dict):
        return set()
    found = set().union(*(references(item) for item in value.values()))
    if isinstance(value.get("Ref"), str):
        found.add(value["Ref"])
    target = value.get("Fn::GetAtt")
    if isinstance(target, list) and target and isinstance(target[0], str):
        found.add(target[0])
    elif isinstance(target, str):
        found.add(target.partition(".")[0])
    return found


def _literal_names(item: Resource) -> set[str]:
    return {
        value for key, value in item.properties.items() if key.endswith("Name") and isinstance(value, str)
    }
