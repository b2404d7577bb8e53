"""A custom model that answers on demand: what is asked for, who may call it, what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from aws_cdk import aws_iam as iam

from support_customization import NOVA, customization, model_import, two_stacks
from support_stack import of_type, only, statements, template_of
from tokenmill.bedrock.model import IBedrockModel
from tokenmill.core.errors import TokenmillError
from tokenmill.customization import ImportSource, ModelArtifact, ModelDeployment
from tokenmill_runtime import model_artifact, model_deployment
from tokenmill_runtime.bedrock_resources import RESOURCES

if TYPE_CHECKING:
    from pathlib import Path

    import aws_cdk as cdk

BASE_ARN = "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0"


class Base:
    """A model to fall back on."""

    model_id = "amazon.nova-lite-v1:0"
    handle = None
    fallback_id = None
    metric_dimension = "amazon.nova-lite-v1:0"

    def grant_invoke(self, grantee: iam.IGrantable) -> iam.Grant:
        return iam.Grant.add_to_principal(
            grantee=grantee, actions=["bedrock:InvokeModel"], resource_arns=[BASE_ARN]
        )


@pytest.fixture
def stacks(tmp_path: Path) -> tuple[cdk.Stack, cdk.Stack]:
    """The jobs' stack and the consumers'."""
    return two_stacks(tmp_path)


def deployment(stacks: tuple[cdk.Stack, cdk.Stack], **changes: Any) -> ModelDeployment:
    jobs, serve = stacks
    if jobs.node.try_find_child("Artifact") is None:
        customization(jobs)
    artifact = jobs.node.find_child("Artifact")
    assert isinstance(artifact, ModelArtifact)
    return ModelDeployment(serve, "Deployment", **{"model": artifact.version("1"), **changes})


def test_a_deployment_takes_the_pinned_versions_model(stacks: tuple[cdk.Stack, cdk.Stack]) -> None:
    """Another version is another ModelArn of the same resource, which changes it in place."""
    deployment(stacks, tags={"team": "search"})
    template = template_of(stacks[1])
    asked = only(template, model_deployment.RESOURCE_TYPE)["Properties"]
    (pin,) = of_type(template, model_artifact.RESOURCE_TYPE)
    assert asked["ModelArn"] == {"Fn::GetAtt": [pin, "ModelArn"]}
    assert asked["Tags"] == [{"Key": "team", "Value": "search"}]
    assert model_deployment.PREFIX.fullmatch(asked["Name"])
    assert len(asked["Name"]) <= model_deployment.LONGEST_PREFIX
    assert model_deployment.RESOURCE_TYPE in RESOURCES


def test_callers_use_the_deployments_arn_and_may_call_nothing_else(
    stacks: tuple[cdk.Stack, cdk.Stack],
) -> None:
    """The gateway takes it as a model of Bedrock."""
    made = deployment(stacks)
    assert isinstance(made, IBedrockModel)
    made.grant_invoke(iam.Role(stacks[1], "Caller", assumed_by=iam.AccountRootPrincipal()))
    template = template_of(stacks[1])
    (resource,) = of_type(template, model_deployment.RESOURCE_TYPE)
    (call,) = statements(template, "Caller")
    assert call["Resource"] == {"Fn::GetAtt": [resource, "Arn"]}
    assert call["Action"] == ["bedrock:InvokeModel", "bedrock:InvokeModelWithResponseStream"]


def test_a_fallback_is_granted_with_it(stacks: tuple[cdk.Stack, cdk.Stack]) -> None:
    """Whoever is sent there may call it."""
    made = deployment(stacks, fallback=Base())
    assert made.fallback_id == Base.model_id
    made.grant_invoke(iam.Role(stacks[1], "Caller", assumed_by=iam.AccountRootPrincipal()))
    assert BASE_ARN in json.dumps(statements(template_of(stacks[1]), "Caller"))


def test_the_function_may_touch_deployments_and_no_model(stacks: tuple[cdk.Stack, cdk.Stack]) -> None:
    """A custom model is named when it is deployed, never changed or deleted."""
    deployment(stacks)
    found = [
        item
        for item in statements(template_of(stacks[1]), "TokenmillBedrock")
        if "CustomModel" in json.dumps(item["Action"])
    ]
    create = [item for item in found if item["Action"] == "bedrock:CreateCustomModelDeployment"]
    own = [item for item in found if item not in create]
    assert len(create) == len(own) == 1
    assert sorted(json.dumps(arn).split(":")[-1].split("/")[0] for arn in create[0]["Resource"]) == [
        "custom-model",
        "custom-model-deployment",
    ]
    assert json.dumps(own[0]["Resource"]).endswith(':custom-model-deployment/*"]]}')


def test_a_model_of_nova_can_be_deployed(stacks: tuple[cdk.Stack, cdk.Stack]) -> None:
    """An import of Amazon Nova makes a custom model."""
    model_import(stacks[0], source=ImportSource.nova(NOVA))
    assert deployment(stacks).model_id


def test_two_deployments_of_a_stack_share_one_function(stacks: tuple[cdk.Stack, cdk.Stack]) -> None:
    """And one waiter."""
    first = deployment(stacks)
    ModelDeployment(stacks[1], "Other", model=first.version)
    template = template_of(stacks[1])
    assert len(of_type(template, "AWS::Lambda::Function")) == 1
    assert len(of_type(template, "AWS::StepFunctions::StateMachine")) == 1
    names = {
        item["Properties"]["Name"] for item in of_type(template, model_deployment.RESOURCE_TYPE).values()
    }
    assert len(names) == 2


def test_fails_to_deploy_open_weights(stacks: tuple[cdk.Stack, cdk.Stack]) -> None:
    """botocore's CustomModelArn has no imported-model; the message says what takes one."""
    model_import(stacks[0])
    with pytest.raises(TokenmillError, match="holds open weights, .*; give ImportedModel the version"):
        deployment(stacks)
    assert stacks[1].node.try_find_child("Deployment") is None


def test_fails_to_deploy_in_the_jobs_own_stack(stacks: tuple[cdk.Stack, cdk.Stack]) -> None:
    """Raised before any child exists."""
    jobs, _ = stacks
    job = customization(jobs)
    with pytest.raises(TokenmillError, match="are both in stack jobs"):
        ModelDeployment(jobs, "Deployment", model=job.artifact.version("1"))
    assert jobs.node.try_find_child("Deployment") is None
