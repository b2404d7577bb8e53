"""The two tables behind a gateway: API keys, and the turns of conversations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from constructs import Construct

from tokenmill.security import actions
from tokenmill_runtime.api_keys import KEY_ID_ATTRIBUTE
from tokenmill_runtime.conversations import PARTITION_KEY, SORT_KEY, TTL_ATTRIBUTE

if TYPE_CHECKING:
    from aws_cdk import aws_kms as kms


class _GatewayTable(Construct):
    """What both tables share: on-demand capacity, point-in-time recovery, encryption, retention."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        partition_key: str,
        sort_key: str | None,
        time_to_live_attribute: str | None,
        encryption_key: kms.IKey | None,
        removal_policy: cdk.RemovalPolicy,
    ) -> None:
        super().__init__(scope, id)
        text = dynamodb.AttributeType.STRING
        key = None if sort_key is None else dynamodb.Attribute(name=sort_key, type=text)
        managed = dynamodb.TableEncryption.AWS_MANAGED
        self.table = dynamodb.Table(
            self,
            "Resource",
            partition_key=dynamodb.Attribute(name=partition_key, type=text),
            sort_key=key,
            time_to_live_attribute=time_to_live_attribute,
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            encryption=managed if encryption_key is None else dynamodb.TableEncryption.CUSTOMER_MANAGED,
            encryption_key=encryption_key,
            deletion_protection=removal_policy == cdk.RemovalPolicy.RETAIN,
            removal_policy=removal_policy,
        )
        self._encryption_key = encryption_key

    @property
    def table_name(self) -> str:
        """The table's physical name."""
        return self.table.table_name

    @property
    def table_arn(self) -> str:
        """The table's ARN."""
        return self.table.table_arn

    def _grant(self, grantee: iam.IGrantable, allowed: tuple[str, ...], *, write: bool) -> iam.Grant:
        grant = iam.Grant.add_to_principal(
            grantee=grantee, actions=list(allowed), resource_arns=[self.table_arn]
        )
        if self._encryption_key is None:
            return grant
        uses = actions.TABLE_KEY_READ + (actions.TABLE_KEY_WRITE if write else ())
        return grant.combine(self._encryption_key.grant(grantee, *uses))


class ApiKeyTable(_GatewayTable):
    """Hashes of the keys that may call a gateway; the keys themselves are nowhere stored.

    Args:
        scope: The parent construct.
        id: The construct's id.
        encryption_key: The customer's key; AWS's own key for DynamoDB otherwise.
        removal_policy: What happens to the table when it leaves the stack.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        encryption_key: kms.IKey | None = None,
        removal_policy: cdk.RemovalPolicy = cdk.RemovalPolicy.RETAIN,
    ) -> None:
        super().__init__(
            scope,
            id,
            partition_key=KEY_ID_ATTRIBUTE,
            sort_key=None,
            time_to_live_attribute=None,
            encryption_key=encryption_key,
            removal_policy=removal_policy,
        )

    def grant_read(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal look a key up.

        Args:
            grantee: The principal.
        """
        return self._grant(grantee, actions.KEY_TABLE_READ, write=False)


class ConversationTable(_GatewayTable):
    """The turns of conversations, which DynamoDB deletes after their time to live.

    Args:
        scope: The parent construct.
        id: The construct's id.
        time_to_live: How long a turn is kept.
        encryption_key: The customer's key; AWS's own key for DynamoDB otherwise.
        removal_policy: What happens to the table when it leaves the stack.

    Raises:
        ValueError: If the time to live is under a day, which DynamoDB's deletion does not resolve.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        time_to_live: cdk.Duration | None = None,
        encryption_key: kms.IKey | None = None,
        removal_policy: cdk.RemovalPolicy = cdk.RemovalPolicy.RETAIN,
    ) -> None:
        days = 30.0 if time_to_live is None else float(time_to_live.to_days(integral=False))
        if days < 1 or days != int(days):
            raise ValueError(f"time_to_live is {days:g} days; give whole days, 1 or more (Duration.days(30))")
        super().__init__(
            scope,
            id,
            partition_key=PARTITION_KEY,
            sort_key=SORT_KEY,
            time_to_live_attribute=TTL_ATTRIBUTE,
            encryption_key=encryption_key,
            removal_policy=removal_policy,
        )
        self.time_to_live_days = int(days)

    def grant_read_write(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal read and add turns.

        Args:
            grantee: The principal.
        """
        return self._grant(grantee, (*actions.CONVERSATION_READ, *actions.CONVERSATION_WRITE), write=True)
