"""Heartbeat, alarms and dashboard read the one metric contract."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs

from support_stack import GOALS, of_type, only, statements, template_of
from tokenmill.observability import ChatAlarms, Heartbeat, HeartbeatTarget, token_metric
from tokenmill.observability.alarms import AlarmedTarget
from tokenmill.security import FunctionHosting
from tokenmill_runtime.heartbeat import Target, read_targets
from tokenmill_runtime.metric_contract import METRICS

if TYPE_CHECKING:
    import aws_cdk as cdk

ALARM = "AWS::CloudWatch::Alarm"


def alarms(template: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        name: value["Properties"]
        for key, value in of_type(template, ALARM).items()
        for name in ("SlowFirstToken", "Errors", "Throttles", "NoCopies")
        if name in key
    }


def rendered(value: dict[str, Any]) -> str:
    return "".join(part if isinstance(part, str) else "chat-1" for part in value["Fn::Join"][1])


@pytest.mark.parametrize("definition", METRICS, ids=lambda definition: definition.name)
def test_every_metric_of_the_contract_has_a_construct(definition: Any) -> None:
    """Name, namespace, dimension and statistic come from the contract."""
    metric = token_metric(definition.name, target="chat-1")
    assert (metric.namespace, metric.metric_name) == ("tokenmill", definition.name)
    assert metric.dimensions == {"Target": "chat-1"}
    assert metric.statistic == definition.statistic


def test_the_heartbeat_beats_once_a_minute_and_makes_up_for_nothing(prod: dict[str, Any]) -> None:
    """A late heartbeat would publish an old count as a new one."""
    rules = of_type(prod, "AWS::Events::Rule")
    rule = next(item["Properties"] for key, item in rules.items() if "Heartbeat" in key)
    assert rule["ScheduleExpression"] == "rate(1 minute)"
    (target,) = rule["Targets"]
    assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 0}


def test_the_function_reads_the_targets_that_the_construct_renders(prod: dict[str, Any]) -> None:
    """One component, by its name."""
    (function,) = [
        item["Properties"]
        for item in of_type(prod, "AWS::Lambda::Function").values()
        if "heartbeat" in item["Properties"]["Handler"]
    ]
    variables = {key: rendered(value) for key, value in function["Environment"]["Variables"].items()}
    name = only(prod, "AWS::SageMaker::InferenceComponent")["Properties"]["InferenceComponentName"]
    assert read_targets(variables) == [Target(target=name, component="chat-1")]


def test_the_heartbeat_may_describe_its_component_and_log(prod: dict[str, Any]) -> None:
    """Nothing else but X-Ray."""
    allowed = {
        action
        for found in statements(prod, "HeartbeatFunctionRole")
        for action in ([found["Action"]] if isinstance(found["Action"], str) else found["Action"])
    }
    assert allowed == {
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "sagemaker:DescribeInferenceComponent",
        "xray:PutTelemetryRecords",
        "xray:PutTraceSegments",
    }


def test_bedrock_has_no_copies_to_describe(bedrock: dict[str, Any]) -> None:
    """The heartbeat publishes zero demand only."""
    assert "sagemaker" not in json.dumps(statements(bedrock, "HeartbeatFunctionRole"))


def test_what_could_not_be_delivered_goes_to_the_queue_of_the_hosting(stack: cdk.Stack) -> None:
    """Rule and function both have it, and the rule may write to it."""
    queue = sqs.Queue(stack, "Queue")
    hosting = FunctionHosting(dead_letter_queue=queue)
    Heartbeat(stack, "Heartbeat", targets=[HeartbeatTarget.bedrock("nova")], hosting=hosting)
    template = template_of(stack)
    (target,) = only(template, "AWS::Events::Rule")["Properties"]["Targets"]
    assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["Queue4A7E3555", "Arn"]}}
    assert "DeadLetterConfig" in only(template, "AWS::Lambda::Function")["Properties"]
    policy = only(template, "AWS::SQS::QueuePolicy")["Properties"]["PolicyDocument"]["Statement"]
    assert [found["Action"] for found in policy] == ["sqs:SendMessage"]


def test_a_reservation_for_the_heartbeat_is_one(stack: cdk.Stack) -> None:
    """It runs once a minute for a second; the rest would be taken from the account."""
    hosting = FunctionHosting(reserved_concurrency=50)
    Heartbeat(stack, "Heartbeat", targets=[HeartbeatTarget.bedrock("nova")], hosting=hosting)
    function = only(template_of(stack), "AWS::Lambda::Function")["Properties"]
    assert function["ReservedConcurrentExecutions"] == 1


def test_fails_without_a_target(stack: cdk.Stack) -> None:
    """A heartbeat for nothing is a mistake."""
    with pytest.raises(ValueError, match="targets is empty; give the endpoints or models"):
        Heartbeat(stack, "Heartbeat", targets=[])
    assert stack.node.children == []


def test_the_first_token_is_held_to_the_goal(prod: dict[str, Any]) -> None:
    """Percentile and milliseconds are the settings' own."""
    alarm = alarms(prod)["SlowFirstToken"]
    assert (alarm["MetricName"], alarm["ExtendedStatistic"], alarm["Threshold"]) == (
        "TimeToFirstToken",
        "p95",
        2000,
    )
    assert alarm["TreatMissingData"] == "notBreaching"


