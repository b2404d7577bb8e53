"""Models without copies: waking up, the queue in front, and hours in which nothing runs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from support_stack import of_type, only, template_of
from tokenmill.core.errors import TokenmillError
from tokenmill.core.workload import Capacity
from tokenmill.endpoints import LlmEndpoint, Serving
from tokenmill.scaling import OfficeHours, TokenScaling, TokenScalingPolicy, WakeUpQueue

if TYPE_CHECKING:
    import aws_cdk as cdk

POLICY = TokenScalingPolicy(target_utilization_percent=70, concurrent_requests_per_copy=6)
TO_ZERO = Capacity(minimum=0, maximum=4, initial=1)
SERVING = Serving(
    model="Qwen/Qwen3-8B",
    instance_type="ml.inf2.8xlarge",
    tensor_parallel=2,
    max_sequences=8,
    context_tokens=4096,
)


@pytest.fixture
def component(stack: cdk.Stack) -> Any:
    """A component of another team."""
    return LlmEndpoint.from_component_name(stack, "Llm", endpoint_name="chat", component_name="chat-1")


def scaling(stack: cdk.Stack, component: Any, **changes: Any) -> TokenScaling:
    fields = {"capacity": TO_ZERO, "policy": POLICY, **changes}
    return TokenScaling(stack, "Scaling", endpoint=component, **fields)


def test_one_failed_request_in_a_minute_starts_one_copy(stack: cdk.Stack, component: Any) -> None:
    """The developer guide's own alarm is above 1 and so needs two failures."""
    scaling(stack, component)
    template = template_of(stack)
    alarm = only(template, "AWS::CloudWatch::Alarm")["Properties"]
    assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/SageMaker", "NoCapacityInvocationFailures")
    assert alarm["Dimensions"] == [{"Name": "InferenceComponentName", "Value": "chat-1"}]
    assert (alarm["Statistic"], alarm["Period"], alarm["EvaluationPeriods"]) == ("Sum", 60, 1)
    assert (alarm["Threshold"], alarm["ComparisonOperator"]) == (1, "GreaterThanOrEqualToThreshold")
    policies = of_type(template, "AWS::ApplicationAutoScaling::ScalingPolicy")
    (step,) = [name for name, made in policies.items() if made["Properties"]["PolicyType"] == "StepScaling"]
    assert alarm["AlarmActions"] == [{"Ref": step}]
    properties = policies[step]["Properties"]["StepScalingPolicyConfiguration"]
    assert properties["StepAdjustments"] == [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}]
    assert only(template, "AWS::ApplicationAutoScaling::ScalableTarget")["Properties"]["MinCapacity"] == 0


def test_callers_who_retry_while_it_starts_add_nothing(stack: cdk.Stack, component: Any) -> None:
    """The cooldown lasts as long as a start, and counts the copy that is coming."""
    scaling(stack, component, start_seconds=1200)
    steps = [
        made["Properties"]["StepScalingPolicyConfiguration"]
        for made in of_type(template_of(stack), "AWS::ApplicationAutoScaling::ScalingPolicy").values()
        if made["Properties"]["PolicyType"] == "StepScaling"
    ]
    assert [(step["AdjustmentType"], step["Cooldown"]) for step in steps] == [("ChangeInCapacity", 1200)]


def test_a_model_that_keeps_a_copy_has_nothing_to_wake(stack: cdk.Stack, component: Any) -> None:
    """No alarm and no third policy."""
    made = scaling(stack, component, capacity=Capacity(minimum=1, maximum=4, initial=1))
    assert made.wake_up is None
    assert of_type(template_of(stack), "AWS::CloudWatch::Alarm") == {}


def test_instances_go_with_the_copies(stack: cdk.Stack) -> None:
    """An endpoint of the same capacity lets SageMaker release every instance."""
    endpoint = LlmEndpoint(stack, "Llm", serving=SERVING, capacity=TO_ZERO)
    scaling(stack, endpoint)
    config = only(template_of(stack), "AWS::SageMaker::EndpointConfig")["Properties"]
    managed = config["ProductionVariants"][0]["ManagedInstanceScaling"]
    assert (managed["MinInstanceCount"], managed["MaxInstanceCount"]) == (0, 4)
    assert config["ExecutionRoleArn"], "without a role SageMaker makes no configuration for components"


