"""A custom resource that an event answers, and the events of stacks, in one cloud process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import botocore.exceptions
import pytest

from support_local import ACCOUNT, REGION, ROLE, client
from support_local_workflows import SECONDS, Stack, function, get, keys, new_bucket
from tokenmill.local.processes import wait_until

if TYPE_CHECKING:
    from tokenmill.local.cloud_process import CloudProcess


# What BuildRun's function does, without its niceties: start a build that carries the request's identity, and
# answer CloudFormation from the event that the build is over.
BUILD_RUN = """
import json, os, urllib.request
import boto3

def handler(event, context):
    codebuild = boto3.client("codebuild")
    if event.get("source") == "aws.codebuild":
        detail = event["detail"]
        build = codebuild.batch_get_builds(ids=[detail["build-id"]])["builds"][0]
        given = {v["name"]: v["value"] for v in build["environment"]["environmentVariables"]}
        exported = {v["name"]: v["value"] for v in build["exportedEnvironmentVariables"]}
        ok = build["buildStatus"] == "SUCCEEDED"
        answer(json.loads(given["REQUEST"]), "SUCCESS" if ok else "FAILED", exported, str(build["phases"]))
        return
    if event["RequestType"] == "Delete":
        answer(event, "SUCCESS", {}, "")
        return
    codebuild.start_build(
        projectName=event["ResourceProperties"]["Project"],
        environmentVariablesOverride=[{"name": "REQUEST", "value": json.dumps(event)}],
    )

def answer(request, status, data, reason):
    document = {key: request[key] for key in ("StackId", "RequestId", "LogicalResourceId")}
    document |= {"Status": status, "PhysicalResourceId": "run", "Data": data, "Reason": reason}
    put = urllib.request.Request(
        request["ResponseURL"], data=json.dumps(document, default=str).encode(), method="PUT",
        headers={"Content-Type": ""})
    urllib.request.urlopen(put, timeout=10).read()
"""
# Writes every event that it gets into a bucket.
RECORDER = """
import json, os, boto3
def handler(event, context):
    boto3.client("s3").put_object(
        Bucket=os.environ["BUCKET"], Key=event["id"], Body=json.dumps(event).encode())
