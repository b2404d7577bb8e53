"""Acknowledge a check's finding on one construct, with the reason beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk

if TYPE_CHECKING:
    from constructs import IConstruct


def acknowledge(construct: IConstruct, *findings: str, reason: str) -> None:
    """Acknowledge findings on a construct and what stands below it.

    Args:
        construct: The narrowest construct that has the finding.
        findings: Ids as a check reports them, such as "AwsSolutions-IAM5[Resource::*]".
        reason: One sentence that an auditor can hold against the template.
    """
    cdk.Validations.of(construct).acknowledge(
        *(cdk.Acknowledgment(id=finding, reason=reason) for finding in findings)
    )


def any_resource(arn: str = "*") -> str:
    """Return the id of the finding that a policy's resource has a wildcard.

    Args:
        arn: The resource as the check prints it, with references as <Name>.
    """
    return f"AwsSolutions-IAM5[Resource::{arn}]"
