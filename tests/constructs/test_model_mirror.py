"""A model's copy in the account's bucket: the template, the rights, what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_secretsmanager as secretsmanager

from support_stack import REGION, make_app, of_type, only, statements, template_of
from tokenmill.core.errors import TokenmillError
from tokenmill.endpoints.model_mirror import ModelMirror
from tokenmill.endpoints.serving import Serving
from tokenmill.lint import register_packs
from tokenmill.security import FunctionHosting
from tokenmill_runtime.build_run import RESOURCE_TYPE

if TYPE_CHECKING:
    from pathlib import Path

REVISION = "b968826d9c46dd6066d109eabc6255188de91218"
PREFIX = f"models/Qwen/Qwen3-8B/{REVISION}/"


def mirror(stack: cdk.Stack, **changes: Any) -> ModelMirror:
    arguments = {"model": "Qwen/Qwen3-8B", "revision": REVISION, "licence": "apache-2.0", **changes}
    return ModelMirror(stack, "Mirror", **arguments)


def variables(template: dict[str, Any]) -> dict[str, Any]:
    environment = only(template, "AWS::CodeBuild::Project")["Properties"]["Environment"]
    return {item["Name"]: item["Value"] for item in environment["EnvironmentVariables"]}


def test_the_build_is_told_what_to_copy_where(stack: cdk.Stack) -> None:
    """And ends itself in good order before CodeBuild's time-out."""
    mirror(stack)
    template = template_of(stack)
    (bucket,) = of_type(template, "AWS::S3::Bucket")
    told = variables(template)
    assert told["MIRROR_MODEL"] == "Qwen/Qwen3-8B"
    assert told["MIRROR_REVISION"] == REVISION
    assert told["MIRROR_LICENCE"] == "apache-2.0"
    assert told["MIRROR_BUCKET"] == {"Ref": bucket}
    minutes = only(template, "AWS::CodeBuild::Project")["Properties"]["TimeoutInMinutes"]
    assert int(told["MIRROR_SECONDS"]) < minutes * 60


def test_the_bucket_stays_and_is_closed(stack: cdk.Stack) -> None:
    """Weights are hours of copying, so they outlive the stack; nobody else reads them."""
    mirror(stack)
    bucket = only(template_of(stack), "AWS::S3::Bucket")
    assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"
    assert all(bucket["Properties"]["PublicAccessBlockConfiguration"].values())


def test_a_given_bucket_is_used(stack: cdk.Stack) -> None:
    """One of an earlier stack, so that a failed first deployment goes on from where it was."""
    given = s3.Bucket.from_bucket_name(stack, "Given", "weights")
    made = mirror(stack, bucket=given)
    template = template_of(stack)
    assert made.bucket is given
    assert of_type(template, "AWS::S3::Bucket") == {}
    assert variables(template)["MIRROR_BUCKET"] == "weights"


def test_the_role_writes_this_copy_and_nothing_else(stack: cdk.Stack) -> None:
    """Objects under the two prefixes of this revision; lists of them; no delete."""
    mirror(stack)
    template = template_of(stack)
    (bucket,) = of_type(template, "AWS::S3::Bucket")
    mine = [
        statement
        for statement in statements(template, "MirrorCopyRole")
        if "s3:" in json.dumps(statement["Action"]) and bucket in json.dumps(statement["Resource"])
    ]
    objects = next(item for item in mine if "s3:PutObject" in item["Action"])
    assert {arn["Fn::Join"][1][-1] for arn in objects["Resource"]} == {
        f"/{PREFIX}*",
        f"/mirrors/Qwen/Qwen3-8B/{REVISION}/*",
    }
    listed = next(item for item in mine if item["Action"] == "s3:ListBucket")
    assert listed["Condition"]["StringLike"]["s3:prefix"][0] == f"{PREFIX}*"
    assert "Delete" not in json.dumps(mine)


def test_a_key_is_the_objects_key(stack: cdk.Stack) -> None:
    """Of the bucket, of every object, and of the endpoint's right to read."""
    key = kms.Key(stack, "Key")
    made = mirror(stack, encryption_key=key)
    made.source.grant_read(role(stack))
    template = template_of(stack)
    assert "MIRROR_KEY" in variables(template)
    assert "aws:kms" in json.dumps(only(template, "AWS::S3::Bucket"))
    assert any("kms:GenerateDataKey" in item["Action"] for item in statements(template, "MirrorCopyRole"))
    assert any(item["Action"] == "kms:Decrypt" for item in statements(template, "Serving"))


def test_the_token_is_read_by_the_build_alone(stack: cdk.Stack) -> None:
    """It is in no template, and an endpoint on the copy has no token."""
    token = secretsmanager.Secret.from_secret_name_v2(stack, "Token", "hub/token")
    made = mirror(stack, token=token)
    template = template_of(stack)
    assert variables(template)["HF_TOKEN"] == "hub/token"
    assert "resolve:secretsmanager" not in json.dumps(template)
    assert made.source.token is None


