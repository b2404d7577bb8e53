"""A queue in front of a model that may have no copy, so that the request which wakes it is not lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from tokenmill.core._checks import whole
from tokenmill.core.errors import TokenmillError
from tokenmill.security import FunctionEntry, RuntimeFunction, actions
from tokenmill.security.acknowledge import acknowledge_resources
from tokenmill.security.bucket import private_bucket
from tokenmill.security.hosting import FunctionHosting
from tokenmill_runtime.functions import WAKE_UP_QUEUE
from tokenmill_runtime.wake_up_queue import VARIABLE, WAIT_SECONDS

if TYPE_CHECKING:
    from aws_cdk import aws_s3 as s3

    from tokenmill.endpoints.base import LlmEndpointBase

# A stream ends after 8 minutes ("Model Hosting FAQs", Amazon SageMaker AI developer guide), and a broken one
# is asked for once more.
FUNCTION_SECONDS = 900
ENTRY = FunctionEntry(
    runs=WAKE_UP_QUEUE,
    description="Answers queued requests as soon as the model has a copy",
    timeout_seconds=FUNCTION_SECONDS,
    memory_mb=128,
)
# A copy that an hour of asking did not start will not start by being asked.
MOST_RECEIVES = 3600 // WAIT_SECONDS


class WakeUpQueue(Construct):
    """Requests in, answers in a bucket; the first request starts the model, and none is lost meanwhile.

    A message is {"id": "<name>", "body": {<OpenAI chat completion request>}}, its answer the object
    answers/<name>.json, or failures/<name>.json for what no retry can mend. A message that finds no copy for
    an hour goes to the dead-letter queue.

    Args:
        scope: The parent construct.
        id: The construct's id.
        endpoint: The component that answers.
        answers: The bucket of the answers; one whose objects go after 30 days otherwise.
        concurrency: Most requests that the queue has in the model at once, from 2 on.
        hosting: Network, key, retention of function, queue and bucket.

    Raises:
        TokenmillError: If the concurrency is not one of Lambda's.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        endpoint: LlmEndpointBase,
        answers: s3.IBucket | None = None,
        concurrency: int = 8,
        hosting: FunctionHosting | None = None,
    ) -> None:
        if getattr(endpoint, "component_name", None) is None:
            raise TokenmillError(
                f"endpoint {endpoint.node.path} has no inference component, so it is never without copies; "
                "give an LlmEndpoint or one of its components, or use AsyncEndpoint, which has a queue"
            )
        if not 2 <= whole("concurrency", concurrency) <= 1000:
            raise TokenmillError(
                f"concurrency is {concurrency}; Lambda takes 2 to 1000 messages of a queue at once"
            )
        super().__init__(scope, id)
        hosting = hosting or FunctionHosting()
        self._key = hosting.encryption_key
        self.answers: s3.IBucket = answers or self._answers(hosting)
        self.dead_letters = self._queue("DeadLetters")
        self.queue = self._queue("Queue", self.dead_letters)
        self.handler = self._function(endpoint, hosting)
        # The L2 event source adds grants to the role itself and would hide which.
        self.mapping = lambda_.CfnEventSourceMapping(
            self,
            "Mapping",
            function_name=self.handler.function.function_arn,
            event_source_arn=self.queue.queue_arn,
            batch_size=1,
            function_response_types=["ReportBatchItemFailures"],
            scaling_config=lambda_.CfnEventSourceMapping.ScalingConfigProperty(
                maximum_concurrency=concurrency
            ),
        )
        # Lambda looks whether the role may take messages while it makes the mapping.
        self.mapping.node.add_dependency(self.handler.role)

    def grant_send(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal put requests into the queue.

        Args:
            grantee: The principal.
        """
        if self._key is not None:
            self._key.grant(grantee, *actions.OBJECT_KEY_WRITE)
        return iam.Grant.add_to_principal(
            grantee=grantee, actions=list(actions.QUEUE_SEND), resource_arns=[self.queue.queue_arn]
        )

    def grant_read(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal read answers and failures.

        Args:
            grantee: The principal.
        """
        if self.answers.encryption_key is not None:
            self.answers.encryption_key.grant(grantee, *actions.OBJECT_KEY_READ)
        return iam.Grant.add_to_principal(
            grantee=grantee, actions=list(actions.ANSWERS_READ), resource_arns=self._objects()
        )

    def _objects(self) -> list[str]:
        return [self.answers.arn_for_objects(f"{folder}/*") for folder in ("answers", "failures")]

    def _answers(self, hosting: FunctionHosting) -> s3.Bucket:
        return private_bucket(
            self,
            "Answers",
            reason_without_access_log="Answers are read by the callers of one queue and go after 30 days.",
            encryption_key=hosting.encryption_key,
            expire_days=30,
            removal_policy=cdk.RemovalPolicy.DESTROY if hosting.ephemeral else cdk.RemovalPolicy.RETAIN,
        )

    def _queue(self, id: str, dead_letters: sqs.Queue | None = None) -> sqs.Queue:
        redrive = None
        if dead_letters is not None:
            redrive = sqs.DeadLetterQueue(max_receive_count=MOST_RECEIVES, queue=dead_letters)
        return sqs.Queue(
            self,
            id,
            dead_letter_queue=redrive,
            encryption=sqs.QueueEncryption.SQS_MANAGED if self._key is None else sqs.QueueEncryption.KMS,
            encryption_master_key=self._key,
            enforce_ssl=True,
            retention_period=cdk.Duration.days(14),
            visibility_timeout=cdk.Duration.seconds(FUNCTION_SECONDS),
        )

    def _function(self, endpoint: LlmEndpointBase, hosting: FunctionHosting) -> RuntimeFunction:
        document = {
            "endpoint": endpoint.endpoint_name,
            "component": endpoint.component_name,
            "queue_url": self.queue.queue_url,
            "bucket": self.answers.bucket_name,
        }
        made = RuntimeFunction(
            self,
            "Function",
            entry=ENTRY,
            environment={VARIABLE: cdk.Stack.of(self).to_json_string(document)},
            hosting=hosting,
        )
        role = made.role
        endpoint.grant_invoke(role)
        for granted, resources in (
            (actions.QUEUE_TAKE, [self.queue.queue_arn]),
            (actions.ANSWERS_KEEP, self._objects()),
            (actions.ANSWERS_LIST, [self.answers.bucket_arn]),
        ):
            role.add_to_policy(iam.PolicyStatement(actions=list(granted), resources=resources))
        reason = "Answers are named by their requests, so the function keeps every object of two folders."
        acknowledge_resources(role, dict.fromkeys(self._objects(), reason))
        for key in {self._key, self.answers.encryption_key} - {None}:
            if key is not None:
                key.grant(role, *actions.OBJECT_KEY_WRITE)
        return made
