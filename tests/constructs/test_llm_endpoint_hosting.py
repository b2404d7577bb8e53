"""Role, network, capture and regions of an endpoint, and the metrics that SageMaker itself publishes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3

from support_stack import make_app, of_type, only, statements, template_of
from tokenmill.core.errors import TokenmillError
from tokenmill.core.workload import Capacity
from tokenmill.endpoints import (
    DataCapture,
    EndpointHosting,
    LlmEndpoint,
    ModelSource,
    Serving,
    UpdatePolicy,
    VariantEndpoint,
)

TWO = Capacity(minimum=2, maximum=6, initial=2)
BARE = UpdatePolicy.unguarded()
SERVING = Serving(
    model="Qwen/Qwen3-8B",
    instance_type="ml.inf2.8xlarge",
    tensor_parallel=2,
    max_sequences=8,
    context_tokens=4096,
)
CONFIG = "AWS::SageMaker::EndpointConfig"


def make(stack: cdk.Stack, **more: Any) -> LlmEndpoint:
    return LlmEndpoint(stack, "Llm", serving=SERVING, capacity=TWO, update=BARE, **more)


def test_capture_writes_to_its_folder_with_its_key(stack: cdk.Stack) -> None:
    """A share of requests and answers, JSON as it is; the role may add objects there and read none."""
    key = kms.Key(stack, "Key")
    bucket = s3.Bucket(stack, "Bucket", encryption_key=key, encryption=s3.BucketEncryption.KMS)
    capture = DataCapture(bucket=bucket, prefix="calls", percent=20)
    make(stack, hosting=EndpointHosting(data_capture=capture))
    template = template_of(stack)
    made = only(template, CONFIG)["Properties"]["DataCaptureConfig"]
    assert made["InitialSamplingPercentage"] == 20
    assert made["CaptureOptions"] == [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}]
    assert made["CaptureContentTypeHeader"] == {"JsonContentTypes": ["application/json"]}
    assert str(made["DestinationS3Uri"]).endswith("'/calls']]}")
    assert made["KmsKeyId"] == {"Fn::GetAtt": ["Key961B73FD", "Arn"]}
    written = [item for item in statements(template, "LlmRole") if item["Action"] == "s3:PutObject"]
    assert [str(item["Resource"]).endswith("'/calls/*']]}") for item in written] == [True]
    assert any(item["Action"] == "kms:GenerateDataKey" for item in statements(template, "LlmRole"))
    assert not any("s3:GetObject" in item["Action"] for item in statements(template, "LlmRole"))


def test_capture_of_input_alone_has_no_answers(stack: cdk.Stack) -> None:
    """What is not asked for is not written."""
    capture = DataCapture(bucket=s3.Bucket(stack, "Bucket"), what="input")
    make(stack, hosting=EndpointHosting(data_capture=capture))
    made = only(template_of(stack), CONFIG)["Properties"]["DataCaptureConfig"]
    assert made["CaptureOptions"] == [{"CaptureMode": "Input"}]
    assert "KmsKeyId" not in made


def test_metrics_come_as_often_as_asked(stack: cdk.Stack) -> None:
    """Ten seconds unless somebody wants them cheaper."""
    make(stack, hosting=EndpointHosting(metric_seconds=60))
    assert (
        only(template_of(stack), CONFIG)["Properties"]["MetricsConfig"]["MetricPublishFrequencyInSeconds"]
        == 60
    )


def test_isolated_containers_read_their_weights_from_a_bucket(stack: cdk.Stack) -> None:
    """The configuration isolates containers, the model too, and nothing is fetched from outside."""
    source = ModelSource.s3(s3.Bucket(stack, "Weights"), "qwen3-8b/1/")
    gpu = replace(SERVING, instance_type="ml.g6e.xlarge", tensor_parallel=1)
    hosting = EndpointHosting(isolated=True)
    LlmEndpoint(stack, "Llm", serving=gpu, capacity=TWO, source=source, hosting=hosting, update=BARE)
    template = template_of(stack)
    assert only(template, CONFIG)["Properties"]["EnableNetworkIsolation"] is True
    assert only(template, "AWS::SageMaker::Model")["Properties"]["EnableNetworkIsolation"] is True


def test_fails_when_isolated_containers_would_need_the_hub(stack: cdk.Stack) -> None:
    """They would hang for an hour before SageMaker gives up."""
    with pytest.raises(TokenmillError, match="isolated"):
        make(stack, hosting=EndpointHosting(isolated=True))
    assert stack.node.children == []


@pytest.mark.parametrize(
    ("region", "made", "message"),
    [
        (
            "us-west-1",
            LlmEndpoint,
            "region 'us-west-1' has no AWS::SageMaker::InferenceComponent, which LlmEndpoint is made of; use "
            "VariantEndpoint there, or choose another region",
        ),
        (
            "us-gov-east-1",
            VariantEndpoint,
            "region 'us-gov-east-1' has no AWS::SageMaker::Endpoint; choose another region, or serve with "
            "Bedrock",
        ),
    ],
)
def test_fails_where_the_region_has_no_such_endpoint(
    region: str, made: Any, message: str, tmp_path: Any
) -> None:
    """A known region is checked before anything is made."""
    there = cdk.Stack(make_app(tmp_path), "there", env=cdk.Environment(region=region))
    with pytest.raises(TokenmillError) as caught:
        made(there, "Llm", serving=replace(SERVING), capacity=TWO, update=BARE)
    assert str(caught.value) == message
    assert there.node.children == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"percent": 101}, "data_capture.percent is 101; it must be 0 to 100"),
        ({"what": "all"}, "data_capture.what is 'all'; allowed are input, output, both"),
        (
            {"prefix": "/calls"},
            "data_capture.prefix is '/calls'; give a folder's name as text, without a slash at either end, "
            "*, ? or $",
        ),
        (
            {"prefix": ""},
            "data_capture.prefix is ''; give a folder's name as text, without a slash at either end, "
            "*, ? or $",
        ),
    ],
)
def test_fails_on_a_capture_out_of_range(change: dict[str, Any], message: str, stack: cdk.Stack) -> None:
    """The limits are those of the API."""
    bucket = s3.Bucket(stack, "Bucket")
    with pytest.raises(TokenmillError) as caught:
        DataCapture(**{"bucket": bucket, **change})
    assert str(caught.value) == message


def test_fails_on_a_prefix_that_only_the_deployment_knows(stack: cdk.Stack) -> None:
    """The role's policy names the folder."""
    with pytest.raises(TokenmillError, match="give a folder's name as text"):
        DataCapture(bucket=s3.Bucket(stack, "Bucket"), prefix=cdk.Fn.import_value("folder"))


