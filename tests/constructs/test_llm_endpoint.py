"""What LlmEndpoint puts into a template, what it offers, what it refuses."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_secretsmanager as secretsmanager

from support_jobs import inf2
from support_stack import ENGINE, REGION, candidate, make_app, of_type, only, plan, statements, template_of
from tokenmill.core.errors import NoPlanError, TokenmillError
from tokenmill.core.images import image
from tokenmill.core.workload import Capacity
from tokenmill.endpoints import (
    EndpointHosting,
    EndpointNetwork,
    LlmEndpoint,
    ModelSource,
    Serving,
    UpdatePolicy,
)

if TYPE_CHECKING:
    from pathlib import Path

TWO = Capacity(minimum=2, maximum=6, initial=2)
ONE = Capacity(minimum=1, maximum=3, initial=1)
SERVING = inf2()
ON_GPU = replace(SERVING, instance_type="ml.g6e.xlarge", tensor_parallel=1)
BARE = UpdatePolicy.unguarded()
COMPONENT = "AWS::SageMaker::InferenceComponent"
CONFIG = "AWS::SageMaker::EndpointConfig"


def variant(template: dict[str, Any]) -> dict[str, Any]:
    (found,) = only(template, CONFIG)["Properties"]["ProductionVariants"]
    made: dict[str, Any] = found
    return made


def test_the_configuration_has_no_model_but_a_role(prod: dict[str, Any]) -> None:
    """Inference components need ExecutionRoleArn on the configuration, and no model in the variant."""
    assert "ExecutionRoleArn" in only(prod, CONFIG)["Properties"]
    assert "ModelName" not in variant(prod)


def test_instances_follow_the_copies(prod: dict[str, Any]) -> None:
    """Two to six copies, one a machine, and three more machines for the batch of a rolling update."""
    assert variant(prod)["ManagedInstanceScaling"] == {
        "Status": "ENABLED",
        "MinInstanceCount": 2,
        "MaxInstanceCount": 9,
    }
    assert variant(prod)["InitialInstanceCount"] == 2


def test_the_host_image_is_the_one_of_the_serving_image(prod: dict[str, Any], stack: cdk.Stack) -> None:
    """A driver mismatch is what an endpoint without AMI version runs into."""
    assert variant(prod)["InferenceAmiVersion"] == "al2-ami-sagemaker-inference-neuron-2"
    LlmEndpoint(stack, "Llm", serving=ON_GPU, capacity=TWO, update=BARE)
    assert variant(template_of(stack))["InferenceAmiVersion"] == "al2023-ami-sagemaker-inference-gpu-4-1"


def test_requests_go_to_the_least_busy_copy(prod: dict[str, Any]) -> None:
    """Random routing costs latency at the same load."""
    assert variant(prod)["RoutingConfig"] == {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}


def test_metrics_come_every_ten_seconds(prod: dict[str, Any]) -> None:
    """Enhanced metrics and the containers' own, as often as SageMaker allows."""
    assert only(prod, CONFIG)["Properties"]["MetricsConfig"] == {
        "EnableEnhancedMetrics": True,
        "EnableDetailedObservability": True,
        "MetricPublishFrequencyInSeconds": 10,
    }


def test_neuron_gets_an_hour_to_start_and_a_gpu_half_of_it(prod: dict[str, Any], stack: cdk.Stack) -> None:
    """Compilation at first start is what takes long; an hour is SageMaker's limit."""
    keys = ("ContainerStartupHealthCheckTimeoutInSeconds", "ModelDataDownloadTimeoutInSeconds")
    startup = only(prod, COMPONENT)["Properties"]["Specification"]["StartupParameters"]
    assert [variant(prod)[key] for key in keys] == [startup[key] for key in keys] == [3600, 3600]
    LlmEndpoint(stack, "Llm", serving=ON_GPU, capacity=TWO, update=BARE)
    assert variant(template_of(stack))[keys[0]] == 1800


def test_a_copy_asks_for_whole_chips_and_host_memory(prod: dict[str, Any]) -> None:
    """The template counts chips, the plan counts cores."""
    asked = only(prod, COMPONENT)["Properties"]["Specification"]["ComputeResourceRequirements"]
    assert asked == {"NumberOfAcceleratorDevicesRequired": 1, "MinMemoryRequiredInMb": 40_000}


