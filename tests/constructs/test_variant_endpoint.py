"""Single-variant mode: a model in the variant, instances that scale, what an update keeps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3

from support_stack import of_type, only, statements, template_of
from tokenmill.core.errors import TokenmillError
from tokenmill.core.workload import Capacity
from tokenmill.endpoints import (
    DataCapture,
    EndpointHosting,
    EndpointNetwork,
    Fleet,
    InstancePool,
    InstanceScaling,
    ModelSource,
    Scheduling,
    Serving,
    UpdatePolicy,
    VariantEndpoint,
)

TWO = Capacity(minimum=2, maximum=6, initial=2)
BARE = UpdatePolicy.unguarded()
SERVING = Serving(
    model="Qwen/Qwen3-8B",
    instance_type="ml.g6e.xlarge",
    tensor_parallel=1,
    max_sequences=8,
    context_tokens=8192,
)
CONFIG = "AWS::SageMaker::EndpointConfig"
ENDPOINT = "AWS::SageMaker::Endpoint"
MODEL = "AWS::SageMaker::Model"


def make(stack: cdk.Stack, **more: Any) -> VariantEndpoint:
    return VariantEndpoint(stack, "Llm", **{"serving": SERVING, "capacity": TWO, "update": BARE, **more})


def variant(template: dict[str, Any]) -> dict[str, Any]:
    (found,) = only(template, CONFIG)["Properties"]["ProductionVariants"]
    made: dict[str, Any] = found
    return made


def test_the_model_stands_in_the_variant(stack: cdk.Stack) -> None:
    """No component and no managed scaling: instances are counted by the variant."""
    make(stack)
    template = template_of(stack)
    assert of_type(template, "AWS::SageMaker::InferenceComponent") == {}
    (model,) = of_type(template, MODEL)
    assert variant(template)["ModelName"] == {"Fn::GetAtt": [model, "ModelName"]}
    assert variant(template)["InitialInstanceCount"] == 2
    assert "ManagedInstanceScaling" not in variant(template)
    assert "ExecutionRoleArn" not in only(template, CONFIG)["Properties"]
    assert only(template, MODEL)["Metadata"]["tokenmill"]["model"] == SERVING.model


def test_the_model_has_role_image_and_environment(stack: cdk.Stack) -> None:
    """What a component says of its container, a model says here."""
    make(stack)
    made = only(template_of(stack), MODEL)["Properties"]
    assert made["PrimaryContainer"]["Environment"]["HF_MODEL_ID"] == SERVING.model
    assert made["PrimaryContainer"]["Image"].startswith("763104351884.dkr.ecr.us-east-1.amazonaws.com/")
    assert "ExecutionRoleArn" in made


def test_network_and_isolation_are_the_model_s(stack: cdk.Stack) -> None:
    """In this mode the configuration has neither."""
    source = ModelSource.s3(s3.Bucket(stack, "Weights"), "qwen3-8b/1/")
    network = EndpointNetwork(subnet_ids=("subnet-1",), security_group_ids=("sg-1",))
    make(stack, source=source, hosting=EndpointHosting(isolated=True, network=network))
    template = template_of(stack)
    made = only(template, MODEL)["Properties"]
    assert made["EnableNetworkIsolation"] is True
    assert made["VpcConfig"] == {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}
    assert "VpcConfig" not in only(template, CONFIG)["Properties"]


def test_a_pool_that_cuts_its_copy_differently_has_its_own_model(stack: cdk.Stack) -> None:
    """The variant's model serves the first choice; another pool overrides it where it differs."""
    wide = replace(SERVING, instance_type="ml.g5.12xlarge", tensor_parallel=4)
    fleet = Fleet(
        pools=(
            InstancePool(instance_type="ml.g6e.xlarge", priority=1),
            InstancePool(instance_type="ml.g6e.2xlarge", priority=2),
            InstancePool(instance_type="ml.g5.12xlarge", priority=3, serving=wide),
        )
    )
    make(stack, fleet=fleet)
    template = template_of(stack)
    assert len(of_type(template, MODEL)) == 2
    overrides = [pool.get("ModelNameOverride") for pool in variant(template)["InstancePools"]]
    assert overrides[:2] == [None, None]
    assert overrides[2] not in (None, variant(template)["ModelName"])


def test_an_update_keeps_the_instances_that_scaling_has_reached(stack: cdk.Stack) -> None:
    """SageMaker itself keeps them, beside the guard. It does not support to name what is captured there."""
    capture = DataCapture(bucket=s3.Bucket(stack, "Bucket"))
    make(stack, update=UpdatePolicy(), hosting=EndpointHosting(data_capture=capture))
    made = only(template_of(stack), ENDPOINT)["Properties"]
    assert made["RetainAllVariantProperties"] is True
    assert "ExcludeRetainedVariantProperties" not in made


def test_without_capture_nothing_is_excluded_and_without_guard_nothing_is_kept(stack: cdk.Stack) -> None:
    """A property that says nothing is left out."""
    make(stack)
    made = only(template_of(stack), ENDPOINT)["Properties"]
    assert "RetainAllVariantProperties" not in made
    assert "ExcludeRetainedVariantProperties" not in made


def test_the_endpoint_has_a_name_of_its_own(stack: cdk.Stack) -> None:
    """The guard finds a running endpoint by it before CloudFormation touches anything."""
    make(stack)
    name = only(template_of(stack), ENDPOINT)["Properties"]["EndpointName"]
    assert name.startswith("test-llm-")
    assert name == name.lower()


