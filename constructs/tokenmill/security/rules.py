"""What a rule of EventBridge may do with a queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_iam as iam

if TYPE_CHECKING:
    from aws_cdk import aws_events as events
    from aws_cdk import aws_sqs as sqs


def let_rule_send(rule: events.CfnRule, queue: sqs.IQueue) -> None:
    """Let a rule fill a queue ("Using dead-letter queues to process undelivered events", EventBridge).

    Args:
        rule: The rule.
        queue: Its dead-letter queue.
    """
    queue.add_to_resource_policy(
        iam.PolicyStatement(
            actions=["sqs:SendMessage"],
            principals=[iam.ServicePrincipal("events.amazonaws.com")],
            resources=[queue.queue_arn],
            conditions={"ArnEquals": {"aws:SourceArn": rule.attr_arn}},
        )
    )