def test_the_container_is_the_catalog_s_image_with_its_environment(prod: dict[str, Any]) -> None:
    """Address, variables and cache stand in the component, so there is no model resource."""
    specification = only(prod, COMPONENT)["Properties"]["Specification"]
    assert specification["Container"]["Image"] == image("hf-vllm-neuronx").uri("us-east-1")
    assert specification["Container"]["Environment"]["SM_ON_MODEL"] == "Qwen/Qwen3-8B"
    assert specification["DataCacheConfig"] == {"EnableCaching": True}
    assert of_type(prod, "AWS::SageMaker::Model") == {}


def test_the_component_s_name_reads_the_same_in_its_arn(prod: dict[str, Any], tmp_path: Path) -> None:
    """SageMaker writes a component's ARN in lower case, and the gateway calls the name found there."""
    name = only(prod, COMPONENT)["Properties"]["InferenceComponentName"]
    assert re.fullmatch(r"tokenmillchat-endpoint-[0-9a-f]{8}", name)
    other = cdk.Stack(make_app(tmp_path), "Other" + "Stack" * 20, env=cdk.Environment(region=REGION))
    LlmEndpoint(other, "Llm", serving=SERVING, capacity=TWO, update=BARE)
    long = only(template_of(other), COMPONENT)["Properties"]["InferenceComponentName"]
    assert len(long) <= 63
    assert re.fullmatch(r"[a-z0-9](-*[a-z0-9])*", long)


def test_the_metadata_says_plan_engine_and_model(prod: dict[str, Any]) -> None:
    """The local cloud reads the engine's timing from here."""
    metadata = only(prod, COMPONENT)["Metadata"]["tokenmill"]
    assert metadata == {"plan": plan().hash, "engine": ENGINE.to_json(), "model": "Qwen/Qwen3-8B"}


def test_the_role_may_do_what_serving_needs_and_nothing_else(prod: dict[str, Any]) -> None:
    """No managed policy, one repository, SageMaker's log groups and metric namespaces."""
    role = next(value for key, value in of_type(prod, "AWS::IAM::Role").items() if "EndpointRole" in key)
    assert "ManagedPolicyArns" not in role["Properties"]
    by_action = {
        tuple([found["Action"]] if isinstance(found["Action"], str) else found["Action"]): found["Resource"]
        for found in statements(prod, "EndpointRole")
    }
    assert by_action == {
        ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"): (
            "arn:aws:ecr:us-east-1:763104351884:repository/huggingface-vllm-inference-neuronx"
        ),
        ("ecr:GetAuthorizationToken",): "*",
        (
            "logs:CreateLogGroup",
            "logs:CreateLogStream",
            "logs:DescribeLogStreams",
            "logs:PutLogEvents",
        ): {
            "Fn::Join": [
                "",
                [
                    "arn:",
                    {"Ref": "AWS::Partition"},
                    ":logs:",
                    {"Ref": "AWS::Region"},
                    ":",
                    {"Ref": "AWS::AccountId"},
                    ":log-group:/aws/sagemaker/*",
                ],
            ]
        },
        ("cloudwatch:PutMetricData",): "*",
    }


def test_the_configuration_waits_for_the_role_s_policy(prod: dict[str, Any]) -> None:
    """SageMaker checks the role when the configuration is made."""
    assert any("RoleDefaultPolicy" in name for name in only(prod, CONFIG)["DependsOn"])


def test_an_unknown_region_becomes_a_mapping(agnostic: cdk.Stack) -> None:
    """The registry's account differs by region, so the template looks it up at deployment."""
    LlmEndpoint(agnostic, "Llm", serving=SERVING, capacity=TWO, update=BARE)
    template = template_of(agnostic)
    (mapping,) = template["Mappings"].values()
    assert mapping["us-west-2"] == {"account": "763104351884"}
    uri = only(template, COMPONENT)["Properties"]["Specification"]["Container"]["Image"]
    assert "Fn::FindInMap" in str(uri)
    assert str(uri).count("huggingface-vllm-inference-neuronx:0.11.0") == 1


def test_a_key_encrypts_the_volumes_where_there_is_no_local_storage(stack: cdk.Stack) -> None:
    """Inferentia2 hosts have EBS volumes only, and the role may use the key."""
    hosting = EndpointHosting(encryption_key=kms.Key(stack, "Key"))
    LlmEndpoint(stack, "Llm", serving=SERVING, capacity=TWO, update=BARE, hosting=hosting)
    template = template_of(stack)
    assert only(template, CONFIG)["Properties"]["KmsKeyId"] == {"Fn::GetAtt": ["Key961B73FD", "Arn"]}
    assert any("kms:CreateGrant" in found["Action"] for found in statements(template, "LlmRole"))


