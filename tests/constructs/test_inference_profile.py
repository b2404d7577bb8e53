"""Inference profiles: tagged, and callable in every region behind them through the profile only."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam

from support_stack import make_app, only, statements, template_of
from tokenmill.bedrock.foundation_model import NamedModel, named_model
from tokenmill.bedrock.inference_profile import InferenceProfile
from tokenmill.bedrock.model import IBedrockModel
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from pathlib import Path

PROFILE = "AWS::Bedrock::ApplicationInferenceProfile"
SONNET = "anthropic.claude-sonnet-4-5-20250929-v1:0"
LITE = "amazon.nova-lite-v1:0"
CONDITION = "bedrock:InferenceProfileArn"


def a_role(stack: cdk.Stack) -> iam.Role:
    return iam.Role(stack, "Caller", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))


def flat(node: Any) -> str:
    """An ARN as a text with references as <Name>."""
    if isinstance(node, dict):
        ((name, inner),) = node.items()
        if name == "Fn::Join":
            return "".join(flat(part) for part in inner[1])
        return f"<{inner if isinstance(inner, str) else '.'.join(inner)}>"
    return str(node)


def resources_of(statement: dict[str, Any]) -> list[str]:
    found = statement["Resource"]
    return [flat(arn) for arn in (found if isinstance(found, list) else [found])]


def regions_of(statement: dict[str, Any]) -> list[str]:
    return [arn.partition(":bedrock:")[2].partition(":")[0] for arn in resources_of(statement)]


def test_a_profile_is_made_from_a_cross_region_profile_with_tags(stack: cdk.Stack) -> None:
    """The model stands in a tag, beside those that the bill is told apart by and those of the stack."""
    cdk.Tags.of(stack).add("app", "chat")
    InferenceProfile(stack, "Profile", model=f"us.{SONNET}", tags={"team": "search"}, description="Chat: v1")
    properties = only(template_of(stack), PROFILE)["Properties"]
    assert flat(properties["ModelSource"]["CopyFrom"]) == (
        f"arn:<AWS::Partition>:bedrock:<AWS::Region>:<AWS::AccountId>:inference-profile/us.{SONNET}"
    )
    assert {tag["Key"]: tag["Value"] for tag in properties["Tags"]} == {
        "app": "chat",
        "team": "search",
        "tokenmill:model": f"us.{SONNET}",
    }
    assert properties["Description"] == "Chat: v1"


def test_a_profile_of_one_region_is_made_from_the_model(stack: cdk.Stack) -> None:
    """A foundation model's ARN has no account."""
    InferenceProfile(stack, "Profile", model=LITE)
    source = only(template_of(stack), PROFILE)["Properties"]["ModelSource"]["CopyFrom"]
    assert flat(source) == f"arn:<AWS::Partition>:bedrock:<AWS::Region>::foundation-model/{LITE}"


def test_names_follow_the_content_and_fit_the_service(tmp_path: Path) -> None:
    """A replacement is made before the old one is deleted, so it cannot have the same name."""
    names = {}
    for folder, model in (("a", LITE), ("b", LITE), ("c", f"us.{LITE}")):
        stack = cdk.Stack(make_app(tmp_path / folder), "a-stack-with-a-long-name" * 3)
        InferenceProfile(stack, "Profile", model=model)
        names[folder] = only(template_of(stack), PROFILE)["Properties"]["InferenceProfileName"]
    assert names["a"] == names["b"] != names["c"]
    for name in names.values():
        assert re.fullmatch(r"([0-9a-zA-Z][ _-]?)+", name)
        assert len(name) <= 64


def test_a_caller_reaches_every_region_through_the_profile_only(stack: cdk.Stack) -> None:
    """The models of aws-cdk issue 31957, and no call that misses the profile's tags."""
    role = a_role(stack)
    profile = InferenceProfile(stack, "Profile", model=f"us.{SONNET}")
    profile.grant_invoke(role)
    own, behind = statements(template_of(stack), "Caller")
    assert resources_of(own) == ["<Profile6F32097C.InferenceProfileArn>"]
    assert "Condition" not in own
    assert regions_of(behind) == ["us-east-1", "us-east-2", "us-west-2"]
    assert {arn.rpartition("/")[2] for arn in resources_of(behind)} == {SONNET}
    assert flat(behind["Condition"]["StringEquals"][CONDITION]) == "<Profile6F32097C.InferenceProfileArn>"


