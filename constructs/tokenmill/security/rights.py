"""What a role may do, said to CDK in one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aws_cdk import aws_iam as iam

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Right:
    """Some actions on some resources.

    Args:
        actions: Names of IAM actions.
        resources: ARNs, which may hold tokens.
        conditions: Condition keys by operator; none otherwise.
    """

    actions: Sequence[str]
    resources: Sequence[str]
    conditions: Mapping[str, Any] | None = None


def document(*rights: Right) -> iam.PolicyDocument:
    """Return rights for a policy of its own.

    Args:
        rights: Exactly what.
    """
    statements: list[dict[str, Any]] = [
        {
            "Effect": "Allow",
            "Action": list(right.actions),
            "Resource": list(right.resources),
            **({} if right.conditions is None else {"Condition": dict(right.conditions)}),
        }
        for right in rights
    ]
    return iam.PolicyDocument.from_json({"Version": "2012-10-17", "Statement": statements})


def allow(role: iam.IRole, *rights: Right | iam.PolicyStatement) -> None:
    """Let a role do something.

    A right crosses into CDK's process once; a statement of CDK's own is made there first, and then added.

    Args:
        role: The role.
        rights: Exactly what.
    """
    for right in rights:
        if isinstance(right, Right):
            iam.Grant.add_to_principal(
                grantee=role,
                actions=list(right.actions),
                resource_arns=list(right.resources),
                conditions=None if right.conditions is None else dict(right.conditions),
            )
        elif isinstance(role, iam.Role):
            role.add_to_policy(right)
        else:
            role.add_to_principal_policy(right)
