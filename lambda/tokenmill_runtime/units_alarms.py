"""Alarms on units that stayed when their resource went.

They are made through the API, because a stack would take them along. Bedrock counts calls of units under
their ARN ("Monitoring the performance of Amazon Bedrock", Amazon Bedrock User Guide); the alarm takes every
number of calls and no number at all for a breach, so it stands until the units are adopted or deleted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime import aws

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill_runtime.units_plan import Units

PREFIX: Final = "tokenmill-units-"
NAMESPACE: Final = "AWS/Bedrock"
CALLS: Final = "Invocations"
DIMENSION: Final = "ModelId"
HOUR_SECONDS: Final = 3600


def alarm_name(units: Units) -> str:
    """The name of the alarm on units."""
    return f"{PREFIX}{units.id}"


def make(units: Units, entry: Mapping[str, Any], *, topic: str) -> None:
    """Put an alarm on units; it tells a topic if there is one."""
    until = entry["expires"] or "somebody deletes them"
    cost = f"{entry['daily_usd']:.2f} USD a day" if entry["daily_usd"] else "an unknown price"
    aws.cloudwatch().put_metric_alarm(
        AlarmName=alarm_name(units),
        AlarmDescription=(
            f"{units.units} model units of {units.model_arn} are paid for ({cost}, until {until}) and no "
            f"stack declares them: {entry['reason']}. The next deployment that asks for the same adopts "
            f"them; otherwise delete {units.arn} and this alarm."
        )[:1024],
        Namespace=NAMESPACE,
        MetricName=CALLS,
        Dimensions=[{"Name": DIMENSION, "Value": units.arn}],
        Statistic="Sum",
        Period=HOUR_SECONDS,
        EvaluationPeriods=1,
        Threshold=0,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        TreatMissingData="breaching",
        AlarmActions=[topic] if topic else [],
    )


def remove(units: Units) -> None:
    """Take the alarm away; none is fine."""
    aws.cloudwatch().delete_alarms(AlarmNames=[alarm_name(units)])
