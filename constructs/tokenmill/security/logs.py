"""Log groups that keep what the stack's hosting says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_logs as logs

from tokenmill.security.hosting import RETENTION_NAMES

if TYPE_CHECKING:
    from constructs import Construct

    from tokenmill.security.hosting import FunctionHosting


def log_group(scope: Construct, id: str, hosting: FunctionHosting) -> logs.LogGroup:
    """Make a log group without a physical name, so that two stacks never meet.

    Args:
        scope: The parent construct.
        id: The construct's id.
        hosting: Retention, key and what happens when the stack goes.
    """
    return logs.LogGroup(
        scope,
        id,
        retention=logs.RetentionDays[RETENTION_NAMES[hosting.log_retention_days]],
        encryption_key=hosting.encryption_key,
        removal_policy=cdk.RemovalPolicy.DESTROY if hosting.ephemeral else cdk.RemovalPolicy.RETAIN,
    )
