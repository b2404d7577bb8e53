"""A build that a deployment waits for: what is in the template, and what starts a build."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_kms as kms
from aws_cdk import aws_secretsmanager as secretsmanager

from support_stack import REGION, make_app, of_type, only, statements, template_of
from tokenmill.core.errors import TokenmillError
from tokenmill.endpoints.build_run import BuildJob, BuildRun
from tokenmill.lint import register_packs
from tokenmill.security import FunctionHosting, actions
from tokenmill_runtime.build_run import RESOURCE_TYPE

if TYPE_CHECKING:
    from pathlib import Path

NAMED = {
    action
    for name, group in vars(actions).items()
    if name.isupper() and isinstance(group, tuple)
    for action in group
} | {"xray:PutTelemetryRecords", "xray:PutTraceSegments"}


def job(**changes: Any) -> BuildJob:
    return BuildJob(
        **{
            "description": "Makes a thing",
            "commands": ("make thing", "export DIGEST=1"),
            "outputs": ("DIGEST",),
            **changes,
        }
    )


def built(stack: cdk.Stack, properties: Any = None, **changes: Any) -> dict[str, Any]:
    """The template with a build."""
    BuildRun(stack, "Build", build=job(**changes), properties=properties or {})
    return template_of(stack)


def run_of(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """The properties of the custom resource in a stack of its own."""
    app = make_app(tmp_path)
    stack = cdk.Stack(app, "test", env=cdk.Environment(region=REGION))
    return dict(only(built(stack, **changes), RESOURCE_TYPE)["Properties"])


def test_the_project_runs_the_commands_and_exports_the_outputs(stack: cdk.Stack) -> None:
    """The build specification says what is exported, and stops at the first command that fails."""
    properties = only(built(stack), "AWS::CodeBuild::Project")["Properties"]
    spec = json.loads(properties["Source"]["BuildSpec"])
    assert spec["env"]["exported-variables"] == ["DIGEST"]
    assert spec["phases"]["build"] == {"on-failure": "ABORT", "commands": ["make thing", "export DIGEST=1"]}
    assert properties["Environment"]["PrivilegedMode"] is False


def test_cloudformation_waits_longer_than_the_build_can_run(stack: cdk.Stack) -> None:
    """Queue, run and the event's way end before CloudFormation gives up, and that is within an hour."""
    template = built(stack)
    project = only(template, "AWS::CodeBuild::Project")["Properties"]
    minutes = project["TimeoutInMinutes"] + project["QueuedTimeoutInMinutes"]
    assert minutes * 60 < int(only(template, RESOURCE_TYPE)["Properties"]["ServiceTimeout"]) <= 3600


def test_the_end_of_this_project_s_builds_calls_the_function(stack: cdk.Stack) -> None:
    """Whatever the end is called, because a status that is missed is an hour lost."""
    template = built(stack)
    detail = only(template, "AWS::Events::Rule")["Properties"]["EventPattern"]["detail"]
    (project,) = of_type(template, "AWS::CodeBuild::Project")
    assert detail == {
        "project-name": [{"Ref": project}],
        "build-status": [{"anything-but": ["IN_PROGRESS"]}],
    }
    permission = only(template, "AWS::Lambda::Permission")["Properties"]
    (rule,) = of_type(template, "AWS::Events::Rule")
    assert permission["SourceArn"] == {"Fn::GetAtt": [rule, "Arn"]}


def test_the_build_starts_after_everything_that_it_needs(stack: cdk.Stack) -> None:
    """Rights of build and function, and the rule: a build may be over before a late rule listens."""
    template = built(stack)
    needed = set(only(template, RESOURCE_TYPE)["DependsOn"])
    for kind in ("AWS::IAM::Policy", "AWS::Events::Rule", "AWS::Lambda::Permission"):
        assert set(of_type(template, kind)) <= needed


def test_an_output_is_an_attribute(stack: cdk.Stack) -> None:
    """And one that the job has not is refused with those that it has."""
    run = BuildRun(stack, "Build", build=job(), properties={})
    cdk.CfnOutput(stack, "Digest", value=run.get("DIGEST"))
    with pytest.raises(TokenmillError, match="no output 'TAG'; its outputs are DIGEST"):
        run.get("TAG")
    template = template_of(stack)
    (logical,) = of_type(template, RESOURCE_TYPE)
    assert template["Outputs"]["Digest"]["Value"] == {"Fn::GetAtt": [logical, "DIGEST"]}