def test_a_token_for_gated_models_is_a_dynamic_reference(stack: cdk.Stack) -> None:
    """The secret's value is in no template."""
    secret = secretsmanager.Secret.from_secret_name_v2(stack, "Token", "hugging-face")
    source = ModelSource.hugging_face(token=secret)
    LlmEndpoint(stack, "Llm", serving=SERVING, capacity=TWO, source=source, update=BARE)
    environment = only(template_of(stack), COMPONENT)["Properties"]["Specification"]["Container"][
        "Environment"
    ]
    assert "{{resolve:secretsmanager:" in str(environment["HF_TOKEN"])
    assert "hugging-face" in str(environment["HF_TOKEN"])


def test_containers_join_a_vpc(stack: cdk.Stack) -> None:
    """Subnets and groups in the configuration, network interfaces in the role."""
    vpc = ec2.Vpc(stack, "Vpc", availability_zones=["us-east-1a"], restrict_default_security_group=False)
    group = ec2.SecurityGroup(stack, "Group", vpc=vpc)
    network = EndpointNetwork.of(vpc, security_groups=(group,))
    hosting = EndpointHosting(network=network)
    LlmEndpoint(stack, "Llm", serving=SERVING, capacity=TWO, update=BARE, hosting=hosting)
    template = template_of(stack)
    placed = only(template, CONFIG)["Properties"]["VpcConfig"]
    assert placed["SecurityGroupIds"] == [{"Fn::GetAtt": ["GroupC77FDACD", "GroupId"]}]
    assert "PrivateSubnet" in str(placed["Subnets"])
    assert any("ec2:CreateNetworkInterface" in found["Action"] for found in statements(template, "LlmRole"))


@pytest.mark.parametrize(
    ("subnets", "groups", "message"),
    [
        ((), ("sg-1",), "subnet_ids has 0; give 1 to 16 subnets"),
        (("subnet-1",), (), "security_group_ids has 0; give 1 to 5 security groups"),
    ],
)
def test_fails_on_a_network_that_sagemaker_refuses(
    subnets: tuple[str, ...], groups: tuple[str, ...], message: str
) -> None:
    """The limits are SageMaker's."""
    with pytest.raises(ValueError, match=message):
        EndpointNetwork(subnet_ids=subnets, security_group_ids=groups)


def test_a_given_role_is_used_as_it_is(stack: cdk.Stack) -> None:
    """No policy is added to somebody else's role."""
    role = iam.Role.from_role_arn(stack, "Given", "arn:aws:iam::123456789012:role/serving", mutable=False)
    hosting = EndpointHosting(role=role)
    LlmEndpoint(stack, "Llm", serving=SERVING, capacity=TWO, update=BARE, hosting=hosting)
    template = template_of(stack)
    assert (
        only(template, CONFIG)["Properties"]["ExecutionRoleArn"] == "arn:aws:iam::123456789012:role/serving"
    )
    assert of_type(template, "AWS::IAM::Policy") == {}


def test_customize_changes_the_l1_resources_last(stack: cdk.Stack) -> None:
    """What the construct does not offer is one property override away."""

    def reserve(endpoint: LlmEndpoint) -> None:
        endpoint.endpoint_config.add_property_override("ProductionVariants.0.EnableSSMAccess", True)

    LlmEndpoint(stack, "Llm", serving=SERVING, capacity=TWO, update=BARE, customize=reserve)
    assert variant(template_of(stack))["EnableSSMAccess"] is True


