"""LoRA adapters on a base component: what they are in a template, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3

from support_planner import model
from support_stack import of_type, template_of
from tokenmill.core.engine_options import EngineOptions, LoraSlots
from tokenmill.core.errors import TokenmillError
from tokenmill.core.images import image
from tokenmill.core.lora import Adapter
from tokenmill.core.workload import Capacity
from tokenmill.endpoints import LlmEndpoint, Serving, UpdatePolicy

if TYPE_CHECKING:
    from tokenmill.endpoints.adapter import LlmAdapter

COMPONENT = "AWS::SageMaker::InferenceComponent"
ROOM = EngineOptions(lora=LoraSlots(max_adapters=2, max_rank=32))
SERVING = Serving(
    model="Qwen/Qwen3-8B",
    instance_type="ml.g6e.xlarge",
    tensor_parallel=1,
    max_sequences=32,
    context_tokens=8192,
    spec=model("Qwen__Qwen3-8B"),
    options=ROOM,
)
SUPPORT = Adapter(
    name="support", base_model="Qwen/Qwen3-8B", rank=16, artifact="s3://adapters/support/v1.tar.gz"
)


def endpoint(stack: cdk.Stack, **changes: Any) -> LlmEndpoint:
    return LlmEndpoint(
        stack,
        "Llm",
        serving=replace(SERVING, **changes),
        capacity=Capacity.fixed(1),
        update=UpdatePolicy.unguarded(),
    )


def granted(stack: cdk.Stack) -> list[dict[str, Any]]:
    """Every statement of every policy."""
    policies = of_type(template_of(stack), "AWS::IAM::Policy").values()
    return [item for found in policies for item in found["Properties"]["PolicyDocument"]["Statement"]]


def adapters_of(stack: cdk.Stack) -> list[dict[str, Any]]:
    found = of_type(template_of(stack), COMPONENT).values()
    return [item for item in found if "BaseInferenceComponentName" in item["Properties"]["Specification"]]


def refusal(base: LlmEndpoint, adapter: Adapter = SUPPORT, **given: Any) -> str:
    before = [item.node.path for item in base.node.find_all()]
    with pytest.raises(TokenmillError) as caught:
        base.add_adapter("Another", adapter=adapter, **given)
    assert [item.node.path for item in base.node.find_all()] == before
    return str(caught.value)


def test_an_adapter_names_its_base_and_its_archive_and_asks_for_nothing(stack: cdk.Stack) -> None:
    """It runs on the base's compute ("InferenceComponentSpecification", Amazon SageMaker API Reference)."""
    base = endpoint(stack)
    base.add_adapter("Support", adapter=SUPPORT)
    (found,) = adapters_of(stack)
    resolve = stack.resolve
    assert found["Properties"]["Specification"] == {
        "BaseInferenceComponentName": resolve(base.component_name),
        "Container": {"ArtifactUrl": "s3://adapters/support/v1.tar.gz"},
    }
    assert "RuntimeConfig" not in found["Properties"]
    assert found["Properties"]["EndpointName"] == resolve(base.endpoint_name)
    assert found["Metadata"]["tokenmill"] == {"adapter": "support", "model": "Qwen/Qwen3-8B", "rank": 16}


def test_the_base_s_check_after_a_deployment_looks_at_its_adapters_too(stack: cdk.Stack) -> None:
    """An archive that SageMaker did not take is noticed, and each adapter answers a prompt of its own."""
    base = LlmEndpoint(stack, "Llm", serving=SERVING, capacity=Capacity.fixed(1))
    support = base.add_adapter("Support", adapter=SUPPORT)
    template = template_of(stack)
    (release,) = of_type(template, "Custom::TokenmillRelease").values()
    (found,) = release["Properties"]["Adapters"]
    name = support.component.inference_component_name
    assert found["Component"] == name
    assert [item["artifact"] for item in found["Asked"]] == ["s3://adapters/support/v1.tar.gz"]
    assert stack.get_logical_id(support.component) in release["DependsOn"]
    asked_for = [item for item in granted(stack) if name in str(item["Resource"])]
    assert {"sagemaker:DescribeInferenceComponent", "sagemaker:InvokeEndpoint"} <= {
        action
        for item in asked_for
        for action in ([item["Action"]] if isinstance(item["Action"], str) else item["Action"])
    }


