"""The guard in a template: what stands before and after, what calls it, and what it may do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sagemaker as sagemaker
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_sqs as sqs

from support_stack import make_app, of_type, template_of
from tokenmill.core.workload import Capacity
from tokenmill.endpoints.deployment import ENTRY, Deployment, Hold
from tokenmill.endpoints.replaceable_name import replaceable_endpoint_name, replaceable_names
from tokenmill.endpoints.smoke_test import SmokeTest
from tokenmill.endpoints.update_policy import UpdatePolicy
from tokenmill.endpoints.watched import WatchedComponent
from tokenmill.security import FunctionHosting

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CAPACITY = Capacity(minimum=2, maximum=6, initial=3)
CFN = sagemaker.CfnInferenceComponent
HOLD, RELEASE = "Custom::TokenmillHold", "Custom::TokenmillRelease"


class Guarded:
    """An endpoint with one guarded component, as LlmEndpoint wires it."""

    def __init__(
        self,
        stack: cdk.Stack,
        policy: UpdatePolicy | None = None,
        *,
        capacity: Capacity = CAPACITY,
        **hosting: Any,
    ) -> None:
        self.stack = stack
        self.config = config(stack)
        self.endpoint = sagemaker.CfnEndpoint(
            stack,
            "Endpoint",
            endpoint_name="ep",
            endpoint_config_name=self.config.attr_endpoint_config_name,
        )
        self.deployment = Deployment(
            stack, "Deployment", endpoint_name="ep", policy=policy or UpdatePolicy(), **hosting
        )
        self.hold: Hold = self.deployment.hold_component("Chat", component_name="chat", capacity=capacity)
        self.component = WatchedComponent(
            stack,
            "Component",
            inference_component_name="chat",
            endpoint_name=self.endpoint.attr_endpoint_name,
            variant_name="AllTraffic",
            runtime_config=CFN.InferenceComponentRuntimeConfigProperty(copy_count=self.hold.copies),
            specification=specification(image="repo:1", environment={"A": "1"}),
        )
        self.hold.watch(self.component)
        self.deployment.check_component(
            self.hold, component=self.component, endpoint=self.endpoint, config=self.config
        )

    def only(self, kind: str) -> dict[str, Any]:
        (resource,) = of_type(template_of(self.stack), kind).values()
        return resource

    def watched(self) -> dict[str, Any]:
        found: dict[str, Any] = self.only(HOLD)["Properties"]["Watched"]
        return found


def config(stack: cdk.Stack, instances: int = 1) -> sagemaker.CfnEndpointConfig:
    cfn = sagemaker.CfnEndpointConfig
    variant = cfn.ProductionVariantProperty(variant_name="AllTraffic", initial_instance_count=instances)
    return cfn(stack, "Config", production_variants=[variant])


def specification(
    *, image: str | None = None, environment: dict[str, str] | None = None, model: str | None = None
) -> CFN.InferenceComponentSpecificationProperty:
    container = None
    if image is not None:
        container = CFN.InferenceComponentContainerSpecificationProperty(image=image, environment=environment)
    return CFN.InferenceComponentSpecificationProperty(container=container, model_name=model)


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[], cdk.Stack]:
    """Stacks of the same name, each in an app of its own."""
    made: list[cdk.Stack] = []

    def stack() -> cdk.Stack:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(cdk.Stack(make_app(folder), "test"))
        return made[-1]

    return stack


def test_the_component_asks_for_what_the_hold_says(stack: cdk.Stack) -> None:
    """And so waits for it; no count of the template's own is left."""
    guarded = Guarded(stack)
    component = guarded.only("AWS::SageMaker::InferenceComponent")
    (hold,) = of_type(template_of(stack), HOLD)
    assert component["Properties"]["RuntimeConfig"] == {"CopyCount": {"Fn::GetAtt": [hold, "Copies"]}}
    assert hold in component["DependsOn"]


def test_the_hold_knows_the_bounds(stack: cdk.Stack) -> None:
    """Declared copies for a fleet that is not there yet, and the range for one that is."""
    properties = Guarded(stack).only(HOLD)["Properties"]
    assert {key: properties[key] for key in ("Component", "Declared", "Minimum", "Maximum")} == {
        "Component": "chat",
        "Declared": 3,
        "Minimum": 2,
        "Maximum": 6,
    }


