"""Templates through CloudFormation: create, update, replace, refuse, roll back, delete."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import botocore.exceptions
import pytest

from support_local import ACCOUNT, REGION, ROLE, TIMING, client, specification, variant

if TYPE_CHECKING:
    from tokenmill.local.cloud_process import CloudProcess


def template(**changes: Any) -> dict[str, Any]:
    """An endpoint with a planned component, its scaling, a table with TTL and an alarm over two metrics."""
    dimension = {"Fn::Select": [1, {"Fn::Split": ["/", {"Ref": "Component"}]}]}
    plan = {"plan": "abc", "engine": TIMING.to_json(), "model": "Qwen/Qwen3-8B"}
    resources = {
        "Config": {
            "Type": "AWS::SageMaker::EndpointConfig",
            "Properties": {"ExecutionRoleArn": ROLE, "ProductionVariants": [variant()]},
        },
        "Endpoint": {
            "Type": "AWS::SageMaker::Endpoint",
            "Properties": {"EndpointConfigName": {"Fn::GetAtt": ["Config", "EndpointConfigName"]}},
        },
        "Component": {
            "Type": "AWS::SageMaker::InferenceComponent",
            "Metadata": {"tokenmill": plan},
            "Properties": {
                "EndpointName": {"Fn::GetAtt": ["Endpoint", "EndpointName"]},
                "VariantName": "AllTraffic",
                "RuntimeConfig": {"CopyCount": "1"},
                "Specification": specification(),
            },
        },
        "Target": {
            "Type": "AWS::ApplicationAutoScaling::ScalableTarget",
            "Properties": {
                "MinCapacity": 1,
                "MaxCapacity": 3,
                "ResourceId": {"Fn::Join": ["", ["inference-component/", dimension]]},
                "ScalableDimension": "sagemaker:inference-component:DesiredCopyCount",
                "ServiceNamespace": "sagemaker",
            },
        },
        "Table": {
            "Type": "AWS::DynamoDB::Table",
            "Properties": {
                "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
                "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
                "BillingMode": "PAY_PER_REQUEST",
                "TimeToLiveSpecification": {"AttributeName": "expires", "Enabled": True},
            },
        },
        "Alarm": {
            "Type": "AWS::CloudWatch::Alarm",
            "Properties": {
                "ComparisonOperator": "GreaterThanThreshold",
                "EvaluationPeriods": 1,
                "Threshold": 5,
                "Metrics": [
                    {"Id": "share", "Expression": "100 * FILL(errors, 0) / requests"},
                    *(_metric(name, dimension) for name in ("errors", "requests")),
                ],
            },
        },
    }
    for name, resource in changes.items():
        if resource is None:
            del resources[name]
        else:
            resources[name] = resource
    return {
        "Resources": resources,
        "Outputs": {"Component": {"Value": {"Ref": "Component"}}, "Endpoint": {"Value": {"Ref": "Endpoint"}}},
    }


def _metric(name: str, dimension: Any) -> dict[str, Any]:
    metric = {
        "Namespace": "tokenmill",
        "MetricName": name,
        "Dimensions": [{"Name": "Target", "Value": dimension}],
    }
    return {"Id": name, "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Sum"}, "ReturnData": False}


class Stack:
    """A stack of one test."""

    def __init__(self, cloud: CloudProcess, name: str) -> None:
        self.cloud, self.name = cloud, name
        self.cloudformation = client(cloud.endpoint, "cloudformation")

    def create(self, body: dict[str, Any]) -> dict[str, str]:
        self.cloudformation.create_stack(StackName=self.name, TemplateBody=json.dumps(body))
        self._wait("stack_create_complete")
        return self.outputs()

    def update(self, body: dict[str, Any]) -> dict[str, str]:
        self.cloudformation.update_stack(StackName=self.name, TemplateBody=json.dumps(body))
        self._wait("stack_update_complete")
        return self.outputs()

    def delete(self) -> None:
        self.cloudformation.delete_stack(StackName=self.name)
        self._wait("stack_delete_complete")

    def outputs(self) -> dict[str, str]:
        [stack] = self.cloudformation.describe_stacks(StackName=self.name)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}

    def physical_id(self, logical_id: str) -> str:
        [found] = self.cloudformation.describe_stack_resources(
            StackName=self.name, LogicalResourceId=logical_id
        )["StackResources"]
        return str(found["PhysicalResourceId"])

    def model_servers(self) -> list[dict[str, Any]]:
        request = {"account": ACCOUNT, "region": REGION, "stack": self.name}
        servers: list[dict[str, Any]] = self.cloud.admin("status", request)["model_servers"]
        return servers

    def reason(self) -> str:
        events = self.cloudformation.describe_stack_events(StackName=self.name)["StackEvents"]
        return " ".join(e.get("ResourceStatusReason", "") for e in events if "FAILED" in e["ResourceStatus"])

    def _wait(self, waiter: str) -> None:
        self.cloudformation.get_waiter(waiter).wait(
            StackName=self.name, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
        )


def test_a_stack_lives_from_create_over_update_to_delete(cloud: CloudProcess) -> None:
    stack = Stack(cloud, "whole-life")
    outputs = stack.create(template())
    assert outputs["Component"].startswith(f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:inference-component/")
    name = outputs["Component"].rsplit("/", 1)[-1]
    [server] = [server for server in stack.model_servers() if server["component"] == name]
    assert server["timing"] == "plan", "the engine's timing comes from the template's metadata"
    table = client(cloud.endpoint, "dynamodb").describe_time_to_live(TableName=stack.physical_id("Table"))
    assert table["TimeToLiveDescription"] == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires"}
    [alarm] = client(cloud.endpoint, "cloudwatch").describe_alarms(AlarmNames=[stack.physical_id("Alarm")])[
        "MetricAlarms"
    ]
    assert alarm["Metrics"][0]["Expression"] == "100 * FILL(errors, 0) / requests"

    changed = template(
        Config={
            "Type": "AWS::SageMaker::EndpointConfig",
            "Properties": {
                "ExecutionRoleArn": ROLE,
                "ProductionVariants": [variant(InitialInstanceCount=2)],
            },
        }
    )
    before = stack.physical_id("Config")
    after = stack.update(changed)
    assert after == outputs, "endpoint and component keep their names"
    assert stack.physical_id("Config") != before, "a configuration cannot change, so it is replaced"
    sagemaker = client(cloud.endpoint, "sagemaker")
    [described] = sagemaker.describe_endpoint(EndpointName=outputs["Endpoint"].rsplit("/", 1)[-1])[
        "ProductionVariants"
    ]
    assert described["CurrentInstanceCount"] == 2
    with pytest.raises(botocore.exceptions.ClientError, match="Could not find endpoint configuration"):
        sagemaker.describe_endpoint_config(EndpointConfigName=before.rsplit("/", 1)[-1])

    stack.delete()
    assert [server for server in stack.model_servers() if server["component"] == name] == []
    targets = client(cloud.endpoint, "application-autoscaling").describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[f"inference-component/{name}"]
    )["ScalableTargets"]
    assert targets == []


def test_fails_a_template_with_an_unknown_type_before_anything_is_created(cloud: CloudProcess) -> None:
    stack = Stack(cloud, "unknown-type")
    cluster = {"Type": "AWS::EKS::Cluster", "Properties": {}}
    with pytest.raises(botocore.exceptions.ClientError, match="AWS::EKS::Cluster"):
        stack.create(template(Cluster=cluster))
    with pytest.raises(botocore.exceptions.ClientError, match="does not exist"):
        stack.outputs()


def test_fails_an_alarm_that_cannot_be_evaluated_by_its_functions_name(cloud: CloudProcess) -> None:
    alarm = {
        "Type": "AWS::CloudWatch::Alarm",
        "Properties": {
            "ComparisonOperator": "GreaterThanThreshold",
            "EvaluationPeriods": 1,
            "Threshold": 5,
            "Metrics": [{"Id": "e", "Expression": "RATE(requests)"}, _metric("requests", "t")],
        },
    }
    stack = Stack(cloud, "unknown-function")
    with pytest.raises(botocore.exceptions.WaiterError):
        stack.create(template(Alarm=alarm))
    assert "RATE is not evaluated" in stack.reason()


def test_a_failed_launch_rolls_the_stack_back_and_leaves_nothing(cloud: CloudProcess) -> None:
    request = {"account": ACCOUNT, "region": REGION}
    stack = Stack(cloud, "no-capacity")
    cloud.admin("faults", {**request, "insufficient_capacity": ["ml.inf2.24xlarge"]})
    try:
        with pytest.raises(botocore.exceptions.WaiterError):
            stack.create(template())
    finally:
        cloud.admin("faults", {**request, "insufficient_capacity": []})
    assert "InsufficientInstanceCapacity" in stack.reason()
    [described] = stack.cloudformation.describe_stacks(StackName="no-capacity")["Stacks"]
    assert described["StackStatus"] == "ROLLBACK_COMPLETE"
    endpoints = client(cloud.endpoint, "sagemaker").list_endpoints(NameContains="no-capacity")["Endpoints"]
    assert endpoints == []
