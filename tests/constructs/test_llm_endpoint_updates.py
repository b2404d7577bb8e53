"""How an LlmEndpoint changes: rolling batches, the guard of the copies, alarms that turn an update back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest

from support_jobs import inf2
from support_stack import REGION, make_app, of_type, only, template_of
from tokenmill.core.errors import TokenmillError
from tokenmill.core.workload import Capacity
from tokenmill.endpoints import LlmEndpoint, UpdatePolicy

if TYPE_CHECKING:
    from pathlib import Path

TWO = Capacity(minimum=2, maximum=6, initial=2)
ONE = Capacity(minimum=1, maximum=3, initial=1)
SERVING = inf2()
BARE = UpdatePolicy.unguarded()
COMPONENT = "AWS::SageMaker::InferenceComponent"


def test_two_copies_roll_and_one_does_not(prod: dict[str, Any], stack: cdk.Stack) -> None:
    """A batch is 5 to 50 percent of the copies, which one copy cannot be."""
    policy = only(prod, COMPONENT)["Properties"]["DeploymentConfig"]["RollingUpdatePolicy"]
    assert policy["MaximumBatchSize"] == {"Type": "CAPACITY_PERCENT", "Value": 50}
    LlmEndpoint(stack, "Llm", serving=SERVING, capacity=ONE, update=BARE)
    assert "DeploymentConfig" not in only(template_of(stack), COMPONENT)["Properties"]


def test_a_guard_keeps_the_copies_and_checks_what_runs(prod: dict[str, Any]) -> None:
    """Before the component a hold gives the copies that run, after it a release compares; one function."""
    (hold,) = of_type(prod, "Custom::TokenmillHold")
    release = only(prod, "Custom::TokenmillRelease")
    component = only(prod, COMPONENT)
    assert component["Properties"]["RuntimeConfig"]["CopyCount"] == {"Fn::GetAtt": [hold, "Copies"]}
    assert hold in component["DependsOn"]
    assert next(iter(of_type(prod, COMPONENT))) in release["DependsOn"]
    assert release["Properties"]["Component"] == component["Properties"]["InferenceComponentName"]
    assert only(prod, "AWS::SageMaker::Endpoint")["Properties"]["RetainAllVariantProperties"] is True


def test_the_guard_is_called_when_the_component_changes(tmp_path: Path) -> None:
    """CloudFormation calls a custom resource only when a property of it changes."""
    watched = []
    for number, tokens in enumerate((4096, 2048)):
        stack = cdk.Stack(make_app(tmp_path / str(number)), "test", env=cdk.Environment(region=REGION))
        LlmEndpoint(stack, "Llm", serving=inf2(context_tokens=tokens), capacity=TWO)
        watched.append(only(template_of(stack), "Custom::TokenmillHold")["Properties"]["Watched"])
    assert watched[0] != watched[1]


def test_without_a_guard_there_is_no_function(stack: cdk.Stack) -> None:
    """Who does not want it gets what CloudFormation does by itself."""
    endpoint = LlmEndpoint(stack, "Llm", serving=SERVING, capacity=TWO, update=BARE)
    template = template_of(stack)
    assert of_type(template, "AWS::Lambda::Function") == {}
    assert only(template, COMPONENT)["Properties"]["RuntimeConfig"] == {"CopyCount": 2}
    assert "RetainAllVariantProperties" not in only(template, "AWS::SageMaker::Endpoint")["Properties"]
    assert endpoint.deployment is None


def test_an_alarm_on_the_model_s_own_metrics_turns_an_update_back(stack: cdk.Stack) -> None:
    """Its dimensions are plain names, so that the component may wait for the alarm."""
    endpoint = LlmEndpoint(stack, "Llm", serving=SERVING, capacity=TWO, update=BARE)
    alarm = endpoint.metric_model_errors().create_alarm(stack, "Errors", threshold=1, evaluation_periods=1)
    endpoint.roll_back_on(alarm)
    template = template_of(stack)
    made = only(template, COMPONENT)["Properties"]
    (watched,) = of_type(template, "AWS::CloudWatch::Alarm")
    assert made["DeploymentConfig"]["AutoRollbackConfiguration"] == {
        "Alarms": [{"AlarmName": {"Ref": watched}}]
    }
    dimensions = only(template, "AWS::CloudWatch::Alarm")["Properties"]["Dimensions"]
    assert dimensions == [{"Name": "InferenceComponentName", "Value": made["InferenceComponentName"]}]


def test_fails_to_turn_back_what_does_not_roll(stack: cdk.Stack) -> None:
    """SageMaker watches alarms in rolling updates only."""
    endpoint = LlmEndpoint(stack, "Llm", serving=SERVING, capacity=ONE, update=BARE)
    alarm = endpoint.metric_model_errors().create_alarm(stack, "Errors", threshold=1, evaluation_periods=1)
    with pytest.raises(TokenmillError, match="alarms are given, but capacity.minimum is 1"):
        endpoint.roll_back_on(alarm)
