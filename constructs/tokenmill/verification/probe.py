"""What a probe returns, and what all of them create in the same way."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenmill.verification.aws import Aws


class Verdict(enum.StrEnum):
    """What a probe says of its line."""

    HOLDS = "holds"
    FAILS = "does not hold"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a probe saw.

    Args:
        verdict: What it says of its line.
        observations: What it saw, as JSON values.
    """

    verdict: Verdict
    observations: dict[str, Any] = field(default_factory=dict)


def holds(condition: bool) -> Verdict:
    """Return the verdict of a condition.

    Args:
        condition: Whether the claim was seen to hold.
    """
    return Verdict.HOLDS if condition else Verdict.FAILS


def create_role(
    aws: Aws, suffix: str, *, service: str, actions: tuple[str, ...], more: tuple[dict[str, Any], ...] = ()
) -> str:
    """Create a role that a service may assume, with one inline policy, and return its ARN.

    Args:
        aws: The run.
        suffix: What it is for.
        service: Service principal.
        actions: What it may do; all resources, as the probe's own have no ARN yet.
        more: Further statements.
    """
    name = aws.name(suffix)
    trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    rights = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    aws.declare("role", name)
    client = aws.client("iam")
    arn: str = client.create_role(
        RoleName=name, AssumeRolePolicyDocument=_policy(trust), Tags=aws.tags, MaxSessionDuration=3600
    )["Role"]["Arn"]
    client.put_role_policy(RoleName=name, PolicyName="probe", PolicyDocument=_policy(rights, *more))
    return arn


def _policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