def test_grant_invoke_covers_endpoint_and_component_streamed_or_not(stack: cdk.Stack) -> None:
    """SageMaker checks the endpoint, and the component where a call names one."""
    endpoint = LlmEndpoint(stack, "Llm", serving=SERVING, capacity=TWO, update=BARE)
    caller = iam.Role(stack, "Caller", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    endpoint.grant_invoke(caller).assert_success()
    template = template_of(stack)
    (component,), (made,) = of_type(template, COMPONENT), of_type(template, "AWS::SageMaker::Endpoint")
    (granted,) = statements(template, "Caller")
    assert granted["Action"] == ["sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointWithResponseStream"]
    assert {item["Ref"] for item in granted["Resource"]} == {made, component}


def test_an_endpoint_can_be_granted_things(stack: cdk.Stack) -> None:
    """Its containers' role is the principal."""
    endpoint = LlmEndpoint(stack, "Llm", serving=SERVING, capacity=TWO, update=BARE)
    s3.Bucket(stack, "Bucket").grant_read(endpoint)
    assert any("s3:GetObject*" in found["Action"] for found in statements(template_of(stack), "LlmRole"))


def test_an_imported_component_has_grants_and_metrics(agnostic: cdk.Stack) -> None:
    """Names become ARNs of this stack's partition, region and account, the component's in lower case."""
    endpoint = LlmEndpoint.from_component_name(agnostic, "Llm", endpoint_name="chat", component_name="Chat-1")
    caller = iam.Role(agnostic, "Caller", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    endpoint.grant_invoke(caller)
    resources = statements(template_of(agnostic), "Caller")[0]["Resource"]
    prefix = ["arn:", {"Ref": "AWS::Partition"}, ":sagemaker:", {"Ref": "AWS::Region"}, ":"]
    assert resources == [
        {"Fn::Join": ["", [*prefix, {"Ref": "AWS::AccountId"}, ":endpoint/chat"]]},
        {"Fn::Join": ["", [*prefix, {"Ref": "AWS::AccountId"}, ":inference-component/chat-1"]]},
    ]
    metric = endpoint.metric_time_to_first_token()
    assert (metric.namespace, metric.metric_name, metric.statistic) == (
        "tokenmill",
        "TimeToFirstToken",
        "p95",
    )
    assert metric.dimensions == {"Target": "Chat-1"}
    assert endpoint.scaling_resource_id == "inference-component/Chat-1"
    assert endpoint.metric_copies().statistic == "Maximum"
    assert endpoint.metric_token_work().statistic == "Sum"


def test_fails_to_import_without_a_name(stack: cdk.Stack) -> None:
    """An empty name would make an ARN of everything."""
    with pytest.raises(ValueError, match="component_name is empty; give the name that SageMaker shows"):
        LlmEndpoint.from_component_name(stack, "Llm", endpoint_name="chat", component_name="")


def test_fails_for_a_metric_that_nobody_publishes(stack: cdk.Stack) -> None:
    """The contract lists what there is."""
    endpoint = LlmEndpoint.from_component_name(stack, "Llm", endpoint_name="chat", component_name="chat-1")
    with pytest.raises(ValueError, match="no metric is called 'Tokens'; the contract has CacheWriteTokens, "):
        endpoint.metric("Tokens")


def test_fails_where_the_region_has_no_such_image(agnostic: cdk.Stack) -> None:
    """A known region is checked, and nothing is left in the tree."""
    there = cdk.Stack(cdk.App.of(agnostic), "there", env=cdk.Environment(region="eu-north-1"))
    message = "image hf-vllm-neuronx is not in region 'eu-north-1'; regions with it: ap-northeast-1, "
    with pytest.raises(TokenmillError, match=message):
        LlmEndpoint(there, "Llm", serving=SERVING, capacity=TWO)
    assert there.node.children == []


def test_fails_when_a_key_is_given_for_local_storage(stack: cdk.Stack) -> None:
    """SageMaker refuses such a configuration after minutes; this is said at once."""
    key = kms.Key(stack, "Key")
    with pytest.raises(TokenmillError) as caught:
        LlmEndpoint(stack, "Llm", serving=ON_GPU, capacity=TWO, hosting=EndpointHosting(encryption_key=key))
    assert str(caught.value) == (
        "encryption_key is given, but ml.g6e.xlarge has local NVMe storage, which its hardware encrypts and "
        "for which SageMaker refuses a key; leave encryption_key out for this instance type"
    )
    assert [child.node.id for child in stack.node.children] == ["Key"]


def test_fails_from_a_plan_without_candidate(stack: cdk.Stack) -> None:
    """The plan's nearest miss is the message."""
    empty = replace(plan(), candidates=(), nearest_miss="nothing meets 1 ms")
    with pytest.raises(NoPlanError, match="nothing meets 1 ms"):
        LlmEndpoint.from_plan(stack, "Llm", plan=empty)


def test_a_plan_and_its_keywords_make_the_same_template(stack: cdk.Stack) -> None:
    """from_plan only maps fields to keywords."""
    made = plan(candidate(capacity=ONE))
    LlmEndpoint.from_plan(stack, "A", plan=made, update=BARE)
    LlmEndpoint(stack, "B", serving=Serving.from_plan(made), capacity=ONE, update=BARE)
    names = {"EndpointName": None, "InferenceComponentName": None}
    planned, spelled = (
        {**found["Properties"], **names, "Metadata": found["Metadata"]}
        for found in of_type(template_of(stack), COMPONENT).values()
    )
    assert planned == spelled
