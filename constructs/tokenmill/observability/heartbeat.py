"""The one-minute heartbeat: zero demand and current copies of every target, so that idle is not missing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from constructs import Construct

from tokenmill.security import FunctionEntry, FunctionHosting, RuntimeFunction, actions
from tokenmill.security.rules import calling_rule
from tokenmill_runtime.functions import HEARTBEAT
from tokenmill_runtime.heartbeat import HEARTBEAT_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_cdk import aws_sqs as sqs

    from tokenmill.endpoints.base import EndpointBase

ENTRY = FunctionEntry(
    runs=HEARTBEAT,
    description="Publishes zero demand and the current copies of every target, once a minute",
    timeout_seconds=30,
    memory_mb=128,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatTarget:
    """One target of the heartbeat.

    Args:
        target: The value of the metrics' Target dimension.
        component: The inference component whose copies are counted; None otherwise.
        variant_of: The endpoint of one variant whose instances are counted; None otherwise.
        counted_arn: The ARN of that component or endpoint, which the function may describe.
    """

    target: str
    component: str | None = None
    variant_of: str | None = None
    counted_arn: str | None = None

    @classmethod
    def endpoint(cls, endpoint: EndpointBase) -> HeartbeatTarget:
        """Return the target of an endpoint or of one of its components.

        Args:
            endpoint: The endpoint whose copies or instances are counted.
        """
        # The endpoints' metrics come from this package, so their classes are looked up when they are there.
        from tokenmill.endpoints.base import LlmEndpointBase

        target = endpoint.metric_target
        if isinstance(endpoint, LlmEndpointBase):
            name, arn = endpoint.component_name, endpoint.component_arn
            return cls(target=target, component=name, counted_arn=arn)
        return cls(target=target, variant_of=endpoint.endpoint_name, counted_arn=endpoint.endpoint_arn)

    @classmethod
    def bedrock(cls, model_id: str) -> HeartbeatTarget:
        """Return the target of a Bedrock model, which has no copies to count.

        Args:
            model_id: The model or inference profile id that callers' requests go to.
        """
        return cls(target=model_id)


class Heartbeat(Construct):
    """A function and the rule that runs it every minute.

    A missed beat is not made up for, because the next one says more: nothing is retried, and what could not
    be delivered is kept only where the hosting has a dead-letter queue.

    Args:
        scope: The parent construct.
        id: The construct's id.
        targets: What to publish for.
        hosting: Network, keys, retention, concurrency.

    Raises:
        ValueError: If there is no target.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        targets: Sequence[HeartbeatTarget],
        hosting: FunctionHosting | None = None,
    ) -> None:
        if not targets:
            raise ValueError(
                "targets is empty; give the endpoints or models that the heartbeat publishes for"
            )
        super().__init__(scope, id)
        hosting = hosting or FunctionHosting()
        if hosting.reserved_concurrency is not None:
            hosting = replace(hosting, reserved_concurrency=1)
        document = {
            "targets": [
                {"target": item.target, "component": item.component}
                | ({} if item.variant_of is None else {"endpoint": item.variant_of})
                for item in targets
            ]
        }
        self.handler = RuntimeFunction(
            self,
            "Function",
            entry=ENTRY,
            environment={HEARTBEAT_VARIABLE: cdk.Stack.of(self).to_json_string(document)},
            hosting=hosting,
        )
        for granted, arns in (
            (actions.COMPONENT_READ, [item.counted_arn for item in targets if item.component is not None]),
            (actions.ENDPOINT_READ, [item.counted_arn for item in targets if item.variant_of is not None]),
        ):
            named = [arn for arn in arns if arn is not None]
            if named:
                self.handler.role.add_to_policy(iam.PolicyStatement(actions=list(granted), resources=named))
        self.rule = self._rule(hosting.dead_letter_queue)

    def _rule(self, queue: sqs.IQueue | None) -> events.CfnRule:
        return calling_rule(
            self,
            "Minute",
            function=self.handler.function,
            target="Heartbeat",
            dead_letters=queue,
            retry_policy=events.CfnRule.RetryPolicyProperty(
                maximum_event_age_in_seconds=60, maximum_retry_attempts=0
            ),
            description="Runs the heartbeat of the token metrics",
            schedule_expression="rate(1 minute)",
        )
