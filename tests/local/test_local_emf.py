"""Embedded metric format: what counts as a metric, and what is only a log line."""

from __future__ import annotations

import json
from typing import Any

from tokenmill.local.cloudwatch.emf import metrics_of


def line(**members: Any) -> str:
    directive = {
        "Namespace": "tokenmill",
        "Dimensions": [["Target"], ["Target", "Model"]],
        "Metrics": [
            {"Name": "Requests", "Unit": "Count"},
            {"Name": "TimeToFirstToken", "Unit": "Milliseconds"},
        ],
    }
    metadata = {"Timestamp": 1_700_000_000_000, "CloudWatchMetrics": [directive]}
    return json.dumps({"_aws": metadata, "Target": "t", "Model": "m", **members})


def test_every_dimension_set_is_a_metric_of_its_own() -> None:
    found = list(metrics_of(line(Requests=2)))
    assert [(datum.name, dict(datum.dimensions), datum.values) for datum in found] == [
        ("Requests", {"Target": "t"}, (2.0,)),
        ("Requests", {"Target": "t", "Model": "m"}, (2.0,)),
    ]
    assert found[0].timestamp == 1_700_000_000.0


def test_a_list_of_values_is_kept_as_values() -> None:
    [first, _] = list(metrics_of(line(TimeToFirstToken=[10, 20.5])))
    assert first.values == (10.0, 20.5)
    assert first.unit == "Milliseconds"


def test_a_lambda_prefix_before_the_document_does_not_hide_it() -> None:
    assert len(list(metrics_of("2026-11-22T00:00:00Z id INFO " + line(Requests=1)))) == 2


def test_what_is_not_in_the_format_is_no_metric() -> None:
    for text in (
        "plain",
        '{"_aws": 1}',
        '{"_aws": {}}',
        '{"_aws": not json',
        line(Requests="many"),
        line(Requests=True),
    ):
        assert list(metrics_of(text)) == []
