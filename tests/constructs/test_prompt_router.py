"""Prompt routers: two models of one family, and the right to call all that stands behind them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam

from support_stack import make_app, only, statements, template_of
from tokenmill.bedrock.inference_profile import InferenceProfile
from tokenmill.bedrock.model import IBedrockModel
from tokenmill.bedrock.prompt_router import PromptRouter
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from pathlib import Path

ROUTER = "AWS::Bedrock::IntelligentPromptRouter"
LITE, PRO = "us.amazon.nova-lite-v1:0", "us.amazon.nova-pro-v1:0"


def a_router(stack: cdk.Stack, **changes: Any) -> PromptRouter:
    arguments: dict[str, Any] = {"models": [LITE, PRO], "fallback": LITE, "quality_difference": 10}
    return PromptRouter(stack, "Router", **{**arguments, **changes})


def test_a_router_has_both_models_a_fallback_and_the_difference(stack: cdk.Stack) -> None:
    """As ListPromptRouters shows AWS's own: the fallback is one of the models."""
    a_router(stack)
    properties = only(template_of(stack), ROUTER)["Properties"]
    named = [str(model["ModelArn"]).split("inference-profile/")[1] for model in properties["Models"]]
    assert [name.rstrip("'\"]}") for name in named] == [LITE, PRO]
    assert properties["FallbackModel"] == properties["Models"][0]
    assert properties["RoutingCriteria"] == {"ResponseQualityDifference": 10}


def test_the_name_changes_with_whatever_replaces_the_router(tmp_path: Path) -> None:
    """Names are unique, and a replacement exists beside the old one for a while."""
    names = []
    for folder, changes in (("a", {}), ("b", {"fallback": PRO}), ("c", {"quality_difference": 5}), ("d", {})):
        stack = cdk.Stack(make_app(tmp_path / folder), "s", env=cdk.Environment(region="us-east-1"))
        a_router(stack, **changes)
        names.append(only(template_of(stack), ROUTER)["Properties"]["PromptRouterName"])
    assert names[0] == names[3]
    assert len(set(names)) == 3
    assert all(re.fullmatch(r"([0-9a-zA-Z][ _-]?){1,64}", name) for name in names)


def test_a_caller_reaches_the_router_and_every_model_behind_it(stack: cdk.Stack) -> None:
    """Router, two profiles, and the two models in every region of theirs."""
    role = iam.Role(stack, "Caller", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    a_router(stack).grant_invoke(role)
    found = str(statements(template_of(stack), "Caller"))
    assert "PromptRouterArn" in found
    for name in (LITE, PRO):
        assert f"inference-profile/{name}" in found
        model = name.removeprefix("us.")
        for region in ("us-east-1", "us-east-2", "us-west-2"):
            assert f":bedrock:{region}::foundation-model/{model}" in found


def test_a_router_is_a_model(stack: cdk.Stack) -> None:
    """The gateway takes it; calls are counted under the model that answered."""
    router = a_router(stack, models=[InferenceProfile.cross_region(LITE), PRO])
    assert isinstance(router, IBedrockModel)
    assert stack.resolve(router.model_id) == {"Fn::GetAtt": ["Router16807C72", "PromptRouterArn"]}
    assert router.metric_dimension == LITE
    assert (router.metric_invocations(PRO).dimensions or {})["ModelId"] == PRO


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"models": [LITE]}, f"models has {LITE}; a router picks between two different models"),
        ({"models": [LITE, LITE]}, "a router picks between two different models"),
        ({"models": [LITE, PRO, "us.anthropic.claude-3-haiku-20240307-v1:0"]}, "two different models"),
        ({"fallback": "amazon.nova-pro-v1:0"}, f"it must be one of models: {LITE}, {PRO}"),
        ({"quality_difference": 101}, "quality_difference is 101; it must be from 0 to 100"),
        ({"quality_difference": float("nan")}, "quality_difference is nan"),
        (
            {"models": [LITE, "us.anthropic.claude-3-haiku-20240307-v1:0"]},
            "amazon.nova-lite-v1:0 is of amazon.nova and anthropic.claude-3-haiku-20240307-v1:0 is of "
            "anthropic.claude; a router picks between models of one family",
        ),
        (
            {"models": [LITE, "us.amazon.nova-micro-v1:0"]},
            "'us.amazon.nova-micro-v1:0' is not known to be routable",
        ),
        (
            {"models": ["anthropic.claude-3-5-haiku-20241022-v1:0", LITE]},
            "is not routable as a model of one region in us-east-1; regions where it is: us-west-2",
        ),
        ({"models": [LITE, "us.amazon.nova-prow-v1:0"]}, "nearest known: us.amazon.nova-pro-v1:0"),
    ],
)
def test_fails_for_models_that_no_router_mixes(
    stack: cdk.Stack, changes: dict[str, Any], sentence: str
) -> None:
    """Each with the value and the way out, and before anything is made."""
    with pytest.raises(TokenmillError) as raised:
        a_router(stack, **changes)
    assert sentence in str(raised.value)
    assert stack.node.try_find_child("Router") is None


def test_fails_in_a_region_without_routers(tmp_path: Path) -> None:
    """CloudFormation has the type in ten commercial regions."""
    stack = cdk.Stack(make_app(tmp_path), "test", env=cdk.Environment(region="ca-central-1"))
    with pytest.raises(TokenmillError, match="ca-central-1 has no intelligent prompt routers"):
        a_router(stack)


def test_newer_models_can_be_routed(stack: cdk.Stack) -> None:
    """The service says no by itself where it cannot."""
    newer = ["us.amazon.nova-2-lite-v1:0", PRO]
    router = a_router(stack, models=newer, fallback=PRO, allow_unlisted=True)
    assert [model.model_id for model in router.models] == newer


def test_fails_for_metrics_of_another_model(stack: cdk.Stack) -> None:
    """The message says which models the router has."""
    with pytest.raises(TokenmillError, match=f"the router has {LITE} and {PRO}"):
        a_router(stack).metric_invocations("amazon.nova-lite-v1:0")
