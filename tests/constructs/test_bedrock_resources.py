"""One function and one waiter a stack stand behind every custom resource of Bedrock."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from aws_cdk import aws_iam as iam

from support_stack import of_type, only, statements, template_of
from tokenmill.bedrock import BedrockResources
from tokenmill.bedrock.resources import waiter_definition
from tokenmill.core.errors import TokenmillError
from tokenmill.security import FunctionHosting

if TYPE_CHECKING:
    import aws_cdk as cdk

LOGGING = "Custom::TokenmillInvocationLogging"


def made(stack: cdk.Stack, id: str = "First", action: str = "bedrock:GetPrompt") -> cdk.CustomResource:
    return BedrockResources.of(stack).resource(
        stack,
        id,
        resource_type=LOGGING,
        properties={"Count": "1"},
        statements=[iam.PolicyStatement(actions=[action], resources=["arn:aws:bedrock:us-east-1::x/y"])],
    )


def definition(template: dict[str, Any]) -> dict[str, Any]:
    parts = only(template, "AWS::StepFunctions::StateMachine")["Properties"]["DefinitionString"]
    text = (
        parts
        if isinstance(parts, str)
        else "".join(p if isinstance(p, str) else "aws" for p in parts["Fn::Join"][1])
    )
    found: dict[str, Any] = json.loads(text)
    return found


def test_resources_of_a_stack_share_function_and_waiter(stack: cdk.Stack) -> None:
    """A second resource adds itself and its rights, and nothing else."""
    made(stack)
    made(stack, "Second", "bedrock:ListPrompts")
    template = template_of(stack)
    assert len(of_type(template, "AWS::Lambda::Function")) == 1
    assert len(of_type(template, "AWS::StepFunctions::StateMachine")) == 1
    assert len(of_type(template, LOGGING)) == 2
    allowed = json.dumps([item["Action"] for item in statements(template, "TokenmillBedrockFunctionRole")])
    for action in ("bedrock:GetPrompt", "bedrock:ListPrompts", "states:StartExecution"):
        assert action in allowed


def test_a_resource_goes_before_what_makes_and_deletes_it(stack: cdk.Stack) -> None:
    """While it is deleted the function has its rights, and the waiter may call it."""
    made(stack)
    template = template_of(stack)
    waits_for = set(only(template, LOGGING)["DependsOn"])
    ours = ("AWS::IAM::Policy", "AWS::Lambda::Function", "AWS::StepFunctions::StateMachine")
    assert {key for kind in ours for key in of_type(template, kind)} <= waits_for


def test_nothing_stands_in_a_circle(stack: cdk.Stack) -> None:
    """The function names the waiter, and the waiter learns the function's name with its input."""
    made(stack)
    template = template_of(stack)
    function = only(template, "AWS::Lambda::Function")["Properties"]["Environment"]["Variables"]
    [machine] = of_type(template, "AWS::StepFunctions::StateMachine")
    assert function["TOKENMILL_WAITER"] == {"Ref": machine}
    assert "Function" not in json.dumps(template["Resources"][machine].get("DependsOn", []))
    step = definition(template)["States"]["Step"]
    assert step["Parameters"]["FunctionName.$"] == "$.Function"


def test_the_waiter_calls_this_function_only(stack: cdk.Stack) -> None:
    """Whoever starts an execution chooses the function's name, but not the rights."""
    made(stack)
    template = template_of(stack)
    [function] = of_type(template, "AWS::Lambda::Function")
    calls = [item for item in statements(template, "WaiterRole") if "lambda" in str(item["Action"])]
    assert [item["Resource"] for item in calls] == [{"Fn::GetAtt": [function, "Arn"]}]


def test_the_waiter_gives_cloudformation_the_last_word(stack: cdk.Stack) -> None:
    """It ends before CloudFormation's own time-out, and two steps never run at once."""
    made(stack)
    template = template_of(stack)
    machine = definition(template)
    timeout = int(only(template, LOGGING)["Properties"]["ServiceTimeout"])
    function = only(template, "AWS::Lambda::Function")["Properties"]
    assert 50 * 60 < machine["TimeoutSeconds"] < timeout
    assert function["Timeout"] < machine["States"]["Step"]["TimeoutSeconds"]
    assert function["MemorySize"] == 128


def test_the_first_step_comes_at_once() -> None:
    """Most resources are there after one step."""
    machine = waiter_definition("aws")
    assert machine["StartAt"] == "Step"
    assert machine["States"]["Again"]["Choices"][0]["Next"] == "Wait"


def test_no_log_has_the_address_of_the_answer(stack: cdk.Stack) -> None:
    """Whoever reads CloudFormation's address in a log could answer in the function's place."""
    made(stack)
    logging = only(template_of(stack), "AWS::StepFunctions::StateMachine")["Properties"][
        "LoggingConfiguration"
    ]
    assert (logging["Level"], logging["IncludeExecutionData"]) == ("ALL", False)


def test_the_waiter_is_of_every_partition() -> None:
    """China and GovCloud have names of their own."""
    step = waiter_definition("aws-cn")["States"]["Step"]
    assert step["Resource"] == "arn:aws-cn:states:::lambda:invoke"


def test_fails_for_a_property_with_a_secret(stack: cdk.Stack) -> None:
    """A dynamic reference would put it into the function's event."""
    with pytest.raises(TokenmillError, match="dynamic reference"):
        BedrockResources.of(stack).resource(
            stack,
            "Bad",
            resource_type=LOGGING,
            properties={"Token": "{{resolve:secretsmanager:x}}"},
            statements=[],
        )


def test_the_function_s_hosting_is_said_first(stack: cdk.Stack) -> None:
    """Later it would be somebody else's function already."""
    BedrockResources.of(stack, hosting=FunctionHosting(log_retention_days=365))
    made(stack)
    assert only(template_of(stack), "AWS::Logs::LogGroup")["Properties"]["RetentionInDays"] == 365
    with pytest.raises(TokenmillError, match="first"):
        BedrockResources.of(stack, hosting=FunctionHosting())
