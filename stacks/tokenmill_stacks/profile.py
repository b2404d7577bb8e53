"""What a profile and the compliance packs make of a stack: retention, keys, network, backups, concurrency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import aws_cdk as cdk

from tokenmill.security import FunctionHosting

if TYPE_CHECKING:
    from aws_cdk import aws_ec2 as ec2
    from aws_cdk import aws_kms as kms
    from aws_cdk import aws_sns as sns

    from tokenmill.core.settings import StackSettings
    from tokenmill.endpoints import EndpointNetwork

DEV = "dev"
DEV_LOG_DAYS = 7
PROD_LOG_DAYS = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the parts of a stack share.

    Args:
        hosting: Network, keys, retention and concurrency of functions.
        removal_policy: What happens to data when it leaves the stack.
        encryption_key: The customer's key, if the profile has one.
        endpoint_network: The VPC that model containers join, if any.
        alarm_topic: Who alarms tell, if anybody.
    """

    hosting: FunctionHosting
    removal_policy: cdk.RemovalPolicy
    encryption_key: kms.IKey | None = None
    endpoint_network: EndpointNetwork | None = None
    alarm_topic: sns.ITopic | None = None


def plain_surroundings(
    settings: StackSettings, *, alarm_topic: sns.ITopic | None, vpc: ec2.IVpc | None
) -> Surroundings:
    """Return the surroundings of a stack without compliance packs.

    Args:
        settings: The stack's settings; a dev stack's data and logs go with it.
        alarm_topic: Who alarms tell, if anybody.
        vpc: The network of functions, if any.
    """
    ephemeral = settings.profile == DEV
    return Surroundings(
        hosting=FunctionHosting(
            log_retention_days=DEV_LOG_DAYS if ephemeral else PROD_LOG_DAYS, vpc=vpc, ephemeral=ephemeral
        ),
        removal_policy=cdk.RemovalPolicy.DESTROY if ephemeral else cdk.RemovalPolicy.RETAIN,
        alarm_topic=alarm_topic,
    )
