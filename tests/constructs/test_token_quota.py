"""The alarms on a quota of tokens a minute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_sns as sns

from support_stack import make_app, of_type, template_of
from tokenmill.bedrock import QuotaAlarms, TokenQuota
from tokenmill.core.errors import TokenmillError
from tokenmill.core.token_quota import quota_load
from tokenmill.core.workload import Workload

if TYPE_CHECKING:
    from pathlib import Path

NOVA = "amazon.nova-lite-v1:0"
LOAD = quota_load(
    Workload(requests_per_second=1, input_tokens=1000, output_tokens=100), max_tokens=4000, factor=1
)


def alarms(stack: cdk.Stack) -> dict[str, dict[str, Any]]:
    """Properties by the alarm's own name in the construct."""
    found = of_type(template_of(stack), "AWS::CloudWatch::Alarm")
    return {key.removeprefix("Quota")[:-8]: item["Properties"] for key, item in found.items()}


def test_bedrock_s_own_estimate_and_throttles_are_watched(stack: cdk.Stack) -> None:
    """A fifth of the quota is kept free, over a minute's sum of the model's id."""
    TokenQuota(stack, "Quota", models=[NOVA], tokens_per_minute=1_000_000)
    found = alarms(stack)
    assert set(found) == {"Headroom", "Throttled"}
    headroom = found["Headroom"]
    assert (headroom["Namespace"], headroom["MetricName"]) == ("AWS/Bedrock", "EstimatedTPMQuotaUsage")
    assert (headroom["Statistic"], headroom["Period"], headroom["Threshold"]) == ("Sum", 60, 800_000)
    assert headroom["Dimensions"] == [{"Name": "ModelId", "Value": NOVA}]
    assert headroom["TreatMissingData"] == "notBreaching"
    throttled = found["Throttled"]
    assert (throttled["MetricName"], throttled["Threshold"]) == ("InvocationThrottles", 0)


def test_the_gateway_s_reservation_is_watched_where_there_is_one(stack: cdk.Stack) -> None:
    """Throttling counts what requests reserve, which Bedrock's estimate leaves out."""
    quota = TokenQuota(
        stack,
        "Quota",
        models=[NOVA],
        tokens_per_minute=1_000_000,
        target=NOVA,
        alarms=QuotaAlarms(headroom=0.5, topic=sns.Topic(stack, "Topic")),
    )
    assert quota.reserved is not None
    reserved = alarms(stack)["Reserved"]
    assert (reserved["Namespace"], reserved["MetricName"]) == ("tokenmill", "ReservedTokens")
    assert reserved["Dimensions"] == [{"Name": "Target", "Value": NOVA}]
    assert reserved["Threshold"] == 500_000
    assert len(reserved["AlarmActions"]) == len(reserved["OKActions"]) == 1


def test_what_shares_a_quota_is_added_up(stack: cdk.Stack) -> None:
    """Each id has metrics of its own, and the quota holds for all of them."""
    TokenQuota(stack, "Quota", models=[NOVA, "us.amazon.nova-lite-v1:0"], tokens_per_minute=1_000_000)
    parts = alarms(stack)["Headroom"]["Metrics"]
    assert [part["Expression"] for part in parts if "Expression" in part] == ["SUM(METRICS())"]
    names = {part["MetricStat"]["Metric"]["Dimensions"][0]["Value"] for part in parts if "MetricStat" in part}
    assert names == {NOVA, "us.amazon.nova-lite-v1:0"}


def warnings(stack: cdk.Stack) -> list[str]:
    """What synthesis says of the load."""
    return [
        str(entry.data)
        for child in stack.node.find_all()
        for entry in child.node.metadata
        if entry.type == "aws:cdk:warning"
    ]


def test_a_load_that_does_not_fit_is_said_at_synthesis(stack: cdk.Stack) -> None:
    """With the max_tokens that would fit."""
    TokenQuota(stack, "Quota", models=[NOVA], tokens_per_minute=120_000, load=LOAD)
    (said,) = warnings(stack)
    assert "takes 300,000 quota tokens a minute and does not fit 120,000" in said
    assert "with max_tokens of 1,000 instead of 4,000 it would" in said


def test_a_load_that_fits_is_not_mentioned(stack: cdk.Stack) -> None:
    """Warnings are for what is to do."""
    TokenQuota(stack, "Quota", models=[NOVA], tokens_per_minute=300_000, load=LOAD)
    assert warnings(stack) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens_per_minute": 0}, "tokens_per_minute is 0, so nothing can be called; `tokenmill doctor"),
        ({"tokens_per_minute": -1}, "tokens_per_minute must be above 0, got -1"),
        ({"tokens_per_minute": "1"}, "tokens_per_minute must be a number, got '1'"),
        ({"models": []}, "models has 0 entries; give a list of 1 to 10"),
        ({"models": [NOVA] * 11}, "models has 11 entries; give a list of 1 to 10"),
        ({"models": ["amazon.nova-light-v1:0"]}, "amazon.nova-lite-v1:0"),
    ],
)
def test_bad_input_leaves_nothing_behind(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """Refused before any alarm is made."""
    stack = cdk.Stack(make_app(tmp_path), "test", env=cdk.Environment(region="us-east-1"))
    with pytest.raises(TokenmillError, match=message):
        TokenQuota(stack, "Quota", **{"models": [NOVA], "tokens_per_minute": 1, **changes})
    assert stack.node.children == []


def test_a_quota_that_only_the_deployment_knows_is_refused(stack: cdk.Stack) -> None:
    """Thresholds and warnings are computed at synthesis."""
    token = cdk.Token.as_number({"Ref": "X"})
    with pytest.raises(TokenmillError, match="tokens_per_minute is a value that only the deployment knows"):
        TokenQuota(stack, "Quota", models=[NOVA], tokens_per_minute=token)


def test_headroom_is_a_share() -> None:
    """Twenty would be a percentage."""
    with pytest.raises(TokenmillError, match="headroom must be above 0 and below 1, got 20"):
        QuotaAlarms(headroom=20)
