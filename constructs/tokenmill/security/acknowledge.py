"""Acknowledge a check's findings on one construct, each with its reason beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk

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