def test_nights_have_no_copy_and_no_request_starts_one(stack: cdk.Stack, component: Any) -> None:
    """Most and fewest are 0 from the evening on, in the time zone of the office."""
    hours = OfficeHours(start="07:30", end="19:00", timezone="Europe/Berlin")
    assert scaling(stack, component, hours=hours).wake_up is None
    target = only(template_of(stack), "AWS::ApplicationAutoScaling::ScalableTarget")["Properties"]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 4)
    by_name = {action["ScheduledActionName"]: action for action in target["ScheduledActions"]}
    assert by_name["Start"]["Schedule"] == "cron(30 7 ? * MON-FRI *)"
    assert by_name["Start"]["ScalableTargetAction"] == {"MinCapacity": 1, "MaxCapacity": 4}
    assert by_name["End"]["Schedule"] == "cron(0 19 ? * MON-FRI *)"
    assert by_name["End"]["ScalableTargetAction"] == {"MinCapacity": 0, "MaxCapacity": 0}
    assert {action["Timezone"] for action in by_name.values()} == {"Europe/Berlin"}


def test_the_first_request_of_the_day_may_start_the_copy(stack: cdk.Stack, component: Any) -> None:
    """With no copy by day either, the hours only say when waking up is allowed."""
    hours = OfficeHours(start="07:30", end="19:00", copies=0)
    assert scaling(stack, component, hours=hours).wake_up is not None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"start": "7:30"}, "start is '7:30'; give a time from '00:00' to '23:59'"),
        ({"end": "24:00"}, "end is '24:00'"),
        ({"end": "06:00"}, "end is '06:00', which is not after start '07:30'"),
        ({"days": "weekdays"}, "days is 'weekdays'; give SUN, MON"),
        ({"timezone": "Berlin"}, "timezone is 'Berlin'; give a name of the IANA"),
        ({"copies": -1}, "copies is -1; it must be 0 or more"),
    ],
)
def test_fails_for_hours_that_no_clock_has(changes: dict[str, Any], words: str) -> None:
    """Value, what is allowed, and an example."""
    with pytest.raises(TokenmillError) as caught:
        OfficeHours(**{"start": "07:30", "end": "19:00", **changes})
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {
                "capacity": Capacity(minimum=1, maximum=4, initial=1),
                "hours": OfficeHours(start="07:30", end="19:00"),
            },
            "hours are given and capacity.minimum is 1",
        ),
        ({"hours": OfficeHours(start="07:30", end="19:00", copies=5)}, "hours.copies is 5, but capacity.max"),
        ({"start_seconds": 10}, "start_seconds is 10; a start takes from 60 seconds"),
    ],
)
def test_fails_before_anything_is_made(
    changes: dict[str, Any], words: str, stack: cdk.Stack, component: Any
) -> None:
    """The way out stands in the message."""
    with pytest.raises(TokenmillError, match=words.replace(".", r"\.")):
        scaling(stack, component, **changes)
    assert "Scaling" not in [child.node.id for child in stack.node.children]


def test_fails_when_the_endpoint_keeps_its_instances(stack: cdk.Stack) -> None:
    """Copies would go, but the instances would stay and cost."""
    capacity = Capacity(minimum=2, maximum=4, initial=2)
    endpoint = LlmEndpoint(stack, "Llm", serving=SERVING, capacity=capacity)
    with pytest.raises(TokenmillError, match="the endpoint keeps the instances of 2; give the endpoint"):
        scaling(stack, endpoint)


def test_fails_for_an_asynchronous_endpoint(stack: cdk.Stack) -> None:
    """What its policies would read is never published there."""
    from tokenmill.endpoints import AsyncEndpoint

    serving = replace(SERVING, instance_type="ml.g6e.2xlarge", tensor_parallel=1)
    endpoint = AsyncEndpoint(stack, "Llm", serving=serving, capacity=TO_ZERO)
    with pytest.raises(TokenmillError, match="endpoint is asynchronous, .*; use BacklogScaling"):
        scaling(stack, endpoint)


def test_fails_for_a_variant_without_instances(stack: cdk.Stack) -> None:
    """Only components let an endpoint be without instances."""
    from tokenmill.endpoints import VariantEndpoint

    capacity = Capacity(minimum=1, maximum=4, initial=1)
    endpoint = VariantEndpoint(stack, "Llm", serving=SERVING, capacity=capacity)
    with pytest.raises(TokenmillError, match="only an endpoint of inference components can be without"):
        scaling(stack, endpoint)


