"""A function of the runtime is the same resource whichever of CDK's classes makes it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs

from tokenmill.security import FunctionEntry, FunctionHosting, LambdaFunction, RuntimeFunction
from tokenmill.security.plain_function import PlainFunction
from tokenmill_runtime.functions import HEARTBEAT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ENTRY = FunctionEntry(runs=HEARTBEAT, description="Beats", timeout_seconds=30, memory_mb=128)
ALONE = """
import json, sys
import aws_cdk as cdk
from tokenmill.security import FunctionEntry, RuntimeFunction
from tokenmill_runtime.functions import HEARTBEAT

app = cdk.App(outdir=sys.argv[1], analytics_reporting=False)
stack = cdk.Stack(app, "Stack")
entry = FunctionEntry(runs=HEARTBEAT, description="Beats", timeout_seconds=30, memory_mb=128)
RuntimeFunction(stack, "Made", entry=entry, environment={"NAME": cdk.Aws.REGION})
template = app.synth().get_stack_by_name("Stack").template
loaded = [name for name in ("aws_cdk.aws_lambda", "aws_cdk.aws_ec2") if name in sys.modules]
print(json.dumps({"template": template, "loaded": loaded}))
"""


def template(kind: type[RuntimeFunction], hosting: Callable[[cdk.Stack], FunctionHosting]) -> dict[str, Any]:
    """Return the template of one function that a rule may call."""
    app = cdk.App(analytics_reporting=False)
    stack = cdk.Stack(app, "Stack")
    environment = {"NAME": cdk.Aws.REGION}
    made = kind(stack, "Made", entry=ENTRY, environment=environment, hosting=hosting(stack))
    made.function.add_environment("MORE", "later")
    principal = iam.ServicePrincipal("events.amazonaws.com")
    made.function.add_permission("Rule", principal=principal, source_arn="arn:aws:events:::rule/one")
    cdk.CfnOutput(stack, "Arn", value=made.function.function_arn)
    cdk.CfnOutput(stack, "Name", value=made.function.function_name)
    found: dict[str, Any] = app.synth().get_stack_by_name("Stack").template
    return found


@pytest.mark.parametrize(
    "hosting",
    [
        lambda _: FunctionHosting(),
        lambda _: FunctionHosting(reserved_concurrency=3, ephemeral=True, log_retention_days=7),
        lambda stack: FunctionHosting(encryption_key=kms.Key(stack, "Key")),
    ],
    ids=["plain", "concurrency", "key"],
)
def test_the_template_is_that_of_cdks_own_function(hosting: Callable[[cdk.Stack], FunctionHosting]) -> None:
    """Logical ids, rights and order of deployment included, so that neither way replaces the other's."""
    assert template(RuntimeFunction, hosting) == template(LambdaFunction, hosting)


def test_a_dead_letter_queue_is_given_to_cdks_own_function() -> None:
    """It may send to the queue, which a plain function does not know of."""
    stack = cdk.Stack(cdk.App(), "Stack")
    hosting = FunctionHosting(dead_letter_queue=sqs.Queue(stack, "Queue"))
    made = RuntimeFunction(stack, "Made", entry=ENTRY, environment={}, hosting=hosting)
    assert isinstance(made.function, lambda_.Function)


def test_an_aspect_finds_the_resource_by_its_class() -> None:
    """An app whose linter asks for aws_lambda's CfnFunction has loaded it."""
    stack = cdk.Stack(cdk.App(), "Stack")
    made = RuntimeFunction(stack, "Made", entry=ENTRY, environment={})
    assert isinstance(made.function, PlainFunction)
    resource = made.function.node.default_child
    assert isinstance(resource, lambda_.CfnFunction)
    assert resource.timeout == ENTRY.timeout_seconds


def test_cdks_classes_are_not_loaded_for_it(tmp_path: Path) -> None:
    """They cost each synthesis more than the functions do; the template does not miss them."""
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(tmp_path)], capture_output=True, text=True, check=True
    )
    alone = json.loads(done.stdout)
    assert alone["loaded"] == []
    app = cdk.App(analytics_reporting=False)
    stack = cdk.Stack(app, "Stack")
    LambdaFunction(stack, "Made", entry=ENTRY, environment={"NAME": cdk.Aws.REGION})
    assert alone["template"] == app.synth().get_stack_by_name("Stack").template


def test_sam_is_told_where_the_code_is() -> None:
    """`sam local` reads the path from the resource, which the CDK CLI asks for in the context."""
    app = cdk.App(analytics_reporting=False, context={"aws:cdk:enable-asset-metadata": True})
    stack = cdk.Stack(app, "Stack")
    RuntimeFunction(stack, "Plain", entry=ENTRY, environment={})
    LambdaFunction(stack, "Own", entry=ENTRY, environment={})
    resources = app.synth().get_stack_by_name("Stack").template["Resources"].values()
    told = [item["Metadata"] for item in resources if item["Type"] == "AWS::Lambda::Function"]
    assert len(told) == 2
    for metadata in told:
        assert metadata["aws:asset:path"].startswith("asset.")
        assert metadata["aws:asset:property"] == "Code"
