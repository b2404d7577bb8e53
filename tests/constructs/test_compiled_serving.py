"""Endpoints that serve what was compiled ahead of time: what they take over, what they refuse."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam

from support_stack import REGION, of_type, only, statements, template_of
from support_states import definition
from support_trainium import HOME, compile_and_serve, compiled_model, trn2
from tokenmill.core.engine_options import EngineOptions
from tokenmill.core.errors import TokenmillError
from tokenmill.core.workload import Capacity
from tokenmill.endpoints import LlmEndpoint

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def stacks(tmp_path: Path) -> tuple[cdk.Stack, cdk.Stack]:
    return compile_and_serve(tmp_path)


def test_an_endpoint_is_bound_to_what_was_compiled(stacks: tuple[cdk.Stack, cdk.Stack]) -> None:
    """Image, weights and key come from the resource that refuses, and the component waits for it."""
    home, serve = stacks
    compiled = compiled_model(home)
    capacity = Capacity(minimum=1, maximum=2, initial=1)
    LlmEndpoint(serve, "Llm", serving=trn2(), capacity=capacity, source=compiled.source)
    template = template_of(serve)
    (check_id,) = of_type(template, "Custom::TokenmillCompiledModel")
    model = only(template, "AWS::SageMaker::Model")["Properties"]["PrimaryContainer"]
    assert {"Fn::GetAtt": [check_id, "Digest"]} in model["Image"]["Fn::Join"][1]
    source = model["ModelDataSource"]["S3DataSource"]
    assert source["S3Uri"] == {"Fn::GetAtt": [check_id, "Uri"]}
    environment = model["Environment"]
    assert environment["TOKENMILL_ARTIFACT_KEY"] == {"Fn::GetAtt": [check_id, "Key"]}
    assert environment["SM_VLLM_MODEL"] == "/opt/ml/model"
    properties = template["Resources"][check_id]["Properties"]
    assert (properties["Stack"], properties["Job"]) == (HOME, "Compiled")
    assert json.loads(properties["Artifact"])["max_sequences"] == 8


def test_the_endpoint_serves_with_the_variables_that_compiled(stacks: tuple[cdk.Stack, cdk.Stack]) -> None:
    """A flag that one has and the other has not would be a cache miss at the first start."""
    home, serve = stacks
    options = EngineOptions(dtype="bfloat16", buckets=(8192, 16_384))
    compiled = compiled_model(home, serving=trn2(options=options))
    resolved = compiled.source.resolve(serve, trn2(options=options), REGION)
    machine = definition(only(template_of(home), "AWS::StepFunctions::StateMachine"))
    job = machine["States"]["Compile"]["Parameters"]["Environment"]
    served = {**resolved.environment}
    assert served.pop("TOKENMILL_ARTIFACT_KEY")
    assert job.pop("TOKENMILL_ARTIFACT_KEY.$") == "$.artifact.key"
    assert served == job
    assert set(compiled.artifact.flags) >= {"SM_VLLM_ADDITIONAL_CONFIG", "SM_VLLM_DTYPE"}
    assert (compiled.artifact.buckets, compiled.artifact.dtype) == ((8192, 16_384), "bfloat16")


def test_pools_of_one_endpoint_share_one_check(stacks: tuple[cdk.Stack, cdk.Stack]) -> None:
    """Asking twice makes one resource."""
    home, serve = stacks
    source = compiled_model(home).source
    for _ in range(2):
        source.resolve(serve, trn2(), REGION)
    assert len(of_type(template_of(serve), "Custom::TokenmillCompiledModel")) == 1


def test_an_endpoints_role_reads_artifacts_alone(stacks: tuple[cdk.Stack, cdk.Stack]) -> None:
    """Nothing beside the compiled folder, and no write."""
    home, serve = stacks
    role = iam.Role(serve, "Serving", assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com"))
    compiled_model(home).source.grant_read(role)
    found = statements(template_of(serve), "Serving")
    assert sorted(item["Action"] for item in found) == ["s3:GetObject", "s3:ListBucket"]
    assert json.dumps(found[0]["Resource"]).endswith('/compiled/*"]]}')


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_sequences": 16}, "max_sequences 8 was built, 16 is asked for"),
        ({"tensor_parallel": 32}, "tensor_parallel 16 was built, 32 is asked for"),
        ({"options": EngineOptions(dtype="float16")}, "dtype auto was built, float16 is asked for"),
        (
            {"environment": {"SM_VLLM_BLOCK_SIZE": "128"}},
            "SM_VLLM_BLOCK_SIZE unset was built, 128 is asked for",
        ),
    ],
)
def test_fails_to_serve_what_was_not_compiled(
    stacks: tuple[cdk.Stack, cdk.Stack], changes: dict[str, Any], words: str
) -> None:
    """The synth refuses before the deployment would, with the difference in words."""
    home, serve = stacks
    source = compiled_model(home).source
    with pytest.raises(TokenmillError, match=words):
        LlmEndpoint(
            serve,
            "Llm",
            serving=trn2(**changes),
            capacity=Capacity(minimum=1, maximum=1, initial=1),
            source=source,
        )
    assert serve.node.try_find_child("Llm") is None


def test_settings_that_compile_nothing_may_differ(stacks: tuple[cdk.Stack, cdk.Stack]) -> None:
    """A parser of tool calls reads answers; the graphs are the same."""
    from tokenmill.core.engine_options import ToolCalling

    source = compiled_model(stacks[0]).source
    parsers = EngineOptions(tools=ToolCalling(parser="llama3_json"))
    source.check(trn2(options=parsers), isolated=True, region=REGION)


def test_fails_to_serve_in_another_region(stacks: tuple[cdk.Stack, cdk.Stack]) -> None:
    """SageMaker loads a model's objects from its own region."""
    source = compiled_model(stacks[0]).source
    with pytest.raises(TokenmillError, match=f"the endpoint is in eu-west-1, but .* in {REGION}"):
        source.check(trn2(), isolated=True, region="eu-west-1")


def test_fails_to_serve_in_the_compiled_models_own_stack(stacks: tuple[cdk.Stack, cdk.Stack]) -> None:
    """A refused deployment would roll the state machine back that it waits for."""
    home, _ = stacks
    source = compiled_model(home).source
    with pytest.raises(TokenmillError, match="are both in stack compile; .* a stack of their own"):
        LlmEndpoint(home, "Llm", serving=trn2(), capacity=Capacity.fixed(2), source=source)
    assert home.node.try_find_child("Llm") is None


def test_fails_to_serve_with_another_image(stacks: tuple[cdk.Stack, cdk.Stack]) -> None:
    """The image that compiled is the image that serves."""
    compiled = compiled_model(stacks[0])
    with pytest.raises(TokenmillError, match="is served by the image that compiled it"):
        compiled.source.with_image(compiled.serving_image.tagged_image)