"""


@pytest.fixture
def bucket(cloud: CloudProcess) -> str:
    return new_bucket(cloud)


def build_template() -> dict[str, Any]:
    """A repository, a project whose build pushes an image, and a custom resource that waits for the build."""
    spec = {"version": "0.2", "env": {"exported-variables": ["IMAGE_DIGEST"]}, "phases": {}}
    pattern = {
        "source": ["aws.codebuild"],
        "detail-type": ["CodeBuild Build State Change"],
        "detail": {"project-name": [{"Ref": "Project"}], "build-status": [{"anything-but": ["IN_PROGRESS"]}]},
    }
    variables = {"REPOSITORY": {"Ref": "Repository"}, "TAG": "1-abc"}
    return {
        "Resources": {
            "Repository": {
                "Type": "AWS::ECR::Repository",
                "Properties": {"ImageTagMutability": "IMMUTABLE", "EmptyOnDelete": True},
            },
            "Project": {
                "Type": "AWS::CodeBuild::Project",
                "Properties": {
                    "Artifacts": {"Type": "NO_ARTIFACTS"},
                    "Source": {"Type": "NO_SOURCE", "BuildSpec": json.dumps(spec)},
                    "ServiceRole": ROLE,
                    "TimeoutInMinutes": "10",
                    "Environment": {
                        "Type": "LINUX_CONTAINER",
                        "ComputeType": "BUILD_GENERAL1_SMALL",
                        "Image": "aws/codebuild/standard:7.0",
                        "PrivilegedMode": "true",
                        "EnvironmentVariables": [
                            {"Name": name, "Value": value} for name, value in variables.items()
                        ],
                    },
                },
            },
            "Function": function(BUILD_RUN),
            "Rule": {
                "Type": "AWS::Events::Rule",
                "Properties": {
                    "EventPattern": pattern,
                    "Targets": [{"Id": "f", "Arn": {"Fn::GetAtt": ["Function", "Arn"]}}],
                },
            },
            "Run": {
                "Type": "Custom::BuildRun",
                "DependsOn": ["Rule"],
                "Properties": {
                    "ServiceToken": {"Fn::GetAtt": ["Function", "Arn"]},
                    "ServiceTimeout": "30",
                    "Project": {"Ref": "Project"},
                },
            },
        },
        "Outputs": {
            "Digest": {"Value": {"Fn::GetAtt": ["Run", "IMAGE_DIGEST"]}},
            "Repository": {"Value": {"Ref": "Repository"}},
            "Project": {"Value": {"Ref": "Project"}},
        },
    }


def test_a_custom_resource_is_answered_by_the_event_that_its_build_is_over(cloud: CloudProcess) -> None:
    stack = Stack(cloud, "build-run")
    described = stack.create(build_template())
    assert described["StackStatus"] == "CREATE_COMPLETE", stack.reasons()
    outputs = {entry["OutputKey"]: entry["OutputValue"] for entry in described["Outputs"]}
    ecr = client(cloud.endpoint, "ecr")
    for wanted in ({"imageTag": "1-abc"}, {"imageDigest": outputs["Digest"]}):
        [image] = ecr.describe_images(repositoryName=outputs["Repository"], imageIds=[wanted])["imageDetails"]
        assert (image["imageDigest"], image["imageTags"]) == (outputs["Digest"], ["1-abc"])
    with pytest.raises(ecr.exceptions.ImageNotFoundException, match="imageTag:'other'"):
        ecr.describe_images(repositoryName=outputs["Repository"], imageIds=[{"imageTag": "other"}])
    builds = client(cloud.endpoint, "codebuild").list_builds_for_project(projectName=outputs["Project"])
    assert len(builds["ids"]) == 1
    again = build_to_its_end(cloud, outputs["Project"])
    assert again["exportedEnvironmentVariables"] == [{"name": "IMAGE_DIGEST", "value": outputs["Digest"]}], (
        "an immutable tag takes the same image again"
    )
    stack.delete()
    with pytest.raises(botocore.exceptions.ClientError, match="cannot be found"):
        client(cloud.endpoint, "codebuild").start_build(projectName=outputs["Project"])


def build_to_its_end(cloud: CloudProcess, project: str) -> dict[str, Any]:
    codebuild = client(cloud.endpoint, "codebuild")
    build_id = codebuild.start_build(projectName=project)["build"]["id"]

    def build() -> dict[str, Any]:
        return dict(codebuild.batch_get_builds(ids=[build_id])["builds"][0])

    assert wait_until(lambda: bool(build()["buildComplete"]), SECONDS)
    return build()


@pytest.mark.parametrize(
    ("repository", "said"),
    [("gone", "RepositoryNotFoundException"), ("other", "immutable and names another image")],
)
def test_fails_a_build_whose_image_cannot_be_pushed(cloud: CloudProcess, repository: str, said: str) -> None:
    name = f"{repository}-{uuid4().hex[:8]}"
    ecr, codebuild = client(cloud.endpoint, "ecr"), client(cloud.endpoint, "codebuild")
    if repository == "other":
        ecr.create_repository(repositoryName=name, imageTagMutability="IMMUTABLE")
        ecr.put_image(repositoryName=name, imageTag="v1", imageManifest="{}")
    spec = {"version": "0.2", "env": {"exported-variables": ["IMAGE_DIGEST"]}}
    variables = {"REPOSITORY": name, "TAG": "v1"}
    codebuild.create_project(
        name=name,
        source={"type": "NO_SOURCE", "buildspec": json.dumps(spec)},
        artifacts={"type": "NO_ARTIFACTS"},
        serviceRole=ROLE,
        environment={
            "type": "LINUX_CONTAINER",
            "image": "aws/codebuild/standard:7.0",
            "computeType": "BUILD_GENERAL1_SMALL",
            "environmentVariables": [{"name": key, "value": value} for key, value in variables.items()],
        },
    )
    build = build_to_its_end(cloud, name)
    assert build["buildStatus"] == "FAILED"
    assert said in str(build["phases"])


def test_a_build_that_fails_rolls_the_stack_back_with_its_reason(cloud: CloudProcess) -> None:
    scope = {"account": ACCOUNT, "region": REGION}
    template = build_template()
    template["Resources"]["Project"]["Properties"]["Name"] = "doomed"
    cloud.admin("faults", {**scope, "failing_builds": {"doomed": "FAILED"}})
    try:
        stack = Stack(cloud, "build-fails")
        assert stack.create(template)["StackStatus"] == "ROLLBACK_COMPLETE"
    finally:
        cloud.admin("faults", {**scope, "failing_builds": {}})
    assert "told to end as FAILED" in stack.reasons()


def test_a_custom_resource_that_nobody_answers_ends_with_its_service_timeout(cloud: CloudProcess) -> None:
    template = {
        "Resources": {
            "Function": function("def handler(event, context):\n    pass\n"),
            "Silent": {
                "Type": "Custom::Silent",
                "Properties": {
                    "ServiceToken": {"Fn::GetAtt": ["Function", "Arn"]},
                    "ServiceTimeout": 1,
                },
            },
        }
    }
    stack = Stack(cloud, "silent")
    stack.cloudformation.create_stack(StackName="silent", TemplateBody=json.dumps(template))
    assert wait_until(lambda: "timed out after 1s" in stack.reasons(), SECONDS)


def test_a_stacks_states_reach_a_rules_function(cloud: CloudProcess, bucket: str) -> None:
    name = f"told-{uuid4().hex[:6]}"
    watcher = {
        "Resources": {
            "Recorder": function(RECORDER, BUCKET=bucket),
            "Rule": {
                "Type": "AWS::Events::Rule",
                "Properties": {
                    "EventPattern": {
                        "source": ["aws.cloudformation"],
                        "detail-type": ["CloudFormation Stack Status Change"],
                        "resources": [{"prefix": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{name}/"}],
                    },
                    "Targets": [{"Id": "f", "Arn": {"Fn::GetAtt": ["Recorder", "Arn"]}}],
                },
            },
        }
    }
    assert Stack(cloud, f"{name}-watcher").create(watcher)["StackStatus"] == "CREATE_COMPLETE"
    body = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {}}}}
    watched = Stack(cloud, name)
    stack_id = watched.create(body)["StackId"]
    body["Resources"]["More"] = {"Type": "AWS::SNS::Topic", "Properties": {}}
    watched.cloudformation.update_stack(StackName=name, TemplateBody=json.dumps(body))

    def told() -> dict[str, dict[str, Any]]:
        events = [get(cloud, bucket, key) for key in keys(cloud, bucket)]
        return {event["detail"]["status-details"]["status"]: event for event in events}

    wanted = {"CREATE_IN_PROGRESS", "CREATE_COMPLETE", "UPDATE_IN_PROGRESS", "UPDATE_COMPLETE"}
    assert wait_until(lambda: wanted <= set(told()), SECONDS), set(told())
    event = told()["UPDATE_COMPLETE"]
    assert event["detail"]["stack-id"] == stack_id
    assert (event["source"], event["resources"], event["account"]) == (
        "aws.cloudformation",
        [stack_id],
        ACCOUNT,
    )
