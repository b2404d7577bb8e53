"""Alarms: M out of N periods, missing data, one metric or an expression over several.

Source: Amazon CloudWatch User Guide, "Configuring how CloudWatch alarms treat missing data" and
"Evaluating an alarm" (the evaluation range is longer than the evaluation periods; when it holds enough
data points the missing ones are ignored).
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenmill.local.cloudwatch.metric_math import MetricMathError, check, evaluate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tokenmill.local.cloudwatch.metric_math import Series, Value

_EXTRA_PERIODS = 2
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricQuery:
    """One statistic of one metric over one period."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    statistic: str
    start: float
    end: float


Fetch = "Callable[[MetricQuery], float | None]"


def check_alarm(properties: Mapping[str, Any]) -> None:
    """Refuse an alarm that cannot be evaluated here, before anything is created.

    Args:
        properties: Properties of the CloudFormation resource.

    Raises:
        MetricMathError: A comparison, function or form that the local cloud does not evaluate.
    """
    comparison = properties.get("ComparisonOperator")
    if comparison not in _COMPARISONS:
        raise MetricMathError(
            f"alarm comparison {comparison!r} is not evaluated by the local cloud; "
            f"it evaluates {', '.join(_COMPARISONS)}"
        )
    for query in properties.get("Metrics") or []:
        if "Expression" in query:
            check(query["Expression"])
    if properties.get("Metrics") and len(_returned(properties["Metrics"])) != 1:
        raise MetricMathError(
            "exactly one of an alarm's Metrics must return data; set ReturnData to false on the others"
        )


def period_of(alarm: Mapping[str, Any]) -> int:
    """Return an alarm's period in seconds.

    Args:
        alarm: The alarm as PutMetricAlarm takes it.
    """
    periods = [query["MetricStat"]["Period"] for query in alarm.get("Metrics") or [] if "MetricStat" in query]
    return int(max(periods, default=alarm.get("Period") or 60))


def next_state(
    alarm: Mapping[str, Any], fetch: Callable[[MetricQuery], float | None], now: float
) -> tuple[str, str] | None:
    """Return an alarm's state and the reason; nothing when it keeps the one it has.

    Args:
        alarm: The alarm as PutMetricAlarm takes it.
        fetch: Gives one statistic of one metric.
        now: Time of the evaluation, seconds since 1970.

    Raises:
        MetricMathError: The expression cannot be evaluated.
    """
    needed = int(alarm.get("EvaluationPeriods", 1))
    periods = needed + _EXTRA_PERIODS
    series = _series(alarm, fetch, now, periods)
    points = [series[number] for number in range(periods) if number in series][-needed:]
    breaches = _COMPARISONS[alarm["ComparisonOperator"]]
    threshold = float(alarm["Threshold"])
    breaching = sum(breaches(point, threshold) for point in points)
    missing = needed - len(points)
    treatment = alarm.get("TreatMissingData") or "missing"
    if missing and treatment == "breaching":
        breaching += missing
    limit = int(alarm.get("DatapointsToAlarm") or needed)
    shown = ", ".join(f"{point:g}" for point in points) or "no data points"
    reason = f"{breaching} of {needed} datapoints [{shown}] are {alarm['ComparisonOperator']} {threshold:g}"
    if breaching >= limit:
        return "ALARM", f"Threshold Crossed: {reason}."
    if not points and treatment == "missing":
        return "INSUFFICIENT_DATA", f"Insufficient Data: {reason}."
    if not points and treatment == "ignore":
        return None
    return "OK", f"Threshold not crossed: {reason}."


def datapoints(
    alarm: Mapping[str, Any], fetch: Callable[[MetricQuery], float | None], now: float
) -> list[float]:
    """Return the newest data points that an alarm looks at, the oldest first.

    Args:
        alarm: The alarm as PutMetricAlarm takes it.
        fetch: Gives one statistic of one metric.
        now: Time of the evaluation, seconds since 1970.
    """
    needed = int(alarm.get("EvaluationPeriods", 1))
    periods = needed + _EXTRA_PERIODS
    try:
        series = _series(alarm, fetch, now, periods)
    except MetricMathError:
        # The alarm says in its state why it is not evaluated; its state was set by hand.
        return []
    return [series[number] for number in range(periods) if number in series][-needed:]


def _returned(queries: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [query for query in queries if query.get("ReturnData", True)]


def _series(
    alarm: Mapping[str, Any], fetch: Callable[[MetricQuery], float | None], now: float, periods: int
) -> Series:
    queries = alarm.get("Metrics")
    if not queries:
        statistic = alarm.get("ExtendedStatistic") or alarm.get("Statistic") or "Average"
        period = int(alarm.get("Period") or 60)
        return _metric(alarm, statistic, period, fetch, now, periods)
    values: dict[str, Value] = {}
    for query in queries:
        if "MetricStat" in query:
            stat = query["MetricStat"]
            values[query["Id"]] = _metric(
                stat["Metric"], stat["Stat"], int(stat["Period"]), fetch, now, periods
            )
    pending = [query for query in queries if "Expression" in query]
    while pending:
        ready = [query for query in pending if not _names(query) & {other["Id"] for other in pending}]
        if not ready:
            raise MetricMathError("the alarm's expressions refer to each other in a circle")
        for query in ready:
            values[query["Id"]] = evaluate(query["Expression"], values, periods)
            pending.remove(query)
    result = values[_returned(queries)[0]["Id"]]
    return dict.fromkeys(range(periods), result) if isinstance(result, float) else result


def _names(query: Mapping[str, Any]) -> set[str]:
    import ast

    from tokenmill.local.cloudwatch.metric_math import _parse

    return {node.id for node in ast.walk(_parse(query["Expression"])) if isinstance(node, ast.Name)}


def _metric(
    metric: Mapping[str, Any],
    statistic: str,
    period: int,
    fetch: Callable[[MetricQuery], float | None],
    now: float,
    periods: int,
) -> Series:
    dimensions = tuple(sorted((d["Name"], str(d["Value"])) for d in metric.get("Dimensions") or []))
    series: Series = {}
    for number in range(periods):
        end = now - (periods - 1 - number) * period
        query = MetricQuery(
            namespace=metric["Namespace"],
            name=metric["MetricName"],
            dimensions=dimensions,
            statistic=statistic,
            start=end - period,
            end=end,
        )
        value = fetch(query)
        if value is not None:
            series[number] = value
    return series
