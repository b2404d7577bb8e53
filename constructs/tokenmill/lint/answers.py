"""Answers to auditors as a file: which rules, on which resources, and why."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk

from tokenmill.core.errors import TokenmillError
from tokenmill.lint.acknowledgement import acknowledge

if TYPE_CHECKING:
    from pathlib import Path

    from constructs import IConstruct

_FIELDS = {"type", "path", "rules", "reason"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One reason for some rules.

    Args:
        type: CloudFormation's type of the resources that it is about.
        rules: Rule ids, as `acknowledge` takes them.
        reason: One full sentence.
        path: Pattern of the resources' paths under the stack, such as "*/Heartbeat/*"; every path otherwise.
    """

    type: str
    rules: tuple[str, ...]
    reason: str
    path: str = "*"

    def is_about(self, resource: cdk.CfnResource, path: str) -> bool:
        """Return whether a resource is one of those.

        Args:
            resource: The resource.
            path: Its path in the tree.
        """
        return resource.cfn_resource_type == self.type and fnmatchcase(path, self.path)


def acknowledge_from(scope: IConstruct, file: Path) -> None:
    """Acknowledge findings on the resources that a file names, with its reasons.

    The file is TOML: a table [[answers]] for each reason, with type, rules, reason and perhaps path.

    Args:
        scope: The stack, or the construct below which the file speaks.
        file: The file.

    Raises:
        TokenmillError: If the file is not there, is not of its form, or answers for no resource of the scope.
    """
    answers = read_answers(file)
    resources = [
        (found, found.node.path) for found in scope.node.find_all() if isinstance(found, cdk.CfnResource)
    ]
    used = 0
    for answer in answers:
        for resource, path in resources:
            if answer.is_about(resource, path):
                acknowledge(resource, *answer.rules, reason=answer.reason)
                used += 1
    if not used:
        raise TokenmillError(
            f"{file} answers for no resource of {scope.node.path or 'the app'}; call acknowledge_from after "
            "its constructs are made"
        )


def read_answers(file: Path) -> tuple[Answer, ...]:
    """Return the answers of a file.

    Args:
        file: The file.

    Raises:
        TokenmillError: If it is not there or not of its form.
    """
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise TokenmillError(f"cannot read the answers {file}: {error.strerror}") from None
    except ValueError as error:
        raise TokenmillError(f"{file} is no TOML: {error}") from None
    tables = document.get("answers")
    if not isinstance(tables, list) or not tables:
        raise TokenmillError(f"{file} has no [[answers]]; give at least one, with type, rules and reason")
    return tuple(_answer(table, f"{file}, answer {number}") for number, table in enumerate(tables, 1))


def _answer(table: dict[str, Any], place: str) -> Answer:
    unknown = sorted(set(table) - _FIELDS)
    if unknown:
        raise TokenmillError(f"{place} has {', '.join(unknown)}; known are {', '.join(sorted(_FIELDS))}")
    rules = table.get("rules")
    listed = rules if isinstance(rules, list) else []
    texts = (*listed, table.get("type"), table.get("reason"), table.get("path", "*"))
    if not listed or not all(isinstance(text, str) for text in texts):
        raise TokenmillError(f"{place} needs type and reason as texts and rules as a list of texts")
    return Answer(**{**table, "rules": tuple(listed)})
