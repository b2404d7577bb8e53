"""Bedrock in stacks and state machines, and what its custom resources rely on."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from botocore.exceptions import ClientError

from support_local import ACCOUNT, REGION, ROLE, client
from support_local_workflows import Stack, function, new_bucket, output, put, run
from tokenmill.local.processes import wait_until

if TYPE_CHECKING:
    from tokenmill.local.cloud_process import CloudProcess

MODEL = "amazon.nova-lite-v1:0"
MODEL_ARN = f"arn:aws:bedrock:{REGION}::foundation-model/{MODEL}"
OTHER_ARN = f"arn:aws:bedrock:{REGION}::foundation-model/amazon.nova-pro-v1:0"
SDK = "arn:aws:states:::aws-sdk:"
SECONDS = 20.0


def resources(word: str, source: str = MODEL_ARN) -> dict[str, Any]:
    guardrail = {
        "Name": "stack-guardrail",
        "BlockedInputMessaging": "NO INPUT",
        "BlockedOutputsMessaging": "NO OUTPUT",
        "WordPolicyConfig": {"WordsConfig": [{"Text": word}]},
        "Tags": [{"Key": "team", "Value": "search"}],
    }
    variant = {
        "Name": "main",
        "TemplateType": "TEXT",
        "ModelId": MODEL,
        "TemplateConfiguration": {
            "Text": {"Text": f"{word}: {{{{question}}}}", "InputVariables": [{"Name": "question"}]}
        },
        "InferenceConfiguration": {"Text": {"MaxTokens": "20"}},
    }
    router = {
        "PromptRouterName": "stack router",
        "Models": [{"ModelArn": MODEL_ARN}, {"ModelArn": OTHER_ARN}],
        "FallbackModel": {"ModelArn": OTHER_ARN},
        "RoutingCriteria": {"ResponseQualityDifference": 10},
    }
    prompt = {"Name": "stack-prompt", "DefaultVariant": "main", "Variants": [variant], "Tags": {"a": "b"}}
    profile = {
        "InferenceProfileName": "stack profile",
        "ModelSource": {"CopyFrom": source},
        "Tags": [{"Key": "team", "Value": "search"}],
    }
    made: dict[str, tuple[str, dict[str, Any]]] = {
        "Profile": ("ApplicationInferenceProfile", profile),
        "Router": ("IntelligentPromptRouter", router),
        "Guardrail": ("Guardrail", guardrail),
        f"Version{word}": (
            "GuardrailVersion",
            {"GuardrailIdentifier": {"Ref": "Guardrail"}, "Description": word},
        ),
        "Prompt": ("Prompt", prompt),
        f"PromptVersion{word}": ("PromptVersion", {"PromptArn": {"Ref": "Prompt"}}),
    }
    return {
        name: {"Type": f"AWS::Bedrock::{kind}", "Properties": given} for name, (kind, given) in made.items()
    }


def template(word: str, **more: Any) -> dict[str, Any]:
    outputs = {
        "Profile": {"Fn::GetAtt": ["Profile", "InferenceProfileArn"]},
        "ProfileId": {"Fn::GetAtt": ["Profile", "InferenceProfileId"]},
        "Router": {"Ref": "Router"},
        "Guardrail": {"Fn::GetAtt": ["Guardrail", "GuardrailId"]},
        "Version": {"Fn::GetAtt": [f"Version{word}", "Version"]},
        "Prompt": {"Ref": f"PromptVersion{word}"},
    }
    shown = {name: {"Value": value} for name, value in outputs.items()}
    return {"Resources": resources(word, **more), "Outputs": shown}


def outputs_of(stack: Stack) -> dict[str, str]:
    return {entry["OutputKey"]: entry["OutputValue"] for entry in stack.describe().get("Outputs", [])}


def test_bedrocks_types_live_in_a_stack(cloud: CloudProcess) -> None:
    """Every type is created, used at run time by what its attributes give, changed and deleted."""
    stack = Stack(cloud, f"bedrock-{uuid4().hex[:8]}")
    assert stack.create(template("alpha"))["StackStatus"] == "CREATE_COMPLETE", stack.reasons()
    first = outputs_of(stack)
    runtime, bedrock = client(cloud.endpoint, "bedrock-runtime"), client(cloud.endpoint, "bedrock")
    assert first["Profile"].endswith(f"application-inference-profile/{first['ProfileId']}")
    asked = {
        "messages": [{"role": "user", "content": [{"text": "alpha"}]}],
        "inferenceConfig": {"maxTokens": 3},
    }
    assert runtime.converse(modelId=first["Profile"], **asked)["usage"]["outputTokens"] == 3
    assert runtime.converse(modelId=first["Router"], **asked)["trace"]["promptRouter"]
    config = {"guardrailIdentifier": first["Guardrail"], "guardrailVersion": first["Version"]}
    blocked = runtime.converse(modelId=MODEL, guardrailConfig=config, **asked)
    assert blocked["stopReason"] == "guardrail_intervened"
    variables = {"question": {"text": "why?"}}
    answer = runtime.converse(modelId=first["Prompt"], promptVariables=variables)
    assert "alpha: why?" in answer["output"]["message"]["content"][0]["text"]

    stack.cloudformation.update_stack(StackName=stack.name, TemplateBody=json.dumps(template("beta")))
    assert wait_until(lambda: stack.describe()["StackStatus"] == "UPDATE_COMPLETE", SECONDS), stack.reasons()
    second = outputs_of(stack)
    assert second["Guardrail"] == first["Guardrail"], "a guardrail changes in place"
    assert (first["Version"], second["Version"]) == ("1", "2")
    assert second["Prompt"].endswith(":2")
    assert second["Profile"] == first["Profile"]
    with pytest.raises(ClientError, match="has no version 1"):
        bedrock.get_guardrail(guardrailIdentifier=first["Guardrail"], guardrailVersion="1")
    tags = bedrock.list_tags_for_resource(resourceARN=second["Profile"])["tags"]
    assert {"key": "team", "value": "search"} in tags

    stack.delete()
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        bedrock.get_guardrail(guardrailIdentifier=first["Guardrail"])


def test_what_bedrock_refuses_rolls_the_stack_back(cloud: CloudProcess) -> None:
    """The service's sentence is the stack event's, and nothing stays."""
    stack = Stack(cloud, f"bedrock-{uuid4().hex[:8]}")
    source = f"arn:aws:bedrock:{REGION}:{ACCOUNT}:inference-profile/eu.{MODEL}"
    described = stack.create(template("gamma", source=source))
    assert described["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "eu." in stack.reasons()
    assert client(cloud.endpoint, "bedrock").list_prompt_routers()["promptRouterSummaries"] == []


def test_step_functions_calls_bedrock_as_an_sdk_does(cloud: CloudProcess) -> None:
    """Members begin with capital letters both ways, and errors are Bedrock's names."""
    name = f"states-{uuid4().hex[:6]}"
    states = {
        "Make": {
            "Type": "Task",
            "Resource": f"{SDK}bedrock:createInferenceProfile",
            "Parameters": {
                "InferenceProfileName": name,
                "ModelSource": {"CopyFrom": MODEL_ARN},
                "Tags": [{"Key": "team", "Value": "a"}],
            },
            "ResultPath": "$.made",
            "Next": "Get",
        },
        "Get": {
            "Type": "Task",
            "Resource": f"{SDK}bedrock:getInferenceProfile",
            "Parameters": {"InferenceProfileIdentifier.$": "$.made.InferenceProfileArn"},
            "ResultPath": "$.got",
            "Next": "Missing",
        },
        "Missing": {
            "Type": "Task",
            "Resource": f"{SDK}bedrock:getModelImportJob",
            "Parameters": {"JobIdentifier": "none-such"},
            "Catch": [
                {"ErrorEquals": ["Bedrock.ResourceNotFoundException"], "ResultPath": "$.error", "Next": "Ask"}
            ],
            "End": True,
        },
        "Ask": {
            "Type": "Task",
            "Resource": "arn:aws:states:::bedrock:invokeModel",
            "Parameters": {
                "ModelId": MODEL,
                "Body": {
                    "messages": [{"role": "user", "content": [{"text": "Hello"}]}],
                    "inferenceConfig": {"maxTokens": 3},
                },
            },
            "ResultPath": "$.answer",
            "End": True,
        },
    }
    result = output(run(cloud, states))
    assert result["got"]["InferenceProfileName"] == name
    assert result["got"]["CreatedAt"].startswith("20")
    assert result["got"]["Models"] == [{"ModelArn": MODEL_ARN}]
    assert result["error"]["Error"] == "Bedrock.ResourceNotFoundException"
    assert result["answer"]["Body"]["usage"]["outputTokens"] == 3


