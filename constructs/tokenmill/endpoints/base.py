"""What a model on SageMaker offers to others, made here or imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_iam as iam
from constructs import Construct

from tokenmill.observability.metrics import token_metric
from tokenmill.security import actions
from tokenmill_runtime import metric_contract

if TYPE_CHECKING:
    import aws_cdk as cdk
    from aws_cdk import aws_cloudwatch as cloudwatch


class LlmEndpointBase(Construct):
    """Names, grants and metrics of an inference component on an endpoint."""

    endpoint_name: str
    endpoint_arn: str
    component_name: str
    component_arn: str

    @property
    def scaling_resource_id(self) -> str:
        """The component as Application Auto Scaling names it."""
        return f"inference-component/{self.component_name}"

    def grant_invoke(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal call the model, streamed or not.

        Args:
            grantee: The principal.
        """
        return iam.Grant.add_to_principal(
            grantee=grantee,
            actions=list(actions.ENDPOINT_INVOKE),
            resource_arns=[self.endpoint_arn, self.component_arn],
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
        return token_metric(name, target=self.component_name, statistic=statistic, period=period)

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