def test_a_count_that_never_scales_follows_the_template(stack: cdk.Stack) -> None:
    """Nothing else would ever change it."""
    make(stack, update=UpdatePolicy(), capacity=Capacity.fixed(3))
    made = only(template_of(stack), ENDPOINT)["Properties"]
    assert made["ExcludeRetainedVariantProperties"] == [{"VariantPropertyType": "DesiredInstanceCount"}]


def test_another_instance_type_is_another_endpoint(stack: cdk.Stack) -> None:
    """SageMaker refuses to change the type of a variant that scales, so the name follows the type."""
    make(stack, update=UpdatePolicy())
    larger = replace(SERVING, instance_type="ml.g6e.2xlarge")
    VariantEndpoint(stack, "Other", serving=larger, capacity=TWO)
    names = [item["Properties"]["EndpointName"] for item in of_type(template_of(stack), ENDPOINT).values()]
    assert len({name.rpartition("-")[2] for name in names}) == 2
    assert all(len(name) <= 63 for name in names)


def test_the_instances_are_those_that_run(stack: cdk.Stack) -> None:
    """The configuration's count is what the guard found, and the endpoint waits for it."""
    make(stack, update=UpdatePolicy())
    template = template_of(stack)
    (hold,) = of_type(template, "Custom::TokenmillHold")
    assert variant(template)["InitialInstanceCount"] == {"Fn::GetAtt": [hold, "Instances"]}
    assert hold in only(template, ENDPOINT)["DependsOn"]


def test_an_alarm_on_its_own_metrics_turns_an_update_back(stack: cdk.Stack) -> None:
    """Its dimensions are plain names, so that the endpoint may wait for the alarm."""
    endpoint = make(stack)
    alarm = endpoint.metric_model_errors().create_alarm(stack, "Errors", threshold=1, evaluation_periods=1)
    endpoint.roll_back_on(alarm)
    template = template_of(stack)
    made = only(template, ENDPOINT)["Properties"]
    (watched,) = of_type(template, "AWS::CloudWatch::Alarm")
    assert made["DeploymentConfig"]["AutoRollbackConfiguration"] == {
        "Alarms": [{"AlarmName": {"Ref": watched}}]
    }


def test_it_scales_on_instances(stack: cdk.Stack) -> None:
    """The names that Application Auto Scaling and CloudWatch know a variant by."""
    endpoint = VariantEndpoint.from_endpoint_name(stack, "Llm", endpoint_name="chat")
    assert endpoint.scaling_resource_id == "endpoint/chat/variant/AllTraffic"
    assert endpoint.scalable_dimension == "sagemaker:variant:DesiredInstanceCount"
    assert endpoint.metric_target == "chat"
    concurrent = endpoint.metric_concurrent_requests()
    assert concurrent.metric_name == "ConcurrentRequestsPerModel"
    assert concurrent.dimensions == {"EndpointName": "chat", "VariantName": "AllTraffic"}
    arn = "arn:aws:sagemaker:eu-west-1:210987654321:endpoint/chat"
    other = VariantEndpoint.from_endpoint_arn(stack, "Other", endpoint_arn=arn, variant_name="Blue")
    assert other.scaling_resource_id == "endpoint/chat/variant/Blue"
    assert other.endpoint_arn == arn


def test_grants_name_the_endpoint_alone(stack: cdk.Stack) -> None:
    """There is no component to name."""
    caller = iam.Role(stack, "Caller", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    make(stack).grant_invoke(caller)
    template = template_of(stack)
    (endpoint,) = of_type(template, ENDPOINT)
    (granted,) = statements(template, "Caller")
    assert granted["Action"] == ["sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointWithResponseStream"]
    assert granted["Resource"] == {"Ref": endpoint}


def test_an_imported_endpoint_may_take_queued_requests(stack: cdk.Stack) -> None:
    """Whether it does is not known here, so the grant is its owner's choice."""
    caller = iam.Role(stack, "Caller", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    VariantEndpoint.from_endpoint_name(stack, "Llm", endpoint_name="chat").grant_invoke_async(caller)
    assert statements(template_of(stack), "Caller")[0]["Action"] == "sagemaker:InvokeEndpointAsync"


def test_chips_that_nobody_uses_are_a_warning(stack: cdk.Stack) -> None:
    """One container has the instance to itself."""
    endpoint = make(stack, serving=replace(SERVING, instance_type="ml.g6e.12xlarge"))
    found = [entry.data for entry in endpoint.node.metadata if "IdleChips" in str(entry.data)]
    assert len(found) == 1
    assert "uses 1 of its 4 chips" in str(found[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"capacity": Capacity(minimum=0, maximum=2, initial=1)},
            "capacity.minimum is 0; only an endpoint of inference components can be without instances, so "
            "give 1 or more, or use LlmEndpoint",
        ),
        (
            {"fleet": Fleet(scheduling=Scheduling.spread())},
            "fleet.scheduling is given, but VariantEndpoint has one copy an instance and none to place; "
            "leave it out, or use LlmEndpoint",
        ),
        (
            {"fleet": Fleet(instances=InstanceScaling(scale_in="IDLE_RELEASE"))},
            "fleet.instances.scale_in is given, but VariantEndpoint has one copy an instance and none to "
            "place; leave it out, or use LlmEndpoint",
        ),
        (
            {"fleet": Fleet(data_cache=False)},
            "fleet.data_cache is False, but only inference components have a data cache; leave it out, or "
            "use LlmEndpoint",
        ),
    ],
)
def test_fails_before_any_child_exists_of_a_variant(
    change: dict[str, Any], message: str, stack: cdk.Stack
) -> None:
    """What belongs to components has no meaning here."""
    with pytest.raises(TokenmillError) as caught:
        make(stack, **change)
    assert str(caught.value) == message
    assert stack.node.children == []