def test_a_stack_of_any_region_reaches_the_regions_of_all(agnostic: cdk.Stack) -> None:
    """The deployment may be to Canada, whose calls run there too."""
    role = a_role(agnostic)
    InferenceProfile(agnostic, "Profile", model=f"us.{SONNET}").grant_invoke(role)
    _, behind = statements(template_of(agnostic), "Caller")
    assert regions_of(behind) == ["ca-central-1", "us-east-1", "us-east-2", "us-west-1", "us-west-2"]


def test_a_system_profile_is_granted_with_itself(stack: cdk.Stack) -> None:
    """Without a resource: the profile's ARN and the models behind it."""
    role = a_role(stack)
    InferenceProfile.cross_region(f"us.{LITE}", region="us-west-1").grant_invoke(role)
    own, behind = statements(template_of(stack), "Caller")
    arn = f"arn:<AWS::Partition>:bedrock:<AWS::Region>:<AWS::AccountId>:inference-profile/us.{LITE}"
    assert resources_of(own) == [arn]
    assert regions_of(behind) == ["us-east-1", "us-east-2", "us-west-1", "us-west-2"]
    assert flat(behind["Condition"]["StringEquals"][CONDITION]) == arn


def test_a_global_profile_has_the_three_statements_that_aws_documents(stack: cdk.Stack) -> None:
    """The profile and the model here, and the model of no region for an unspecified one."""
    role = a_role(stack)
    InferenceProfile.global_(f"global.{SONNET}").grant_invoke(role)
    own, here, anywhere = statements(template_of(stack), "Caller")
    arn = f"arn:<AWS::Partition>:bedrock:<AWS::Region>:<AWS::AccountId>:inference-profile/global.{SONNET}"
    asked = "aws:RequestedRegion"
    assert resources_of(own) == [arn]
    assert flat(own["Condition"]["StringEquals"][asked]) == "<AWS::Region>"
    assert resources_of(here) == [f"arn:<AWS::Partition>:bedrock:<AWS::Region>::foundation-model/{SONNET}"]
    assert resources_of(anywhere) == [f"arn:<AWS::Partition>:bedrock:::foundation-model/{SONNET}"]
    assert anywhere["Condition"]["StringEquals"][asked] == "unspecified"
    assert {flat(s["Condition"]["StringEquals"][CONDITION]) for s in (here, anywhere)} == {arn}


def test_a_model_of_one_region_needs_no_profile(stack: cdk.Stack) -> None:
    """One statement, one ARN, no condition."""
    role = a_role(stack)
    named_model(stack, LITE).grant_invoke(role)
    (own,) = statements(template_of(stack), "Caller")
    assert resources_of(own) == [f"arn:<AWS::Partition>:bedrock:<AWS::Region>::foundation-model/{LITE}"]
    assert "Condition" not in own


def test_no_grant_has_a_wildcard(stack: cdk.Stack) -> None:
    """AwsSolutions-IAM5 finds nothing, so that nothing is acknowledged."""
    role = a_role(stack)
    for number, model in enumerate((f"us.{LITE}", f"global.{SONNET}", LITE, "us.anthropic.claude-opus-5")):
        InferenceProfile(stack, f"Profile{number}", model=model).grant_invoke(role)
    arns = [arn for statement in statements(template_of(stack), "Caller") for arn in resources_of(statement)]
    assert [arn for arn in arns if "*" in arn] == []


def test_regions_that_are_not_known_are_said_and_can_be_given(stack: cdk.Stack) -> None:
    """A newer model is allowed in the whole geography, with a note; the user's regions replace it."""
    InferenceProfile(stack, "Wide", model="us.anthropic.claude-opus-5")
    given = InferenceProfile.cross_region("us.anthropic.claude-opus-5", regions=("us-east-1", "us-west-2"))
    narrow = InferenceProfile(stack, "Narrow", model=given)
    role = a_role(stack)
    narrow.grant_invoke(role)
    notes = cdk.App.of(stack).synth().get_stack_by_name("test").messages
    (note,) = [note for note in notes if "not in the data" in str(note.entry.data)]
    assert note.id == "/test/Wide"
    assert note.level == cdk.cx_api.SynthesisMessageLevel.INFO
    _, behind = statements(template_of(stack), "Caller")
    assert regions_of(behind) == ["us-east-1", "us-west-2"]