def test_the_rule_is_there_before_anything_is_suspended(stack: cdk.Stack) -> None:
    """A stack that fails right after the hold has to reach the function."""
    guarded = Guarded(stack)
    (rule,) = of_type(template_of(stack), "AWS::Events::Rule")
    assert rule in guarded.only(HOLD)["DependsOn"]


def test_the_rule_hears_of_this_stack_where_it_stands_still(stack: cdk.Stack) -> None:
    """Success, failure and rollback alike ("Stack Status Change event detail")."""
    pattern = Guarded(stack).only("AWS::Events::Rule")["Properties"]["EventPattern"]
    statuses = pattern["detail"].pop("status-details")["status"]
    assert pattern == {
        "source": ["aws.cloudformation"],
        "detail-type": ["CloudFormation Stack Status Change"],
        "detail": {"stack-id": [{"Ref": "AWS::StackId"}]},
    }
    assert {"UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "UPDATE_FAILED"} <= set(statuses)
    assert "UPDATE_IN_PROGRESS" not in statuses


def test_the_release_stands_after_endpoint_and_component(stack: cdk.Stack) -> None:
    """It reads what both became, and is called whenever the hold was: its token is new each time."""
    guarded = Guarded(stack)
    release = guarded.only(RELEASE)
    (hold,) = of_type(template_of(stack), HOLD)
    assert set(release["DependsOn"]) == {"Component", "Endpoint"}
    properties = release["Properties"]
    assert properties["Held"] == {"Fn::GetAtt": [hold, "Held"]}
    assert properties["ConfigName"] == {"Fn::GetAtt": ["Config", "EndpointConfigName"]}
    assert properties["Asked"] == [{"image": "repo:1", "environment": {"A": "1"}}]
    assert properties["Smoke"] == {
        "prompt": "Reply with the word ready.",
        "max_tokens": 8,
        "wait_seconds": 300,
    }


def new_image(guarded: Guarded) -> None:
    guarded.component.specification = specification(image="repo:2", environment={"A": "1"})


def new_variable(guarded: Guarded) -> None:
    guarded.component.specification = specification(image="repo:1", environment={"A": "2"})


def overridden(guarded: Guarded) -> None:
    guarded.component.add_property_override("Specification.Container.Environment.B", "1")


def overridden_outright(guarded: Guarded) -> None:
    guarded.component.add_override("Properties.Specification.Container.Image", "repo:3")


def deleted(guarded: Guarded) -> None:
    guarded.component.add_property_deletion_override("VariantName")


def tagged(guarded: Guarded) -> None:
    cdk.Tags.of(guarded.stack).add("team", "chat")


def rolled(guarded: Guarded) -> None:
    guarded.component.deployment_config = UpdatePolicy().component_deployment(CAPACITY)


@pytest.mark.parametrize(
    "change", [new_image, new_variable, overridden, overridden_outright, deleted, tagged, rolled]
)
def test_whatever_changes_the_component_calls_the_hold(
    fresh: Callable[[], cdk.Stack], change: Callable[[Guarded], None]
) -> None:
    """CloudFormation calls a custom resource only when its own properties change, so they do; also for what
    is changed after the endpoint was made."""
    before = Guarded(fresh()).watched()
    guarded = Guarded(fresh())
    change(guarded)
    assert guarded.watched()["Digest"] != before["Digest"]


def test_what_changes_no_component_calls_nothing(fresh: Callable[[], cdk.Stack]) -> None:
    """Two syntheses of the same app agree, and so do two numbers of copies."""
    before = Guarded(fresh()).watched()
    other = Guarded(fresh())
    other.component.runtime_config = CFN.InferenceComponentRuntimeConfigProperty(copy_count=9)
    assert other.watched() == before


def test_an_override_reaches_what_is_compared(stack: cdk.Stack) -> None:
    """The check expects the image, the variables and the size that the template really has."""
    guarded = Guarded(stack)
    overridden_outright(guarded)
    overridden(guarded)
    needs = {"NumberOfAcceleratorDevicesRequired": 2, "MinMemoryRequiredInMb": 4096}
    guarded.component.add_property_override("Specification.ComputeResourceRequirements", needs)
    assert guarded.only(RELEASE)["Properties"]["Asked"] == [
        {"image": "repo:3", "environment": {"A": "1", "B": "1"}, "accelerators": 2, "memory_mib": 4096}
    ]


def test_a_replaced_model_behind_the_same_reference_calls_the_hold(stack: cdk.Stack) -> None:
    """Its name is new, and only CloudFormation knows it: the reference itself is a property."""
    guarded = Guarded(stack)
    model = sagemaker.CfnModel(stack, "Model", execution_role_arn="arn:aws:iam::123456789012:role/x")
    guarded.component.specification = specification(model=model.attr_model_name)
    assert {"Fn::GetAtt": ["Model", "ModelName"]} in guarded.watched()["References"]
    assert guarded.only(RELEASE)["Properties"]["Asked"] == [{"model": {"Fn::GetAtt": ["Model", "ModelName"]}}]


def test_no_secret_stands_in_a_custom_resource(stack: cdk.Stack) -> None:
    """Neither a dynamic reference, which CloudFormation would resolve into the event, nor a hidden
    parameter; a changed secret's name still calls the hold."""
    guarded = Guarded(stack)
    secret = secretsmanager.Secret(stack, "Token")
    hidden = cdk.CfnParameter(stack, "Hidden", no_echo=True)
    shown = cdk.CfnParameter(stack, "Shown")
    guarded.component.specification = specification(
        image="repo:1",
        environment={
            "HF_TOKEN": secret.secret_value.unsafe_unwrap(),
            "HIDDEN": hidden.value_as_string,
            "SHOWN": shown.value_as_string,
        },
    )
    for kind in (HOLD, RELEASE):
        text = json.dumps(guarded.only(kind)["Properties"])
        assert "resolve:" not in text and "Hidden" not in text
    names = [reference.get("Ref") for reference in guarded.watched()["References"]]
    assert "Shown" in names and any(str(name).startswith("Token") for name in names)


def test_the_function_may_do_what_this_endpoint_needs(stack: cdk.Stack) -> None:
    """Endpoint, component and stack by name; scalable targets by their service, for want of names."""
    Guarded(stack)
    (policy,) = of_type(template_of(stack), "AWS::IAM::Policy").values()
    allowed: dict[str, str] = {}
    for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        for action in actions:
            text = json.dumps(statement["Resource"]).replace('"', "")
            allowed[action] = f"{allowed.get(action, '')}{text}{json.dumps(statement.get('Condition', ''))}"
    assert allowed["cloudformation:DescribeStacks"].startswith("{Ref: AWS::StackId}")
    assert ":endpoint/ep" in allowed["sagemaker:DescribeEndpoint"]
    assert ":inference-component/chat" in allowed["sagemaker:UpdateInferenceComponentRuntimeConfig"]
    assert "sagemaker:UpdateEndpointWeightsAndCapacities" not in allowed
    invoke = allowed["sagemaker:InvokeEndpoint"]
    assert ":endpoint/ep" in invoke and ":inference-component/chat" in invoke and "*" not in invoke
    suspend = allowed["application-autoscaling:RegisterScalableTarget"]
    assert "scalable-target/*" in suspend and '"sagemaker"' in suspend


def test_the_function_is_small_and_patient() -> None:
    """Fifteen minutes is Lambda's most; CloudFormation waits for the repeated attempts of a killed one."""
    assert ENTRY.timeout_seconds == 900
    assert 128 <= ENTRY.memory_mb <= 256


def test_without_kept_copies_the_count_is_the_template_s(stack: cdk.Stack) -> None:
    """No hold, no rule, no right to suspend; what runs is compared all the same, on every change."""
    guarded = Guarded(stack, UpdatePolicy(keep_copies=False))
    template = template_of(stack)
    assert of_type(template, HOLD) == {} and of_type(template, "AWS::Events::Rule") == {}
    component = guarded.only("AWS::SageMaker::InferenceComponent")
    assert component["Properties"]["RuntimeConfig"] == {"CopyCount": 3}
    properties = guarded.only(RELEASE)["Properties"]
    assert "Held" not in properties and len(properties["Watched"]["Digest"]) == 32
    assert "autoscaling" not in json.dumps(of_type(template, "AWS::IAM::Policy"))


def test_without_a_check_nothing_is_asked(stack: cdk.Stack) -> None:
    """Copies are kept and resumed; the model is not invoked and must not be."""
    guarded = Guarded(stack, UpdatePolicy(check=None))
    properties = guarded.only(RELEASE)["Properties"]
    assert {"ConfigName", "Asked", "Smoke"}.isdisjoint(properties)
    assert "sagemaker:InvokeEndpoint" not in json.dumps(of_type(template_of(stack), "AWS::IAM::Policy"))


def test_a_check_without_a_prompt_compares_only(stack: cdk.Stack) -> None:
    """An asynchronous endpoint has no answer to give at once."""
    guarded = Guarded(stack, UpdatePolicy(check=SmokeTest(prompt=None)))
    properties = guarded.only(RELEASE)["Properties"]
    assert "ConfigName" in properties and "Smoke" not in properties
    assert "sagemaker:InvokeEndpoint" not in json.dumps(of_type(template_of(stack), "AWS::IAM::Policy"))


def test_every_fleet_is_resumed_when_the_stack_settles(stack: cdk.Stack) -> None:
    """The function has their names in its environment."""
    guarded = Guarded(stack)
    guarded.deployment.hold_component("Small", component_name="small", capacity=CAPACITY)
    variables = guarded.only("AWS::Lambda::Function")["Properties"]["Environment"]["Variables"]
    assert json.loads(variables["TOKENMILL_FLEETS"]) == [
        "inference-component/chat",
        "inference-component/small",
    ]
    assert variables["TOKENMILL_STACK"] == {"Ref": "AWS::StackId"}


def test_a_variant_begins_with_the_instances_that_run(stack: cdk.Stack) -> None:
    """One at least; and the old name of an endpoint that is replaced may be read."""
    deployment = Deployment(
        stack, "Deployment", endpoint_name="ep-abc", replaces="ep-*", policy=UpdatePolicy()
    )
    hold = deployment.hold_variant("Main", variant="AllTraffic", capacity=CAPACITY)
    made = config(stack, hold.instances)
    endpoint = sagemaker.CfnEndpoint(
        stack,
        "Endpoint",
        endpoint_name="ep-abc",
        endpoint_config_name=made.attr_endpoint_config_name,
        retain_all_variant_properties=True,
    )
    hold.watch(endpoint, made)
    deployment.check_variant(hold, endpoint=endpoint, config=made, image="repo:1")
    template = template_of(stack)
    (hold_id,) = of_type(template, HOLD)
    (found,) = of_type(template, "AWS::SageMaker::EndpointConfig").values()
    count = found["Properties"]["ProductionVariants"][0]["InitialInstanceCount"]
    assert count == {"Fn::GetAtt": [hold_id, "Instances"]}
    watched = template["Resources"][hold_id]["Properties"]["Watched"]
    assert watched["References"] == []
    (release,) = of_type(template, RELEASE).values()
    assert (release["Properties"]["Variant"], release["Properties"]["Asked"]) == (
        "AllTraffic",
        [{"image": "repo:1"}],
    )
    policies = json.dumps(of_type(template, "AWS::IAM::Policy"))
    assert ":endpoint/ep-*" in policies and "sagemaker:UpdateEndpointWeightsAndCapacities" in policies


def test_another_instance_type_is_another_endpoint() -> None:
    """The service refuses a new type under a scalable target, so the name changes and CloudFormation
    replaces; every name fits SageMaker's 63 characters and the pattern of the function's rights."""
    base = "a" * 70
    small = replaceable_endpoint_name(base, ["ml.g5.xlarge"])
    large = replaceable_endpoint_name(base, ["ml.g5.2xlarge"])
    assert small != large
    assert small == replaceable_endpoint_name(base, ["ml.g5.xlarge"])
    assert len(small) == 63
    assert small.startswith(replaceable_names(base).removesuffix("*"))


def test_hosting_reaches_function_and_rule(stack: cdk.Stack) -> None:
    """Keys for the environment, a queue for events that could not be delivered."""
    queue, key = sqs.Queue(stack, "Queue"), kms.Key(stack, "Key")
    hosting = FunctionHosting(dead_letter_queue=queue, encryption_key=key)
    guarded = Guarded(stack, hosting=hosting)
    (target,) = guarded.only("AWS::Events::Rule")["Properties"]["Targets"]
    assert "DeadLetterConfig" in target
    assert "KmsKeyArn" in guarded.only("AWS::Lambda::Function")["Properties"]
    assert "events.amazonaws.com" in json.dumps(guarded.only("AWS::SQS::QueuePolicy"))
