"""Units in a template: properties, rights, alarms, metrics and what they cost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns

from support_stack import REGION, make_app, of_type, statements, template_of
from support_unit_stack import KIND, LITE, ON_DEMAND, inputs, make_units, unit_properties
from tokenmill.bedrock import Commitment, IBedrockModel, InferenceProfile, Replacement, UnitAlarms
from tokenmill.core.model_units import UnlistedModel
from tokenmill.local.cloudwatch.alarms import next_state
from tokenmill.scaling import OfficeHours
from tokenmill.security import actions

if TYPE_CHECKING:
    from pathlib import Path

    from tokenmill.local.cloudwatch.alarms import MetricQuery

NOW = 600.0
FUNCTION_ROLE = "TokenmillBedrockFunctionRole"
UNITS_ARN = "provisioned-model/*"


def said(stack: cdk.Stack) -> list[str]:
    """Return every annotation of an app's stacks."""
    assembly = cdk.App.of(stack).synth()
    return [str(message.entry.data) for artifact in assembly.stacks for message in artifact.messages]


def test_every_property_is_a_text_that_the_function_knows(stack: cdk.Stack) -> None:
    """The function's documented properties, and no other."""
    topic = sns.Topic(stack, "Topic")
    make_units(
        stack,
        commitment=Commitment.ONE_MONTH,
        replacement=Replacement.MAKE_BEFORE_BREAK,
        protected=True,
        alarms=UnitAlarms(topic=topic),
    )
    properties = unit_properties(stack)
    reference = properties.pop("AlarmTopic")
    assert "Ref" in reference
    del properties["ServiceToken"], properties["ServiceTimeout"]
    name = properties["Name"]
    assert properties == {
        "Name": name,
        "ModelId": LITE,
        "ModelUnits": "2",
        "Commitment": "ONE_MONTH",
        "Replacement": "MAKE_BEFORE_BREAK",
        "Protected": "true",
        "HourlyUsd": "20.0",
        "Handle": f"/tokenmill/models/{name}",
        "Fallback": ON_DEMAND,
    }


def test_names_are_short_and_differ_between_stacks(tmp_path: Path) -> None:
    """Bedrock takes 63 characters, and two stacks of an account must never share a purchase."""
    app = make_app(tmp_path)
    stacks = [cdk.Stack(app, f"a-stack-with-a-rather-long-name-{number}") for number in "12"]
    names = [make_units(stack, "UnitsWithARatherLongNameToo").name for stack in stacks]
    assert len(set(names)) == 2
    assert all(len(name) <= 40 for name in names)


def test_units_are_a_model_of_bedrock(stack: cdk.Stack) -> None:
    """The gateway takes them as it takes a profile."""
    units = make_units(stack)
    assert isinstance(units, IBedrockModel)
    assert units.handle == f"/tokenmill/models/{units.name}"
    assert units.fallback_id == ON_DEMAND
    assert stack.resolve(units.model_id)["Fn::GetAtt"][1] == "ModelArn"
    assert units.metric_dimension == units.model_id