def test_metrics_are_the_profile_s_own(stack: cdk.Stack) -> None:
    """The ModelId dimension tells the teams apart that share a model."""
    profile = InferenceProfile(stack, "Profile", model=LITE)
    for metric in (
        profile.metric_invocations(),
        profile.metric_throttles(),
        profile.metric_input_tokens(),
        profile.metric_output_tokens(),
    ):
        assert metric.namespace == "AWS/Bedrock"
        assert list(metric.dimensions or {}) == ["ModelId"]
    assert flat(stack.resolve(profile.metric_dimension)) == "<Profile6F32097C.InferenceProfileId>"


def test_profiles_and_names_are_models(stack: cdk.Stack) -> None:
    """The gateway takes either."""
    profile = InferenceProfile(stack, "Profile", model=LITE)
    assert isinstance(profile, IBedrockModel)
    assert isinstance(NamedModel(LITE), IBedrockModel)
    assert (profile.handle, profile.fallback_id) == (None, None)
    assert named_model(stack, profile) is profile


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"model": "us.amazon.nova-light-v1:0"}, "nearest known: us.amazon.nova-lite-v1:0"),
        ({"model": f"eu.{LITE}"}, "the profile 'eu.amazon.nova-lite-v1:0' cannot be called from us-east-1"),
        ({"model": ""}, "model must be a text that is not empty"),
        ({"model": cdk.Fn.ref("Model")}, "model is a value that only the deployment knows"),
        ({"model": "arn:aws:bedrock:us-east-1:1:provisioned-model/x"}, "does not say which model it runs"),
        ({"model": LITE, "tags": {"aws:team": "x"}}, "tag key is 'aws:team'; it must not be empty or begin"),
        ({"model": LITE, "tags": {"team": "a&b"}}, "tag value is 'a&b'; it must have at most 256 characters"),
        ({"model": LITE, "tags": {str(n): "x" for n in range(49)}}, "tags has 49 tags"),
        ({"model": LITE, "description": "two  blanks"}, "description is 'two  blanks'"),
        ({"model": LITE, "description": "x" * 201}, "it must have 1 to 200 characters"),
    ],
)
def test_fails_for_bad_input(stack: cdk.Stack, arguments: dict[str, Any], sentence: str) -> None:
    """Each with the value and the way out, and before anything is made."""
    with pytest.raises(TokenmillError) as raised:
        InferenceProfile(stack, "Profile", **arguments)
    assert sentence in str(raised.value)
    assert stack.node.try_find_child("Profile") is None


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: InferenceProfile.cross_region(LITE), "'amazon.nova-lite-v1:0' is no profile of a geography"),
        (lambda: InferenceProfile.cross_region(f"global.{SONNET}"), "call global_ for a global one"),
        (lambda: InferenceProfile.global_(f"us.{SONNET}"), "is no global profile"),
        (lambda: NamedModel(LITE, regions=("us-east-1",)), "regions are given for 'amazon.nova-lite-v1:0'"),
        (lambda: InferenceProfile.global_(f"global.{SONNET}", region="cn-north-1"), "any commercial region"),
    ],
)
def test_fails_for_a_name_of_another_kind(call: Any, sentence: str) -> None:
    """A geography, the world and one region are three things."""
    with pytest.raises(TokenmillError) as raised:
        call()
    assert sentence in str(raised.value)


def test_fails_in_a_region_without_application_profiles(tmp_path: Path) -> None:
    """CloudFormation has the type in some regions only; the model's own name works there."""
    stack = cdk.Stack(make_app(tmp_path), "test", env=cdk.Environment(region="eu-north-1"))
    with pytest.raises(TokenmillError, match="eu-north-1 has no application inference profiles"):
        InferenceProfile(stack, "Profile", model=f"eu.{LITE}")
    assert stack.node.try_find_child("Profile") is None


def test_a_model_newer_than_the_library_can_be_named(stack: cdk.Stack) -> None:
    """It is taken as it stands."""
    made = InferenceProfile(stack, "Profile", model="us.example.model-9", allow_unlisted=True)
    assert made.source.foundation_model == "example.model-9"