def test_it_waits_for_its_base_and_for_the_right_to_read_the_archive(stack: cdk.Stack) -> None:
    """The base by its name, which comes of its ARN; the policy by a dependency."""
    base = endpoint(stack)
    base.add_adapter("Support", adapter=SUPPORT)
    (found,) = adapters_of(stack)
    reference = found["Properties"]["Specification"]["BaseInferenceComponentName"]
    logical_id = stack.get_logical_id(base.component)
    assert reference == {"Fn::Select": [1, {"Fn::Split": ["/", {"Ref": logical_id}]}]}
    (policy,) = (name for name in of_type(template_of(stack), "AWS::IAM::Policy"))
    assert found["DependsOn"] == [policy]


def test_the_containers_role_may_read_the_archive_alone(stack: cdk.Stack) -> None:
    """By its URI, where no bucket is given."""
    endpoint(stack).add_adapter("Support", adapter=SUPPORT)
    read = [item for item in granted(stack) if item["Action"] == "s3:GetObject"]
    assert [item["Resource"] for item in read] == [
        {
            "Fn::Join": [
                "",
                ["arn:", {"Ref": "AWS::Partition"}, ":s3:::adapters/support/v1.tar.gz"],
            ]
        }
    ]


def test_a_bucket_of_the_app_gives_its_key_too(stack: cdk.Stack) -> None:
    """What it encrypts can be read."""
    key = kms.Key(stack, "Key")
    bucket = s3.Bucket(stack, "Bucket", encryption_key=key)
    stored = replace(SUPPORT, artifact=bucket.s3_url_for_object("support.tar.gz"))
    endpoint(stack).add_adapter("Support", adapter=stored, bucket=bucket)
    found = granted(stack)
    arn = stack.resolve(bucket.arn_for_objects("support.tar.gz"))
    assert [item["Resource"] for item in found if item["Action"] == "s3:GetObject"] == [arn]
    keyed = [item for item in found if item["Action"] == "kms:Decrypt"]
    assert [item["Resource"] for item in keyed] == [stack.resolve(key.key_arn)]


def test_each_adapter_is_called_granted_and_measured_by_its_own_name(stack: cdk.Stack) -> None:
    """Two on one base."""
    base = endpoint(stack)
    made = [base.add_adapter(id, adapter=replace(SUPPORT, name=id.lower())) for id in ("Support", "Sales")]
    user = iam.User(stack, "Caller")
    made[0].grant_invoke(user)
    names = [item["Properties"]["InferenceComponentName"] for item in adapters_of(stack)]
    assert len(set(names)) == 2
    assert names == [name.lower() for name in names]
    (called,) = (item for item in granted(stack) if "sagemaker:InvokeEndpoint" in item["Action"])
    assert called["Resource"] == stack.resolve([base.endpoint_arn, made[0].component_arn])
    measured = made[1].metric_invocations()
    assert stack.resolve(measured.dimensions) == {
        "InferenceComponentName": stack.resolve(made[1].component_name)
    }


def test_an_adapter_does_not_scale(stack: cdk.Stack) -> None:
    """Its base does."""
    made = endpoint(stack).add_adapter("Support", adapter=SUPPORT)
    for name in ("scaling_resource_id", "scalable_dimension"):
        with pytest.raises(
            TokenmillError, match="adapter support has no copies of its own to scale; scale the"
        ):
            getattr(made, name)


def test_adapters_of_joined_matrices_and_of_the_output_are_taken(stack: cdk.Stack) -> None:
    """Some checkpoints hold three projections as one, and names may have the path of their layer."""
    joined = replace(SUPPORT, target_modules=("self_attn.qkv_proj", "mlp.gate_up_proj", "lm_head"))
    assert endpoint(stack).add_adapter("Support", adapter=joined).adapter == joined
    beside = replace(SUPPORT, name="head", target_modules=("lm_head",))
    assert made_on(stack, beside).adapter == beside


def made_on(stack: cdk.Stack, adapter: Adapter) -> LlmAdapter:
    """Without a spec nothing of the projections is known."""
    (base,) = (item for item in stack.node.children if isinstance(item, LlmEndpoint))
    return base.add_adapter(adapter.name.title(), adapter=adapter)


def test_without_a_spec_the_projections_are_not_checked(stack: cdk.Stack) -> None:
    """The server refuses what it does not know."""
    odd = replace(SUPPORT, target_modules=("conv_proj",))
    assert endpoint(stack, spec=None).add_adapter("Support", adapter=odd).adapter == odd


