"""Metric math: the semantics that alarms rely on, and a refusal by name of the rest."""

from __future__ import annotations

import pytest

from tokenmill.local.cloudwatch.metric_math import MetricMathError, check, evaluate

ERRORS = {1: 2.0}
REQUESTS = {0: 10.0, 1: 20.0, 3: 0.0}


def test_the_error_share_of_the_chat_stack() -> None:
    """Missing errors count as 0, no requests as no error, and a period without requests has no value."""
    metrics = {"errors": ERRORS, "requests": REQUESTS}
    expression = "IF(requests > 0, 100 * FILL(errors, 0) / requests, 0)"
    assert evaluate(expression, metrics, 4) == {0: 0.0, 1: 10.0, 3: 0.0}


def test_operators_need_a_value_on_both_sides() -> None:
    assert evaluate("errors + requests", {"errors": ERRORS, "requests": REQUESTS}, 4) == {1: 22.0}


def test_division_by_zero_has_no_value() -> None:
    assert evaluate("1 / requests", {"requests": REQUESTS}, 4) == {0: 0.1, 1: 0.05}


def test_fill_repeats_the_last_value_and_starts_with_none() -> None:
    assert evaluate("FILL(m, REPEAT)", {"m": {1: 5.0, 3: 6.0}}, 5) == {1: 5.0, 2: 5.0, 3: 6.0, 4: 6.0}


def test_a_list_is_summed_period_by_period() -> None:
    assert evaluate("SUM([a, b])", {"a": {0: 1.0}, "b": {0: 2.0, 1: 3.0}}, 2) == {0: 3.0, 1: 3.0}


def test_conditions_combine() -> None:
    metrics = {"a": {0: 1.0, 1: 1.0}, "b": {0: 0.0, 1: 1.0}}
    assert evaluate("IF(a > 0 AND b > 0, 1, 2)", metrics, 2) == {0: 2.0, 1: 1.0}
    assert evaluate("IF(a > 0 && b > 0, 1, 2)", metrics, 2) == {0: 2.0, 1: 1.0}


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("ANOMALY_DETECTION_BAND(m, 2)", "ANOMALY_DETECTION_BAND"),
        ("SEARCH('{x}', 'Sum')", "SEARCH"),
        ("m +", "is not an expression"),
    ],
)
def test_fails_by_name_for_what_is_not_evaluated(expression: str, named: str) -> None:
    with pytest.raises(MetricMathError, match=named):
        check(expression)


def test_fails_for_an_id_that_is_no_metric() -> None:
    with pytest.raises(MetricMathError, match=r"names nope; the alarm's metrics are m"):
        evaluate("nope * 2", {"m": {0: 1.0}}, 1)
