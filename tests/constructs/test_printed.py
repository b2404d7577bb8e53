"""A value is printed as cdk-nag prints it, or an acknowledgement would answer another finding."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3

from support_stack import REGION, make_app
from tokenmill.lint import register_packs
from tokenmill.security.acknowledge import acknowledge, any_resource
from tokenmill.security.printed import STRENGTH, printed

if TYPE_CHECKING:
    from pathlib import Path


def test_a_resource_of_the_stack_is_its_logical_id(stack: cdk.Stack) -> None:
    """An attribute stands behind a dot."""
    bucket = s3.Bucket(stack, "Bucket")
    logical_id = stack.get_logical_id(bucket.node.default_child)
    assert printed(bucket, bucket.bucket_arn) == f"<{logical_id}.Arn>"
    assert printed(bucket, bucket.bucket_name) == f"<{logical_id}>"


@pytest.mark.parametrize("strength", ["strong", "weak", "both"])
def test_a_resource_of_another_stack_is_what_synthesis_makes_of_it(tmp_path: Path, strength: str) -> None:
    """Strong references are printed by their export, weak ones as JSON, as nag's own function does."""
    app = make_app(tmp_path, {STRENGTH: strength})
    home, away = cdk.Stack(app, "home"), cdk.Stack(app, "away")
    bucket = s3.Bucket(home, "Bucket")
    name = printed(away, bucket.bucket_arn)
    cdk.CfnOutput(away, "Used", value=bucket.bucket_arn)
    used = app.synth().get_stack_by_name("away").template["Outputs"]["Used"]["Value"]
    if strength == "strong":
        assert used == {"Fn::ImportValue": name}
    else:
        assert json.loads(name) == used


@pytest.mark.parametrize("strength", ["strong", "weak"])
def test_what_is_printed_answers_nags_finding(tmp_path: Path, strength: str) -> None:
    """A wildcard on a bucket of another stack, acknowledged by its printed name, is no finding."""
    app = make_app(tmp_path, {STRENGTH: strength})
    home, away = (cdk.Stack(app, name, env=cdk.Environment(region=REGION)) for name in ("home", "away"))
    bucket = s3.Bucket(home, "Bucket")
    for name in ("Answered", "Open"):
        role = iam.Role(away, name, assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        objects = [bucket.arn_for_objects("a/*")]
        role.add_to_policy(iam.PolicyStatement(actions=["s3:GetObject"], resources=objects))
        if name == "Answered":
            finding = any_resource(f"{printed(role, bucket.bucket_arn)}/a/*")
            acknowledge(role, {finding: "The names of the objects are not known."})
    register_packs(app, packs=["AwsSolutions"], cloudformation_validation=False)
    with pytest.raises(RuntimeError, match="ValidationFailed"):
        app.synth()
    report = json.loads((tmp_path / "validation-report.json").read_text())
    found = [
        construct["constructPath"]
        for plugin in report["pluginReports"]
        for violation in plugin.get("violations", [])
        if violation["ruleName"].startswith("AwsSolutions-IAM5")
        for construct in violation["violatingConstructs"]
    ]
    assert found == ["away/Open/DefaultPolicy/Resource"]


def test_a_resource_by_name_is_its_arn(stack: cdk.Stack, tmp_path: Path) -> None:
    """Pseudo parameters are printed like references, and plain text as it stands."""
    bucket = s3.Bucket.from_bucket_name(stack, "Bucket", "weights")
    assert printed(stack, f"arn:{cdk.Aws.PARTITION}:s3:::weights") == "arn:<AWS::Partition>:s3:::weights"
    assert printed(stack, bucket.bucket_arn).endswith(":s3:::weights")
    assert printed(stack, "plain") == "plain"
