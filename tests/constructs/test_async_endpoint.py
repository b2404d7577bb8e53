"""An asynchronous endpoint: what SageMaker is told, who may do what, which metrics there really are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import botocore.session
import pytest
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns

from support_jobs import async_endpoint, inf2
from support_stack import of_type, only, template_of
from tokenmill.core.errors import TokenmillError
from tokenmill.core.workload import Capacity
from tokenmill.endpoints import AsyncDelivery, AsyncEndpoint, DataCapture, EndpointHosting, UpdatePolicy
from tokenmill.endpoints.async_endpoint import QUEUE_METRICS, VARIANT_METRICS

if TYPE_CHECKING:
    from tokenmill.endpoints.async_delivery import AsyncMailbox

CONFIG = "AWS::SageMaker::EndpointConfig"


def delivered(template: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = only(template, CONFIG)["Properties"]["AsyncInferenceConfig"]
    return found


def allowed(template: dict[str, Any], role: str) -> dict[str, list[Any]]:
    """Return the resources by action of every policy of a role, whose logical id begins so."""
    found: dict[str, list[Any]] = {}
    for policy in of_type(template, "AWS::IAM::Policy").values():
        if any(item.get("Ref", "").startswith(role) for item in policy["Properties"]["Roles"]):
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
                names, resources = statement["Action"], statement["Resource"]
                for name in [names] if isinstance(names, str) else names:
                    found.setdefault(name, []).extend(
                        resources if isinstance(resources, list) else [resources]
                    )
    return found


def test_answers_failures_and_notices_have_places_of_their_own(stack: cdk.Stack) -> None:
    """A bucket and two encrypted topics are made; what stands in the bucket goes after 30 days."""
    async_endpoint(stack)
    template = template_of(stack)
    output = delivered(template)["OutputConfig"]
    (bucket,) = of_type(template, "AWS::S3::Bucket")
    assert output["S3OutputPath"] == {"Fn::Join": ["", ["s3://", {"Ref": bucket}, "/async/answers"]]}
    assert output["S3FailurePath"] == {"Fn::Join": ["", ["s3://", {"Ref": bucket}, "/async/failures"]]}
    topics = of_type(template, "AWS::SNS::Topic")
    told = {item["Ref"] for item in output["NotificationConfig"].values()}
    assert told == set(topics)
    assert len(told) == 2
    assert all("KmsMasterKeyId" in topic["Properties"] for topic in topics.values())
    (rule,) = only(template, "AWS::S3::Bucket")["Properties"]["LifecycleConfiguration"]["Rules"]
    assert (rule["ExpirationInDays"], rule["Status"]) == (30, "Enabled")


def test_sagemaker_has_a_batch_in_an_instance_at_once(stack: cdk.Stack) -> None:
    """As many as the serving decodes together, never more than SageMaker takes."""
    async_endpoint(stack)
    assert delivered(template_of(stack))["ClientConfig"] == {"MaxConcurrentInvocationsPerInstance": 8}
    assert AsyncDelivery().concurrent(inf2(model="acme/tiny", max_sequences=4096)) == 1000
    assert AsyncDelivery(max_concurrent=3).concurrent(inf2()) == 3


def test_the_variant_serves_the_model_without_components(stack: cdk.Stack) -> None:
    """One instance at first, because SageMaker makes no endpoint without; nothing manages instances."""
    async_endpoint(stack)
    template = template_of(stack)
    (variant,) = only(template, CONFIG)["Properties"]["ProductionVariants"]
    assert variant["InitialInstanceCount"] == 1
    assert "ModelName" in variant
    assert "ManagedInstanceScaling" not in variant
    assert of_type(template, "AWS::SageMaker::InferenceComponent") == {}


def test_the_configuration_passes_botocore_s_check(stack: cdk.Stack) -> None:
    """Names and values of AsyncInferenceConfig, with every option set."""
    from botocore.validate import ParamValidator

    async_endpoint(stack, delivery=AsyncDelivery(include_response=("success", "error")))
    config = delivered(template_of(stack))
    config["OutputConfig"] |= {"S3OutputPath": "s3://b/a", "S3FailurePath": "s3://b/f"}
    notices = config["OutputConfig"]["NotificationConfig"]
    notices |= {"SuccessTopic": "arn:aws:sns:us-east-1:000000000000:s", "ErrorTopic": "arn:aws:sns:a:1:e"}
    assert notices["IncludeInferenceResponseIn"] == [
        "SUCCESS_NOTIFICATION_TOPIC",
        "ERROR_NOTIFICATION_TOPIC",
    ]
    model = botocore.session.get_session().get_service_model("sagemaker")
    assert ParamValidator().validate(config, model.shape_for("AsyncInferenceConfig")).generate_report() == ""


def test_given_bucket_topics_and_keys_are_used(stack: cdk.Stack) -> None:
    """Nothing is made beside them, two endpoints in a bucket have folders apart, the role uses the keys."""
    key, topic_key = kms.Key(stack, "Key"), kms.Key(stack, "TopicKey")
    bucket = s3.Bucket(stack, "Given", encryption_key=key)
    topic = sns.Topic(stack, "Told", master_key=topic_key)
    delivery = AsyncDelivery(bucket=bucket, success_topic=topic, error_topic=topic)
    endpoint = async_endpoint(stack, delivery=delivery)
    other = AsyncEndpoint(
        stack,
        "Other",
        serving=inf2(),
        capacity=Capacity.fixed(1),
        delivery=delivery,
        update=UpdatePolicy.unguarded(),
    )
    assert endpoint.mailbox.folder != other.mailbox.folder
    template = template_of(stack)
    assert len(of_type(template, "AWS::S3::Bucket")) == len(of_type(template, "AWS::SNS::Topic")) == 1
    (config, _) = of_type(template, CONFIG).values()
    output = config["Properties"]["AsyncInferenceConfig"]["OutputConfig"]
    (logical, topic_logical) = (stack.get_logical_id(item.node.default_child) for item in (key, topic_key))
    assert output["KmsKeyId"] == {"Fn::GetAtt": [logical, "Arn"]}
    keys = {item["Fn::GetAtt"][0] for item in allowed(template, "AsyncRole")["kms:GenerateDataKey"]}
    assert keys == {logical, topic_logical}


def test_callers_of_a_bucket_with_a_key_may_use_it(stack: cdk.Stack) -> None:
    """A request is encrypted when it is put, an answer decrypted when it is read."""
    key = kms.Key(stack, "Key")
    endpoint = async_endpoint(stack, delivery=AsyncDelivery(encryption_key=key))
    caller = iam.Role(stack, "Caller", assumed_by=iam.AccountRootPrincipal())
    reader = iam.Role(stack, "Reader", assumed_by=iam.AccountRootPrincipal())
    endpoint.grant_invoke_async(caller)
    endpoint.grant_read_answers(reader)
    template = template_of(stack)
    assert {"kms:Decrypt", "kms:GenerateDataKey"} <= set(allowed(template, "Caller"))
    assert "kms:GenerateDataKey" not in allowed(template, "Reader")
    assert "kms:Decrypt" in allowed(template, "Reader")
    for topic in of_type(template, "AWS::SNS::Topic").values():
        assert topic["Properties"]["KmsMasterKeyId"] == {
            "Fn::GetAtt": [stack.get_logical_id(key.node.default_child), "Arn"]
        }


def test_the_role_reaches_its_own_folders_only(stack: cdk.Stack) -> None:
    """It reads requests, writes answers and failures and publishes; nothing of it is a whole service."""
    async_endpoint(stack)
    found = allowed(template_of(stack), "AsyncRole")
    endings = {
        name: sorted(item["Fn::Join"][1][-1] for item in found[name])
        for name in ("s3:GetObject", "s3:PutObject")
    }
    assert endings == {
        "s3:GetObject": ["/async/requests/*"],
        "s3:PutObject": ["/async/answers/*", "/async/failures/*"],
    }
    assert len(found["sns:Publish"]) == 2
    assert "sagemaker:CreateEndpoint" not in found


def test_a_given_role_gets_no_policy(stack: cdk.Stack) -> None:
    """Its owner decides; `mailbox.grant_deliver` is there for it."""
    role = iam.Role(stack, "Mine", assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com"))
    endpoint = async_endpoint(stack, hosting=EndpointHosting(role=role))
    mailbox: AsyncMailbox = endpoint.mailbox
    assert allowed(template_of(stack), "Mine") == {}
    again = cdk.Stack(cdk.App(), "again", env=cdk.Environment(region="us-east-1"))
    role = iam.Role(again, "Mine", assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com"))
    async_endpoint(again, hosting=EndpointHosting(role=role)).mailbox.grant_deliver(role)
    assert "sns:Publish" in allowed(template_of(again), "Mine")
    assert mailbox.prefix("answers") == "async/answers"


def test_callers_put_requests_and_invoke(stack: cdk.Stack) -> None:
    """InvokeEndpointAsync and the folder of requests, whichever grant; answers are one of their own."""
    endpoint = async_endpoint(stack)
    caller = iam.Role(stack, "Caller", assumed_by=iam.AccountRootPrincipal())
    reader = iam.Role(stack, "Reader", assumed_by=iam.AccountRootPrincipal())
    streamer = iam.Role(stack, "Streamer", assumed_by=iam.AccountRootPrincipal())
    endpoint.grant_invoke_async(caller)
    endpoint.grant_invoke(streamer)
    endpoint.grant_read_answers(reader)
    template = template_of(stack)
    found = allowed(template, "Caller")
    assert set(allowed(template, "Streamer")) == set(found)
    assert set(found) == {"sagemaker:InvokeEndpointAsync", "s3:PutObject"}
    assert found["s3:PutObject"][0]["Fn::Join"][1][-1] == "/async/requests/*"
    assert set(allowed(template, "Reader")) == {"s3:GetObject", "s3:ListBucket"}


def test_the_queue_s_metrics_have_the_endpoint_as_their_only_dimension(stack: cdk.Stack) -> None:
    """With any other dimension they are never seen: the queue is the endpoint's and not a variant's."""
    endpoint = async_endpoint(stack)
    for name in QUEUE_METRICS:
        metric = endpoint.metric_async(name)
        assert (metric.namespace, list(metric.dimensions or {})) == ("AWS/SageMaker", ["EndpointName"])


def test_the_other_metrics_have_endpoint_and_variant(stack: cdk.Stack) -> None:
    """Counts are summed, times are averaged."""
    endpoint = async_endpoint(stack)
    for name in VARIANT_METRICS:
        metric = endpoint.metric_async(name)
        assert set(metric.dimensions or {}) == {"EndpointName", "VariantName"}
        times = name.endswith(("Latency", "Time", "Backlog"))
        assert metric.statistic == ("Average" if times else "Sum")


def test_metrics_by_name(stack: cdk.Stack) -> None:
    """The two that everybody watches."""
    endpoint = async_endpoint(stack)
    assert endpoint.metric_backlog().metric_name == "ApproximateBacklogSize"
    assert endpoint.metric_oldest_request_age().metric_name == "ApproximateAgeOfOldestRequest"
    assert endpoint.metric_invocations().metric_name == "InvocationsProcessed"
    assert endpoint.metric_model_errors().metric_name == "Invocation5XXErrors"


def test_fails_for_metrics_that_real_time_endpoints_have(stack: cdk.Stack) -> None:
    """Scaling on invocations is the mistake of published modules: an asynchronous endpoint has none."""
    endpoint = async_endpoint(stack)
    with pytest.raises(TokenmillError, match="'InvocationsPerInstance' is not published for an asynchronous"):
        endpoint.metric_async("InvocationsPerInstance")
    with pytest.raises(TokenmillError, match="'ConcurrentRequestsPerModel' is not published for an"):
        endpoint.metric_concurrent_requests()


def test_a_deployment_s_check_asks_nothing(stack: cdk.Stack) -> None:
    """The endpoint answers no InvokeEndpoint; the live configuration is compared all the same."""
    endpoint = async_endpoint(stack, update=UpdatePolicy())
    check = endpoint.update.check
    assert check is not None
    assert check.prompt is None
    assert async_endpoint(cdk.Stack(cdk.App(), "none"), update=UpdatePolicy(check=None)).update.check is None


def test_fails_for_data_capture(stack: cdk.Stack) -> None:
    """Before any construct exists, with the way out."""
    hosting = EndpointHosting(data_capture=DataCapture(bucket=s3.Bucket(stack, "Captured")))
    with pytest.raises(TokenmillError, match="stands in its bucket anyway, so leave data_capture out"):
        async_endpoint(stack, hosting=hosting)
    assert [child.node.id for child in stack.node.children] == ["Captured"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keep_days": 0}, "delivery.keep_days is 0; it must be 1 or more"),
        ({"max_concurrent": 0}, "delivery.max_concurrent is 0; SageMaker takes 1 to 1000"),
        ({"max_concurrent": 1001}, "delivery.max_concurrent is 1001; SageMaker takes 1 to 1000"),
        ({"include_response": ("failure",)}, "give each of success, error once at most"),
        ({"include_response": ("error", "error")}, "give each of success, error once at most"),
    ],
)
def test_fails_for_values_that_sagemaker_refuses(changes: dict[str, Any], message: str) -> None:
    """Value and range stand in the message."""
    with pytest.raises(TokenmillError, match=message):
        AsyncDelivery(**changes)
