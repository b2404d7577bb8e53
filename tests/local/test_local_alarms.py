"""Alarms: M of N, missing data, dimensions, metric math."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tokenmill.local.cloudwatch.alarms import check_alarm, next_state
from tokenmill.local.cloudwatch.metric_math import MetricMathError

if TYPE_CHECKING:
    from tokenmill.local.cloudwatch.alarms import MetricQuery

NOW = 6000.0


def state(alarm: dict[str, Any], points: dict[int, float]) -> str | None:
    """The alarm's next state when the metric has these values, by minutes before now."""

    def fetch(query: MetricQuery) -> float | None:
        return points.get(round((NOW - query.end) / 60))

    outcome = next_state({**ALARM, **alarm}, fetch, NOW)
    return outcome[0] if outcome else None


ALARM: dict[str, Any] = {
    "Namespace": "tokenmill",
    "MetricName": "TimeToFirstToken",
    "Statistic": "Average",
    "Period": 60,
    "EvaluationPeriods": 5,
    "DatapointsToAlarm": 3,
    "ComparisonOperator": "GreaterThanThreshold",
    "Threshold": 100.0,
}


def test_three_of_five_breaching_is_an_alarm() -> None:
    assert state({}, {0: 150, 1: 50, 2: 150, 3: 50, 4: 150}) == "ALARM"
    assert state({}, {0: 150, 1: 50, 2: 150, 3: 50, 4: 50}) == "OK"


def test_enough_older_points_stand_in_for_missing_ones() -> None:
    """The range is longer than the five periods: a gap is ignored when five real points are there."""
    assert state({}, {1: 150, 2: 150, 3: 150, 4: 50, 5: 50}) == "ALARM"


@pytest.mark.parametrize(
    ("treatment", "expected"),
    [("missing", "INSUFFICIENT_DATA"), ("notBreaching", "OK"), ("breaching", "ALARM"), ("ignore", None)],
)
def test_no_data_at_all_is_treated_as_the_alarm_says(treatment: str, expected: str | None) -> None:
    assert state({"TreatMissingData": treatment}, {}) == expected


def test_an_expression_is_evaluated_over_its_metrics() -> None:
    def metric(name: str) -> dict[str, Any]:
        stat = {"Metric": {"Namespace": "tokenmill", "MetricName": name}, "Period": 60, "Stat": "Sum"}
        return {"Id": name, "MetricStat": stat, "ReturnData": False}

    alarm = {
        "Metrics": [
            {"Id": "share", "Expression": "IF(requests > 0, 100 * FILL(errors, 0) / requests, 0)"},
            metric("errors"),
            metric("requests"),
        ],
        "EvaluationPeriods": 1,
        "ComparisonOperator": "GreaterThanThreshold",
        "Threshold": 5.0,
    }

    def fetch(query: MetricQuery) -> float | None:
        return {"errors": 1.0, "requests": 10.0}[query.name] if query.end == NOW else None

    outcome = next_state(alarm, fetch, NOW)
    assert outcome is not None
    assert outcome[0] == "ALARM"


def test_fails_for_a_comparison_that_needs_a_band() -> None:
    with pytest.raises(MetricMathError, match="GreaterThanUpperThreshold"):
        check_alarm({**ALARM, "ComparisonOperator": "GreaterThanUpperThreshold"})


def test_fails_when_two_metrics_return_data() -> None:
    metrics = [{"Id": "a", "Expression": "1"}, {"Id": "b", "Expression": "2"}]
    with pytest.raises(MetricMathError, match="ReturnData"):
        check_alarm({**ALARM, "Metrics": metrics})
