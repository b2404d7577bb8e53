"""What a fake AWS holds of the probes about inference components, stacks, queues and keys."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from support_fake_aws import ACCOUNT, AwsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from support_fake_aws import Resources

REGION = "us-east-1"
METRICS = {
    "/aws/sagemaker/Endpoints": "CPUUtilization",
    "/aws/sagemaker/InferenceComponents": "CPUUtilization",
}


class Components:
    """A stack with a component; the attributes say how AWS is to behave."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.refuses: dict[str, str] = {
            "CreateEndpointConfig": "ExecutionRoleArn: a role is needed",
            "CreateInferenceComponent": "copy count has to be larger than 0",
            "DeleteEndpoint": "endpoint hosts inference components",
        }
        self.lower_case_arn = False
        self.finds_any_case = False
        self.rolls_back = False
        self.update_resets_copies = False
        self.stack_status = "_COMPLETE"
        self.after_failed_update = ("InService", "the container did not start")
        # As long as what is captured takes to be written, and what of the template's copies is passed on.
        self.captures = self.stack_sets_copies = self.stays_itself = True
        self.arriving: int | None = None
        self.made = 0
        self.copies = 1
        self.specification: dict[str, Any] = {}
        self.state = ("InService", "")
        self._install()

    def _install(self) -> None:
        answers = self.resources.fake.answers
        answers["cloudformation", "CreateStack"] = self._create_stack
        answers["cloudformation", "UpdateStack"] = self._update_stack
        answers["cloudformation", "DescribeStacks"] = self._describe_stacks
        answers["cloudformation", "DeleteStack"] = self._delete_stack
        answers["sagemaker", "UpdateInferenceComponent"] = self._update
        answers["sagemaker", "UpdateInferenceComponentRuntimeConfig"] = self._scale
        answers["sagemaker", "DescribeInferenceComponent"] = self._describe
        for operation in self.refuses:
            answers["sagemaker", operation] = self._guarded(operation, answers["sagemaker", operation])
        answers["logs", "FilterLogEvents"] = self._log
        answers["s3", "ListObjectsV2"] = lambda _: {"Contents": [{"Key": key} for key in self._keys()]}
        answers["cloudwatch", "ListMetrics"] = lambda p: {
            "Metrics": [{"MetricName": METRICS[p["Namespace"]]}] if p["Namespace"] in METRICS else []
        }

    def _guarded(
        self, operation: str, real: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> Callable[[dict[str, Any]], dict[str, Any]]:
        def answer(parameters: dict[str, Any]) -> dict[str, Any]:
            wrong = {
                "CreateEndpointConfig": "ExecutionRoleArn" not in parameters,
                "CreateInferenceComponent": parameters.get("RuntimeConfig") == {"CopyCount": 0},
                "DeleteEndpoint": bool(self.resources.live["Stack"]),
            }
            if wrong[operation] and self.refuses[operation]:
                raise AwsError("ValidationException", self.refuses[operation])
            return real(parameters)

        return answer

    def _keys(self) -> list[str]:
        asked = "InvokeEndpoint" in self.resources.fake.operations("sagemaker-runtime")
        return [
            "model.tar.gz",
            *(["captured/e/probe/2026/01/01/00/a.jsonl"] if asked and self.captures else []),
        ]

    def _log(self, parameters: dict[str, Any]) -> dict[str, Any]:
        created = [
            p for _, operation, p in self.resources.fake.calls if operation == "CreateInferenceComponent"
        ]
        given = [
            name
            for asked in created
            if parameters["logGroupName"].endswith(asked["InferenceComponentName"])
            for name in asked["Specification"]["Container"]["Environment"]
            if name.startswith("TOKENMILL_FILLER_")
        ]
        printed = {"Run": "r", "Fillers": len(given) if self.arriving is None else self.arriving}
        return {"events": [{"message": "started"}, {"message": json.dumps(printed)}]}

    def _arn(self, name: str) -> str:
        shown = name.lower() if self.lower_case_arn else name
        return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:inference-component/{shown}"

    def _properties(self, parameters: dict[str, Any]) -> dict[str, Any]:
        template = json.loads(parameters["TemplateBody"])
        properties: dict[str, Any] = template["Resources"]["Component"]["Properties"]
        assert properties["InferenceComponentName"] == parameters["StackName"]
        return properties

    def _create_stack(self, parameters: dict[str, Any]) -> dict[str, Any]:
        properties = self._properties(parameters)
        self.specification, self.copies = (
            properties["Specification"],
            properties["RuntimeConfig"]["CopyCount"],
        )
        self.resources.create("Stack", parameters["StackName"])
        self.action = "CREATE"
        return {"StackId": "stack"}

    def _update_stack(self, parameters: dict[str, Any]) -> dict[str, Any]:
        properties = self._properties(parameters)
        alone = self.specification == properties["Specification"]
        self.specification, self.action = properties["Specification"], "UPDATE"
        if self.update_resets_copies or (alone and self.stack_sets_copies):
            self.copies = properties["RuntimeConfig"]["CopyCount"]
        self.made += not self.stays_itself
        return {"StackId": "stack"}

    def _describe_stacks(self, parameters: dict[str, Any]) -> dict[str, Any]:
        name = parameters["StackName"]
        if name not in self.resources.live["Stack"]:
            raise AwsError("ValidationError", f"Stack with id {name} does not exist")
        output = {"OutputKey": "Arn", "OutputValue": self._arn(name)}
        status = f"{self.action}{self.stack_status}"
        stack = {"StackName": name, "CreationTime": "2026-01-01T00:00:00Z", "StackStatus": status}
        return {"Stacks": [{**stack, "Outputs": [output]}]}

    def _delete_stack(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.resources.live["Stack"].discard(parameters["StackName"])
        return {}

    def _exists(self, name: str) -> None:
        if name not in self.resources.live["Stack"] | self.resources.live["InferenceComponent"]:
            raise AwsError("ValidationException", f"Could not find inference component {name}")

    def _describe(self, parameters: dict[str, Any]) -> dict[str, Any]:
        name = parameters["InferenceComponentName"]
        if self.finds_any_case:
            stacks = {stack.lower(): stack for stack in self.resources.live["Stack"]}
            name = stacks.get(name.lower(), name)
        self._exists(name)
        status, reason = self.state
        return {
            "InferenceComponentName": name,
            "InferenceComponentStatus": status,
            "CreationTime": f"2026-01-01T00:00:{self.made:02}Z",
            "RuntimeConfig": {"DesiredCopyCount": self.copies, "CurrentCopyCount": self.copies},
            "Specification": self.specification,
            **({"FailureReason": reason} if reason else {}),
        }

    def _update(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self._exists(parameters["InferenceComponentName"])
        self.state = self.after_failed_update
        if self.state == ("InService", "") and not self.rolls_back:
            self.specification = parameters["Specification"]
        return {"InferenceComponentArn": self._arn(parameters["InferenceComponentName"])}

    def _scale(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self._exists(parameters["InferenceComponentName"])
        self.copies = parameters["DesiredRuntimeConfig"]["CopyCount"]
        return {"InferenceComponentArn": self._arn(parameters["InferenceComponentName"])}


class Queues:
    """A rule, a queue and a key; `delivers` and `failures` say what becomes of an event."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.delivers = True
        self.failures = 0.0
        self.keys: dict[str, str] = {}
        answers = resources.fake.answers
        answers["kms", "CreateKey"] = self._create_key
        answers["kms", "ListKeys"] = lambda _: {"Keys": [{"KeyId": "theirs"}, *self._ids()]}
        answers["kms", "DescribeKey"] = self._describe_key
        answers["kms", "ScheduleKeyDeletion"] = self._delete_key
        answers["sqs", "CreateQueue"] = self._create_queue
        answers["sqs", "GetQueueUrl"] = self._queue_url
        answers["sqs", "ReceiveMessage"] = self._receive
        answers["sqs", "DeleteQueue"] = lambda p: (
            resources.live["Queue"].discard(p["QueueUrl"].rpartition("/")[2]) or {}
        )
        answers["events", "PutRule"] = lambda p: resources.create("Rule", p["Name"]) or {}
        answers["events", "PutTargets"] = lambda _: {"FailedEntryCount": 0}
        answers["events", "PutEvents"] = lambda _: {"FailedEntryCount": 0}
        answers["events", "ListTargetsByRule"] = lambda _: {"Targets": [{"Id": "function", "Arn": "arn"}]}
        answers["events", "RemoveTargets"] = lambda _: {"FailedEntryCount": 0}
        answers["events", "DeleteRule"] = lambda p: resources.live["Rule"].discard(p["Name"]) or {}
        answers["cloudwatch", "GetMetricStatistics"] = lambda p: {
            "Datapoints": [{"Sum": self.failures}] if p["MetricName"].startswith("InvocationsFailed") else []
        }

    def _ids(self) -> list[dict[str, str]]:
        return [{"KeyId": key} for key in self.keys]

    def _create_key(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.keys["ours"] = parameters["Description"]
        self.resources.create("Key", "ours")
        return {"KeyMetadata": {"KeyId": "ours"}}

    def _describe_key(self, parameters: dict[str, Any]) -> dict[str, Any]:
        key = parameters["KeyId"]
        if key == "theirs":
            raise AwsError("AccessDeniedException", "not yours")
        state = "Enabled" if key in self.resources.live["Key"] else "PendingDeletion"
        return {"KeyMetadata": {"KeyId": key, "Description": self.keys[key], "KeyState": state}}

    def _delete_key(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.resources.live["Key"].remove(parameters["KeyId"])
        return {}

    def _create_queue(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.resources.create("Queue", parameters["QueueName"])
        return {"QueueUrl": f"{self.resources.fake.url}/{ACCOUNT}/{parameters['QueueName']}"}

    def _queue_url(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if parameters["QueueName"] not in self.resources.live["Queue"]:
            raise AwsError("AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist.")
        return {"QueueUrl": f"{self.resources.fake.url}/{ACCOUNT}/{parameters['QueueName']}"}

    def _receive(self, _: dict[str, Any]) -> dict[str, Any]:
        if not self.delivers:
            return {}
        attributes = {"ERROR_CODE": {"StringValue": "NO_PERMISSIONS", "DataType": "String"}}
        return {"Messages": [{"Body": "{}", "MessageAttributes": attributes}]}
