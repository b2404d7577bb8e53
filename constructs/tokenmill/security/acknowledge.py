"""Acknowledge a check's findings on one construct, each with its reason beside it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import aws_cdk as cdk
import jsii
from constructs import IValidation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from constructs import IConstruct


def acknowledge(construct: IConstruct, reasons: Mapping[str, str]) -> None:
    """Acknowledge findings on a construct and what stands below it.

    Args:
        construct: The narrowest construct that has the findings.
        reasons: By id as a check reports it, such as "AwsSolutions-IAM5[Resource::*]", one sentence that an
            auditor can hold against the template.
    """
    cdk.Validations.of(construct).acknowledge(
        *(cdk.Acknowledgment(id=finding, reason=reason) for finding, reason in reasons.items())
    )


def any_resource(arn: str = "*") -> str:
    """Return the id of the finding that a policy's resource has a wildcard.

    Args:
        arn: The resource as the check prints it, with references as <Name>.
    """
    return f"AwsSolutions-IAM5[Resource::{arn}]"


def managed_policy(name: str) -> str:
    """Return the id of the finding that a role has one of AWS's own policies.

    Args:
        name: The policy's name under service-role.
    """
    return f"AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/{name}]"


def acknowledge_resources(construct: IConstruct, reasons: Mapping[str, str]) -> None:
    """Acknowledge wildcard resources of policies whose names only the synthesis knows.

    A reference to another stack becomes an import, or a weak reference, while the app is synthesized, and a
    check prints what it became; so this waits for that.

    Args:
        construct: The narrowest construct that has the findings.
        reasons: By ARN, with its tokens, one sentence that an auditor can hold against the template.
    """
    construct.node.add_validation(_Acknowledging(construct, dict(reasons)))


@jsii.implements(IValidation)
class _Acknowledging:
    """Runs when the references between stacks are resolved and before a check reads acknowledgements."""

    def __init__(self, construct: IConstruct, reasons: Mapping[str, str]) -> None:
        self._construct = construct
        self._reasons = reasons

    def validate(self) -> list[str]:
        """Acknowledge, and find nothing wrong."""
        stack = cdk.Stack.of(self._construct)
        acknowledge(
            self._construct,
            {any_resource(_printed(stack.resolve(arn))): reason for arn, reason in self._reasons.items()},
        )
        return []


def _printed(node: object) -> str:
    """Do as cdk-nag's flattenCfnReference does."""
    if isinstance(node, str):
        return node.replace("${", "<").replace("}", ">")
    if isinstance(node, dict) and len(node) == 1:
        ((name, inner),) = node.items()
        if name == "Fn::Join":
            return str(inner[0]).join(_printed(part) for part in inner[1])
        if name == "Fn::GetAtt":
            return f"<{'.'.join(_printed(part) for part in inner)}>"
        if name == "Ref":
            return f"<{_printed(inner)}>"
        if name in ("Fn::Sub", "Fn::ImportValue"):
            return _printed(inner)
    return json.dumps(node, separators=(",", ":"))
