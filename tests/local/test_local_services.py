"""Our services through boto3 and real HTTP, in one cloud process."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import botocore.exceptions
import httpx
import pytest

from support_local import ACCOUNT, REGION, ROLE, client, listening_addresses, specification, variant
from tokenmill.local.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenmill.local.cloud_process import CloudProcess

CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}


@pytest.fixture
def served(cloud: CloudProcess) -> Iterator[tuple[str, str]]:
    """An endpoint and a component in service."""
    name = f"test-{uuid4().hex[:8]}"
    sagemaker = client(cloud.endpoint, "sagemaker")
    sagemaker.create_endpoint_config(
        EndpointConfigName=name, ExecutionRoleArn=ROLE, ProductionVariants=[variant()]
    )
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    sagemaker.get_waiter("endpoint_in_service").wait(
        EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 10}
    )
    component = f"{name}-c"
    sagemaker.create_inference_component(
        InferenceComponentName=component,
        EndpointName=name,
        VariantName="AllTraffic",
        Specification=specification(),
        RuntimeConfig={"CopyCount": 1},
    )

    def status() -> str:
        described = sagemaker.describe_inference_component(InferenceComponentName=component)
        return str(described["InferenceComponentStatus"])

    assert wait_until(lambda: status() != "Creating", 10)
    assert status() == "InService"
    yield name, component
    sagemaker.delete_inference_component(InferenceComponentName=component)
    assert wait_until(lambda: not _listed(sagemaker, component), 10)
    sagemaker.delete_endpoint(EndpointName=name)


def _listed(sagemaker: Any, component: str) -> bool:
    found = sagemaker.list_inference_components(NameContains=component)["InferenceComponents"]
    return bool(found)


def server_pid(cloud: CloudProcess, component: str) -> int:
    request = {"account": ACCOUNT, "region": REGION, "stack": ""}
    servers = cloud.admin("status", request)["model_servers"]
    return next(int(server["pid"]) for server in servers if server["component"] == component)


def running_requests(cloud: CloudProcess, component: str) -> int:
    request = {"account": ACCOUNT, "region": REGION, "stack": ""}
    servers = cloud.admin("status", request)["model_servers"]
    [url] = [server["url"] for server in servers if server["component"] == component]
    metrics = httpx.get(f"{url}/metrics", trust_env=False).text
    [line] = [line for line in metrics.splitlines() if line.startswith("vllm:num_requests_running{")]
    return int(line.rpartition(" ")[2])


def test_an_invocation_is_answered_by_the_components_model_server(
    cloud: CloudProcess, served: tuple[str, str]
) -> None:
    runtime = client(cloud.endpoint, "sagemaker-runtime")
    answer = runtime.invoke_endpoint(
        EndpointName=served[0],
        InferenceComponentName=served[1],
        ContentType="application/json",
        Body=json.dumps(CHAT),
    )
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    document = json.loads(answer["Body"].read())
    assert document["model"] == "Qwen/Qwen3-8B"
    assert document["usage"]["completion_tokens"] == 8


def test_a_stream_arrives_token_by_token(cloud: CloudProcess, served: tuple[str, str]) -> None:
    runtime = client(cloud.endpoint, "sagemaker-runtime")
    answer = runtime.invoke_endpoint_with_response_stream(
        EndpointName=served[0],
        InferenceComponentName=served[1],
        ContentType="application/json",
        Body=json.dumps({**CHAT, "stream": True, "max_tokens": 20, "ignore_eos": True}),
    )
    assert answer["ContentType"].startswith("text/event-stream")
    arrivals = [
        time.monotonic() for event in answer["Body"] if b'"content":' in event["PayloadPart"]["Bytes"]
    ]
    assert len(arrivals) >= 20
    assert arrivals[-1] - arrivals[0] > 0.3, "20 tokens of 25 ms each must not come in one piece"


def test_fails_with_424_when_the_model_process_is_dead(cloud: CloudProcess, served: tuple[str, str]) -> None:
    os.kill(server_pid(cloud, served[1]), signal.SIGKILL)
    runtime = client(cloud.endpoint, "sagemaker-runtime")

    def error() -> botocore.exceptions.ClientError | None:
        try:
            runtime.invoke_endpoint(
                EndpointName=served[0], InferenceComponentName=served[1], Body=json.dumps(CHAT)
            )
        except runtime.exceptions.ModelError as raised:
            return raised
        return None

    assert wait_until(lambda: error() is not None, 5)
    raised = error()
    assert raised is not None
    assert raised.response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert raised.response["OriginalStatusCode"] == 503
    assert "tokenmill up" in str(raised)


def test_a_stream_that_breaks_ends_with_model_stream_error(
    cloud: CloudProcess, served: tuple[str, str]
) -> None:
    runtime = client(cloud.endpoint, "sagemaker-runtime")
    answer = runtime.invoke_endpoint_with_response_stream(
        EndpointName=served[0],
        InferenceComponentName=served[1],
        Body=json.dumps({**CHAT, "stream": True, "max_tokens": 500, "ignore_eos": True}),
    )
    events = iter(answer["Body"])
    next(events)
    os.kill(server_pid(cloud, served[1]), signal.SIGKILL)
    with pytest.raises(botocore.exceptions.EventStreamError, match="ModelStreamError") as raised:
        for _ in events:
            pass
    answer["Body"].close()
    assert "went away" in str(raised.value)


def test_a_client_that_goes_away_frees_its_place_in_the_model(
    cloud: CloudProcess, served: tuple[str, str]
) -> None:
    runtime = client(cloud.endpoint, "sagemaker-runtime")
    body = runtime.invoke_endpoint_with_response_stream(
        EndpointName=served[0],
        InferenceComponentName=served[1],
        Body=json.dumps({**CHAT, "stream": True, "max_tokens": 1000, "ignore_eos": True}),
    )["Body"]
    next(iter(body))
    assert running_requests(cloud, served[1]) == 1
    body.close()
    assert wait_until(lambda: running_requests(cloud, served[1]) == 0, 3), "1000 tokens take 25 s"


@pytest.mark.parametrize(
    ("endpoint", "component", "said"),
    [
        (None, None, "Endpoint nowhere of account 000000000000 not found"),
        ("served", None, "Inference Component Name header is required"),
        ("served", "other", "Inference Component other of endpoint"),
    ],
)
def test_fails_invocations_of_what_is_not_there(
    cloud: CloudProcess, served: tuple[str, str], endpoint: str | None, component: str | None, said: str
) -> None:
    runtime = client(cloud.endpoint, "sagemaker-runtime")
    params = {"EndpointName": served[0] if endpoint else "nowhere", "Body": b"{}"}
    if component:
        params["InferenceComponentName"] = component
    with pytest.raises(runtime.exceptions.ValidationError, match=said):
        runtime.invoke_endpoint(**params)


def test_fails_at_zero_copies_and_counts_it(cloud: CloudProcess, served: tuple[str, str]) -> None:
    sagemaker, runtime = client(cloud.endpoint, "sagemaker"), client(cloud.endpoint, "sagemaker-runtime")
    sagemaker.update_inference_component_runtime_config(
        InferenceComponentName=served[1], DesiredRuntimeConfig={"CopyCount": 0}
    )

    def copies() -> int:
        described = sagemaker.describe_inference_component(InferenceComponentName=served[1])
        return int(described["RuntimeConfig"]["CurrentCopyCount"])

    assert wait_until(lambda: copies() == 0, 5)
    with pytest.raises(runtime.exceptions.ValidationError, match="has no capacity to process this request"):
        runtime.invoke_endpoint(
            EndpointName=served[0], InferenceComponentName=served[1], Body=json.dumps(CHAT)
        )
    metrics = client(cloud.endpoint, "cloudwatch").list_metrics(
        Namespace="AWS/SageMaker", MetricName="NoCapacityInvocationFailures"
    )["Metrics"]
    assert {"Name": "InferenceComponentName", "Value": served[1]} in [m["Dimensions"][0] for m in metrics]


def test_fails_a_request_that_the_model_refuses_with_its_reason(
    cloud: CloudProcess, served: tuple[str, str]
) -> None:
    runtime = client(cloud.endpoint, "sagemaker-runtime")
    body = json.dumps({**CHAT, "max_tokens": 5000})
    with pytest.raises(runtime.exceptions.ModelError, match="the context holds 2048") as raised:
        runtime.invoke_endpoint(EndpointName=served[0], InferenceComponentName=served[1], Body=body)
    assert raised.value.response["OriginalStatusCode"] == 400


def test_bedrock_converse_and_its_stream_say_the_same(cloud: CloudProcess) -> None:
    bedrock = client(cloud.endpoint, "bedrock-runtime")
    request: dict[str, Any] = {
        "modelId": "amazon.nova-lite-v1:0",
        "messages": [{"role": "user", "content": [{"text": "hello"}]}],
        "inferenceConfig": {"maxTokens": 6},
    }
    whole = bedrock.converse(**request)
    assert whole["stopReason"] == "max_tokens"
    assert whole["usage"]["outputTokens"] == 6
    events = list(bedrock.converse_stream(**request)["stream"])
    streamed = [
        event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event
    ]
    assert len(streamed) == 6
    assert "".join(streamed) == whole["output"]["message"]["content"][0]["text"]
    assert events[-1]["metadata"]["usage"] == whole["usage"]


def test_fails_a_converse_request_with_the_reason_in_plain_words(cloud: CloudProcess) -> None:
    bedrock = client(cloud.endpoint, "bedrock-runtime")
    with pytest.raises(bedrock.exceptions.ValidationException) as raised:
        bedrock.converse(modelId="amazon.nova-lite-v1:0", messages=[])
    assert raised.value.response["Error"]["Message"] == "messages must be a list with at least one message"


def test_fails_bedrock_invoke_model_instead_of_making_an_answer_up(cloud: CloudProcess) -> None:
    bedrock = client(cloud.endpoint, "bedrock-runtime")
    with pytest.raises(bedrock.exceptions.ValidationException, match="use Converse"):
        bedrock.invoke_model(modelId="amazon.titan-embed-text-v2:0", body=b"{}")


def test_registering_a_target_moves_the_copies_into_its_range(
    cloud: CloudProcess, served: tuple[str, str]
) -> None:
    scaling, sagemaker = (
        client(cloud.endpoint, "application-autoscaling"),
        client(cloud.endpoint, "sagemaker"),
    )
    key = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"inference-component/{served[1]}",
        "ScalableDimension": "sagemaker:inference-component:DesiredCopyCount",
    }
    scaling.register_scalable_target(**key, MinCapacity=2, MaxCapacity=3)

    def copies() -> int:
        described = sagemaker.describe_inference_component(InferenceComponentName=served[1])
        return int(described["RuntimeConfig"]["CurrentCopyCount"])

    assert wait_until(lambda: copies() == 2, 5)
    policy = {
        "TargetValue": 70.0,
        "PredefinedMetricSpecification": {
            "PredefinedMetricType": "SageMakerInferenceComponentInvocationsPerCopy"
        },
    }
    scaling.put_scaling_policy(
        **key,
        PolicyName="track",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=policy,
    )
    [listed] = scaling.describe_scaling_policies(ServiceNamespace="sagemaker", ResourceId=key["ResourceId"])[
        "ScalingPolicies"
    ]
    assert listed["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 70.0
    scaling.deregister_scalable_target(**key)
    assert (
        scaling.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[key["ResourceId"]])[
            "ScalableTargets"
        ]
        == []
    )
    with pytest.raises(scaling.exceptions.ObjectNotFoundException):
        scaling.deregister_scalable_target(**key)


def test_log_lines_in_the_embedded_format_become_metrics(cloud: CloudProcess) -> None:
    logs, cloudwatch = client(cloud.endpoint, "logs"), client(cloud.endpoint, "cloudwatch")
    logs.create_log_group(logGroupName="/emf")
    logs.create_log_stream(logGroupName="/emf", logStreamName="s")
    now = int(time.time() * 1000)
    directive = {
        "Namespace": "probe",
        "Dimensions": [["Target"]],
        "Metrics": [{"Name": "Work", "Unit": "Seconds"}],
    }
    document = {
        "_aws": {"Timestamp": now, "CloudWatchMetrics": [directive]},
        "Target": "t",
        "Work": 1.5,
    }
    events = [{"timestamp": now, "message": json.dumps(document)}] * 2
    logs.put_log_events(logGroupName="/emf", logStreamName="s", logEvents=events)
    points = cloudwatch.get_metric_statistics(
        Namespace="probe",
        MetricName="Work",
        Dimensions=[{"Name": "Target", "Value": "t"}],
        StartTime=time.time() - 300,
        EndTime=time.time() + 60,
        Period=3600,
        Statistics=["Sum"],
    )["Datapoints"]
    assert sum(point["Sum"] for point in points) == 3.0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{nope", "the body is not JSON"),
        (b"{}", "faults takes"),
        (b'{"account": "1", "region": "r", "insufficient_capacity": "ml.inf2.24xlarge"}', "faults takes"),
    ],
)
def test_fails_faults_that_it_cannot_read(cloud: CloudProcess, body: bytes, said: str) -> None:
    answer = httpx.post(f"{cloud.endpoint}/_tokenmill/faults", content=body, trust_env=False)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_an_alarm_that_cannot_be_evaluated_says_so_and_does_not_stop_the_others(cloud: CloudProcess) -> None:
    cloudwatch = client(cloud.endpoint, "cloudwatch")
    name = f"alarm-{uuid4().hex[:8]}"
    common: dict[str, Any] = {
        "EvaluationPeriods": 1, "Period": 60, "Namespace": name, "MetricName": "m",
        "Statistic": "Sum", "TreatMissingData": "breaching",
    }  # fmt: skip
    cloudwatch.put_metric_alarm(
        AlarmName=f"{name}-1", ComparisonOperator="GreaterThanUpperThreshold", Threshold=1.0, **common
    )
    cloudwatch.put_metric_alarm(
        AlarmName=f"{name}-2", ComparisonOperator="GreaterThanThreshold", Threshold=1.0, **common
    )
    cloudwatch.set_alarm_state(AlarmName=f"{name}-2", StateValue="OK", StateReason="test")

    def alarm(number: int) -> dict[str, Any]:
        [found] = cloudwatch.describe_alarms(AlarmNames=[f"{name}-{number}"])["MetricAlarms"]
        return dict(found)

    assert wait_until(lambda: alarm(2)["StateValue"] == "ALARM", 12), "alarms are evaluated every 5 s"
    assert alarm(1)["StateValue"] == "INSUFFICIENT_DATA"
    assert "GreaterThanUpperThreshold" in alarm(1)["StateReason"]


def test_only_the_loopback_interface_is_listened_on(cloud: CloudProcess) -> None:
    """No socket of the cloud's group is bound to anything but 127.0.0.1."""
    addresses = listening_addresses(cloud.pid)
    assert addresses
    assert {address for address, _ in addresses} == {"127.0.0.1"}
