"""A rule whose target refuses its events, and the encrypted queue that is to get them."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any

from tokenmill.verification import looking
from tokenmill.verification.probe import Outcome, Verdict

if TYPE_CHECKING:
    from tokenmill.verification.aws import Aws

TARGET = "function"
_SOURCE = "tokenmill.verify"
_SUFFIX = "dead-letters"


def dead_letters(aws: Aws, function_arn: str) -> Outcome:
    """Send events to a function that EventBridge may not invoke, and look for one in the queue.

    Without permission nothing is tried again: the event goes to the queue at once ("Using dead-letter queues
    to process undelivered events in EventBridge", Amazon EventBridge User Guide).

    Args:
        aws: The run.
        function_arn: A function without a permission for EventBridge.
    """
    queue = _create_queue(aws, _create_key(aws))
    _create_rule(aws, function_arn)

    def look() -> list[dict[str, Any]]:
        event = {"Source": _SOURCE, "DetailType": aws.run, "Detail": "{}"}
        aws.client("events").put_events(Entries=[event])
        received = aws.client("sqs").receive_message(QueueUrl=queue, MessageAttributeNames=["All"])
        messages: list[dict[str, Any]] = received.get("Messages", [])
        return messages

    messages = looking.or_nothing(lambda: aws.wait("a dead letter", look, seconds=looking.METRIC_SECONDS))
    if messages:
        attributes = messages[0].get("MessageAttributes", {})
        why = {name: value.get("StringValue", "") for name, value in attributes.items()}
        return Outcome(Verdict.HOLDS, {"message": messages[0]["Body"], "attributes": why})
    counts = {name: _events(aws, name) for name in ("InvocationsFailedToBeSentToDlq", "InvocationsSentToDlq")}
    # Without EventBridge's own count of failures, an empty queue may only mean that no event matched.
    failed = counts["InvocationsFailedToBeSentToDlq"] > 0
    return Outcome(Verdict.FAILS if failed else Verdict.UNCLEAR, {"message": None, **counts})


def _rule_arn(aws: Aws) -> str:
    return f"arn:{aws.partition}:events:{aws.region}:{aws.account}:rule/{aws.name(_SUFFIX)}"


def _queue_arn(aws: Aws) -> str:
    return f"arn:{aws.partition}:sqs:{aws.region}:{aws.account}:{aws.name(_SUFFIX)}"


def _create_key(aws: Aws) -> str:
    """Make a key with the statement for EventBridge that the compliant stack gives its own."""
    root = {"AWS": f"arn:{aws.partition}:iam::{aws.account}:root"}
    service = {"Service": "events.amazonaws.com"}
    use = ["kms:Decrypt", "kms:GenerateDataKey"]
    statements = [
        {"Effect": "Allow", "Principal": root, "Action": "kms:*", "Resource": "*"},
        {"Effect": "Allow", "Principal": service, "Action": use, "Resource": "*"},
    ]
    aws.declare("key", aws.name(_SUFFIX))
    key: str = aws.client("kms").create_key(
        Description=aws.name(_SUFFIX),
        Policy=json.dumps({"Version": "2012-10-17", "Statement": statements}),
        Tags=[{"TagKey": tag["Key"], "TagValue": tag["Value"]} for tag in aws.tags],
    )["KeyMetadata"]["KeyId"]
    return key


def _create_queue(aws: Aws, key: str) -> str:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": _queue_arn(aws),
        "Condition": {"ArnEquals": {"aws:SourceArn": _rule_arn(aws)}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    aws.declare("queue", aws.name(_SUFFIX))
    url: str = aws.client("sqs").create_queue(
        QueueName=aws.name(_SUFFIX),
        Attributes={"KmsMasterKeyId": key, "Policy": policy},
        tags={tag["Key"]: tag["Value"] for tag in aws.tags},
    )["QueueUrl"]
    return url


def _create_rule(aws: Aws, function_arn: str) -> None:
    client = aws.client("events")
    name = aws.name(_SUFFIX)
    aws.declare("rule", name)
    pattern = json.dumps({"source": [_SOURCE], "detail-type": [aws.run]})
    client.put_rule(Name=name, EventPattern=pattern, State="ENABLED", Tags=aws.tags)
    target = {
        "Id": TARGET,
        "Arn": function_arn,
        "DeadLetterConfig": {"Arn": _queue_arn(aws)},
        "RetryPolicy": {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60},
    }
    client.put_targets(Rule=name, Targets=[target])


def _events(aws: Aws, metric: str) -> float:
    now = datetime.datetime.now(datetime.UTC)
    found = aws.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/Events",
        MetricName=metric,
        Dimensions=[{"Name": "RuleName", "Value": aws.name(_SUFFIX)}],
        StartTime=now - datetime.timedelta(hours=1),
        EndTime=now,
        Period=3600,
        Statistics=["Sum"],
    )
    return sum(float(point["Sum"]) for point in found["Datapoints"])
