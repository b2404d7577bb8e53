"""Versions of a model: pinned by consumers, looked up at deployment, refused where they cannot be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import aws_cdk as cdk
import pytest

from support_customization import customization, model_import, two_stacks
from support_stack import make_app, of_type, only, statements, template_of
from tokenmill.core.errors import TokenmillError
from tokenmill.customization import ImportedModel, ModelArtifact
from tokenmill_runtime import model_artifact
from tokenmill_runtime.bedrock_resources import RESOURCES

if TYPE_CHECKING:
    from pathlib import Path

    from constructs import Construct


@pytest.fixture
def stacks(tmp_path: Path) -> tuple[cdk.Stack, cdk.Stack]:
    """The jobs' stack and the consumers'."""
    return two_stacks(tmp_path)


def test_a_consumer_pins_one_version_and_names_the_job_that_makes_it(
    stacks: tuple[cdk.Stack, cdk.Stack],
) -> None:
    """A missing version's message needs the job's stack and name, which the consumer's stack does not see."""
    jobs, serve = stacks
    model_import(jobs)
    ImportedModel(serve, "Model", model=artifact_of(jobs).version("2026-07-01"))
    template = template_of(serve)
    pinned = only(template, model_artifact.RESOURCE_TYPE)["Properties"]
    assert {name: pinned[name] for name in ("Version", "Kind", "Stack", "Job")} == {
        "Version": "2026-07-01",
        "Kind": "import",
        "Stack": "jobs",
        "Job": "Import",
    }
    assert pinned["Artifact"] == artifact_of(jobs).path
    assert model_artifact.RESOURCE_TYPE in RESOURCES


def test_looking_up_reads_one_version_and_names_of_the_others(stacks: tuple[cdk.Stack, cdk.Stack]) -> None:
    """No write, and no version of another artifact."""
    jobs, serve = stacks
    model_import(jobs)
    ImportedModel(serve, "Model", model=artifact_of(jobs).version("1"))
    found = [
        item
        for item in statements(template_of(serve), "TokenmillBedrock")
        if "ssm:" in json.dumps(item["Action"])
    ]
    endings = {item["Action"]: json.dumps(item["Resource"]).rpartition(":")[2] for item in found}
    path = artifact_of(jobs).path
    assert endings == {
        "ssm:GetParameter": f'parameter{path}/1"]]}}',
        "ssm:GetParametersByPath": f'parameter{path}"]]}}',
    }


def test_an_artifact_is_a_path_of_its_own(tmp_path: Path) -> None:
    """Two artifacts of one name in two stacks never meet, and nothing is made for one."""
    app = make_app(tmp_path)
    one, other = cdk.Stack(app, "one"), cdk.Stack(app, "other")
    paths = {ModelArtifact(stack, "Artifact").path for stack in (one, other)}
    assert len(paths) == 2
    assert all(path.startswith("/tokenmill/artifacts/") for path in paths)
    assert template_of(one).get("Resources", {}) == {}


def test_the_jobs_stack_is_not_a_dependency_of_the_consumers(stacks: tuple[cdk.Stack, cdk.Stack]) -> None:
    """Between the two stands a run, and the path is known as a text: no export ties them together."""
    jobs, serve = stacks
    model_import(jobs)
    ImportedModel(serve, "Model", model=artifact_of(jobs).version("1"))
    assert "Fn::ImportValue" not in json.dumps(template_of(serve))
    assert serve.dependencies == []


@pytest.mark.parametrize("version", ["", "a b", "1.0", "-1", "1--2", "x" * 17, 3])
def test_fails_for_a_version_that_no_name_can_have(
    stacks: tuple[cdk.Stack, cdk.Stack], version: object
) -> None:
    """It becomes a part of the model's name."""
    with pytest.raises(TokenmillError, match="it must have 1 to 16 letters or digits"):
        ModelArtifact(stacks[0], "Artifact").version(version)


def test_fails_for_a_version_that_only_a_deployment_knows(stacks: tuple[cdk.Stack, cdk.Stack]) -> None:
    """A pin is a text."""
    with pytest.raises(TokenmillError, match="version is a token"):
        ModelArtifact(stacks[0], "Artifact").version(cdk.Aws.REGION)


def test_fails_to_pin_what_no_job_makes(stacks: tuple[cdk.Stack, cdk.Stack]) -> None:
    """The message says what makes versions."""
    version = ModelArtifact(stacks[0], "Artifact").version("1")
    with pytest.raises(
        TokenmillError, match="no job makes versions of jobs/Artifact; give it to a ModelImport"
    ):
        ImportedModel(stacks[1], "Model", model=version)
    assert stacks[1].node.try_find_child("Model") is None


def test_fails_to_pin_in_the_jobs_own_stack(stacks: tuple[cdk.Stack, cdk.Stack]) -> None:
    """A refused deployment would roll the job back."""
    jobs, _ = stacks
    model_import(jobs)
    with pytest.raises(TokenmillError, match="are both in stack jobs; .* give the job a stack of its own"):
        ImportedModel(jobs, "Model", model=artifact_of(jobs).version("1"))


def test_fails_to_call_a_custom_model_without_a_deployment(stacks: tuple[cdk.Stack, cdk.Stack]) -> None:
    """Only open weights are called as they are."""
    jobs, serve = stacks
    customization(jobs)
    with pytest.raises(TokenmillError, match="holds custom models, .*; give ModelDeployment the version"):
        ImportedModel(serve, "Model", model=artifact_of(jobs).version("1"))


def test_an_imported_model_is_called_by_its_own_arn(stacks: tuple[cdk.Stack, cdk.Stack]) -> None:
    """The grant is on exactly that model."""
    from aws_cdk import aws_iam as iam

    from tokenmill.bedrock.model import IBedrockModel

    jobs, serve = stacks
    model_import(jobs)
    model = ImportedModel(serve, "Model", model=artifact_of(jobs).version("1"))
    assert isinstance(model, IBedrockModel)
    assert (model.handle, model.fallback_id, model.metric_dimension) == (None, None, model.model_id)
    model.grant_invoke(iam.Role(serve, "Caller", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com")))
    template = template_of(serve)
    (pin,) = of_type(template, model_artifact.RESOURCE_TYPE)
    (call,) = statements(template, "Caller")
    assert call["Resource"] == {"Fn::GetAtt": [pin, "ModelArn"]}


def artifact_of(stack: cdk.Stack) -> ModelArtifact:
    found: Construct = stack.node.find_child("Artifact")
    assert isinstance(found, ModelArtifact)
    return found