def test_fails_on_an_image_without_dynamic_loading_and_names_the_static_way(stack: cdk.Stack) -> None:
    """Neuron servers load none while they run."""
    base = endpoint(
        stack,
        instance_type="ml.inf2.24xlarge",
        tensor_parallel=4,
        max_sequences=8,
        options=EngineOptions(),
    )
    assert refusal(base) == (
        "adapter support cannot be loaded: image 'hf-vllm-neuronx' on ml.inf2.24xlarge has no dynamic LoRA "
        "loading; merge the adapter into the model's weights (peft: merge_and_unload) and serve the merged "
        "model, or serve on GPUs with lmi-vllm or vllm-sagemaker"
    )


@pytest.mark.parametrize("key", ["lmi-vllm", "vllm-sagemaker"])
def test_both_gpu_images_load_adapters(stack: cdk.Stack, key: str) -> None:
    """LMI's adapters API and vLLM's, both told to."""
    endpoint(stack, image=image(key)).add_adapter("Support", adapter=SUPPORT)
    assert len(adapters_of(stack)) == 1


def test_fails_where_the_serving_has_no_room_for_adapters(stack: cdk.Stack) -> None:
    """The server must be started with it."""
    assert refusal(endpoint(stack, options=EngineOptions())) == (
        "adapter support cannot be loaded: the serving of Qwen/Qwen3-8B has no room for adapters; give it "
        "options=EngineOptions(lora=LoraSlots(max_adapters=4, max_rank=16))"
    )


def test_fails_for_an_adapter_of_another_model(stack: cdk.Stack) -> None:
    """Its matrices have other shapes."""
    other = replace(SUPPORT, base_model="meta-llama/Llama-3.1-8B")
    assert refusal(endpoint(stack), other) == (
        "adapter support was trained on 'meta-llama/Llama-3.1-8B', but the component serves 'Qwen/Qwen3-8B'; "
        "add it to a component of its base model"
    )


def test_a_mirrored_base_is_known_by_its_spec(stack: cdk.Stack) -> None:
    """The model's name may be a folder."""
    base = endpoint(stack, model="/opt/ml/model")
    assert base.add_adapter("Support", adapter=SUPPORT).adapter == SUPPORT


def test_fails_for_a_rank_above_the_room(stack: cdk.Stack) -> None:
    """Room is kept for one rank."""
    assert refusal(endpoint(stack), replace(SUPPORT, rank=64)) == (
        "adapter support has rank 64, but the component has room for rank 32; raise max_rank of its "
        "LoraSlots, which takes memory of every core"
    )


def test_fails_for_more_adapters_than_there_is_room_for(stack: cdk.Stack) -> None:
    """Two slots hold two, and more only if more are kept in host memory."""
    base = endpoint(stack)
    for name in ("a", "b"):
        base.add_adapter(name.upper(), adapter=replace(SUPPORT, name=name))
    assert refusal(base) == (
        "adapter support is number 3, but the component has room for 2; raise max_adapters of its LoraSlots, "
        "or max_kept to keep more in host memory"
    )


def test_fails_for_a_second_adapter_of_the_same_name(stack: cdk.Stack) -> None:
    """A copied line is a slip."""
    base = endpoint(stack)
    base.add_adapter("Support", adapter=SUPPORT)
    assert refusal(base) == "the component has an adapter support already; give another name"


def test_fails_for_projections_that_the_model_does_not_have(stack: cdk.Stack) -> None:
    """With those that it has."""
    odd = replace(SUPPORT, target_modules=("conv_proj",))
    assert refusal(endpoint(stack), odd).startswith(
        "Qwen/Qwen3-8B does not have conv_proj; lora targets are down_proj, gate_proj, k_proj"
    )


def test_fails_for_an_archive_of_another_bucket_or_region(stack: cdk.Stack) -> None:
    """SageMaker reads artifacts in the endpoint's region."""
    base = endpoint(stack)
    other = s3.Bucket.from_bucket_name(stack, "Other", "others")
    assert refusal(base, bucket=other) == (
        "artifact of adapter support is 's3://adapters/support/v1.tar.gz', which is not in the bucket that "
        "was given; give its own bucket, or leave bucket out"
    )
    abroad = s3.Bucket.from_bucket_attributes(stack, "Abroad", bucket_name="adapters", region="eu-central-1")
    assert refusal(base, bucket=abroad) == (
        "artifact of adapter support is in eu-central-1, but the endpoint is in us-east-1; copy it to a "
        "bucket in us-east-1"
    )


def test_a_region_that_only_the_deployment_knows_is_not_compared(agnostic: cdk.Stack) -> None:
    """Nothing could be said of it."""
    bucket = s3.Bucket.from_bucket_name(agnostic, "Known", "adapters")
    made = endpoint(agnostic).add_adapter("Support", adapter=SUPPORT, bucket=bucket)
    assert made.adapter == SUPPORT