def test_a_customization_is_waited_for(cloud: CloudProcess) -> None:
    """createModelCustomizationJob.sync ends when the job has; the model it made is deployed and answers."""
    bucket, name = new_bucket(cloud), f"tuned-{uuid4().hex[:6]}"
    put(cloud, bucket, "train.jsonl", b"{}\n")
    states = {
        "Tune": {
            "Type": "Task",
            "Resource": "arn:aws:states:::bedrock:createModelCustomizationJob.sync",
            "Parameters": {
                "JobName": name,
                "CustomModelName": name,
                "RoleArn": ROLE,
                "BaseModelIdentifier": MODEL_ARN,
                "CustomizationType": "FINE_TUNING",
                "TrainingDataConfig": {"S3Uri": f"s3://{bucket}/train.jsonl"},
                "OutputDataConfig": {"S3Uri": f"s3://{bucket}/out/"},
                "HyperParameters": {"epochCount": "1"},
            },
            "ResultPath": "$.tuned",
            "Next": "Get",
        },
        "Get": {
            "Type": "Task",
            "Resource": f"{SDK}bedrock:getModelCustomizationJob",
            "Parameters": {"JobIdentifier": name},
            "End": True,
        },
    }
    model = output(run(cloud, states))["OutputModelArn"]
    bedrock, runtime = client(cloud.endpoint, "bedrock"), client(cloud.endpoint, "bedrock-runtime")
    arn = bedrock.create_custom_model_deployment(modelDeploymentName=name, modelArn=model)[
        "customModelDeploymentArn"
    ]
    get = bedrock.get_custom_model_deployment
    assert wait_until(lambda: get(customModelDeploymentIdentifier=arn)["status"] == "Active", SECONDS)
    asked = {"messages": [{"role": "user", "content": [{"text": "Hi"}]}], "inferenceConfig": {"maxTokens": 3}}
    assert runtime.converse(modelId=arn, **asked)["usage"]["outputTokens"] == 3
    bedrock.delete_custom_model_deployment(customModelDeploymentIdentifier=arn)


