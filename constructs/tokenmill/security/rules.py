"""Rules of EventBridge that call a function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aws_cdk import aws_lambda as lambda_
    from aws_cdk import aws_sqs as sqs
    from constructs import Construct

    from tokenmill.security.plain_function import PlainFunction


def calling_rule(
    scope: Construct,
    id: str,
    *,
    function: PlainFunction | lambda_.Function,
    target: str,
    description: str,
    dead_letters: sqs.IQueue | None,
    permission: str = "Rule",
    event_pattern: Mapping[str, object] | None = None,
    schedule_expression: str | None = None,
    retry_policy: events.CfnRule.RetryPolicyProperty | None = None,
) -> events.CfnRule:
    """Return a rule that may call a function, and its queue of events that the function did not get.

    Args:
        scope: The rule's construct.
        id: The rule's id.
        function: The function.
        target: The target's id in the rule.
        description: What the rule is for.
        dead_letters: The queue; None where such events are dropped.
        permission: The id of the function's permission, one for each rule that calls it.
        event_pattern: Which events call the function; this or a schedule is given.
        schedule_expression: When the function is called, such as "rate(1 minute)".
        retry_policy: How often an event is delivered again; EventBridge's own otherwise.
    """
    undelivered = events.CfnRule.DeadLetterConfigProperty
    rule = events.CfnRule(
        scope,
        id,
        description=description,
        event_pattern=event_pattern,
        schedule_expression=schedule_expression,
        state="ENABLED",
        targets=[
            events.CfnRule.TargetProperty(
                id=target,
                arn=function.function_arn,
                dead_letter_config=None if dead_letters is None else undelivered(arn=dead_letters.queue_arn),
                retry_policy=retry_policy,
            )
        ],
    )
    function.add_permission(
        permission, principal=iam.ServicePrincipal("events.amazonaws.com"), source_arn=rule.attr_arn
    )
    if dead_letters is not None:
        _let_send(rule, dead_letters)
    return rule


def _let_send(rule: events.CfnRule, queue: sqs.IQueue) -> None:
    """Let a rule fill a queue ("Using dead-letter queues to process undelivered events", EventBridge)."""
    queue.add_to_resource_policy(
        iam.PolicyStatement(
            actions=["sqs:SendMessage"],
            principals=[iam.ServicePrincipal("events.amazonaws.com")],
            resources=[queue.queue_arn],
            conditions={"ArnEquals": {"aws:SourceArn": rule.attr_arn}},
        )
    )
