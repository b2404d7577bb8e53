"""A queue that a service writes to, and what has come into it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.verification.aws import Aws


class Inbox:
    """A queue of the run's own; messages are taken out once and kept here.

    Args:
        aws: The run.
        suffix: What it is for.
        service: Principal of the service that writes.
    """

    def __init__(self, aws: Aws, suffix: str, *, service: str) -> None:
        self._aws = aws
        self.messages: list[dict[str, Any]] = []
        name = aws.name(suffix)
        self.arn = f"arn:{aws.partition}:sqs:{aws.region}:{aws.account}:{name}"
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": service},
            "Action": "sqs:SendMessage",
            "Resource": self.arn,
            "Condition": {"StringEquals": {"aws:SourceAccount": aws.account}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        aws.declare("queue", name)
        self._url: str = aws.client("sqs").create_queue(
            QueueName=name,
            Attributes={"Policy": policy},
            tags={tag["Key"]: tag["Value"] for tag in aws.tags},
        )["QueueUrl"]

    def find(self, matches: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
        """Return a message that has come, or None.

        Args:
            matches: Whether a message is the one.
        """
        client = self._aws.client("sqs")
        received = client.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10)
        for message in received.get("Messages", []):
            self.messages.append(json.loads(message["Body"]))
            client.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        return next((message for message in self.messages if matches(message)), None)


def create_rule(aws: Aws, suffix: str, pattern: dict[str, Any], inbox: Inbox) -> None:
    """Send the events of a pattern into a queue.

    Args:
        aws: The run.
        suffix: What the rule is for.
        pattern: The events.
        inbox: The queue.
    """
    name = aws.name(suffix)
    aws.declare("rule", name)
    client = aws.client("events")
    client.put_rule(Name=name, EventPattern=json.dumps(pattern), State="ENABLED", Tags=aws.tags)
    client.put_targets(Rule=name, Targets=[{"Id": "inbox", "Arn": inbox.arn}])
