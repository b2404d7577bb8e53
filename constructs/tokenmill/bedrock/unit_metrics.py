"""Metrics of provisioned units."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from constructs import Construct

from tokenmill.bedrock.unit_alarms import BEDROCK_NAMESPACE, MODEL_DIMENSION
from tokenmill_runtime import metric_contract

if TYPE_CHECKING:
    from aws_cdk import aws_cloudwatch as cloudwatch


class UnitMetrics(Construct):
    """What can be measured of units."""

    handle_name: str

    @property
    @abstractmethod
    def metric_dimension(self) -> str:
        """The ModelId of the first units' metrics in AWS/Bedrock, as a token."""

    def metric(self, name: str, *, statistic: str | None = None) -> cloudwatch.Metric:
        """Return one of the units' own metrics, published every hour or when units change.

        Args:
            name: A name of `tokenmill_runtime.metric_contract`, such as "UnitsOwned".
            statistic: A CloudWatch statistic; the contract's own otherwise.
        """
        from tokenmill.observability.metrics import token_metric

        return token_metric(name, target=self.handle_name, statistic=statistic)

    def metric_units_owned(self) -> cloudwatch.Metric:
        """Return the units that are owned and paid for."""
        return self.metric(metric_contract.UNITS_OWNED)

    def metric_units_retained(self) -> cloudwatch.Metric:
        """Return the units that are owned, but not declared any more."""
        return self.metric(metric_contract.UNITS_RETAINED)

    def metric_daily_usd(self) -> cloudwatch.Metric:
        """Return what the owned units cost a day, in US dollars."""
        return self.metric(metric_contract.DAILY_USD)

    def metric_overflow(self) -> cloudwatch.Metric:
        """Return the requests that the gateway sent to the fallback."""
        return self.metric(metric_contract.OVERFLOW)

    def metric_bedrock(self, name: str, *, statistic: str = "Sum") -> cloudwatch.Metric:
        """Return one of Bedrock's own metrics of the first units.

        Args:
            name: Such as "Invocations" or "InvocationThrottles".
            statistic: A CloudWatch statistic.
        """
        from aws_cdk import aws_cloudwatch as cloudwatch

        return cloudwatch.Metric(
            namespace=BEDROCK_NAMESPACE,
            metric_name=name,
            dimensions_map={MODEL_DIMENSION: self.metric_dimension},
            statistic=statistic,
        )