WAITER = """
import json, os, urllib.request
import boto3

def handler(event, context):
    bedrock = boto3.client("bedrock")
    if "Waiting" not in event and event["RequestType"] == "Delete":
        return respond(event, event["PhysicalResourceId"], {})
    if "Waiting" not in event:
        made = bedrock.create_provisioned_model_throughput(
            modelUnits=1, provisionedModelName=event["ResourceProperties"]["Name"],
            modelId="amazon.nova-lite-v1:0:300k", clientRequestToken=event["RequestId"])
        boto3.client("stepfunctions").start_execution(
            stateMachineArn=os.environ["MACHINE"], name=event["RequestId"],
            input=json.dumps({"Waiting": event | {"Arn": made["provisionedModelArn"]}}))
        return None
    waiting = event["Waiting"]
    shown = bedrock.get_provisioned_model_throughput(provisionedModelId=waiting["Arn"])
    if shown["status"] != "InService":
        return {"Done": False}
    boto3.client("ssm").put_parameter(
        Name=os.environ["HANDLE"], Value=waiting["Arn"], Type="String", Overwrite=True)
    boto3.client("cloudwatch").put_metric_alarm(
        AlarmName=waiting["ResourceProperties"]["Name"],
        Namespace="AWS/Bedrock", MetricName="InvocationThrottles",
        Dimensions=[{"Name": "ModelId", "Value": waiting["Arn"]}], Statistic="Sum", Period=60,
        EvaluationPeriods=1, Threshold=1, ComparisonOperator="GreaterThanOrEqualToThreshold")
    respond(waiting, shown["provisionedModelName"], {"Arn": waiting["Arn"]})
    return {"Done": True}

def respond(event, physical_id, data):
    body = {"Status": "SUCCESS", "PhysicalResourceId": physical_id, "StackId": event["StackId"],
            "RequestId": event["RequestId"], "LogicalResourceId": event["LogicalResourceId"], "Data": data}
    url, raw = event["ResponseURL"], json.dumps(body).encode()
    request = urllib.request.Request(url, raw, {"content-type": ""}, method="PUT")
    urllib.request.urlopen(request, timeout=10).read()
    return {"Done": True}
"""