@pytest.mark.parametrize(
    "changes",
    [
        {"commands": ("make other", "export DIGEST=1")},
        {"environment": {"A": "2"}},
        {"outputs": ("DIGEST", "TAG")},
        {"arm": True},
        {"properties": {"version": "2"}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_change_of_the_content_is_seen(tmp_path: Path, changes: dict[str, Any]) -> None:
    """CloudFormation calls the function when a property of the resource changes."""
    assert run_of(tmp_path / "a") != run_of(tmp_path / "b", **changes)


def test_a_change_of_the_source_is_seen(tmp_path: Path) -> None:
    """By the hash of the folder; files that are left out do not count."""
    runs = []
    for number, (kept, left_out) in enumerate([("1", "1"), ("1", "2"), ("2", "2")]):
        folder = tmp_path / f"source{number}"
        folder.mkdir()
        (folder / "Dockerfile").write_text(kept)
        (folder / "notes.txt").write_text(left_out)
        runs.append(run_of(tmp_path / f"out{number}", source=folder, exclude=("notes.txt",)))
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("changes", [{"compute": "BUILD_GENERAL1_LARGE"}, {"description": "Other"}])
def test_what_does_not_shape_the_result_builds_nothing(tmp_path: Path, changes: dict[str, Any]) -> None:
    """A larger machine makes the same image."""
    assert run_of(tmp_path / "a") == run_of(tmp_path / "b", **changes)


def test_a_secret_is_in_no_property(stack: cdk.Stack) -> None:
    """CodeBuild reads it when the build starts; the template has its ARN, and one role may read it."""
    key = kms.Key(stack, "Key")
    secret = secretsmanager.Secret(stack, "Token", encryption_key=key)
    template = built(stack, secrets={"HF_TOKEN": secret})
    assert "resolve:secretsmanager" not in json.dumps(template)
    (variable,) = only(template, "AWS::CodeBuild::Project")["Properties"]["Environment"][
        "EnvironmentVariables"
    ]
    assert (variable["Name"], variable["Type"]) == ("HF_TOKEN", "SECRETS_MANAGER")
    assert "HF_TOKEN" not in json.dumps(only(template, RESOURCE_TYPE))
    allowed = {
        action
        for statement in statements(template, "BuildRole")
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    assert {"secretsmanager:GetSecretValue", "kms:Decrypt"} <= allowed


def test_roles_have_what_they_need_and_no_more(stack: cdk.Stack, tmp_path: Path) -> None:
    """The function's rights are this project's builds and the log of them."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "a").write_text("a")
    template = built(stack, source=folder)
    found: set[str] = set()
    for policy in of_type(template, "AWS::IAM::Policy").values():
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
            action = statement["Action"]
            found |= {action} if isinstance(action, str) else set(action)
            assert statement["Resource"] != "*" or "xray:PutTraceSegments" in action
    assert found <= NAMED


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"timeout_minutes": 51}, "timeout_minutes is 51; give 5 to 50"),
        ({"timeout_minutes": 4}, "timeout_minutes is 4; give 5 to 50"),
        ({"commands": ()}, "commands is empty"),
        ({"outputs": ("a-b",)}, "variable 'a-b' of a build is no name"),
        ({"environment": {"CODEBUILD_X": "1"}}, "none of the prefixes CODEBUILD_"),
        ({"environment": {"TOKENMILL_RUN_X": "1"}}, "TOKENMILL_RUN_"),
    ],
)
def test_fails_on_a_job_that_cannot_run(changes: dict[str, Any], says: str) -> None:
    """Before there is a construct."""
    with pytest.raises(TokenmillError, match=says):
        job(**changes)


@pytest.mark.parametrize("with_key", [False, True])
def test_aws_solutions_has_no_finding(tmp_path: Path, with_key: bool) -> None:
    """With and without a customer's key, with a secret by name, with Docker."""
    app = make_app(tmp_path)
    stack = cdk.Stack(app, "test", env=cdk.Environment(region=REGION))
    register_packs(app, packs=["AwsSolutions"], cloudformation_validation=False)
    key = kms.Key(stack, "Key", enable_key_rotation=True) if with_key else None
    token = secretsmanager.Secret.from_secret_name_v2(stack, "Token", "hub/token")
    BuildRun(
        stack,
        "Build",
        build=job(privileged=True, secrets={"HF_TOKEN": token}),
        properties={},
        hosting=FunctionHosting(encryption_key=key),
    )
    app.synth()
    report = json.loads((tmp_path / "validation-report.json").read_text(encoding="utf-8"))
    found = [
        violation["ruleName"] for plugin in report["pluginReports"] for violation in plugin["violations"]
    ]
    assert found == []
