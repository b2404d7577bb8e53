"""Acknowledge a check's findings on one construct, each with its reason beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import aws_cdk as cdk
import jsii
from constructs import IValidation

from tokenmill.security.place import TOKEN, node_of, stack_of
from tokenmill.security.printed import flat, with_pseudo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from constructs import IConstruct

_validations: WeakKeyDictionary[IConstruct, cdk.Validations] = WeakKeyDictionary()


def acknowledge(construct: IConstruct, reasons: Mapping[str, str]) -> None:
    """Acknowledge findings on a construct and what stands below it.

    Args:
        construct: The narrowest construct that has the findings.
        reasons: By id as a check reports it, such as "AwsSolutions-IAM5[Resource::*]", one sentence that an
            auditor can hold against the template.
    """
    found = _validations.get(construct)
    if found is None:
        found = _validations[construct] = cdk.Validations.of(construct)
    found.acknowledge(*(cdk.Acknowledgment(id=finding, reason=reason) for finding, reason in reasons.items()))


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
    check prints what it became; so those with references wait for that.

    Args:
        construct: The narrowest construct that has the findings.
        reasons: By ARN, with its tokens, one sentence that an auditor can hold against the template.
    """
    named = {with_pseudo(arn): reason for arn, reason in reasons.items()}
    waiting = {arn: reason for arn, reason in named.items() if TOKEN in arn}
    known = {any_resource(arn): reason for arn, reason in named.items() if TOKEN not in arn}
    if known:
        acknowledge(construct, known)
    if waiting:
        node_of(construct).add_validation(_Acknowledging(construct, waiting))


@jsii.implements(IValidation)
class _Acknowledging:
    """Runs when the references between stacks are resolved and before a check reads acknowledgements."""

    def __init__(self, construct: IConstruct, reasons: Mapping[str, str]) -> None:
        self._construct = construct
        self._reasons = reasons

    def validate(self) -> list[str]:
        """Acknowledge, and find nothing wrong."""
        arns = stack_of(self._construct).resolve(list(self._reasons))
        found = zip(arns, self._reasons.values(), strict=True)
        acknowledge(self._construct, {any_resource(flat(arn)): reason for arn, reason in found})
        return []