def test_an_endpoint_waits_for_the_copy(stack: cdk.Stack) -> None:
    """The source's prefix is this revision's, and it exists when the build is over."""
    made = mirror(stack)
    found = made.source.resolve(stack, qwen(), REGION)
    assert stack.resolve(found.s3_uri)["Fn::Join"][1][-1] == f"/{PREFIX}"
    waiting = cdk.CfnResource(stack, "Endpoint", type="Test::Endpoint")
    waiting.node.add_dependency(*found.after)
    template = template_of(stack)
    (run,) = of_type(template, RESOURCE_TYPE)
    assert run in template["Resources"]["Endpoint"]["DependsOn"]


def test_the_build_s_source_is_the_program_alone(tmp_path: Path) -> None:
    """A change elsewhere in the runtime must not start a copy."""
    app = make_app(tmp_path)
    stack = cdk.Stack(app, "test", env=cdk.Environment(region=REGION))
    made = mirror(stack)
    app.synth()
    (folder,) = tmp_path.glob(f"asset.{made.build._source.asset_hash}*")
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert files[0] == "tokenmill_runtime/__init__.py"
    assert all(name.startswith("tokenmill_runtime/model_mirror/") for name in files[1:])
    assert "tokenmill_runtime/model_mirror/__main__.py" in files


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"revision": "main"}, r"revision is 'main'.*api/models/Qwen/Qwen3-8B"),
        ({"revision": REVISION[:12]}, "40 hexadecimal digits"),
        ({"revision": REVISION.upper()}, "40 hexadecimal digits"),
        ({"model": "Qwen3-8B"}, "model is 'Qwen3-8B'; give its name"),
        ({"model": "a/b/c"}, "give its name"),
        ({"licence": " "}, "licence is empty; read the model card"),
        ({"licence": cdk.Token.as_string({"Ref": "X"})}, "licence is a token"),
        ({"revision": cdk.Token.as_string({"Ref": "X"})}, "revision is a token"),
    ],
)
def test_fails_before_there_is_a_child(stack: cdk.Stack, changes: dict[str, Any], says: str) -> None:
    """A branch would be another model tomorrow; the sentence says where the hash stands."""
    with pytest.raises(TokenmillError, match=says):
        mirror(stack, **changes)
    assert stack.node.children == []


def test_another_model_on_the_copy_is_refused(stack: cdk.Stack) -> None:
    """A mirror of 8B under an endpoint of 32B is a mix-up that would start and answer."""
    source = mirror(stack).source
    source.check(qwen(), isolated=False, region=REGION)
    with pytest.raises(
        TokenmillError, match="holds 'Qwen/Qwen3-8B', but the endpoint serves 'Qwen/Qwen3-4B'"
    ):
        source.check(qwen(model="Qwen/Qwen3-4B"), isolated=False, region=REGION)


@pytest.mark.parametrize("kind", ["known region", "any region", "given bucket", "key"])
def test_aws_solutions_has_no_finding(tmp_path: Path, kind: str) -> None:
    """Of the mirror, and of a role that reads from it, in the same stack and in another."""
    app = make_app(tmp_path)
    env = None if kind == "any region" else cdk.Environment(region=REGION)
    stack, other = cdk.Stack(app, "test", env=env), cdk.Stack(app, "other", env=env)
    register_packs(app, packs=["AwsSolutions"], cloudformation_validation=False)
    changes: dict[str, Any] = {"hosting": FunctionHosting(ephemeral=True)}
    if kind == "given bucket":
        changes["bucket"] = s3.Bucket.from_bucket_name(stack, "Given", "weights")
    if kind == "key":
        changes["encryption_key"] = kms.Key(stack, "Key", enable_key_rotation=True)
    made = mirror(stack, **changes)
    for home in (stack, other):
        made.source.grant_read(role(home))
    app.synth()
    report = json.loads((tmp_path / "validation-report.json").read_text(encoding="utf-8"))
    found = [
        (violation["ruleName"], [item["constructPath"] for item in violation["violatingConstructs"]])
        for plugin in report["pluginReports"]
        for violation in plugin["violations"]
    ]
    assert found == []


def role(stack: cdk.Stack) -> iam.Role:
    return iam.Role(stack, "Serving", assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com"))


def qwen(**changes: Any) -> Serving:
    fields: dict[str, Any] = {
        "model": "Qwen/Qwen3-8B",
        "instance_type": "ml.g6.12xlarge",
        "tensor_parallel": 4,
        "max_sequences": 8,
        "context_tokens": 8192,
        **changes,
    }
    return Serving(**fields)
