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
    aws: Aws,
    suffix: str,
    *,
    service: str,
    actions: tuple[str, ...],
    more: tuple[dict[str, Any], ...] = (),
    condition: dict[str, Any] | None = None,
) -> str:
    """Create a role that a service may assume, with one inline policy, and return its ARN.

    Args:
        aws: The run.
        suffix: What it is for.
        service: Service principal.
        actions: What it may do; all resources, as the probe's own have no ARN yet.
        more: Further statements.
        condition: On whose behalf the service may assume it; on anybody's otherwise.
    """
    name = aws.name(suffix)
    trust: dict[str, Any] = {
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": "sts:AssumeRole",
        **({"Condition": condition} if condition else {}),
    }
    rights = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    aws.declare("role", name)
    client = aws.client("iam")
    arn: str = client.create_role(
        RoleName=name, AssumeRolePolicyDocument=_policy(trust), Tags=aws.tags, MaxSessionDuration=3600
    )["Role"]["Arn"]
    client.put_role_policy(RoleName=name, PolicyName="probe", PolicyDocument=_policy(rights, *more))
    return arn


def create_bucket(aws: Aws, suffix: str) -> str:
    """Create a bucket and return its name.

    Args:
        aws: The run.
        suffix: What it is for.
    """
    bucket = f"{aws.name(suffix)}-{aws.account}-{aws.region}"
    aws.declare("bucket", bucket)
    client = aws.client("s3")
    # us-east-1 is the one region that may not be named (Amazon S3 API Reference: "CreateBucket").
    where = (
        {} if aws.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": aws.region}}
    )
    client.create_bucket(Bucket=bucket, **where)
    client.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": aws.tags})
    return bucket


def _policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
