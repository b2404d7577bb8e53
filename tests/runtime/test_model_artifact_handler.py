"""Versions of a model artifact: pinned by a resource, looked up, refused with the command that makes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support_bedrock import ACCOUNT, REGION
from tokenmill_runtime import model_artifact
from tokenmill_runtime.artifact_versions import read_manifest, version_problem
from tokenmill_runtime.custom_resource import Refused
from tokenmill_runtime.model_artifact import ModelArtifactResource
from tokenmill_runtime.waited_resource import is_complete, on_event

if TYPE_CHECKING:
    from collections.abc import Mapping

RESOURCES = {model_artifact.RESOURCE_TYPE: ModelArtifactResource()}
ARTIFACT = "/tokenmill/artifacts/jobs-Artifact"
STACK = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/serve/11111111-2222-3333-4444-555555555555"
MODEL = f"arn:aws:bedrock:{REGION}:{ACCOUNT}:custom-model/imported/one000000000"


class Parameters:
    """A parameter store."""

    def __init__(self, **versions: str) -> None:
        self.versions = versions

    def get_parameter(self, Name: str) -> dict[str, Any]:
        version = Name.rpartition("/")[2]
        if version not in self.versions:
            from botocore.exceptions import ClientError

            raise ClientError({"Error": {"Code": "ParameterNotFound"}}, "GetParameter")
        return {"Parameter": {"Value": self.versions[version]}}

    def get_parameters_by_path(self, Path: str, MaxResults: int) -> dict[str, Any]:
        return {"Parameters": [{"Name": f"{Path}/{version}"} for version in self.versions][:MaxResults]}


def manifest(**changes: Any) -> str:
    document = {
        "schema": 1,
        "artifact": ARTIFACT,
        "version": "1",
        "kind": "import",
        "model_arn": MODEL,
        "model_name": "one",
        "recipe": "r" * 64,
        "run": "arn:run",
    }
    return json.dumps({**document, **changes})


def pin(kind: str = "Create", version: str = "1") -> dict[str, Any]:
    properties = {
        "Artifact": ARTIFACT,
        "Version": version,
        "Kind": "import",
        "Stack": "jobs",
        "Job": "Import",
    }
    return {
        "RequestType": kind,
        "RequestId": "00000000-0000-0000-0000-000000000001",
        "StackId": STACK,
        "LogicalResourceId": "Deployment",
        "ResourceType": model_artifact.RESOURCE_TYPE,
        "ResourceProperties": properties,
    }


def done(asked: Mapping[str, Any]) -> dict[str, Any]:
    """A request that is over with its first step."""
    begun = on_event(RESOURCES, asked, None)
    answer = is_complete(RESOURCES, {**asked, **begun}, None)
    assert answer["IsComplete"]
    return {"PhysicalResourceId": begun["PhysicalResourceId"], **answer}


def test_a_pinned_version_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parameter is the physical id, so that another version is another resource."""
    monkeypatch.setattr(model_artifact, "ssm", lambda: Parameters(**{"1": manifest()}))
    found = done(pin())
    assert found["PhysicalResourceId"] == f"{ARTIFACT}/1"
    assert found["Data"] == {"ModelArn": MODEL, "ModelName": "one", "Recipe": "r" * 64}


def test_fails_for_a_version_that_is_missing_with_the_command_that_builds_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And with the versions that are there."""
    monkeypatch.setattr(model_artifact, "ssm", lambda: Parameters(**{"1": manifest(), "2": manifest()}))
    with pytest.raises(Refused) as refused:
        done(pin(version="3"))
    assert str(refused.value) == (
        f"version 3 of {ARTIFACT} is not built (there are 1, 2); build it with: tokenmill jobs run import "
        """--stack jobs --name Import --input '{"version": "3"}'"""
    )


def test_deleting_a_pin_leaves_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks nobody anything, not even whether the version is still there."""
    monkeypatch.setattr(model_artifact, "ssm", lambda: pytest.fail("asked"))
    asked = {**pin("Delete"), "PhysicalResourceId": f"{ARTIFACT}/1"}
    assert done(asked)["PhysicalResourceId"] == f"{ARTIFACT}/1"


@pytest.mark.parametrize("text", ["no json", "{}", manifest(schema=2), manifest(model_arn="")])
def test_fails_for_a_parameter_that_no_job_wrote(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Somebody else's parameter is named, not used."""
    monkeypatch.setattr(model_artifact, "ssm", lambda: Parameters(**{"1": text}))
    with pytest.raises(Refused, match=f"parameter {ARTIFACT}/1: the manifest of the version"):
        done(pin())


@pytest.mark.parametrize(
    ("version", "fine"),
    [("1", True), ("2026-07-01", True), ("a--b", False), ("-a", False), ("", False), ("x" * 17, False)],
)
def test_versions_are_parts_of_names(version: str, *, fine: bool) -> None:
    """Bedrock's names take no two dashes in a row."""
    assert bool(version_problem(version)) is not fine


def test_a_manifest_keeps_what_it_says() -> None:
    """Reading gives the document, with what a job added to it."""
    assert read_manifest(manifest(source="s3://weights/"))["source"] == "s3://weights/"