def test_fails_on_a_metric_period_that_sagemaker_has_not() -> None:
    """The API lists seven."""
    with pytest.raises(
        TokenmillError, match="metric_seconds is 15; allowed are 10, 30, 60, 120, 180, 240, 300"
    ):
        EndpointHosting(metric_seconds=15)


def test_sagemaker_s_own_metrics_have_the_published_dimensions(stack: cdk.Stack) -> None:
    """A component's are under its name alone; concurrency comes every ten seconds."""
    endpoint = LlmEndpoint.from_component_name(stack, "Llm", endpoint_name="chat", component_name="chat-1")
    concurrent = endpoint.metric_concurrent_requests()
    assert (concurrent.namespace, concurrent.metric_name) == ("AWS/SageMaker", "ConcurrentRequestsPerCopy")
    assert (concurrent.statistic, concurrent.period.to_seconds()) == ("Maximum", 10)
    assert concurrent.dimensions == {"InferenceComponentName": "chat-1"}
    failed = endpoint.metric_no_capacity_failures()
    assert (failed.metric_name, failed.statistic) == ("NoCapacityInvocationFailures", "Sum")
    slow = endpoint.metric_model_latency(instance_type="ml.g6e.xlarge")
    assert (slow.metric_name, slow.statistic) == ("ModelLatency", "p95")
    assert slow.dimensions == {"InferenceComponentName": "chat-1", "InstanceType": "ml.g6e.xlarge"}
    assert endpoint.metric_invocations().metric_name == "Invocations"
    assert endpoint.metric_model_errors().metric_name == "Invocation5XXErrors"


def test_fails_to_queue_requests_where_nothing_takes_them(stack: cdk.Stack) -> None:
    """A grant that cannot be used would look like a permission that is missing."""
    with pytest.raises(TokenmillError, match="takes no queued requests, because its configuration has no"):
        make(stack).grant_invoke_async(stack)


def test_an_endpoint_of_another_account_keeps_its_arn(stack: cdk.Stack) -> None:
    """Account, region and name are the ARN's, and the component stands beside it."""
    arn = "arn:aws:sagemaker:eu-west-1:210987654321:endpoint/chat"
    endpoint = LlmEndpoint.from_endpoint_arn(stack, "Llm", endpoint_arn=arn, component_name="Chat-1")
    assert (endpoint.endpoint_name, endpoint.endpoint_arn) == ("chat", arn)
    assert endpoint.component_arn == "arn:aws:sagemaker:eu-west-1:210987654321:inference-component/chat-1"
    known = LlmEndpoint.from_attributes(
        stack, "Known", endpoint_name="chat", component_name="chat-1", endpoint_arn=arn
    )
    assert known.endpoint_arn == arn


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:sagemaker:eu-west-1:210987654321:endpoint-config/chat",
        "chat",
        "arn:aws:lambda:eu-west-1:210987654321:endpoint/chat",
    ],
)
def test_fails_to_import_the_arn_of_something_else(arn: str, stack: cdk.Stack) -> None:
    """A grant on it would grant nothing."""
    with pytest.raises(TokenmillError, match="endpoint_arn is .*; give an ARN such as"):
        LlmEndpoint.from_endpoint_arn(stack, "Llm", endpoint_arn=arn, component_name="chat-1")


def test_two_images_of_an_unknown_region_have_a_mapping_each(agnostic: cdk.Stack) -> None:
    """Their registries are other accounts, so one mapping would pull from the wrong one."""
    endpoint = LlmEndpoint(agnostic, "Inf", serving=SERVING, capacity=TWO, update=BARE)
    gpu = replace(SERVING, instance_type="ml.g6e.xlarge", tensor_parallel=1)
    LlmEndpoint(agnostic, "Gpu", serving=gpu, capacity=TWO, update=BARE)
    template = template_of(agnostic)
    assert len(template["Mappings"]) == 2
    assert of_type(template, "AWS::SageMaker::Endpoint")
    assert endpoint.components == []
