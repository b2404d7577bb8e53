"""Keys and conversations: encrypted, restorable, kept, and gone after their time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms

from support_stack import of_type, only, statements, template_of
from tokenmill.gateway import ApiKeyTable, ConversationTable
from tokenmill_runtime import api_keys, conversations

if TYPE_CHECKING:
    from collections.abc import Callable

TABLE = "AWS::DynamoDB::Table"


def tables(template: dict[str, Any]) -> list[dict[str, Any]]:
    return list(of_type(template, TABLE).values())


def test_tables_are_on_demand_encrypted_and_restorable(prod: dict[str, Any]) -> None:
    """Nothing to size, nothing to lose for 35 days."""
    for table in tables(prod):
        properties = table["Properties"]
        assert properties["BillingMode"] == "PAY_PER_REQUEST"
        assert properties["SSESpecification"] == {"SSEEnabled": True}
        assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_data_outlives_a_production_stack_and_not_a_dev_one(
    prod: dict[str, Any], dev: dict[str, Any]
) -> None:
    """Deletion protection holds a table even against the console."""
    for table in tables(prod):
        assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("Retain", "Retain")
        assert table["Properties"]["DeletionProtectionEnabled"] is True
    for table in tables(dev):
        assert table["DeletionPolicy"] == "Delete"
        assert table["Properties"]["DeletionProtectionEnabled"] is False


def test_the_attribute_names_are_the_runtime_s(prod: dict[str, Any]) -> None:
    """The functions read what the template made."""
    keys, turns = tables(prod)
    assert [item["AttributeName"] for item in keys["Properties"]["KeySchema"]] == [api_keys.KEY_ID_ATTRIBUTE]
    assert [item["AttributeName"] for item in turns["Properties"]["KeySchema"]] == [
        conversations.PARTITION_KEY,
        conversations.SORT_KEY,
    ]
    assert turns["Properties"]["TimeToLiveSpecification"] == {
        "AttributeName": conversations.TTL_ATTRIBUTE,
        "Enabled": True,
    }


def test_tables_are_unnamed(prod: dict[str, Any]) -> None:
    """Two stacks never meet."""
    assert all("TableName" not in table["Properties"] for table in tables(prod))


@pytest.mark.parametrize(
    ("grant", "table_actions", "key_actions"),
    [
        (
            lambda stack, key, role: ApiKeyTable(stack, "Table", encryption_key=key).grant_read(role),
            "dynamodb:GetItem",
            ["kms:Decrypt", "kms:DescribeKey"],
        ),
        (
            lambda stack, key, role: ConversationTable(stack, "Table", encryption_key=key).grant_read_write(
                role
            ),
            [
                "dynamodb:GetItem",
                "dynamodb:PutItem",
                "dynamodb:Query",
            ],
            ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey"],
        ),
    ],
    ids=["keys", "conversations"],
)
def test_a_grant_has_the_table_s_actions_and_its_key_s(
    grant: Callable[[cdk.Stack, kms.IKey, iam.IRole], iam.Grant],
    table_actions: str | list[str],
    key_actions: list[str],
    stack: cdk.Stack,
) -> None:
    """Without wildcards, so that no check has to be answered for them."""
    role = iam.Role(stack, "Caller", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    grant(stack, kms.Key(stack, "Key"), role).assert_success()
    granted = [found["Action"] for found in statements(template_of(stack), "Caller")]
    assert sorted(granted, key=str) == sorted([table_actions, key_actions], key=str)


def test_a_time_to_live_is_whole_days(stack: cdk.Stack) -> None:
    """The gateway reads days from its document."""
    table = ConversationTable(stack, "Table", time_to_live=cdk.Duration.hours(48))
    assert table.time_to_live_days == 2
    assert only(template_of(stack), TABLE)


@pytest.mark.parametrize("hours", [1, 36])
def test_fails_for_part_of_a_day(hours: int, stack: cdk.Stack) -> None:
    """DynamoDB deletes within days, not hours."""
    with pytest.raises(ValueError, match=f"time_to_live is {hours / 24:g} days; give whole days, 1 or more"):
        ConversationTable(stack, "Table", time_to_live=cdk.Duration.hours(hours))
    assert stack.node.children == []
