"""Several models on one endpoint: they share the instances, whose most follows all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3

from support_stack import of_type, only, statements, template_of
from tokenmill.core.errors import TokenmillError
from tokenmill.core.images import image
from tokenmill.core.workload import Capacity
from tokenmill.endpoints import EndpointHosting, LlmEndpoint, ModelSource, Serving, UpdatePolicy
from tokenmill.endpoints.endpoint_config import host_memory_mib, packed_instances

BARE = UpdatePolicy.unguarded()
LARGE = Serving(
    model="Qwen/Qwen3-32B",
    instance_type="ml.g6e.12xlarge",
    tensor_parallel=2,
    max_sequences=8,
    context_tokens=8192,
)
SMALL = replace(LARGE, model="Qwen/Qwen3-8B", tensor_parallel=1)
COMPONENT = "AWS::SageMaker::InferenceComponent"
CONFIG = "AWS::SageMaker::EndpointConfig"
ONE = Capacity.fixed(1)


def make(stack: cdk.Stack, capacity: Capacity = ONE, **more: Any) -> LlmEndpoint:
    return LlmEndpoint(stack, "Llm", serving=LARGE, capacity=capacity, update=BARE, **more)


def scaling(template: dict[str, Any]) -> tuple[int, int, int]:
    (found,) = only(template, CONFIG)["Properties"]["ProductionVariants"]
    managed = found["ManagedInstanceScaling"]
    return found["InitialInstanceCount"], managed["MinInstanceCount"], managed["MaxInstanceCount"]


def test_a_further_model_is_a_component_of_the_same_endpoint(stack: cdk.Stack) -> None:
    """Own name, own copies, own container; the endpoint and its variant are shared."""
    endpoint = make(stack)
    small = endpoint.add_component("Small", serving=SMALL, capacity=Capacity.fixed(2))
    template = template_of(stack)
    made = {
        item["Properties"]["InferenceComponentName"]: item for item in of_type(template, COMPONENT).values()
    }
    assert len(made) == 2
    assert len({str(item["Properties"]["EndpointName"]) for item in made.values()}) == 1
    (name,) = [name for name in made if "small" in name]
    assert made[name]["Properties"]["RuntimeConfig"]["CopyCount"] == 2
    assert made[name]["Properties"]["Specification"]["Container"]["Environment"]["HF_MODEL_ID"] == SMALL.model
    assert made[name]["Metadata"]["tokenmill"]["model"] == SMALL.model
    assert endpoint.components == [small]


def test_the_instances_follow_all_models(stack: cdk.Stack) -> None:
    """Four GPUs: two for the large model and one for each small copy fill one instance at the fewest."""
    capacity = Capacity(minimum=2, maximum=9, initial=3)
    make(stack).add_component("Small", serving=SMALL, capacity=capacity)
    first, fewest, most = scaling(template_of(stack))
    assert (first, fewest) == (2, 1)
    assert most >= 1 + 3


def test_one_model_alone_has_the_instances_of_its_copies(stack: cdk.Stack) -> None:
    """One copy that never scales is one instance, and an update of it runs no second."""
    make(stack)
    assert scaling(template_of(stack)) == (1, 1, 1)


def test_models_that_may_all_be_idle_leave_no_instance(stack: cdk.Stack) -> None:
    """Scale to zero needs it of the instances too, and of every model on them."""
    nothing = Capacity(minimum=0, maximum=2, initial=1)
    endpoint = make(stack, nothing)
    endpoint.add_component("Small", serving=SMALL, capacity=nothing)
    assert scaling(template_of(stack))[:2] == (1, 0)


def test_copies_are_packed_by_chips_and_by_host_memory() -> None:
    """First fit, the largest first; what is short decides."""
    assert packed_instances([(LARGE, 2)]) == 1
    assert packed_instances([(SMALL, 2), (LARGE, 2)]) == 2
    assert packed_instances([(SMALL, 0), (LARGE, 0)]) == 0
    hungry = replace(SMALL, host_memory_mib=300_000)
    assert packed_instances([(hungry, 2)]) == 2


def test_the_host_memory_that_a_copy_needs_wins_over_its_share() -> None:
    """A plan knows what loading takes; without it a copy has its chips' share of nine tenths of the host."""
    assert host_memory_mib(LARGE) == int(384 * 1024 * 0.9) // 2
    assert host_memory_mib(replace(LARGE, host_memory_mib=20_000)) == 20_000


def test_the_most_instances_leave_room_for_a_rolling_batch(stack: cdk.Stack) -> None:
    """A batch is provisioned beside what runs: six copies in batches of half need room for nine."""
    make(stack, Capacity(minimum=2, maximum=6, initial=2))
    assert scaling(template_of(stack)) == (1, 1, 5)


