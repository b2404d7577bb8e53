"""Where a function of the runtime runs and how its data is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aws_cdk import aws_ec2 as ec2
    from aws_cdk import aws_kms as kms
    from aws_cdk import aws_sqs as sqs

RETENTION_NAMES = {
    1: "ONE_DAY",
    3: "THREE_DAYS",
    5: "FIVE_DAYS",
    7: "ONE_WEEK",
    14: "TWO_WEEKS",
    30: "ONE_MONTH",
    60: "TWO_MONTHS",
    90: "THREE_MONTHS",
    120: "FOUR_MONTHS",
    150: "FIVE_MONTHS",
    180: "SIX_MONTHS",
    365: "ONE_YEAR",
    400: "THIRTEEN_MONTHS",
    545: "EIGHTEEN_MONTHS",
    731: "TWO_YEARS",
    1096: "THREE_YEARS",
    1827: "FIVE_YEARS",
    2192: "SIX_YEARS",
    2557: "SEVEN_YEARS",
    2922: "EIGHT_YEARS",
    3288: "NINE_YEARS",
    3653: "TEN_YEARS",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionHosting:
    """Choices that every function of a stack shares.

    Args:
        log_retention_days: How long log events are kept, in days; one of the periods CloudWatch Logs offers.
        encryption_key: The customer's key for environment variables and logs, whose policy must let
            CloudWatch Logs use it; AWS's own keys otherwise.
        vpc: The network that functions and containers join; none otherwise.
        security_groups: The security groups inside that network; one is made a function otherwise.
        reserved_concurrency: Concurrent executions set aside for each function; the account's pool otherwise.
        ephemeral: Whether logs go when the stack goes.
        dead_letter_queue: Where events go that a function could not take; they are dropped otherwise.

    Raises:
        ValueError: For a retention that CloudWatch Logs does not offer, or security groups without a network.
    """

    log_retention_days: int = 30
    encryption_key: kms.IKey | None = None
    vpc: ec2.IVpc | None = None
    security_groups: tuple[ec2.ISecurityGroup, ...] = ()
    reserved_concurrency: int | None = None
    ephemeral: bool = False
    dead_letter_queue: sqs.IQueue | None = None

    def __post_init__(self) -> None:
        if self.log_retention_days not in RETENTION_NAMES:
            allowed = ", ".join(str(days) for days in RETENTION_NAMES)
            raise ValueError(f"log_retention_days is {self.log_retention_days}; allowed are {allowed}")
        if self.security_groups and self.vpc is None:
            raise ValueError("security_groups are given without vpc; give the vpc they belong to")
        if self.reserved_concurrency is not None and self.reserved_concurrency < 1:
            raise ValueError(
                f"reserved_concurrency is {self.reserved_concurrency}; it must be 1 or more, or leave it out"
            )
