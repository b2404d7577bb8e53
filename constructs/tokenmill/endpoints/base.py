"""What a model on SageMaker offers to others, made here or imported."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import aws_cdk as cdk
import jsii
from aws_cdk import aws_iam as iam
from constructs import Construct

from tokenmill.core.errors import TokenmillError
from tokenmill.observability.metrics import token_metric
from tokenmill.security import actions
from tokenmill_runtime import metric_contract

if TYPE_CHECKING:
    from aws_cdk import aws_cloudwatch as cloudwatch

VARIANT = "AllTraffic"
# "RegisterScalableTarget" (Application Auto Scaling API Reference): what of SageMaker's can scale.
COPIES_DIMENSION = "sagemaker:inference-component:DesiredCopyCount"
INSTANCES_DIMENSION = "sagemaker:variant:DesiredInstanceCount"
# "Amazon SageMaker AI metrics in Amazon CloudWatch" (Amazon SageMaker AI developer guide).
SAGEMAKER_NAMESPACE = "AWS/SageMaker"
HIGH_RESOLUTION_SECONDS = 10


class EndpointBase(Construct, metaclass=jsii.JSIIAbstractClass):
    """Names, grants and metrics of a model on an endpoint, in either mode."""

    endpoint_name: str
    endpoint_arn: str
    fewest_copies: int | None = None
    """Copies (or instances of a variant) that are always there; None where that is not known here."""
    most_copies: int | None = None
    """Copies (or instances of a variant) that there is room for; None where that is not known here."""
    answers_async: bool | None = False
    """Whether InvokeEndpointAsync reaches it; None where that is not known here."""
    concurrent_requests: str
    """SageMaker's name of the metric of requests in flight."""
    known_name: str | None = None
    """The name in metrics where the app itself gives it: an alarm on them then waits for no resource, and may
    guard the very deployment that makes it."""

    @property
    @abstractmethod
    def metric_target(self) -> str:
        """The value of the token metrics' Target dimension."""

    @property
    @abstractmethod
    def scalable_dimension(self) -> str:
        """What scales: copies of a component, or instances of a variant."""

    @property
    @abstractmethod
    def scaling_resource_id(self) -> str:
        """The component or the variant as Application Auto Scaling names it."""

    @property
    @abstractmethod
    def sagemaker_dimensions(self) -> dict[str, str]:
        """The dimensions under which SageMaker publishes this model's metrics."""

    @property
    def invoke_arns(self) -> list[str]:
        """What a call of the model is checked against."""
        return [self.endpoint_arn]

    def grant_invoke(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal call the model, streamed or not.

        Args:
            grantee: The principal.
        """
        return iam.Grant.add_to_principal(
            grantee=grantee, actions=list(actions.ENDPOINT_INVOKE), resource_arns=self.invoke_arns
        )

    def grant_invoke_async(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal queue requests for the model.

        Args:
            grantee: The principal.

        Raises:
            TokenmillError: If the endpoint answers no queued requests, which takes an AsyncInferenceConfig
                ("CreateEndpointConfig", Amazon SageMaker API Reference).
        """
        if self.answers_async is False:
            raise TokenmillError(
                f"{self.node.path} takes no queued requests, because its configuration has no "
                "AsyncInferenceConfig; make an AsyncEndpoint, or use grant_invoke"
            )
        return iam.Grant.add_to_principal(
            grantee=grantee,
            actions=list(actions.ENDPOINT_INVOKE_ASYNC),
            resource_arns=[self.endpoint_arn],
        )

    def metric(
        self, name: str, *, statistic: str | None = None, period: cdk.Duration | None = None
    ) -> cloudwatch.Metric:
        """Return a metric that the gateway or the heartbeat publishes for this model.

        Args:
            name: A name of `tokenmill_runtime.metric_contract`, such as "TokenWork".
            statistic: A CloudWatch statistic; the contract's own otherwise.
            period: One minute otherwise.

        Raises:
            ValueError: If the contract has no such metric.
        """
        return token_metric(name, target=self.metric_target, statistic=statistic, period=period)

    def metric_time_to_first_token(
        self, *, statistic: str = "p95", period: cdk.Duration | None = None
    ) -> cloudwatch.Metric:
        """Return the time to first token, in milliseconds.

        Args:
            statistic: A CloudWatch statistic.
            period: One minute otherwise.
        """
        return self.metric(metric_contract.TIME_TO_FIRST_TOKEN, statistic=statistic, period=period)

    def metric_token_work(self, *, period: cdk.Duration | None = None) -> cloudwatch.Metric:
        """Return the engine-busy seconds that arrived.

        Args:
            period: One minute otherwise.
        """
        return self.metric(metric_contract.TOKEN_WORK, period=period)

    def metric_copies(self, *, period: cdk.Duration | None = None) -> cloudwatch.Metric:
        """Return the copies in service.

        Args:
            period: One minute otherwise.
        """
        return self.metric(metric_contract.COPIES, period=period)

    def metric_sagemaker(
        self,
        name: str,
        *,
        statistic: str,
        period: cdk.Duration | None = None,
        instance_type: str | None = None,
    ) -> cloudwatch.Metric:
        """Return one of SageMaker's own metrics of calls, in the namespace AWS/SageMaker.

        Args:
            name: A metric of "Amazon SageMaker AI metrics in Amazon CloudWatch", such as "Invocations".
            statistic: A CloudWatch statistic that the page lists for it.
            period: One minute otherwise.
            instance_type: Only what this type answered, where there are several ("Deploy to multiple instance
                types with instance pools").
        """
        from aws_cdk import aws_cloudwatch as cloudwatch

        narrowed = {} if instance_type is None else {"InstanceType": instance_type}
        return cloudwatch.Metric(
            namespace=SAGEMAKER_NAMESPACE,
            metric_name=name,
            dimensions_map={**self.sagemaker_dimensions, **narrowed},
            statistic=statistic,
            period=period or cdk.Duration.minutes(1),
        )

    def metric_concurrent_requests(
        self, *, statistic: str = "Maximum", period: cdk.Duration | None = None
    ) -> cloudwatch.Metric:
        """Return the requests in flight a copy (a model, in single-variant mode), queued ones included.

        Args:
            statistic: "Minimum" or "Maximum".
            period: Ten seconds otherwise, which is how often SageMaker publishes it.
        """
        often = period or cdk.Duration.seconds(HIGH_RESOLUTION_SECONDS)
        return self.metric_sagemaker(self.concurrent_requests, statistic=statistic, period=often)

    def metric_model_latency(
        self, *, statistic: str = "p95", period: cdk.Duration | None = None, instance_type: str | None = None
    ) -> cloudwatch.Metric:
        """Return the time that the container takes for a whole answer, in microseconds.

        Args:
            statistic: A CloudWatch statistic.
            period: One minute otherwise.
            instance_type: Only what this type answered, for endpoints with instance pools.
        """
        return self.metric_sagemaker(
            "ModelLatency", statistic=statistic, period=period, instance_type=instance_type
        )

    def metric_invocations(self, *, period: cdk.Duration | None = None) -> cloudwatch.Metric:
        """Return the calls that arrived.

        Args:
            period: One minute otherwise.
        """
        return self.metric_sagemaker("Invocations", statistic="Sum", period=period)

    def metric_model_errors(self, *, period: cdk.Duration | None = None) -> cloudwatch.Metric:
        """Return the calls that the container answered with a server error.

        Args:
            period: One minute otherwise.
        """
        return self.metric_sagemaker("Invocation5XXErrors", statistic="Sum", period=period)


class LlmEndpointBase(EndpointBase):
    """Names, grants and metrics of an inference component on an endpoint."""

    component_name: str
    component_arn: str
    concurrent_requests = "ConcurrentRequestsPerCopy"

    @property
    def metric_target(self) -> str:
        """The component's name, the value of the token metrics' Target dimension."""
        return self.known_name or self.component_name

    @property
    def scalable_dimension(self) -> str:
        """Copies scale, and instances follow them."""
        return COPIES_DIMENSION

    @property
    def scaling_resource_id(self) -> str:
        """The component as Application Auto Scaling names it."""
        return f"inference-component/{self.component_name}"

    @property
    def sagemaker_dimensions(self) -> dict[str, str]:
        """SageMaker publishes a component's metrics under its name alone."""
        return {"InferenceComponentName": self.metric_target}

    @property
    def invoke_arns(self) -> list[str]:
        """The endpoint, and the component that a call names."""
        return [self.endpoint_arn, self.component_arn]

    def metric_no_capacity_failures(self, *, period: cdk.Duration | None = None) -> cloudwatch.Metric:
        """Return the calls that found no copy ("Scale an endpoint to zero instances").

        Args:
            period: One minute otherwise.
        """
        return self.metric_sagemaker("NoCapacityInvocationFailures", statistic="Sum", period=period)


class VariantEndpointBase(EndpointBase):
    """Names, grants and metrics of an endpoint whose only variant serves one model."""

    variant_name: str = VARIANT
    concurrent_requests = "ConcurrentRequestsPerModel"

    @property
    def metric_target(self) -> str:
        """The endpoint's name, the value of the token metrics' Target dimension."""
        return self.known_name or self.endpoint_name

    @property
    def scalable_dimension(self) -> str:
        """Instances scale, each with one copy."""
        return INSTANCES_DIMENSION

    @property
    def scaling_resource_id(self) -> str:
        """The variant as Application Auto Scaling names it."""
        return f"endpoint/{self.endpoint_name}/variant/{self.variant_name}"

    @property
    def sagemaker_dimensions(self) -> dict[str, str]:
        """SageMaker publishes a variant's metrics under endpoint and variant."""
        return {"EndpointName": self.metric_target, "VariantName": self.variant_name}