def test_copies_that_share_an_instance_reserve_their_chips_share_of_its_memory(stack: cdk.Stack) -> None:
    """A copy with two of four GPUs leaves half of the host to others."""
    make(stack).add_component("Small", serving=SMALL, capacity=ONE)
    needs = {
        item["Properties"]["Specification"]["ComputeResourceRequirements"]["MinMemoryRequiredInMb"]
        for item in of_type(template_of(stack), COMPONENT).values()
    }
    room = LARGE.instance.host_room_mib
    assert needs == {room // 2, room // 4}


def test_a_further_model_s_weights_are_read_by_the_same_role(stack: cdk.Stack) -> None:
    """Weights under a prefix need a model resource, because a component's own container takes one archive."""
    bucket = s3.Bucket(stack, "Weights")
    source = ModelSource.s3(bucket, "qwen3-8b/1/")
    make(stack).add_component("Small", serving=SMALL, capacity=ONE, source=source)
    template = template_of(stack)
    data = only(template, "AWS::SageMaker::Model")["Properties"]["PrimaryContainer"]["ModelDataSource"]
    assert (data["S3DataSource"]["CompressionType"], data["S3DataSource"]["S3DataType"]) == (
        "None",
        "S3Prefix",
    )
    (named,) = [
        item["Properties"]["Specification"]
        for item in of_type(template, COMPONENT).values()
        if "ModelName" in item["Properties"]["Specification"]
    ]
    assert "Container" not in named
    assert any("s3:GetObject" in found["Action"] for found in statements(template, "LlmRole"))


def test_a_further_model_may_change_in_its_own_way(stack: cdk.Stack) -> None:
    """One copy cannot roll, and the other model's rolling updates do not bind it."""
    many = Capacity(minimum=2, maximum=4, initial=2)
    rolling = UpdatePolicy.rolling(batch_percent=50)
    endpoint = LlmEndpoint(stack, "Llm", serving=LARGE, capacity=many, update=rolling)
    endpoint.add_component("Small", serving=SMALL, capacity=ONE, update=BARE)
    made = of_type(template_of(stack), COMPONENT)
    assert {key: "DeploymentConfig" in item["Properties"] for key, item in made.items()} == {
        key: "Small" not in key for key in made
    }
    assert len(of_type(template_of(stack), "Custom::TokenmillHold")) == 2


def test_a_further_model_has_its_own_grants_and_metrics(stack: cdk.Stack) -> None:
    """A caller of one model may not call the other."""
    small = make(stack).add_component("Small", serving=SMALL, capacity=ONE)
    caller = iam.Role(stack, "Caller", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    small.grant_invoke(caller)
    template = template_of(stack)
    (granted,) = statements(template, "Caller")
    component = next(key for key in of_type(template, COMPONENT) if "Small" in key)
    assert {"Ref": component} in granted["Resource"]
    assert len(granted["Resource"]) == 2
    assert stack.resolve(small.scaling_resource_id) != stack.resolve(small.node.scope.scaling_resource_id)


@pytest.mark.parametrize(
    ("serving", "capacity", "message"),
    [
        (
            replace(SMALL, instance_type="ml.g6e.xlarge"),
            ONE,
            "the component is for ml.g6e.xlarge, but the endpoint has ml.g6e.12xlarge; give "
            "Serving(instance_type='ml.g6e.12xlarge'), or make an endpoint of its own",
        ),
        (
            SMALL,
            Capacity(minimum=0, maximum=2, initial=0),
            "capacity.initial is 0; a component is created with 1 copy or more, which shows that it "
            "starts, and may scale to 0 afterwards, so give initial=1",
        ),
    ],
)
def test_fails_before_a_further_model_exists(
    serving: Serving, capacity: Capacity, message: str, stack: cdk.Stack
) -> None:
    """The endpoint stays as it was."""
    endpoint = make(stack)
    before = len(endpoint.node.children)
    with pytest.raises(TokenmillError) as caught:
        endpoint.add_component("Small", serving=serving, capacity=capacity)
    assert str(caught.value) == message
    assert len(endpoint.node.children) == before


def test_fails_when_the_images_need_different_hosts(stack: cdk.Stack) -> None:
    """One endpoint has one host image."""
    older = "al2-ami-sagemaker-inference-gpu-3-1"
    other = replace(image(LARGE.serving_image.key), host_ami=older, cuda="12.4")
    endpoint = make(stack)
    with pytest.raises(TokenmillError, match="needs the host image al2-ami-sagemaker-inference-gpu-3-1, but"):
        endpoint.add_component("Small", serving=replace(SMALL, image=other), capacity=ONE)


def test_a_given_role_stays_as_it_is(stack: cdk.Stack) -> None:
    """A further model adds nothing to somebody else's role."""
    role = iam.Role.from_role_arn(stack, "Given", "arn:aws:iam::123456789012:role/serving")
    make(stack, hosting=EndpointHosting(role=role)).add_component("Small", serving=SMALL, capacity=ONE)
    assert of_type(template_of(stack), "AWS::IAM::Policy") == {}
