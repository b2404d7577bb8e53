"""What a fake AWS holds of queues, rules, stacks, builds, state machines and scalable targets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from support_fake_aws import ACCOUNT, AwsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from support_fake_aws import Resources

REGION = "us-east-1"


class Mail:
    """Queues, rules and topics; `post` puts a message where the next look finds it."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.waiting: list[dict[str, Any]] = []
        answers = resources.fake.answers
        answers["sqs", "CreateQueue"] = self._create_queue
        answers["sqs", "GetQueueUrl"] = lambda p: {"QueueUrl": self._url(p["QueueName"])}
        answers["sqs", "ReceiveMessage"] = self._receive
        answers["sqs", "DeleteMessage"] = lambda _: {}
        answers["sqs", "DeleteQueue"] = lambda p: (
            resources.live["Queue"].discard(p["QueueUrl"].rpartition("/")[2]) or {}
        )
        answers["events", "PutRule"] = lambda p: resources.create("Rule", p["Name"]) or {}
        answers["events", "PutTargets"] = lambda _: {"FailedEntryCount": 0}
        answers["events", "ListTargetsByRule"] = lambda _: {"Targets": [{"Id": "inbox", "Arn": "arn"}]}
        answers["events", "RemoveTargets"] = lambda _: {"FailedEntryCount": 0}
        answers["events", "DeleteRule"] = lambda p: resources.live["Rule"].discard(p["Name"]) or {}
        answers["sns", "CreateTopic"] = self._create_topic
        answers["sns", "Subscribe"] = lambda _: {"SubscriptionArn": "subscription"}
        answers["sns", "DeleteTopic"] = lambda p: (
            resources.live["Topic"].discard(p["TopicArn"].rpartition(":")[2]) or {}
        )

    def post(self, message: dict[str, Any]) -> None:
        self.waiting.append(message)

    def _url(self, name: str) -> str:
        return f"{self.resources.fake.url}/{ACCOUNT}/{name}"

    def _create_queue(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.resources.create("Queue", parameters["QueueName"])
        return {"QueueUrl": self._url(parameters["QueueName"])}

    def _create_topic(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.resources.create("Topic", parameters["Name"])
        return {"TopicArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:{parameters['Name']}"}

    def _receive(self, _: dict[str, Any]) -> dict[str, Any]:
        taken, self.waiting = self.waiting, []
        return {"Messages": [{"Body": json.dumps(message), "ReceiptHandle": "r"} for message in taken]}


class Stacks:
    """Stacks by name; `ends` says how the next creations and updates end, `changed` is told of each."""

    def __init__(self, resources: Resources, changed: Callable[[str, dict[str, Any]], None]) -> None:
        self.resources = resources
        self.changed = changed
        self.ends = {"CREATE": "CREATE_COMPLETE", "UPDATE": "UPDATE_COMPLETE"}
        self.status: dict[str, str] = {}
        self.events: list[tuple[str, str]] = []
        answers = resources.fake.answers
        answers["cloudformation", "CreateStack"] = self._create
        answers["cloudformation", "UpdateStack"] = self._update
        answers["cloudformation", "DescribeStacks"] = self._describe
        answers["cloudformation", "DeleteStack"] = self._delete
        answers["cloudformation", "DescribeStackEvents"] = self._events

    def _create(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.resources.create("Stack", parameters["StackName"])
        return self._change("CREATE", parameters)

    def _update(self, parameters: dict[str, Any]) -> dict[str, Any]:
        return self._change("UPDATE", parameters)

    def _change(self, action: str, parameters: dict[str, Any]) -> dict[str, Any]:
        name = parameters["StackName"]
        self.status[name] = self.ends[action]
        self.changed(name, json.loads(parameters["TemplateBody"])["Resources"])
        return {"StackId": f"id-of-{name}"}

    def _describe(self, parameters: dict[str, Any]) -> dict[str, Any]:
        name = parameters["StackName"]
        if name not in self.resources.live["Stack"]:
            raise AwsError("ValidationError", f"Stack with id {name} does not exist")
        stack = {"StackName": name, "StackId": f"id-of-{name}", "CreationTime": "2026-01-01T00:00:00Z"}
        return {"Stacks": [{**stack, "StackStatus": self.status[name]}]}

    def _delete(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.resources.live["Stack"].discard(parameters["StackName"])
        self.resources.live["InferenceComponent"].discard(parameters["StackName"])
        return {}

    def _events(self, _: dict[str, Any]) -> dict[str, Any]:
        common = {"StackId": "id", "EventId": "e", "StackName": "s", "Timestamp": "2026-01-01T00:00:00Z"}
        newest_first = [
            {**common, "LogicalResourceId": resource, "ResourceStatus": status}
            for resource, status in reversed(self.events)
        ]
        return {"StackEvents": newest_first}


class Builds:
    """Build projects; `end` turns a build that was started into what BatchGetBuilds says of it."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.started: list[dict[str, Any]] = []
        self.end: Callable[[dict[str, Any]], dict[str, Any]] = lambda _: {"buildStatus": "SUCCEEDED"}
        answers = resources.fake.answers
        answers["codebuild", "CreateProject"] = self._create
        answers["codebuild", "StartBuild"] = self._start
        answers["codebuild", "BatchGetBuilds"] = self._describe
        answers["codebuild", "DeleteProject"] = lambda p: resources.live["Project"].discard(p["name"]) or {}

    def _create(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.resources.create("Project", parameters["name"])
        return {"project": {"name": parameters["name"]}}

    def _start(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.started.append(parameters)
        return {"build": {"id": f"{parameters['projectName']}:{len(self.started)}"}}

    def _describe(self, parameters: dict[str, Any]) -> dict[str, Any]:
        (build,) = parameters["ids"]
        asked = self.started[int(build.rpartition(":")[2]) - 1]
        return {"builds": [{"id": build, **self.end(asked)}]}


class Machines:
    """State machines whose executions end as `end` says of their task."""

    def __init__(self, resources: Resources, end: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.resources = resources
        self.end = end
        self.tasks: dict[str, dict[str, Any]] = {}
        answers = resources.fake.answers
        answers["stepfunctions", "CreateStateMachine"] = self._create
        answers["stepfunctions", "StartExecution"] = lambda p: {
            "executionArn": p["stateMachineArn"].replace("stateMachine", "execution") + ":1",
            "startDate": 1,
        }
        answers["stepfunctions", "DescribeExecution"] = self._describe
        answers["stepfunctions", "DescribeStateMachine"] = self._machine
        answers["stepfunctions", "DeleteStateMachine"] = lambda p: (
            resources.live["Machine"].discard(p["stateMachineArn"].rpartition(":")[2]) or {}
        )

    def _create(self, parameters: dict[str, Any]) -> dict[str, Any]:
        name = parameters["name"]
        self.resources.create("Machine", name)
        document = json.loads(parameters["definition"])
        self.tasks[name] = document["States"][document["StartAt"]]
        return {
            "stateMachineArn": f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{name}",
            "creationDate": 1,
        }

    def _describe(self, parameters: dict[str, Any]) -> dict[str, Any]:
        name = parameters["executionArn"].split(":")[-2]
        common = {"executionArn": parameters["executionArn"], "stateMachineArn": "arn", "startDate": 1}
        return {**common, **self.end(self.tasks[name])}

    def _machine(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if parameters["stateMachineArn"].rpartition(":")[2] not in self.resources.live["Machine"]:
            raise AwsError("StateMachineDoesNotExist", "State Machine Does Not Exist")
        return {"stateMachineArn": parameters["stateMachineArn"], "name": "n", "definition": "{}"}


class Objects:
    """Objects of all buckets by key; `listed` may hide or rename them."""

    def __init__(self, resources: Resources) -> None:
        self.keys: set[str] = set()
        answers = resources.fake.answers
        answers["s3", "PutObject"] = lambda p: self.keys.add(p["Key"]) or {}
        answers["s3", "ListObjectsV2"] = self._list
        answers["s3", "DeleteObject"] = lambda p: self.keys.discard(p["Key"]) or {}

    def _list(self, parameters: dict[str, Any]) -> dict[str, Any]:
        prefix = parameters.get("Prefix", "")
        return {"Contents": [{"Key": key} for key in sorted(self.keys) if key.startswith(prefix)]}


class Targets:
    """Scalable targets of Application Auto Scaling."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        answers = resources.fake.answers
        answers["application-autoscaling", "RegisterScalableTarget"] = lambda p: (
            resources.create("Target", p["ResourceId"]) or {}
        )
        answers["application-autoscaling", "DeregisterScalableTarget"] = self._deregister
        answers["application-autoscaling", "DeleteScalingPolicy"] = lambda _: {}

    def _deregister(self, parameters: dict[str, Any]) -> dict[str, Any]:
        return self.resources.delete(
            "Target",
            parameters["ResourceId"],
            code="ObjectNotFoundException",
            message="No scalable target registered",
        )
