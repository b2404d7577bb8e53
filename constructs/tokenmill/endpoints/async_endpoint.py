"""A model that takes requests into a queue and answers into a bucket."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam

from tokenmill.core.errors import TokenmillError
from tokenmill.endpoints.async_delivery import ANSWERS, FAILURES, REQUESTS, AsyncDelivery, AsyncMailbox
from tokenmill.endpoints.base import SAGEMAKER_NAMESPACE
from tokenmill.endpoints.endpoint_checks import check_same_region
from tokenmill.endpoints.update_policy import UpdatePolicy
from tokenmill.endpoints.variant_endpoint import VariantEndpoint
from tokenmill.security import actions

if TYPE_CHECKING:
    from aws_cdk import aws_sagemaker as sagemaker
    from constructs import Construct

    from tokenmill.core.workload import Capacity
    from tokenmill.endpoints.fleet import Fleet
    from tokenmill.endpoints.hosting import EndpointHosting
    from tokenmill.endpoints.model_source import ModelSource
    from tokenmill.endpoints.serving import Serving

ENDPOINT_DIMENSION = "EndpointName"
BACKLOG = "ApproximateBacklogSize"
BACKLOG_PER_INSTANCE = "ApproximateBacklogSizePerInstance"
OLDEST_AGE = "ApproximateAgeOfOldestRequest"
WITHOUT_CAPACITY = "HasBacklogWithoutCapacity"
PROCESSED = "InvocationsProcessed"
# "Alarms and logs for tracking metrics from asynchronous endpoints" (Amazon SageMaker AI developer guide): an
# exhaustive list; Invocations and InvocationsPerInstance are not published for an asynchronous endpoint. The
# page misspells InvocationsProcessed (Cloud Custodian, "Filtering SageMaker endpoints on CloudWatch metrics",
# whose names and dimensions were read from live endpoints).
QUEUE_METRICS = (BACKLOG, BACKLOG_PER_INSTANCE, OLDEST_AGE, WITHOUT_CAPACITY)
VARIANT_METRICS = (
    "ExpiredRequests",
    "Invocation4XXErrors",
    "Invocation5XXErrors",
    "InvocationFailures",
    PROCESSED,
    "ModelLatency",
    "NotificationFailures",
    "RequestDownloadFailures",
    "RequestDownloadLatency",
    "ResponseUploadFailures",
    "ResponseUploadLatency",
    "TimeInBacklog",
    "TotalProcessingTime",
)
COUNTED = tuple(
    name for name in VARIANT_METRICS if name.endswith(("Errors", "Failures", "Processed", "Requests"))
)


class AsyncEndpoint(VariantEndpoint):
    """A model behind SageMaker's queue: requests of up to 1 GB and an hour, answers in S3.

    An endpoint with an asynchronous configuration takes nothing else: no streaming, no gateway in front
    ("Asynchronous inference", Amazon SageMaker AI developer guide). It has one production variant and no
    inference components.

    Args:
        scope: The parent construct.
        id: The construct's id.
        serving: The model, the instance type and how a copy is cut.
        capacity: Fewest, most and first instances. SageMaker makes an endpoint with one instance at least;
            `BacklogScaling` takes it to 0 where the fewest are 0.
        source: Where weights and image come from.
        delivery: Bucket, topics and how many requests an instance has at once.
        hosting: Role, network, keys.
        fleet: Which machines.
        update: How changes reach the instances. The check after a deployment compares the live configuration
            and asks nothing, because the endpoint has no answer to give at once.

    Raises:
        TokenmillError: If the parts do not fit each other.
    """

    ZERO_INSTANCES = True
    answers_async = True

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        serving: Serving,
        capacity: Capacity,
        source: ModelSource | None = None,
        delivery: AsyncDelivery | None = None,
        hosting: EndpointHosting | None = None,
        fleet: Fleet | None = None,
        update: UpdatePolicy | None = None,
    ) -> None:
        _check(hosting)
        self.delivery = delivery or AsyncDelivery()
        check_same_region(
            cdk.Stack.of(scope).region,
            {
                "delivery.bucket": self.delivery.bucket,
                "delivery.encryption_key": self.delivery.encryption_key,
                "delivery.success_topic": self.delivery.success_topic,
                "delivery.error_topic": self.delivery.error_topic,
            },
        )
        super().__init__(
            scope,
            id,
            serving=serving,
            capacity=capacity,
            source=source,
            hosting=hosting,
            fleet=fleet,
            update=_without_prompt(update or UpdatePolicy()),
        )

    @property
    def max_concurrent(self) -> int:
        """Requests that SageMaker has in an instance at once."""
        return self.delivery.concurrent(self.serving)

    def grant_invoke(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal call the model in the only way that the endpoint takes: `grant_invoke_async`.

        Args:
            grantee: The principal.
        """
        return self.grant_invoke_async(grantee)

    def grant_invoke_async(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal put requests into the bucket and have them answered.

        Args:
            grantee: The principal.
        """
        key = self.mailbox.bucket_key
        if key is not None:
            key.grant(grantee, *actions.OBJECT_KEY_WRITE)
        put = self.mailbox.allow_objects(grantee, actions.ASYNC_REQUEST_WRITE, REQUESTS)
        return iam.Grant.add_to_principal(
            grantee=grantee,
            actions=list(actions.ENDPOINT_INVOKE_ASYNC),
            resource_arns=[self.endpoint_arn],
        ).combine(put)

    def grant_read_answers(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal read answers and failures, and see that there is none yet.

        Args:
            grantee: The principal.
        """
        key = self.mailbox.bucket_key
        if key is not None:
            key.grant(grantee, *actions.OBJECT_KEY_READ)
        listing = self.mailbox.allow_listing(grantee)
        return self.mailbox.allow_objects(grantee, actions.ANSWERS_READ, ANSWERS, FAILURES).combine(listing)

    def metric_async(
        self, name: str, *, statistic: str | None = None, period: cdk.Duration | None = None
    ) -> cloudwatch.Metric:
        """Return one of the metrics that SageMaker publishes of an asynchronous endpoint.

        Args:
            name: Such as "ApproximateBacklogSize" or "TimeInBacklog".
            statistic: A CloudWatch statistic; the sum of counted events, the maximum of the queue's and the
                average of times otherwise.
            period: One minute otherwise.

        Raises:
            TokenmillError: If an asynchronous endpoint has no such metric.
        """
        usual = "Maximum" if name in QUEUE_METRICS else "Sum" if name in COUNTED else "Average"
        return self.metric_sagemaker(name, statistic=statistic or usual, period=period)

    def metric_sagemaker(
        self,
        name: str,
        *,
        statistic: str,
        period: cdk.Duration | None = None,
        instance_type: str | None = None,
    ) -> cloudwatch.Metric:
        """Return one of SageMaker's own metrics, in the namespace AWS/SageMaker.

        The queue's have the endpoint as their only dimension; the others have endpoint and variant.

        Args:
            name: One that is published for asynchronous endpoints.
            statistic: A CloudWatch statistic.
            period: One minute otherwise.
            instance_type: Only what this type answered, where there are several.

        Raises:
            TokenmillError: If an asynchronous endpoint has no such metric.
        """
        if name in VARIANT_METRICS:
            return super().metric_sagemaker(
                name, statistic=statistic, period=period, instance_type=instance_type
            )
        if name not in QUEUE_METRICS:
            raise TokenmillError(
                f"metric {name!r} is not published for an asynchronous endpoint; published are "
                f"{', '.join(QUEUE_METRICS + VARIANT_METRICS)}"
            )
        return cloudwatch.Metric(
            namespace=SAGEMAKER_NAMESPACE,
            metric_name=name,
            dimensions_map={ENDPOINT_DIMENSION: self.endpoint_name},
            statistic=statistic,
            period=period or Duration.minutes(1),
        )

    def metric_invocations(self, *, period: cdk.Duration | None = None) -> cloudwatch.Metric:
        """Return the requests that were processed; SageMaker counts no others here.

        Args:
            period: One minute otherwise.
        """
        return self.metric_async(PROCESSED, period=period)

    def metric_backlog(self, *, period: cdk.Duration | None = None) -> cloudwatch.Metric:
        """Return how many requests wait or are being answered.

        Args:
            period: One minute otherwise.
        """
        return self.metric_async(BACKLOG, period=period)

    def metric_oldest_request_age(self, *, period: cdk.Duration | None = None) -> cloudwatch.Metric:
        """Return how long the oldest request in the queue has waited, in seconds.

        Args:
            period: One minute otherwise.
        """
        return self.metric_async(OLDEST_AGE, period=period)

    def _async_inference(self) -> sagemaker.CfnEndpointConfig.AsyncInferenceConfigProperty:
        self.mailbox = AsyncMailbox(self, "Mailbox", delivery=self.delivery)
        if self._hosting.role is None:
            self.mailbox.grant_deliver(self.role)
        return self.mailbox.property(self.serving)


def _without_prompt(update: UpdatePolicy) -> UpdatePolicy:
    """Return the policy with a check that asks nothing: the endpoint answers no InvokeEndpoint."""
    if update.check is None:
        return update
    return replace(update, check=replace(update.check, prompt=None))


def _check(hosting: EndpointHosting | None) -> None:
    if hosting is not None and hosting.data_capture is not None:
        raise TokenmillError(
            "hosting.data_capture is given, but SageMaker captures from endpoints that answer at once and "
            "from batch transform; every request and answer of an asynchronous endpoint stands in its bucket "
            "anyway, so leave data_capture out"
        )
