"""The chat stack as a whole: outputs, profiles, compliance, feature flags, what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest

from support_stack import (
    REGION,
    ROOT,
    candidate,
    chat_stack,
    make_app,
    of_type,
    only,
    plan,
    recommended_context,
    settings,
    statements,
    template_of,
)
from tokenmill.core.errors import TokenmillError
from tokenmill.core.workload import Capacity, Workload
from tokenmill_stacks import ChatStack

if TYPE_CHECKING:
    from pathlib import Path


def types(template: dict[str, Any]) -> Counter[str]:
    return Counter(resource["Type"] for resource in template["Resources"].values())


def test_the_outputs_are_a_contract(prod: dict[str, Any], bedrock: dict[str, Any]) -> None:
    """Commands and the local cloud read them by these keys."""
    assert set(prod["Outputs"]) == {
        "BaseUrl",
        "ApiKeyTable",
        "GatewayFunction",
        "EndpointName",
        "ComponentName",
    }
    assert set(bedrock["Outputs"]) == {"BaseUrl", "ApiKeyTable", "GatewayFunction"}


def test_nothing_has_a_physical_name_that_two_stacks_could_share(prod: dict[str, Any]) -> None:
    """Six types are named; four names count inside their API, role or target only, and those of endpoint and
    component are made of the stack's name and their path."""
    named = {
        resource["Type"]
        for resource in prod["Resources"].values()
        for key in resource["Properties"]
        if key.endswith("Name") and key.removesuffix("Name") in resource["Type"] and key != "StageName"
    }
    assert named == {
        "AWS::ApiGateway::Authorizer",
        "AWS::ApiGateway::RestApi",
        "AWS::ApplicationAutoScaling::ScalingPolicy",
        "AWS::IAM::Policy",
        "AWS::SageMaker::Endpoint",
        "AWS::SageMaker::InferenceComponent",
    }


def test_dev_logs_go_with_the_stack_and_prod_logs_stay(prod: dict[str, Any], dev: dict[str, Any]) -> None:
    """A week and gone, or ninety days and kept."""
    for template, kept, days in ((prod, "Retain", 90), (dev, "Delete", 7)):
        for group in of_type(template, "AWS::Logs::LogGroup").values():
            assert (group["DeletionPolicy"], group["Properties"]["RetentionInDays"]) == (kept, days)


def test_a_bedrock_stack_has_no_endpoint(bedrock: dict[str, Any]) -> None:
    """Neither instances nor scaling."""
    assert [kind for kind in types(bedrock) if "SageMaker" in kind or "AutoScaling" in kind] == []


def test_a_fixed_capacity_has_no_scaling(tmp_path: Path) -> None:
    """There is nothing to scale between two and two."""
    made = plan(candidate(capacity=Capacity.fixed(2)))
    stack = ChatStack(make_app(tmp_path), "fixed", settings=settings(), plan=made)
    assert [kind for kind in types(template_of(stack)) if "AutoScaling" in kind] == []


def test_the_plain_app_emits_the_same_resources(tmp_path: Path, prod: dict[str, Any]) -> None:
    """The yardstick of the synth benchmark is worth something only while this holds."""
    environment = {
        **os.environ,
        "CDK_OUTDIR": str(tmp_path),
        "CDK_CONTEXT_JSON": json.dumps(recommended_context()),
        "CDK_VALIDATION": "false",
    }
    plain = ROOT / "benchmarks" / "plain_app" / "app.py"
    subprocess.run([sys.executable, str(plain)], cwd=ROOT, env=environment, check=True, capture_output=True)
    assert types(json.loads((tmp_path / "plain-chat.template.json").read_text())) == types(prod)
    assert "tokenmill." not in plain.read_text().replace("tokenmill_runtime.", "")


def test_the_packs_get_a_network_keys_backups_and_dead_letters(compliant: dict[str, Any]) -> None:
    """What NIST, HIPAA and PCI ask for, and everything is kept."""
    key = {"Fn::GetAtt": ["Key961B73FD", "Arn"]}
    for group in of_type(compliant, "AWS::Logs::LogGroup").values():
        assert group["Properties"]["KmsKeyId"] == key
    for table in of_type(compliant, "AWS::DynamoDB::Table").values():
        assert table["Properties"]["SSESpecification"]["KMSMasterKeyId"] == key
    for function in of_type(compliant, "AWS::Lambda::Function").values():
        properties = function["Properties"]
        assert {"VpcConfig", "DeadLetterConfig", "ReservedConcurrentExecutions", "KmsKeyArn"} <= set(
            properties
        )
    assert "VpcConfig" in only(compliant, "AWS::SageMaker::EndpointConfig")["Properties"]
    assert only(compliant, "AWS::SageMaker::EndpointConfig")["Properties"]["KmsKeyId"] == key
    for alarm in of_type(compliant, "AWS::CloudWatch::Alarm").values():
        assert alarm["Properties"]["AlarmActions"] == [{"Ref": "AlarmTopicD01E77F9"}]
    (selection,) = of_type(compliant, "AWS::Backup::BackupSelection").values()
    assert len(selection["Properties"]["BackupSelection"]["Resources"]) == 2


