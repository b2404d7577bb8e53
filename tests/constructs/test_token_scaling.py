"""The scaling policy as a value and as a template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support_stack import candidate, of_type, only, template_of
from tokenmill.core.errors import TokenmillError
from tokenmill.core.workload import Capacity
from tokenmill.endpoints import LlmEndpoint
from tokenmill.scaling import TokenScaling, TokenScalingPolicy

if TYPE_CHECKING:
    import aws_cdk as cdk

POLICY = TokenScalingPolicy(target_utilization_percent=70, concurrent_requests_per_copy=6)


def policies(template: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = of_type(template, "AWS::ApplicationAutoScaling::ScalingPolicy").values()
    return {
        item["Properties"]["PolicyName"]: item["Properties"]["TargetTrackingScalingPolicyConfiguration"]
        for item in found
    }


def test_the_target_is_the_component_s_copies(prod: dict[str, Any]) -> None:
    """Fewest and most copies come from the plan."""
    target = only(prod, "AWS::ApplicationAutoScaling::ScalableTarget")["Properties"]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (2, 6)
    assert target["ServiceNamespace"] == "sagemaker"
    assert target["ScalableDimension"] == "sagemaker:inference-component:DesiredCopyCount"
    assert target["ResourceId"]["Fn::Join"][1][0] == "inference-component/"


def test_token_work_a_copy_is_what_is_tracked(prod: dict[str, Any]) -> None:
    """Busy seconds of a minute over the copies, in percent, with copies repeated over a missed heartbeat."""
    tracking = policies(prod)["TokenWork"]
    assert tracking["TargetValue"] == 70
    work, copies, busy = tracking["CustomizedMetricSpecification"]["Metrics"]
    assert busy["Expression"] == "100 * work / (60 * FILL(copies, REPEAT))"
    assert [item["ReturnData"] for item in (work, copies, busy)] == [False, False, True]
    read = {
        item["Id"]: (item["MetricStat"]["Metric"]["MetricName"], item["MetricStat"]["Stat"])
        for item in (work, copies)
    }
    assert read == {"work": ("TokenWork", "Sum"), "copies": ("Copies", "Maximum")}
    assert work["MetricStat"]["Metric"]["Namespace"] == "tokenmill"
    assert [item["Name"] for item in work["MetricStat"]["Metric"]["Dimensions"]] == ["Target"]


def test_missing_work_is_not_filled(prod: dict[str, Any]) -> None:
    """A stopped gateway and heartbeat must not read as an idle model."""
    assert "FILL(work" not in str(policies(prod)["TokenWork"])


def test_concurrency_only_adds_copies(prod: dict[str, Any]) -> None:
    """Without traffic it has no data, and a policy without data would hold back every scale-in."""
    tracking = policies(prod)["Concurrency"]
    assert tracking["DisableScaleIn"] is True
    assert tracking["TargetValue"] == 6
    assert tracking["PredefinedMetricSpecification"] == {
        "PredefinedMetricType": "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution"
    }


def test_a_candidate_s_policy_leaves_a_fifth_of_the_batch_free() -> None:
    """Queued requests count as concurrent, so the safety net acts before the batch is full."""
    made = TokenScalingPolicy.from_candidate(candidate(max_sequences=16, target_utilization_percent=60.0))
    assert made == TokenScalingPolicy(target_utilization_percent=60.0, concurrent_requests_per_copy=12)
    assert TokenScalingPolicy.from_candidate(candidate(max_sequences=1)).concurrent_requests_per_copy == 1


def test_an_imported_component_can_be_scaled(stack: cdk.Stack) -> None:
    """Whoever made the endpoint, its name is enough."""
    endpoint = LlmEndpoint.from_component_name(stack, "Llm", endpoint_name="chat", component_name="chat-1")
    capacity = Capacity(minimum=1, maximum=4, initial=1)
    TokenScaling(stack, "Scaling", endpoint=endpoint, capacity=capacity, policy=POLICY)
    target = only(template_of(stack), "AWS::ApplicationAutoScaling::ScalableTarget")["Properties"]
    assert target["ResourceId"] == "inference-component/chat-1"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"target_utilization_percent": 0},
            "target_utilization_percent is 0; it must be above 0, up to 100",
        ),
        (
            {"target_utilization_percent": 101},
            "target_utilization_percent is 101; it must be above 0, up to 100",
        ),
        (
            {"concurrent_requests_per_copy": float("nan")},
            "concurrent_requests_per_copy is nan; it must be above 0",
        ),
        ({"scale_in_cooldown_seconds": -1}, "scale_in_cooldown_seconds is -1; it must be 0 or more"),
    ],
)
def test_fails_for_numbers_that_no_policy_can_have(changes: dict[str, Any], message: str) -> None:
    """Value and range stand in the message."""
    fields: dict[str, Any] = {"target_utilization_percent": 70, "concurrent_requests_per_copy": 6}
    with pytest.raises(TokenmillError) as caught:
        TokenScalingPolicy(**{**fields, **changes})
    assert str(caught.value) == message
