"""One dashboard a chat stack: demand, latency, capacity, errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from tokenmill.observability.metrics import token_metric, token_metrics
from tokenmill_runtime import metric_contract

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenmill.core.workload import Slo

HALF = 12


class ChatDashboard(Construct):
    """The dashboard of one model behind a gateway.

    Args:
        scope: The parent construct.
        id: The construct's id.
        target: The value of the metrics' Target dimension.
        slo: The latency goals, drawn as lines.
    """

    def __init__(self, scope: Construct, id: str, *, target: str, slo: Slo) -> None:
        super().__init__(scope, id)
        percentile = f"p{slo.percentile:g}"
        first = token_metric(metric_contract.TIME_TO_FIRST_TOKEN, target=target, statistic=percentile)
        between = token_metric(metric_contract.INTER_TOKEN_LATENCY, target=target, statistic=percentile)
        tokens = (
            metric_contract.INPUT_TOKENS,
            metric_contract.CACHED_INPUT_TOKENS,
            metric_contract.OUTPUT_TOKENS,
        )
        load = token_metrics((metric_contract.TOKEN_WORK,), target=target)
        capacity = token_metrics((metric_contract.COPIES, metric_contract.IN_FLIGHT), target=target)
        answered = token_metrics((metric_contract.REQUESTS, metric_contract.ERRORS), target=target)
        self.dashboard = cloudwatch.Dashboard(
            self,
            "Resource",
            widgets=[
                [
                    _graph("Time to first token, ms", [first], goal=slo.ttft_ms),
                    _graph("Inter-token latency, ms", [between], goal=slo.itl_ms),
                ],
                [
                    _graph("Token work (left, busy seconds a minute) and copies", load, right=capacity),
                    _graph("Tokens a minute", token_metrics(tokens, target=target)),
                ],
                [_graph("Requests and errors a minute", answered)],
            ],
        )


def _graph(
    title: str,
    left: Sequence[cloudwatch.IMetric],
    *,
    right: Sequence[cloudwatch.IMetric] = (),
    goal: float | None = None,
) -> cloudwatch.GraphWidget:
    line = [] if goal is None else [cloudwatch.HorizontalAnnotation(value=goal, label="goal")]
    return cloudwatch.GraphWidget(
        title=title, width=HALF, left=list(left), right=list(right), left_annotations=line
    )