def test_errors_are_a_share_of_the_requests(prod: dict[str, Any]) -> None:
    """No request is no error, and no division by zero."""
    alarm = alarms(prod)["Errors"]
    (expression,) = [item["Expression"] for item in alarm["Metrics"] if "Expression" in item]
    assert expression == "IF(requests > 0, 100 * FILL(errors, 0) / requests, 0)"
    assert alarm["Threshold"] == 5


def test_a_silent_heartbeat_is_as_bad_as_no_copies(prod: dict[str, Any]) -> None:
    """Missing data breaches."""
    alarm = alarms(prod)["NoCopies"]
    assert (alarm["MetricName"], alarm["ComparisonOperator"]) == ("Copies", "LessThanThreshold")
    assert alarm["TreatMissingData"] == "breaching"


def test_turned_away_requests_are_told(prod: dict[str, Any]) -> None:
    """Lambda's own count of the gateway function."""
    alarm = alarms(prod)["Throttles"]
    assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/Lambda", "Throttles")


def test_bedrock_has_no_alarm_on_copies(bedrock: dict[str, Any]) -> None:
    """There is nothing to count."""
    assert set(alarms(bedrock)) == {"SlowFirstToken", "Errors", "Throttles"}


def test_a_topic_is_told_of_alarm_and_recovery(stack: cdk.Stack) -> None:
    """Both transitions, for each alarm."""
    function = lambda_.Function.from_function_name(stack, "Function", "gateway")
    watched = AlarmedTarget(target="chat-1", function=function, copies=True)
    ChatAlarms(stack, "Alarms", watched=watched, slo=GOALS, topic=sns.Topic(stack, "Topic"))
    for alarm in alarms(template_of(stack)).values():
        assert alarm["AlarmActions"] == alarm["OKActions"] == [{"Ref": "TopicBFC7AF6E"}]


def test_the_dashboard_draws_the_contract_s_metrics_and_the_goals(prod: dict[str, Any]) -> None:
    """Every metric that it draws is one that somebody publishes."""
    body = only(prod, "AWS::CloudWatch::Dashboard")["Properties"]["DashboardBody"]
    widgets = json.loads(rendered(body))["widgets"]
    drawn = {
        metric[1]
        for widget in widgets
        for metric in widget["properties"]["metrics"]
        if metric[0] == "tokenmill"
    }
    assert drawn <= {definition.name for definition in METRICS}
    assert {"TokenWork", "Copies", "TimeToFirstToken", "InterTokenLatency", "Errors"} <= drawn
    goals = [
        line["value"]
        for widget in widgets
        for line in widget["properties"].get("annotations", {}).get("horizontal", [])
    ]
    assert goals == [2000, 60]