def test_aws_solutions_alone_costs_no_network(tmp_path: Path, prod: dict[str, Any]) -> None:
    """The constructs meet that pack by themselves."""
    assert types(template_of(chat_stack(tmp_path, compliance=("AwsSolutions",)))) == types(prod)


def test_roles_may_use_network_and_key(compliant: dict[str, Any]) -> None:
    """Lambda makes network interfaces and decrypts variables with the function's role, or starts nothing."""
    for role in ("GatewayFunctionRole", "GatewayAuthorizerRole", "HeartbeatFunctionRole"):
        allowed = json.dumps([found["Action"] for found in statements(compliant, role)])
        for action in ("ec2:CreateNetworkInterface", "kms:Decrypt", "kms:GenerateDataKey", "sqs:SendMessage"):
            assert action in allowed, role


def busy(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    load = Workload(requests_per_second=100, input_tokens=800, output_tokens=200)
    return template_of(chat_stack(tmp_path, workload=load, **changes))


def test_the_front_door_lets_in_twice_the_planned_rate(tmp_path: Path) -> None:
    """A fleet grows to twice the plan, so a throttle below that would waste it."""
    (setting,) = only(busy(tmp_path), "AWS::ApiGateway::Stage")["Properties"]["MethodSettings"]
    assert (setting["ThrottlingRateLimit"], setting["ThrottlingBurstLimit"]) == (200, 400)


def test_reserved_concurrency_holds_twice_the_planned_requests(tmp_path: Path) -> None:
    """A request holds the function for its whole answer: 2 x 100 a second x (2 s + 200 x 60 ms)."""
    made = of_type(busy(tmp_path, compliance=True), "AWS::Lambda::Function").values()
    reserved = {found["Properties"]["Handler"]: found["Properties"] for found in made}
    function = reserved["tokenmill_runtime.gateway.app:application"]
    assert function["ReservedConcurrentExecutions"] == 2800


def test_alarms_reach_their_encrypted_topic(compliant: dict[str, Any]) -> None:
    """Topic and key both let CloudWatch in; a policy of its own replaces the topic's default one."""
    topic = only(compliant, "AWS::SNS::TopicPolicy")["Properties"]["PolicyDocument"]["Statement"]
    key = only(compliant, "AWS::KMS::Key")["Properties"]["KeyPolicy"]["Statement"]
    for found in (topic, key):
        services = [item["Principal"].get("Service") for item in found if item["Effect"] == "Allow"]
        assert "cloudwatch.amazonaws.com" in services


def test_the_network_needs_no_look_up(compliant: dict[str, Any]) -> None:
    """Zones are taken by number at deployment, so synth needs neither account nor network."""
    zones = [
        subnet["Properties"]["AvailabilityZone"] for subnet in of_type(compliant, "AWS::EC2::Subnet").values()
    ]
    assert {json.dumps(zone) for zone in zones} == {
        json.dumps({"Fn::Select": [number, {"Fn::GetAZs": ""}]}) for number in (0, 1)
    }


def test_flags_do_not_matter(tmp_path: Path, prod: dict[str, Any]) -> None:
    """A user's app may have the recommended flags or none."""
    assert types(template_of(chat_stack(tmp_path, context={}))) - types(prod) <= Counter(
        {"AWS::IAM::Policy": 9}
    )


def test_an_unknown_region_and_account_synthesize(tmp_path: Path) -> None:
    """A stack without environment is for any."""
    stack = ChatStack(make_app(tmp_path), "any", settings=settings(), plan=plan())
    assert "Registries" in json.dumps(template_of(stack)["Mappings"])


def test_two_stacks_fit_into_one_app(tmp_path: Path) -> None:
    """Nothing is global."""
    app = make_app(tmp_path)
    for name in ("one", "two"):
        ChatStack(app, name, settings=settings(), plan=plan(), env=cdk.Environment(region=REGION))
    one, two = (found.template["Resources"] for found in app.synth().stacks)
    assert types({"Resources": one}) == types({"Resources": two})


def test_fails_without_a_plan(tmp_path: Path) -> None:
    """The message names the command."""
    app = make_app(tmp_path)
    with pytest.raises(TokenmillError) as caught:
        ChatStack(app, "chat", settings=settings(), plan=None)
    assert (
        str(caught.value) == "backend is 'sagemaker' and there is no plan; run: tokenmill plan chat --write"
    )
    assert [child.node.id for child in app.node.children if child.node.id == "chat"] == []


def test_fails_with_a_plan_for_bedrock(tmp_path: Path) -> None:
    """Bedrock has no instances to plan."""
    with pytest.raises(TokenmillError, match="backend is 'bedrock', which has no plan; leave plan out"):
        ChatStack(make_app(tmp_path), "chat", settings=settings(backend="bedrock"), plan=plan())


def test_fails_for_bedrock_without_a_context(tmp_path: Path) -> None:
    """No catalog knows it."""
    with pytest.raises(TokenmillError) as caught:
        ChatStack(make_app(tmp_path), "chat", settings=settings(backend="bedrock"), plan=None)
    assert str(caught.value) == (
        "chat.limits.context_tokens is not set; backend 'bedrock' needs the model's context window, in tokens"
    )