def test_instances_of_a_variant_follow_its_own_concurrency(stack: cdk.Stack) -> None:
    """SageMaker counts a variant's requests under another metric than a component's."""
    from tokenmill.endpoints import VariantEndpoint

    capacity = Capacity(minimum=1, maximum=4, initial=1)
    endpoint = VariantEndpoint(stack, "Llm", serving=SERVING, capacity=capacity)
    scaling(stack, endpoint, capacity=capacity)
    template = template_of(stack)
    target = only(template, "AWS::ApplicationAutoScaling::ScalableTarget")["Properties"]
    assert target["ScalableDimension"] == "sagemaker:variant:DesiredInstanceCount"
    metrics = json.dumps(of_type(template, "AWS::ApplicationAutoScaling::ScalingPolicy"))
    assert "SageMakerVariantConcurrentRequestsPerModelHighResolution" in metrics


def queue_of(stack: cdk.Stack, component: Any, **changes: Any) -> WakeUpQueue:
    return WakeUpQueue(stack, "Requests", endpoint=component, **changes)


def test_a_message_waits_an_hour_before_it_is_given_up(stack: cdk.Stack, component: Any) -> None:
    """Asked for every half minute; then it is kept in the dead-letter queue for two weeks."""
    queue_of(stack, component)
    queues = of_type(template_of(stack), "AWS::SQS::Queue").values()
    (main,) = [q["Properties"] for q in queues if "RedrivePolicy" in q["Properties"]]
    assert main["RedrivePolicy"]["maxReceiveCount"] * 30 == 3600
    assert main["VisibilityTimeout"] == 900, "an invocation that still runs must not be delivered again"
    assert all(q["Properties"]["MessageRetentionPeriod"] == 14 * 86_400 for q in queues)


def test_messages_are_taken_one_by_one_and_given_back_one_by_one(stack: cdk.Stack, component: Any) -> None:
    """The function answers which messages wait, and Lambda keeps the rest."""
    queue_of(stack, component, concurrency=3)
    mapping = only(template_of(stack), "AWS::Lambda::EventSourceMapping")["Properties"]
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert (mapping["BatchSize"], mapping["ScalingConfig"]) == (1, {"MaximumConcurrency": 3})


def test_the_function_knows_where_to_ask_and_where_to_keep(stack: cdk.Stack, component: Any) -> None:
    """Endpoint, component, queue and bucket in one document."""
    queue_of(stack, component)
    function = only(template_of(stack), "AWS::Lambda::Function")["Properties"]
    text = json.dumps(function["Environment"]["Variables"]["TOKENMILL_WAKE_UP_QUEUE"])
    for name in ("endpoint", "component", "queue_url", "bucket", "chat-1"):
        assert name in text


def test_senders_send_and_readers_read(stack: cdk.Stack, component: Any) -> None:
    """Neither may do what the other does."""
    from aws_cdk import aws_iam as iam

    made = queue_of(stack, component)
    for name, grant in (("Sender", made.grant_send), ("Reader", made.grant_read)):
        grant(iam.Role(stack, name, assumed_by=iam.ServicePrincipal("lambda.amazonaws.com")))
    policies = of_type(template_of(stack), "AWS::IAM::Policy")
    allowed = {
        name: {
            action
            for statement in made["Properties"]["PolicyDocument"]["Statement"]
            for action in (
                [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
            )
        }
        for name, made in policies.items()
    }
    (sender,) = [actions for name, actions in allowed.items() if name.startswith("Sender")]
    (reader,) = [actions for name, actions in allowed.items() if name.startswith("Reader")]
    assert sender == {"sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:SendMessage"}
    assert reader == {"s3:GetObject"}


def test_fails_for_a_concurrency_that_lambda_does_not_have(stack: cdk.Stack, component: Any) -> None:
    """Lambda takes 2 to 1000."""
    with pytest.raises(TokenmillError, match="concurrency is 1; Lambda takes 2 to 1000"):
        queue_of(stack, component, concurrency=1)
    assert "Requests" not in [child.node.id for child in stack.node.children]
