"""One synthesized app with findings of every kind, shared by the tests that need the real thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
import pytest
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_s3 as s3

from tokenmill.lint import acknowledge, register_packs

if TYPE_CHECKING:
    from pathlib import Path


def build_flawed_app(outdir: Path) -> cdk.App:
    """A stack, a nested stack and a stage; some findings acknowledged, most not."""
    app = cdk.App(outdir=str(outdir), context={"@aws-cdk/core:validateAgainstDefaultRules": True})
    register_packs(app, packs=["AwsSolutions", "Serverless"])
    demo = cdk.Stack(app, "Demo")
    bucket = s3.Bucket(demo, "Bucket")
    acknowledge(bucket, "AwsSolutions-S1", "CKV_AWS_18", reason="The logs of this bucket are kept elsewhere.")
    acknowledge(app, "AwsSolutions-S10", reason="The whole app is never deployed.")
    dynamodb.CfnTable(
        cdk.NestedStack(demo, "Nested"),
        "Table",
        key_schema=[{"attributeName": "id", "keyType": "HASH"}],
        attribute_definitions=[{"attributeName": "id", "attributeType": "S"}],
        billing_mode="PAY_NEVER",
    )
    europe = cdk.Environment(region="eu-central-1", account="123456789012")
    s3.CfnBucket(cdk.Stack(cdk.Stage(app, "Prod"), "Inner", env=europe), "Second", bucket_name="NOT_ALLOWED")
    return app


@pytest.fixture(scope="session")
def flawed_assembly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outdir = tmp_path_factory.mktemp("flawed") / "cdk.out"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CDK_VALIDATION", raising=False)
        with pytest.raises(RuntimeError, match="ValidationFailed"):
            build_flawed_app(outdir).synth()
    return outdir
