"""Alarms on what callers feel: slow first tokens, errors, no copies, throttling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from tokenmill.observability.metrics import one_minute, token_metric
from tokenmill_runtime import metric_contract

if TYPE_CHECKING:
    from aws_cdk import aws_lambda as lambda_
    from aws_cdk import aws_sns as sns

    from tokenmill.core.workload import Slo

WINDOW_MINUTES = 5
ERROR_PERCENT = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmedTarget:
    """What a gateway's alarms watch.

    Args:
        target: The value of the metrics' Target dimension.
        function: The gateway's function.
        copies: Whether the target has copies that can be missing (SageMaker) or none (Bedrock).
    """

    target: str
    function: lambda_.IFunction
    copies: bool


class ChatAlarms(Construct):
    """Alarms of one model behind a gateway.

    Args:
        scope: The parent construct.
        id: The construct's id.
        watched: What the alarms watch.
        slo: The latency goal that the first token is held to.
        topic: Who is told; nobody otherwise.
    """

    def __init__(
        self, scope: Construct, id: str, *, watched: AlarmedTarget, slo: Slo, topic: sns.ITopic | None = None
    ) -> None:
        super().__init__(scope, id)
        self._target = watched.target
        self._actions = [] if topic is None else [topic.topic_arn]
        self.slow_first_token = self._slow_first_token(slo)
        self.errors = self._errors()
        self.throttles = self._throttles(watched.function)
        self.no_copies = self._no_copies() if watched.copies else None

    def _alarm(
        self,
        id: str,
        metric: cloudwatch.IMetric,
        *,
        description: str,
        threshold: float,
        comparison: cloudwatch.ComparisonOperator = cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
        missing: cloudwatch.TreatMissingData = cloudwatch.TreatMissingData.NOT_BREACHING,
    ) -> cloudwatch.Alarm:
        alarm = cloudwatch.Alarm(
            self,
            id,
            metric=metric,
            alarm_description=description,
            threshold=threshold,
            comparison_operator=comparison,
            evaluation_periods=WINDOW_MINUTES,
            datapoints_to_alarm=3,
            treat_missing_data=missing,
        )
        if self._actions:
            resource = alarm.node.default_child
            assert isinstance(resource, cloudwatch.CfnAlarm)
            resource.alarm_actions = self._actions
            resource.ok_actions = self._actions
        return alarm

    def _slow_first_token(self, slo: Slo) -> cloudwatch.Alarm:
        statistic = f"p{slo.percentile:g}"
        return self._alarm(
            "SlowFirstToken",
            token_metric(metric_contract.TIME_TO_FIRST_TOKEN, target=self._target, statistic=statistic),
            description=f"The {statistic} time to first token is above the goal of {slo.ttft_ms:g} ms",
            threshold=slo.ttft_ms,
        )

    def _errors(self) -> cloudwatch.Alarm:
        errors = token_metric(metric_contract.ERRORS, target=self._target)
        requests = token_metric(metric_contract.REQUESTS, target=self._target)
        percent = cloudwatch.MathExpression(
            expression="IF(requests > 0, 100 * FILL(errors, 0) / requests, 0)",
            using_metrics={"errors": errors, "requests": requests},
            period=one_minute(),
            label="Requests that failed, percent",
        )
        return self._alarm(
            "Errors",
            percent,
            description=f"More than {ERROR_PERCENT} percent of the requests were not answered in full",
            threshold=ERROR_PERCENT,
        )

    def _throttles(self, function: lambda_.IFunction) -> cloudwatch.Alarm:
        return self._alarm(
            "Throttles",
            function.metric_throttles(period=one_minute()),
            description="Lambda turned requests away for want of concurrent executions",
            threshold=0,
        )

    def _no_copies(self) -> cloudwatch.Alarm:
        return self._alarm(
            "NoCopies",
            token_metric(metric_contract.COPIES, target=self._target),
            description="No copy is in service, or the heartbeat that counts them has stopped",
            threshold=1,
            comparison=cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
            missing=cloudwatch.TreatMissingData.BREACHING,
        )