def test_a_fallback_may_be_a_construct(stack: cdk.Stack) -> None:
    """Its id is the property, its grant is part of the grant."""
    reserve = InferenceProfile(stack, "Reserve", model="us.amazon.nova-lite-v1:0")
    units = make_units(stack, fallback=reserve)
    assert units.fallback_id == reserve.model_id
    role = iam.Role(stack, "Caller", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    units.grant_invoke(role)
    assert "bedrock:InferenceProfileArn" in json.dumps(statements(template_of(stack), "Caller"))


def test_the_function_may_buy_this_model_and_nothing_else(stack: cdk.Stack) -> None:
    """A purchase names the model's ARN; what is anywhere is what takes no resource in a policy."""
    make_units(stack)
    granted = statements(template_of(stack), FUNCTION_ROLE)
    [buy] = [item for item in granted if "bedrock:CreateProvisionedModelThroughput" in item["Action"]]
    assert json.dumps(buy["Resource"]).count("foundation-model") == 1
    assert f"::foundation-model/{LITE}" in json.dumps(buy["Resource"])
    [change] = [item for item in granted if "bedrock:DeleteProvisionedModelThroughput" in item["Action"]]
    assert json.dumps(change["Resource"]).count(UNITS_ARN) == 1
    anywhere = {
        str(action)
        for item in granted
        if item["Resource"] == "*"
        for action in ([item["Action"]] if isinstance(item["Action"], str) else item["Action"])
    }
    assert anywhere == {
        "bedrock:ListProvisionedModelThroughputs",
        "cloudwatch:GetMetricData",
        "servicequotas:GetServiceQuota",
        "servicequotas:ListServiceQuotas",
        "xray:PutTelemetryRecords",
        "xray:PutTraceSegments",
    }


def test_no_other_action_appears(stack: cdk.Stack) -> None:
    """What units may do stands in security/actions.py by purpose."""
    units = make_units(stack)
    units.add_schedule("Office", OfficeHours(start="08:00", end="18:00"))
    found = {
        action
        for policy in of_type(template_of(stack), "AWS::IAM::Policy").values()
        for item in policy["Properties"]["PolicyDocument"]["Statement"]
        for action in _list(item["Action"])
    }
    named = {
        action
        for name, group in vars(actions).items()
        if name.isupper() and isinstance(group, tuple)
        for action in group
    }
    assert found - named == set()


def test_no_arn_names_a_partition(agnostic: cdk.Stack) -> None:
    """China and GovCloud have names of their own."""
    units = make_units(agnostic)
    role = iam.Role(agnostic, "Caller", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    units.grant_invoke(role)
    template = template_of(agnostic)
    policies = of_type(template, "AWS::IAM::Policy")
    assert "arn:aws:" not in json.dumps(policies)


def test_callers_get_units_fallback_and_handle(stack: cdk.Stack) -> None:
    """Nothing of the control plane."""
    units = make_units(stack)
    role = iam.Role(stack, "Caller", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    units.grant_invoke(role)
    granted = statements(template_of(stack), "Caller")
    allowed = {action for item in granted for action in _list(item["Action"])}
    assert allowed == {"bedrock:InvokeModel", "bedrock:InvokeModelWithResponseStream", "ssm:GetParameter"}
    text = json.dumps([item["Resource"] for item in granted])
    assert UNITS_ARN in text
    assert f"::foundation-model/{ON_DEMAND}" in text
    assert f"parameter{units.handle_name}" in text


def test_a_custom_model_is_bought_by_its_arn(stack: cdk.Stack) -> None:
    """Also where only the deployment knows it."""
    parameter = cdk.CfnParameter(stack, "Model")
    make_units(stack, model=parameter.value_as_string)
    template = template_of(stack)
    [resource] = of_type(template, KIND).values()
    assert resource["Properties"]["ModelId"] == {"Ref": "Model"}
    granted = statements(template, FUNCTION_ROLE)
    [buy] = [item for item in granted if "bedrock:CreateProvisionedModelThroughput" in item["Action"]]
    assert buy["Resource"] == {"Ref": "Model"}


def test_a_model_that_the_table_does_not_know_can_be_given(stack: cdk.Stack) -> None:
    """A table is older than the service."""
    make_units(stack, model=UnlistedModel("vendor.new-model-v9:0:1000k"))
    assert unit_properties(stack)["ModelId"] == "vendor.new-model-v9:0:1000k"


def test_each_trouble_has_an_alarm_that_tells_the_topic(stack: cdk.Stack) -> None:
    """Throttles, overflow, missing, expiring, idle and retained units."""
    topic = sns.Topic(stack, "Topic")
    units = make_units(stack, alarms=UnitAlarms(topic=topic, expiry_days=10, idle_hours=5))
    alarms = {
        value["Properties"]["MetricName"]: value["Properties"]
        for value in of_type(template_of(stack), "AWS::CloudWatch::Alarm").values()
    }
    assert set(alarms) == {
        "DaysToExpiry",
        "IdleUnits",
        "InvocationThrottles",
        "Overflow",
        "UnitsMissing",
        "UnitsRetained",
    }
    assert all(alarm["AlarmActions"] == alarm["OKActions"] != [] for alarm in alarms.values())
    throttles = alarms.pop("InvocationThrottles")
    assert throttles["Namespace"] == "AWS/Bedrock"
    assert throttles["Dimensions"][0]["Name"] == "ModelId"
    for alarm in alarms.values():
        assert alarm["Namespace"] == "tokenmill"
        assert alarm["Dimensions"] == [{"Name": "Target", "Value": units.handle_name}]
    assert (alarms["DaysToExpiry"]["Threshold"], alarms["DaysToExpiry"]["Statistic"]) == (10, "Minimum")
    assert alarms["IdleUnits"]["EvaluationPeriods"] == alarms["IdleUnits"]["DatapointsToAlarm"] == 5


@pytest.mark.parametrize(
    ("looks", "state"),
    [((), None), ((2,), "ALARM"), ((2, 0), "OK"), ((0,), "OK")],
    ids=["between two looks", "missing", "there within the minute", "there"],
)
def test_the_alarm_on_missing_units_stands_until_a_look_finds_them(
    stack: cdk.Stack, looks: tuple[int, ...], state: str | None
) -> None:
    """A look an hour, and the minutes without one are no all-clear."""
    make_units(stack)
    [alarm] = [
        value["Properties"]
        for value in of_type(template_of(stack), "AWS::CloudWatch::Alarm").values()
        if value["Properties"]["MetricName"] == "UnitsMissing"
    ]

    def last_minute(query: MetricQuery) -> float | None:
        seen = looks if query.end > NOW - 60 else ()
        return {"Minimum": min, "Maximum": max}[query.statistic](seen) if seen else None

    found = next_state(alarm, last_minute, NOW)
    assert (found and found[0]) == state


def test_units_are_watched_every_hour(stack: cdk.Stack) -> None:
    """The function hears the properties and the physical id."""
    make_units(stack)
    watch = inputs(template_of(stack))["watch"]
    assert watch["ScheduleExpression"] == "rate(1 hour)"
    event = watch["event"]
    properties = unit_properties(stack)
    assert event["Properties"] == {
        key: value for key, value in properties.items() if not key.startswith("Service")
    }
    assert event["PhysicalResourceId"] == f"<{event['LogicalResourceId']}>"
    assert event["StackId"] == "<AWS::StackId>"


def test_metrics_have_the_names_that_functions_publish(stack: cdk.Stack) -> None:
    """One contract for both."""
    units = make_units(stack)
    names = [
        metric.metric_name
        for metric in (
            units.metric_units_owned(),
            units.metric_units_retained(),
            units.metric_daily_usd(),
            units.metric_overflow(),
        )
    ]
    assert names == ["UnitsOwned", "UnitsRetained", "DailyUsd", "Overflow"]
    assert units.metric_units_owned().dimensions == {"Target": units.handle_name}
    assert units.metric_bedrock("Invocations").namespace == "AWS/Bedrock"


def test_the_monthly_floor_is_said_at_synth(stack: cdk.Stack) -> None:
    """Two units at 20 USD, 730 hours."""
    units = make_units(stack)
    assert units.fewest_monthly_usd == 29_200
    assert any("cost 29,200 USD a month without a request" in message for message in said(stack))


def test_a_missing_price_and_a_missing_fallback_are_warnings(tmp_path: Path) -> None:
    """They are the app's to answer; nothing is guessed."""
    stack = cdk.Stack(make_app(tmp_path), "test", env=cdk.Environment(region=REGION))
    units = make_units(stack, hourly_usd=None, fallback=None)
    assert units.fewest_monthly_usd is None
    text = " ".join(said(stack))
    assert "give hourly_usd" in text
    assert "callers have no model while units are missing" in text
    assert "no price of an hour is known" in text


def test_a_declared_commitment_is_priced_beside_the_floor(stack: cdk.Stack) -> None:
    """The deployment buys without commitment; the table knows the commitment's price."""
    make_units(stack, model="anthropic.claude-v2:1:18k", commitment=Commitment.ONE_MONTH, hourly_usd=70)
    assert any("commit-units` on 63 USD an hour each" in message for message in said(stack))


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else value
