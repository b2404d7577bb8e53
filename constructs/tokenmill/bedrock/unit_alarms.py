"""Alarms on units: what costs money for nothing, and what callers feel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from tokenmill_runtime import metric_contract

if TYPE_CHECKING:
    from tokenmill.bedrock.unit_values import UnitAlarms

BEDROCK_NAMESPACE = "AWS/Bedrock"
# "Monitoring the performance of Amazon Bedrock" (Amazon Bedrock User Guide): requests that the system
# throttled, by ModelId, which for units is their ARN.
THROTTLES = "InvocationThrottles"
MODEL_DIMENSION = "ModelId"
MINUTE, HOUR = 60, 3600
# Long enough that one burst is none, short enough that callers hardly saw it.
OVERFLOW_MINUTES = 5


class UnitAlarmSet(Construct):
    """The alarms of one resource of provisioned units.

    Args:
        scope: The units.
        id: The construct's id.
        target: The value of the Target dimension of the units' metrics.
        model_arn: The ARN that callers begin with; its throttles count.
        alarms: Whom to tell, and when.
    """

    def __init__(self, scope: Construct, id: str, *, target: str, model_arn: str, alarms: UnitAlarms) -> None:
        super().__init__(scope, id)
        self._target = target
        self._actions = None if alarms.topic is None else [alarms.topic.topic_arn]
        self.throttles: cloudwatch.CfnAlarm | None = self._alarm(
            "Throttles",
            "Units throttle their callers: more is asked of them than they process",
            metric=(BEDROCK_NAMESPACE, THROTTLES, "Sum"),
            dimension=(MODEL_DIMENSION, model_arn),
            threshold=(">", 0),
            periods=(OVERFLOW_MINUTES, 3),
        )
        self.overflow = self._unit_alarm(
            "Overflow",
            metric_contract.OVERFLOW,
            "Requests go to the fallback, which is paid for besides the units",
            statistic="Sum",
            threshold=(">", 0),
            periods=(OVERFLOW_MINUTES, 3),
        )
        self.missing = self._unit_alarm(
            "UnitsMissing",
            metric_contract.UNITS_MISSING,
            "Units that should be there could not be had; callers use the fallback",
            # Said when hours begin and then every hour: it stands until a look finds the units there, even if
            # that is in the minute in which they were missed.
            statistic="Minimum",
            threshold=(">", 0),
            without_data="ignore",
        )
        self.expiry = self._unit_alarm(
            "Expiry",
            metric_contract.DAYS_TO_EXPIRY,
            f"A commitment ends within {alarms.expiry_days} days; its units cost on until they are deleted",
            statistic="Minimum",
            threshold=("<=", alarms.expiry_days),
            period=HOUR,
        )
        self.idle = self._unit_alarm(
            "Idle",
            metric_contract.IDLE_UNITS,
            f"Units had no request for {alarms.idle_hours} hours and are paid for",
            statistic="Minimum",
            threshold=(">", 0),
            period=HOUR,
            periods=(alarms.idle_hours, alarms.idle_hours),
        )
        self.retained = self._unit_alarm(
            "Retained",
            metric_contract.UNITS_RETAINED,
            "Units are owned that no deployment declares; see the ledger under /tokenmill/units",
            threshold=(">", 0),
            period=HOUR,
        )

    def drop_throttles(self) -> None:
        """Take the alarm on throttles away: scheduled units have another ARN each morning, and at first none.

        Their throttles reach the alarm on overflow, since callers go to the fallback.
        """
        self.node.try_remove_child("Throttles")
        self.throttles = None

    def _unit_alarm(
        self,
        id: str,
        metric: str,
        description: str,
        *,
        threshold: tuple[str, float],
        statistic: str = "Maximum",
        period: int = MINUTE,
        periods: tuple[int, int] = (1, 1),
        without_data: str = "notBreaching",
    ) -> cloudwatch.CfnAlarm:
        return self._alarm(
            id,
            description,
            metric=(metric_contract.NAMESPACE, metric, statistic),
            dimension=(metric_contract.TARGET_DIMENSION, self._target),
            threshold=threshold,
            period=period,
            periods=periods,
            without_data=without_data,
        )

    def _alarm(
        self,
        id: str,
        description: str,
        *,
        metric: tuple[str, str, str],
        dimension: tuple[str, str],
        threshold: tuple[str, float],
        period: int = MINUTE,
        periods: tuple[int, int] = (1, 1),
        without_data: str = "notBreaching",
    ) -> cloudwatch.CfnAlarm:
        namespace, name, statistic = metric
        key, value = dimension
        comparison, limit = threshold
        return cloudwatch.CfnAlarm(
            self,
            id,
            alarm_description=description,
            namespace=namespace,
            metric_name=name,
            dimensions=[{"name": key, "value": value}],
            statistic=statistic,
            period=period,
            evaluation_periods=periods[0],
            datapoints_to_alarm=periods[1],
            threshold=limit,
            comparison_operator={
                ">": "GreaterThanThreshold",
                "<=": "LessThanOrEqualToThreshold",
            }[comparison],
            treat_missing_data=without_data,
            alarm_actions=self._actions,
            ok_actions=self._actions,
        )
