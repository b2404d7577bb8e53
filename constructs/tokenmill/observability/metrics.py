"""CloudWatch metrics by the contract that the functions publish under."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch

from tokenmill_runtime.metric_contract import BY_NAME, NAMESPACE, TARGET_DIMENSION

if TYPE_CHECKING:
    from collections.abc import Sequence


@functools.cache
def one_minute() -> cdk.Duration:
    """Return the period of every metric here; made once, because each call of aws_cdk is a round trip."""
    return cdk.Duration.minutes(1)


def token_metric(
    name: str, *, target: str, statistic: str | None = None, period: cdk.Duration | None = None
) -> cloudwatch.Metric:
    """Return a metric of one target.

    Args:
        name: A name of `tokenmill_runtime.metric_contract`, such as "TokenWork".
        target: The inference component's name, or the Bedrock model id.
        statistic: A CloudWatch statistic; the contract's own otherwise.
        period: One minute otherwise.

    Raises:
        ValueError: If the contract has no such metric.
    """
    definition = BY_NAME.get(name)
    if definition is None:
        raise ValueError(f"no metric is called {name!r}; the contract has {', '.join(sorted(BY_NAME))}")
    return cloudwatch.Metric(
        namespace=NAMESPACE,
        metric_name=name,
        dimensions_map={TARGET_DIMENSION: target},
        statistic=statistic or definition.statistic,
        period=period or one_minute(),
    )


def token_metrics(names: Sequence[str], *, target: str) -> list[cloudwatch.IMetric]:
    """Return several metrics of one target with the contract's own statistics.

    Args:
        names: Names of the metric contract.
        target: The inference component's name, or the Bedrock model id.
    """
    return [token_metric(name, target=target) for name in names]