def waiting_stack(name: str) -> dict[str, Any]:
    machine_arn = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{name}"
    definition = {
        "StartAt": "Wait",
        "States": {
            "Wait": {"Type": "Wait", "Seconds": 1, "Next": "Look"},
            "Look": {
                "Type": "Task",
                "Resource": "arn:aws:states:::lambda:invoke",
                "Parameters": {"FunctionName": "FUNCTION", "Payload.$": "$"},
                "ResultPath": "$.looked",
                "Next": "Done?",
            },
            "Done?": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.looked.Payload.Done", "BooleanEquals": True, "Next": "End"}],
                "Default": "Wait",
            },
            "End": {"Type": "Succeed"},
        },
    }
    text = json.dumps(definition).split("FUNCTION")
    joined = {"Fn::Join": ["", [text[0], {"Fn::GetAtt": ["Handler", "Arn"]}, text[1]]]}
    return {
        "Resources": {
            "Handler": function(WAITER, MACHINE=machine_arn, HANDLE=f"/{name}/handle"),
            "Machine": {
                "Type": "AWS::StepFunctions::StateMachine",
                "Properties": {"StateMachineName": name, "RoleArn": ROLE, "DefinitionString": joined},
            },
            "Units": {
                "Type": "Custom::Units",
                "DependsOn": "Machine",
                "Properties": {
                    "ServiceToken": {"Fn::GetAtt": ["Handler", "Arn"]},
                    "ServiceTimeout": "60",
                    "Name": name,
                },
            },
        },
        "Outputs": {"Arn": {"Value": {"Fn::GetAtt": ["Units", "Arn"]}}},
    }


def test_a_custom_resource_waits_in_a_state_machine(cloud: CloudProcess) -> None:
    """A stack's function buys units, its waiter loops until they serve, and answers CloudFormation itself."""
    name = f"waited-{uuid4().hex[:6]}"
    stack = Stack(cloud, name)
    assert stack.create(waiting_stack(name))["StackStatus"] == "CREATE_COMPLETE", stack.reasons()
    arn = outputs_of(stack)["Arn"]
    bedrock, ssm = client(cloud.endpoint, "bedrock"), client(cloud.endpoint, "ssm")
    assert bedrock.get_provisioned_model_throughput(provisionedModelId=arn)["status"] == "InService"
    assert ssm.get_parameter(Name=f"/{name}/handle")["Parameter"]["Value"] == arn
    alarms = client(cloud.endpoint, "cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"]
    assert [alarm["MetricName"] for alarm in alarms] == ["InvocationThrottles"]
    stack.delete()
    bedrock.delete_provisioned_model_throughput(provisionedModelId=arn)


