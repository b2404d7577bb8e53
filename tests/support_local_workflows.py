"""Helpers of the tests of workflows in a cloud process: buckets, objects, state machines, stacks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from support_local import ROLE, client
from tokenmill.local.processes import wait_until

if TYPE_CHECKING:
    from tokenmill.local.cloud_process import CloudProcess

SECONDS = 20.0


def new_bucket(cloud: CloudProcess) -> str:
    """A bucket of one test."""
    name = f"work-{uuid4().hex[:8]}"
    client(cloud.endpoint, "s3").create_bucket(Bucket=name)
    return name


def put(cloud: CloudProcess, bucket: str, key: str, body: Any) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    client(cloud.endpoint, "s3").put_object(Bucket=bucket, Key=key, Body=raw)


def get(cloud: CloudProcess, bucket: str, key: str) -> Any:
    return json.loads(client(cloud.endpoint, "s3").get_object(Bucket=bucket, Key=key)["Body"].read())


def keys(cloud: CloudProcess, bucket: str) -> list[str]:
    found = client(cloud.endpoint, "s3").list_objects_v2(Bucket=bucket)
    return [entry["Key"] for entry in found.get("Contents", [])]


def run(cloud: CloudProcess, states: dict[str, Any], given: Any = None) -> dict[str, Any]:
    """Run a state machine to its end; return its execution."""
    machine = client(cloud.endpoint, "stepfunctions")
    definition = {"StartAt": next(iter(states)), "States": states}
    arn = machine.create_state_machine(
        name=f"m-{uuid4().hex[:8]}", definition=json.dumps(definition), roleArn=ROLE
    )["stateMachineArn"]
    execution = machine.start_execution(stateMachineArn=arn, input=json.dumps(given or {}))["executionArn"]

    def ended() -> bool:
        return bool(machine.describe_execution(executionArn=execution)["status"] != "RUNNING")

    assert wait_until(ended, SECONDS)
    return dict(machine.describe_execution(executionArn=execution))


def output(execution: dict[str, Any]) -> Any:
    assert execution["status"] == "SUCCEEDED", execution
    return json.loads(execution["output"])


def function(source: str, **environment: Any) -> dict[str, Any]:
    return {
        "Type": "AWS::Lambda::Function",
        "Properties": {
            "Code": {"ZipFile": source},
            "Handler": "index.handler",
            "Runtime": "python3.12",
            "Role": ROLE,
            "Timeout": 60,
            "Environment": {"Variables": environment},
        },
    }


class Stack:
    """A stack that ends as it ends."""

    def __init__(self, cloud: CloudProcess, name: str) -> None:
        self.cloudformation, self.name = client(cloud.endpoint, "cloudformation"), name

    def describe(self) -> dict[str, Any]:
        return dict(self.cloudformation.describe_stacks(StackName=self.name)["Stacks"][0])

    def create(self, template: dict[str, Any]) -> dict[str, Any]:
        self.cloudformation.create_stack(StackName=self.name, TemplateBody=json.dumps(template))
        assert wait_until(lambda: not self.describe()["StackStatus"].endswith("_IN_PROGRESS"), SECONDS)
        return self.describe()

    def reasons(self) -> str:
        events = self.cloudformation.describe_stack_events(StackName=self.name)["StackEvents"]
        return " ".join(event.get("ResourceStatusReason", "") for event in events)

    def delete(self) -> None:
        self.cloudformation.delete_stack(StackName=self.name)
        self.cloudformation.get_waiter("stack_delete_complete").wait(
            StackName=self.name, WaiterConfig={"Delay": 1, "MaxAttempts": 20}
        )
