"""Values that cannot be are refused in one sentence, before anything stands in the stack."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns

from support_stack import of_type, template_of
from tokenmill.batch import AsyncFanOut, BatchFiles, BatchTransform, FanOut, TransformJob
from tokenmill.core.engine_options import EngineOptions, LoraSlots, SpeculativeDraft, ToolCalling
from tokenmill.core.errors import TokenmillError
from tokenmill.core.lora import Adapter
from tokenmill.core.workload import Capacity
from tokenmill.endpoints import (
    AsyncDelivery,
    AsyncEndpoint,
    DataCapture,
    EndpointHosting,
    EndpointNetwork,
    Fleet,
    InstancePool,
    InstanceScaling,
    LlmEndpoint,
    ModelMirror,
    ModelSource,
    Routing,
    Scheduling,
    Serving,
    ServingImage,
    SmokeTest,
    UpdatePolicy,
    VariantEndpoint,
)
from tokenmill.scaling import (
    BacklogPolicy,
    BacklogScaling,
    OfficeHours,
    TokenScaling,
    TokenScalingPolicy,
    WakeUpQueue,
)

if TYPE_CHECKING:
    from collections.abc import Callable

TWO = Capacity(minimum=2, maximum=6, initial=2)
BARE = UpdatePolicy.unguarded()
TEXT = cdk.Fn.ref("Given")
NUMBER = cdk.Token.as_number(cdk.Fn.ref("Given"))
ONLY_LATER = "a value that only the deployment knows"
ELSEWHERE = "arn:aws:s3:::weights"
FIELDS: dict[str, Any] = {
    "model": "Qwen/Qwen3-8B",
    "instance_type": "ml.g6e.12xlarge",
    "tensor_parallel": 1,
    "max_sequences": 8,
    "context_tokens": 8192,
}
SERVING = Serving(**FIELDS)
WHOLE = replace(SERVING, tensor_parallel=4)
SLOTS = replace(SERVING, options=EngineOptions(lora=LoraSlots(max_adapters=2)))
SUPPORT = Adapter(name="support", base_model="Qwen/Qwen3-8B", rank=8, artifact="s3://adapters/support.tar.gz")
POLICY = TokenScalingPolicy(target_utilization_percent=70, concurrent_requests_per_copy=6)


def llm(stack: cdk.Stack, **changes: Any) -> LlmEndpoint:
    return LlmEndpoint(stack, "Llm", **{"serving": SERVING, "capacity": TWO, "update": BARE, **changes})


def variant(stack: cdk.Stack, **changes: Any) -> VariantEndpoint:
    return VariantEndpoint(stack, "Llm", **{"serving": WHOLE, "capacity": TWO, "update": BARE, **changes})


def queued(stack: cdk.Stack, **changes: Any) -> AsyncEndpoint:
    return AsyncEndpoint(stack, "Llm", **{"serving": WHOLE, "capacity": TWO, "update": BARE, **changes})


def far_bucket(stack: cdk.Stack) -> s3.IBucket:
    return s3.Bucket.from_bucket_attributes(stack, "Far", bucket_arn=ELSEWHERE, region="eu-west-1")


@pytest.mark.parametrize(
    "make",
    [
        lambda value: Capacity(minimum=value, maximum=3, initial=2),
        lambda value: Capacity(minimum=1, maximum=value, initial=1),
        lambda value: InstancePool(instance_type="ml.g6e.12xlarge", priority=value),
        lambda value: Fleet(volume_gib=value),
        lambda value: Routing.prefix_aware(concurrency_threshold=value),
        lambda value: Scheduling.spread(zone_imbalance=value),
        lambda value: InstanceScaling(provision_timeout_seconds=value),
        lambda value: EndpointHosting(metric_seconds=value),
        lambda value: SmokeTest(wait_seconds=value),
        lambda value: UpdatePolicy.rolling(batch_percent=value),
        lambda value: UpdatePolicy.linear(step_count=value),
        lambda value: AsyncDelivery(keep_days=value),
        lambda value: AsyncDelivery(max_concurrent=value),
        lambda value: FanOut(shard_records=value),
        lambda value: FanOut(tolerated_failure_percent=value),
        lambda value: TransformJob(limit_hours=value),
        lambda value: OfficeHours(start="08:00", end="19:00", copies=value),
        lambda value: BacklogPolicy(requests_per_instance=value),
        lambda value: replace(POLICY, target_utilization_percent=value),
        lambda value: replace(POLICY, scale_in_cooldown_seconds=value),
        lambda value: Serving(**{**FIELDS, "max_sequences": value}),
    ],
)
def test_a_number_is_a_number_that_is_known(make: Callable[[Any], object]) -> None:
    """A token is said to be one, and is not printed as -1.9e+289; a text is no TypeError from within."""
    with pytest.raises(TokenmillError, match=ONLY_LATER):
        make(NUMBER)
    with pytest.raises(TokenmillError, match="must be a (whole )?number"):
        make("2")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"max_sequences": 1.5}, "max_sequences is 1.5; it must be a whole number"),
        ({"context_tokens": True}, "context_tokens is True; it must be a whole number"),
        ({"model": ""}, "model is ''; give a text, such as 'Qwen/Qwen3-8B'"),
        ({"image": "lmi-vllm"}, "image is 'lmi-vllm'; give an image of the catalog"),
        ({"environment": {TEXT: "x"}}, "environment has a variable"),
        ({"environment": {"1 A": "x"}}, "environment has a variable '1 A'"),
        ({"environment": {"A": 5}}, "environment has 5 for A; give a text, such as '5'"),
        ({"instance_type": "ml.p9.large"}, "unknown instance type .* unlisted=UnlistedInstance"),
        ({"options": EngineOptions(tools=ToolCalling(parser=TEXT))}, f"options.tools.parser is {ONLY_LATER}"),
        (
            {"options": EngineOptions(speculative=SpeculativeDraft(tokens=3, model=TEXT))},
            f"options.speculative.model is {ONLY_LATER}",
        ),
    ],
)
def test_fails_for_a_serving_of_another_kind(changes: dict[str, Any], sentence: str) -> None:
    """What a template would carry as it stands, or what would end in the library, has its sentence."""
    with pytest.raises(TokenmillError, match=sentence):
        Serving(**{**FIELDS, **changes})


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: EndpointNetwork(subnet_ids="subnet-1", security_group_ids=("sg-1",)),
            "subnet_ids is 'subnet-1'",
        ),
        (lambda: Fleet(pools="ml.g6e.12xlarge"), "pools is 'ml.g6e.12xlarge'; give a tuple of InstancePool"),
        (lambda: Fleet(data_cache=TEXT), "data_cache must be a bool"),
        (lambda: EndpointHosting(isolated="yes"), "isolated must be a bool"),
        (lambda: UpdatePolicy.rolling(alarms=("errors",)), "alarms is .* give a tuple of CloudWatch alarms"),
        (lambda: UpdatePolicy.rolling(wait=60), "wait is 60; give a Duration"),
        (lambda: UpdatePolicy.canary(wait=cdk.Duration.millis(1500)), "wait is 1.5 s; give whole seconds"),
        (lambda: ModelSource.in_image("/opt/model", image=None), "image is None; give the PrivateImage"),
        (lambda: ModelSource.s3("weights", "m/"), "bucket is 'weights', a text"),
        (lambda: OfficeHours(start="08:00", end="19:00", days="MON-FRI-SAT"), "days is 'MON-FRI-SAT'"),
        (lambda: replace(SUPPORT, artifact="s3://adapters/*.tar.gz"), "one archive without *, . or ."),
        (lambda: replace(SUPPORT, name=None), "name must be a text"),
        (lambda: TransformJob(limit_hours=8761), "limit_hours is 8761; it must be 1 to 8,760"),
    ],
)
def test_fails_for_a_value_of_another_kind(make: Callable[[], object], sentence: str) -> None:
    """A text is not read letter by letter, and a pattern never gets into a policy."""
    with pytest.raises(TokenmillError, match=sentence.replace("*,", r"\*,")):
        make()


@pytest.mark.parametrize("prefix", ["m/*/", "m//x/", "m?/", "${aws:username}/"])
def test_fails_for_a_prefix_that_a_policy_would_read_otherwise(stack: cdk.Stack, prefix: str) -> None:
    """The grant is of one folder: no pattern, no policy variable."""
    bucket = s3.Bucket.from_bucket_name(stack, "Weights", "weights")
    with pytest.raises(TokenmillError, match="prefix is"):
        ModelSource.s3(bucket, prefix)
    with pytest.raises(TokenmillError, match="prefix is"):
        DataCapture(bucket=bucket, prefix=f"{prefix}x")


def test_a_hub_token_as_text_is_not_repeated(stack: cdk.Stack) -> None:
    """It would stand in the template, so it does not stand in the sentence either."""
    with pytest.raises(TokenmillError, match="token is a text") as raised:
        ModelSource.hugging_face(token="hf_secret")
    assert "hf_secret" not in str(raised.value)
    with pytest.raises(TokenmillError, match="token is a text"):
        ModelMirror(stack, "M", model="a/b", revision="a" * 40, licence="mit", token="hf_secret")
    assert not stack.node.children


@pytest.mark.parametrize(
    "make",
    [
        lambda stack: llm(stack, hosting=EndpointHosting(data_capture=DataCapture(bucket=far_bucket(stack)))),
        lambda stack: llm(
            stack,
            serving=Serving(**{**FIELDS, "instance_type": "ml.inf2.24xlarge", "tensor_parallel": 4}),
            hosting=EndpointHosting(
                encryption_key=kms.Key.from_key_arn(stack, "Far", "arn:aws:kms:eu-west-1:111122223333:key/1")
            ),
        ),
        lambda stack: llm(
            stack,
            fleet=Fleet(reservation="arn:aws:sagemaker:eu-west-1:111122223333:training-plan/mine"),
        ),
        lambda stack: llm(stack, update=UpdatePolicy.rolling(alarms=(far_alarm(stack),))),
        lambda stack: variant(stack, update=UpdatePolicy.blue_green(alarms=(far_alarm(stack),))),
        lambda stack: queued(stack, delivery=AsyncDelivery(bucket=far_bucket(stack))),
        lambda stack: queued(
            stack,
            delivery=AsyncDelivery(
                error_topic=sns.Topic.from_topic_arn(stack, "Far", "arn:aws:sns:eu-west-1:111122223333:t")
            ),
        ),
        lambda stack: BatchTransform(stack, "Llm", serving=WHOLE, files=BatchFiles(bucket=far_bucket(stack))),
    ],
)
def test_fails_for_what_is_in_another_region(stack: cdk.Stack, make: Callable[[cdk.Stack], object]) -> None:
    """SageMaker looks in its own region, so the deployment would fail, or an alarm would never be heard."""
    with pytest.raises(TokenmillError, match="in eu-west-1, but SageMaker serves in us-east-1"):
        make(stack)
    assert stack.node.try_find_child("Llm") is None


def far_alarm(stack: cdk.Stack) -> cloudwatch.IAlarm:
    arn = "arn:aws:cloudwatch:eu-west-1:111122223333:alarm:errors"
    return cloudwatch.Alarm.from_alarm_arn(stack, "Far", arn)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda stack: TokenScaling(
                stack,
                "Made",
                endpoint=llm(stack, serving=SLOTS).add_adapter("A", adapter=SUPPORT),
                capacity=TWO,
                policy=POLICY,
            ),
            "adapter support has no copies of its own to scale",
        ),
        (
            lambda stack: TokenScaling(
                stack,
                "Made",
                endpoint=llm(stack),
                capacity=Capacity(minimum=2, maximum=60, initial=2),
                policy=POLICY,
            ),
            "capacity.maximum is 60, but the endpoint has room for 6 at the most",
        ),
        (
            lambda stack: BacklogScaling(
                stack, "Made", endpoint=queued(stack), capacity=Capacity(minimum=1, maximum=9, initial=1)
            ),
            "capacity.maximum is 9, but the endpoint has 6 at the most",
        ),
        (
            lambda stack: BacklogScaling(stack, "Made", endpoint=variant(stack)),
            "answers at once and has no backlog; use TokenScaling",
        ),
        (
            lambda stack: WakeUpQueue(stack, "Made", endpoint=variant(stack)),
            "has no inference component, so it is never without copies",
        ),
        (
            lambda stack: AsyncFanOut(stack, "Made", endpoint=variant(stack)),
            "has no queue of requests; give an AsyncEndpoint",
        ),
        (lambda stack: WakeUpQueue(stack, "Made", endpoint=llm(stack), concurrency=NUMBER), ONLY_LATER),
        (lambda stack: ServingImage(stack, "Made", keep_images=NUMBER), ONLY_LATER),
    ],
)
def test_fails_before_a_construct_is_there(
    stack: cdk.Stack, make: Callable[[cdk.Stack], object], sentence: str
) -> None:
    """What does not go together leaves no half-made construct in the tree."""
    with pytest.raises(TokenmillError, match=sentence):
        make(stack)
    assert stack.node.try_find_child("Made") is None


def test_pools_of_two_vendors_are_named_as_that(stack: cdk.Stack) -> None:
    """Not as a degree that leaves cores idle, which no other degree would mend."""
    pools = (
        InstancePool(instance_type="ml.g6e.12xlarge", priority=1),
        InstancePool(instance_type="ml.inf2.24xlarge", priority=2),
    )
    with pytest.raises(TokenmillError, match="the pools mix accelerators of several vendors"):
        llm(stack, fleet=Fleet(pools=pools))
    assert not stack.node.children


def test_an_alarm_is_named_once(stack: cdk.Stack) -> None:
    """An alarm that the policy and a later call both give is one alarm."""
    alarm = cloudwatch.Alarm.from_alarm_name(stack, "Alarm", "errors")
    assert UpdatePolicy.rolling(alarms=(alarm, alarm)).alarms == (alarm,)


def test_a_given_role_gets_no_policy_for_an_adapter(stack: cdk.Stack) -> None:
    """Neither the endpoint nor what is added to it changes a role that somebody else keeps."""
    role = iam.Role.from_role_arn(stack, "Role", "arn:aws:iam::111122223333:role/serving")
    endpoint = llm(stack, serving=SLOTS, hosting=EndpointHosting(role=role))
    endpoint.add_adapter("A", adapter=SUPPORT)
    assert not of_type(template_of(stack), "AWS::IAM::Policy")


def test_an_image_of_another_kind_has_its_sentence(stack: cdk.Stack) -> None:
    """A repository alone is no image."""
    repository = ecr.Repository.from_repository_name(stack, "Repository", "serving")
    with pytest.raises(TokenmillError, match="image is .* give the PrivateImage"):
        ModelSource.in_image("/opt/model", image=repository)
