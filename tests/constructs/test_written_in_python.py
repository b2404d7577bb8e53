"""What Python writes without asking CDK is what CDK writes: asking crosses into another process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3

from tokenmill.core._checks import is_token
from tokenmill.security.json_text import json_text
from tokenmill.security.place import arn_in
from tokenmill.security.printed import flat, printed
from tokenmill.security.rights import Right, allow, document

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = cdk.Environment(account="111122223333", region="us-east-1")
LITERALS = "@aws-cdk/core:enablePartitionLiterals"


def made(env: cdk.Environment | None = None, **context: Any) -> cdk.Stack:
    """Return a stack of an app of its own."""
    return cdk.Stack(cdk.App(analytics_reporting=False, context=context), "Stack", env=env)


def template(stack: cdk.Stack) -> dict[str, Any]:
    """Return what the stack becomes."""
    found: dict[str, Any] = cdk.App.of(stack).synth().get_stack_by_name("Stack").template
    return found


DOCUMENTS: dict[str, Callable[[s3.Bucket], dict[str, Any]]] = {
    "texts": lambda _: {"b": 'say "no"\n', "a": ["ü", "漢", "\\", "</script>"], "empty": {}, "none": []},
    "numbers": lambda _: {"whole": 3, "float": 2.0, "half": 1.5, "small": 0.0625, "yes": True, "minus": -4.0},
    "tiny and huge": lambda _: {"tiny": 0.00002, "least": 1e-9, "huge": 1e21, "million": 1e15},
    "no value": lambda _: {"a": None, "b": {"c": None, "d": 1}},
    "tokens in texts": lambda bucket: {"arn": f"{bucket.bucket_arn}/x*", "at": [cdk.Aws.REGION], "n": 1},
    "number token": lambda _: {"n": cdk.Token.as_number({"Ref": "Number"}), "t": cdk.Aws.REGION},
    "list token": lambda _: {"azs": cdk.Fn.get_azs()},
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_json_is_cdks_own(name: str) -> None:
    """Key order, numbers, escapes and members without a value included, and tokens of every form."""
    stack = made()
    given = DOCUMENTS[name](s3.Bucket(stack, "Bucket"))
    cdk.CfnOutput(stack, "Ours", value=json_text(stack, given))
    cdk.CfnOutput(stack, "Theirs", value=stack.to_json_string(given))
    outputs = template(stack)["Outputs"]
    assert outputs["Ours"] == outputs["Theirs"]


@pytest.mark.parametrize("env", [None, HERE], ids=["anywhere", "here"])
@pytest.mark.parametrize("literals", [False, True])
def test_an_arn_is_format_arns(env: cdk.Environment | None, literals: bool) -> None:
    """Also where the partition is written as a text."""
    stack = made(env, **{LITERALS: literals})
    theirs = stack.format_arn(service="bedrock", resource="custom-model", resource_name="*")
    assert stack.resolve(arn_in(stack, "bedrock", "custom-model/*")) == stack.resolve(theirs)


@pytest.mark.parametrize("imported", [False, True])
def test_rights_become_the_statements_of_cdk(imported: bool) -> None:
    """In the same policy, in the same order."""
    condition = {"StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID}}
    denied = {"actions": ["s3:GetObject"], "resources": ["*"]}

    def role(stack: cdk.Stack) -> iam.IRole:
        if imported:
            return iam.Role.from_role_arn(stack, "Role", "arn:aws:iam::111122223333:role/mine")
        return iam.Role(stack, "Role", assumed_by=iam.ServicePrincipal("bedrock.amazonaws.com"))

    ours, theirs = made(), made()
    no = iam.PolicyStatement(effect=iam.Effect.DENY, **denied)
    allow(role(ours), Right(["a:B"], ["*"], condition), no, Right(("a:C", "a:D"), ["x", cdk.Aws.REGION]))
    asked = role(theirs)
    for statement in (
        iam.PolicyStatement(actions=["a:B"], resources=["*"], conditions=condition),
        iam.PolicyStatement(effect=iam.Effect.DENY, **denied),
        iam.PolicyStatement(actions=["a:C", "a:D"], resources=["x", cdk.Aws.REGION]),
    ):
        asked.add_to_principal_policy(statement)
    assert template(ours) == template(theirs)


def test_a_document_has_its_rights_in_order() -> None:
    """A policy apart is made of it in one call."""
    stack = made()
    rights = document(Right(["a:B"], ["x"]), Right(["a:C"], ["y"], {"Bool": {"k": "true"}}))
    first, second = stack.resolve(rights)["Statement"]
    assert first == {"Effect": "Allow", "Action": "a:B", "Resource": "x"}
    assert second == {
        "Effect": "Allow",
        "Action": "a:C",
        "Resource": "y",
        "Condition": {"Bool": {"k": "true"}},
    }


@pytest.mark.parametrize(
    "arn",
    [
        f"arn:{cdk.Aws.PARTITION}:bedrock:{cdk.Aws.REGION}:{cdk.Aws.ACCOUNT_ID}:provisioned-model/*",
        cdk.Aws.STACK_ID,
        cdk.Aws.PARTITION,
        f"arn:{cdk.Aws.PARTITION}:s3:::b/{cdk.Aws.URL_SUFFIX}/*",
        "arn:aws:s3:::b/*",
        "*",
    ],
    ids=["units", "stack-id", "partition", "objects", "written-objects", "all"],
)
def test_pseudo_parameters_are_printed_as_cdk_resolves_them(arn: str) -> None:
    """They are most of what acknowledgements name."""
    stack = made()
    assert printed(stack, arn) == flat(stack.resolve(arn))


@pytest.mark.parametrize(
    "value",
    [
        cdk.Aws.REGION,
        f"x-{cdk.Aws.REGION}-y",
        cdk.Token.as_number({"Ref": "Number"}),
        "${Region}",
        "us-east-1",
        "",
        7,
        7.5,
        None,
        True,
    ],
    ids=["text", "in-a-text", "number", "a-mark", "plain-text", "empty", "7", "7.5", "none", "true"],
)
def test_a_token_is_known_as_cdk_knows_it(value: object) -> None:
    """Numbers and texts; constructs ask for no others."""
    assert is_token(value) == bool(cdk.Token.is_unresolved(value))
