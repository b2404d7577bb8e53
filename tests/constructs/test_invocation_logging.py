"""Invocation logging: what Bedrock may write, what the function may set, and who owns the setting."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3

from support_stack import make_app, of_type, only, statements, template_of
from tokenmill.bedrock.invocation_logging import InvocationLogging, LogBucket, LogStream
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Mapping

SETTING = "Custom::TokenmillInvocationLogging"
ACCOUNT = {
    "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}},
    "ArnLike": {
        "aws:SourceArn": {
            "Fn::Join": [
                "",
                [
                    "arn:",
                    {"Ref": "AWS::Partition"},
                    ":bedrock:",
                    {"Ref": "AWS::Region"},
                    ":",
                    {"Ref": "AWS::AccountId"},
                    ":*",
                ],
            ]
        }
    },
}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A stack that logs to events and objects, large bodies aside."""
    app = make_app(tmp_path_factory.mktemp("both"))
    stack = cdk.Stack(app, "test", env=cdk.Environment(region="us-east-1"))
    InvocationLogging(
        stack,
        "Calls",
        stream=LogStream(retention_days=30, large_data=LogBucket(prefix="large")),
        bucket=LogBucket(prefix="calls", expire_days=7),
        data=("image", "text"),
    )
    return template_of(stack)