def test_a_schedule_calls_its_function(cloud: CloudProcess) -> None:
    """A one-time schedule of EventBridge Scheduler invokes a function, in the time of its time zone."""
    name = f"timed-{uuid4().hex[:6]}"
    source = (
        "import boto3\n"
        "def handler(event, context):\n"
        "    ssm = boto3.client('ssm')\n"
        "    ssm.put_parameter(Name=event['name'], Value='on', Type='String', Overwrite=True)\n"
    )
    at = (datetime.now(ZoneInfo("Asia/Tokyo")) + timedelta(seconds=2)).strftime("%Y-%m-%dT%H:%M:%S")
    schedule = {
        "Name": name,
        "ScheduleExpression": f"at({at})",
        "ScheduleExpressionTimezone": "Asia/Tokyo",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": {
            "Arn": {"Fn::GetAtt": ["Handler", "Arn"]},
            "RoleArn": ROLE,
            "Input": json.dumps({"name": f"/{name}"}),
        },
    }
    template = {
        "Resources": {
            "Handler": function(source),
            "Schedule": {"Type": "AWS::Scheduler::Schedule", "Properties": schedule},
        }
    }
    stack = Stack(cloud, name)
    assert stack.create(template)["StackStatus"] == "CREATE_COMPLETE", stack.reasons()
    ssm = client(cloud.endpoint, "ssm")

    def switched() -> bool:
        found = ssm.get_parameters(Names=[f"/{name}"])["Parameters"]
        return [entry["Value"] for entry in found] == ["on"]

    assert wait_until(switched, 30.0)
    stack.delete()
    left = client(cloud.endpoint, "scheduler").list_schedules()["Schedules"]
    assert name not in [entry["Name"] for entry in left]


def test_quotas_are_those_that_purchases_meet(cloud: CloudProcess) -> None:
    """Service Quotas shows what is applied; above it a purchase is refused; an increase can be asked for."""
    quotas, bedrock = client(cloud.endpoint, "service-quotas"), client(cloud.endpoint, "bedrock")
    name = "Model units no-commitment Provisioned Throughputs across base models"
    members = {"account": ACCOUNT, "region": REGION}
    cloud.admin("faults", {**members, "bedrock_quotas": {"base": 0}})
    [found] = [
        q for q in quotas.list_service_quotas(ServiceCode="bedrock")["Quotas"] if q["QuotaName"] == name
    ]
    assert found["Value"] == 0
    with pytest.raises(ClientError, match="ServiceQuotaExceededException"):
        bedrock.create_provisioned_model_throughput(
            modelUnits=1, provisionedModelName="none", modelId="amazon.nova-lite-v1:0:300k"
        )
    asked = {"ServiceCode": "bedrock", "QuotaCode": found["QuotaCode"]}
    assert quotas.get_service_quota(**asked)["Quota"]["QuotaName"] == name
    quotas.request_service_quota_increase(**asked, DesiredValue=2)
    [request] = quotas.list_requested_service_quota_change_history_by_quota(**asked)["RequestedQuotas"]
    assert (request["DesiredValue"], request["Status"]) == (2, "PENDING")
    cloud.admin("faults", {**members, "bedrock_quotas": {"base": 10}})


def test_faults_of_the_control_plane_are_met_once(cloud: CloudProcess) -> None:
    """A fault that is asked for befalls the next call of its operation, and no other."""
    members = {"account": ACCOUNT, "region": REGION}
    fault = {"kind": "throttled", "operation": "ListGuardrails", "times": 1}
    cloud.admin("faults", {**members, "bedrock_faults": [fault]})
    bedrock = client(cloud.endpoint, "bedrock")
    with pytest.raises(ClientError, match="ThrottlingException"):
        bedrock.list_guardrails()
    assert bedrock.list_guardrails()["guardrails"] is not None