def bedrock_statements(template: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    """Return what policies of one type let Bedrock do."""
    found = []
    for policy in of_type(template, kind).values():
        document = policy["Properties"].get("PolicyDocument") or policy["Properties"]["KeyPolicy"]
        found += [s for s in document["Statement"] if "bedrock.amazonaws.com" in str(s["Principal"])]
    return found


def test_the_setting_names_the_places_and_the_owner_s_parameter(both: dict[str, Any]) -> None:
    """Every value arrives as a text; kinds stand in one order, so that their order changes nothing."""
    properties = only(both, SETTING)["Properties"]
    assert properties["Parameter"] == "/tokenmill/bedrock/invocation-logging"
    assert properties["Data"] == "text image"
    assert properties["ReplaceExisting"] == "false"
    assert set(properties["CloudWatch"]) == {"LogGroup", "Role", "LargeDataBucket", "LargeDataPrefix"}
    assert properties["S3"]["Prefix"] == "calls"


def test_bedrock_s_role_writes_one_stream_for_this_account_only(both: dict[str, Any]) -> None:
    """Trust and policy as "Monitor model invocation using CloudWatch Logs and Amazon S3" has them."""
    (role,) = [r for key, r in of_type(both, "AWS::IAM::Role").items() if key.startswith("CallsRole")]
    (trust,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "bedrock.amazonaws.com"}
    assert trust["Condition"] == ACCOUNT
    (statement,) = statements(both, "CallsRole")
    assert statement["Action"] == ["logs:CreateLogStream", "logs:PutLogEvents"]
    assert str(statement["Resource"]).endswith(":log-stream:aws/bedrock/modelinvocations']]}")


def test_bedrock_puts_objects_into_its_folders_only(both: dict[str, Any]) -> None:
    """Both buckets, each under its prefix, for this account."""
    found = bedrock_statements(both, "AWS::S3::BucketPolicy")
    assert len(found) == 2
    for statement in found:
        assert statement["Action"] == "s3:PutObject"
        assert statement["Condition"] == ACCOUNT
    folders = sorted(str(s["Resource"]["Fn::Join"][1][1]) for s in found)
    assert folders == ["/calls/AWSLogs/", "/large/AWSLogs/"]
    assert all("/BedrockModelInvocationLogs/*" in str(s["Resource"]) for s in found)


def test_bedrock_may_write_before_the_setting_is_made(both: dict[str, Any]) -> None:
    """Bedrock looks at once, and it may until the setting is gone: resources go in the opposite order."""
    waits = only(both, SETTING)["DependsOn"]
    for part in ("CallsRole", "CallsRoleDefaultPolicy", "CallsBucketPolicy", "CallsLargeDataPolicy"):
        assert [name for name in waits if name.startswith(part)], part


def test_logs_stay_when_the_stack_goes_and_end_by_themselves(both: dict[str, Any]) -> None:
    """They hold prompts, so they have an end."""
    (group,) = [g for key, g in of_type(both, "AWS::Logs::LogGroup").items() if key.startswith("CallsLogs")]
    assert group["DeletionPolicy"] == "Retain"
    assert group["Properties"]["RetentionInDays"] == 30
    buckets = of_type(both, "AWS::S3::Bucket")
    days = sorted(
        b["Properties"]["LifecycleConfiguration"]["Rules"][0]["ExpirationInDays"] for b in buckets.values()
    )
    assert days == [7, 90]
    assert {b["DeletionPolicy"] for b in buckets.values()} == {"Retain"}


def test_the_function_may_set_read_its_parameter_and_pass_one_role(both: dict[str, Any]) -> None:
    """The setting's actions take no resource; everything else has one."""
    found = statements(both, "TokenmillBedrockFunctionRole")
    (owner,) = [s for s in found if "ssm:PutParameter" in s["Action"]]
    assert owner["Action"] == ["ssm:DeleteParameter", "ssm:GetParameter", "ssm:PutParameter"]
    assert str(owner["Resource"]).endswith(":parameter/tokenmill/bedrock/invocation-logging']]}")
    (passed,) = [s for s in found if s["Action"] == "iam:PassRole"]
    assert "CallsRole" in str(passed["Resource"])
    assert passed["Condition"] == {"StringEquals": {"iam:PassedToService": "bedrock.amazonaws.com"}}
    (setting,) = [s for s in found if "bedrock:PutModelInvocationLoggingConfiguration" in s["Action"]]
    assert setting["Resource"] == "*"


def test_a_setting_that_is_put_back_may_name_any_role(stack: cdk.Stack) -> None:
    """Whose role it is only the deployment finds; it is passed to Bedrock only."""
    InvocationLogging(stack, "Calls", bucket=LogBucket(), replace_existing=True)
    template = template_of(stack)
    (passed,) = [
        s for s in statements(template, "TokenmillBedrockFunctionRole") if s["Action"] == "iam:PassRole"
    ]
    assert str(passed["Resource"]).endswith(":role/*']]}")
    assert passed["Condition"] == {"StringEquals": {"iam:PassedToService": "bedrock.amazonaws.com"}}
    assert only(template, SETTING)["Properties"]["ReplaceExisting"] == "true"


def test_objects_alone_need_no_role(stack: cdk.Stack) -> None:
    """Bedrock puts objects under its own name."""
    made = InvocationLogging(stack, "Calls", bucket=LogBucket())
    template = template_of(stack)
    assert made.role is None
    assert "CloudWatch" not in only(template, SETTING)["Properties"]
    assert [s for s in statements(template, "Function") if s["Action"] == "iam:PassRole"] == []


def test_a_customer_s_key_lets_bedrock_write(stack: cdk.Stack) -> None:
    """An object with a key of KMS takes a data key of it."""
    InvocationLogging(stack, "Calls", bucket=LogBucket(encryption_key=kms.Key(stack, "Key")))
    (statement,) = bedrock_statements(template_of(stack), "AWS::KMS::Key")
    assert statement["Action"] == "kms:GenerateDataKey"
    assert statement["Condition"] == ACCOUNT


def test_log_groups_and_buckets_can_be_given(stack: cdk.Stack) -> None:
    """Nothing else is made; the policy of an imported bucket is its owner's, which is said."""
    InvocationLogging(
        stack,
        "Calls",
        stream=LogStream(log_group=logs.LogGroup.from_log_group_name(stack, "Group", "audit")),
        bucket=LogBucket(bucket=s3.Bucket.from_bucket_name(stack, "Bucket", "audit-objects")),
    )
    assembly = cdk.App.of(stack).synth().get_stack_by_name("test")
    properties = only(assembly.template, SETTING)["Properties"]
    assert properties["CloudWatch"]["LogGroup"] == "audit"
    assert properties["S3"]["Bucket"] == "audit-objects"
    assert of_type(assembly.template, "AWS::S3::Bucket") == {}
    assert "is imported, so its policy is yours" in json.dumps([str(m.entry.data) for m in assembly.messages])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda s: InvocationLogging(s, "Calls"), "neither stream nor bucket is given"),
        (lambda s: InvocationLogging(s, "Calls", stream=LogStream(), data=()), "data is ()"),
        (lambda s: InvocationLogging(s, "Calls", stream=LogStream(), data=("sound",)), "data is ('sound',)"),
        (lambda s: InvocationLogging(s, "Calls", stream=LogStream(), data="text"), "data is 'text'"),
        (lambda s: LogStream(retention_days=31), "retention_days is 31; allowed are 1, 3, 5"),
        (lambda s: LogBucket(prefix="/calls"), "prefix is '/calls'; it must be a folder"),
        (lambda s: LogBucket(expire_days=0), "expire_days is 0; it must be 1 or more"),
        (
            lambda s: LogBucket(bucket=s3.Bucket(s, "B"), encryption_key=kms.Key(s, "K")),
            "encryption_key is given with your own bucket",
        ),
        (
            lambda s: LogStream(log_group=logs.LogGroup(s, "G"), encryption_key=kms.Key(s, "K")),
            "encryption_key is given with your own log group",
        ),
    ],
)
def test_fails_for_places_that_are_none(stack: cdk.Stack, make: Any, sentence: str) -> None:
    """Each with the value and the way out, and before anything is made."""
    with pytest.raises(TokenmillError) as raised:
        make(stack)
    assert sentence in str(raised.value)
    assert stack.node.try_find_child("Calls") is None
