"""Application Auto Scaling: ranges, steps, cooldowns, suspension, tags, activities."""

from __future__ import annotations

from typing import Any

import pytest

from support_autoscaling import KEY, Scaled, track
from support_local import SCOPE
from tokenmill.local.autoscaling.steps import adjustment_for, aggregated, capacity_after
from tokenmill.local.aws_requests import AwsError


def test_an_alarm_with_the_policy_among_its_actions_executes_it() -> None:
    scaled = Scaled()
    scaled.value = 5.0
    scaled.fire(scaled.step_policy())
    assert scaled.desired == 3
    [activity] = scaled.activities()
    assert activity["StatusCode"] == "InProgress"
    assert activity["Cause"] == "monitor alarm alarm in state ALARM triggered policy step"
    scaled.service.tick()
    [activity] = scaled.activities()
    assert activity["StatusCode"] == "Successful"
    assert "Change successfully fulfilled by sagemaker" in activity["StatusMessage"]


def test_an_alarm_that_is_ok_or_has_its_actions_off_executes_nothing() -> None:
    scaled = Scaled()
    scaled.fire(scaled.step_policy(), state="OK")
    assert scaled.desired == 2


def test_the_action_repeats_each_minute_that_the_alarm_stays() -> None:
    """CloudWatch invokes Auto Scaling actions once a minute, not only when the state changes."""
    scaled = Scaled()
    arn = scaled.step_policy(Cooldown=0)
    for seconds, expected in ((0, 3), (5, 3), (54, 3), (1, 4), (60, 5)):
        scaled.now += seconds
        scaled.fire(arn)
        assert scaled.desired == expected


def test_a_new_alarm_does_not_wait_for_the_minute_of_the_last() -> None:
    scaled = Scaled()
    arn = scaled.step_policy(Cooldown=0)
    scaled.fire(arn)
    scaled.fire(arn, state="OK")
    scaled.fire(arn)
    assert scaled.desired == 4


def test_during_a_scale_out_cooldown_only_a_larger_step_acts_and_what_was_added_counts() -> None:
    """The reference's own example: +2, then a step of +3 within the cooldown adds one."""
    scaled = Scaled()
    steps = [
        {"MetricIntervalLowerBound": 0, "MetricIntervalUpperBound": 10, "ScalingAdjustment": 2},
        {"MetricIntervalLowerBound": 10, "ScalingAdjustment": 3},
    ]
    arn = scaled.step_policy(StepAdjustments=steps, Cooldown=300)
    for value, expected in ((5.0, 4), (5.0, 4), (50.0, 5), (50.0, 5)):
        scaled.value = value
        scaled.fire(arn)
        assert scaled.desired == expected
        scaled.now += 60
    scaled.now += 300
    scaled.fire(arn)
    assert scaled.desired == 8, "the cooldown is over"


def test_a_wake_up_adds_one_copy_however_many_requests_fail_while_it_starts() -> None:
    scaled = Scaled(desired=0, low=0)
    scaled.value = 50.0
    arn = scaled.step_policy(Cooldown=900, MetricAggregationType="Maximum")
    for _ in range(5):
        scaled.fire(arn)
        scaled.now += 60
        assert scaled.desired == 1


def test_a_scale_in_cooldown_blocks_scale_in_and_a_scale_out_ends_it() -> None:
    scaled = Scaled(desired=6)
    down = scaled.step_policy(
        "down", StepAdjustments=[{"MetricIntervalLowerBound": 0, "ScalingAdjustment": -1}]
    )
    scaled.fire(down)
    scaled.now += 60
    scaled.fire(down)
    assert scaled.desired == 5
    scaled.fire(scaled.step_policy("up"), name="up")
    assert scaled.desired == 6


def test_the_range_limits_a_step_and_the_reason_is_told_on_request() -> None:
    scaled = Scaled(desired=9)
    arn = scaled.step_policy(StepAdjustments=[{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 5}])
    scaled.fire(arn)
    assert scaled.desired == 10
    scaled.now += 600
    scaled.fire(arn)
    assert len(scaled.activities()) == 1
    reasons = scaled.activities(IncludeNotScaledActivities=True)[0]["NotScaledReasons"]
    assert reasons == [
        {"Code": "AlreadyAtMaxCapacity", "MinCapacity": 1, "MaxCapacity": 10, "CurrentCapacity": 10}
    ]


def test_a_resource_that_refuses_fails_the_activity_with_its_reason() -> None:
    scaled = Scaled()
    scaled.refusal = "Cannot update in-progress endpoint"
    scaled.fire(scaled.step_policy())
    [activity] = scaled.activities()
    assert activity["StatusCode"] == "Failed"
    assert "Cannot update in-progress endpoint" in activity["StatusMessage"]


@pytest.mark.parametrize(
    ("suspended", "adjustment", "expected"),
    [
        ("DynamicScalingOutSuspended", 1, 2),
        ("DynamicScalingOutSuspended", -1, 1),
        ("DynamicScalingInSuspended", -1, 2),
        ("DynamicScalingInSuspended", 1, 3),
    ],
)
def test_a_suspended_direction_is_not_scaled(suspended: str, adjustment: int, expected: int) -> None:
    scaled = Scaled()
    scaled.call("RegisterScalableTarget", SuspendedState={suspended: True})
    steps = [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": adjustment}]
    scaled.fire(scaled.step_policy(StepAdjustments=steps))
    assert scaled.desired == expected
    [target] = scaled.call("DescribeScalableTargets", key=False, ServiceNamespace="sagemaker")[
        "ScalableTargets"
    ]
    assert target["SuspendedState"] == {suspended: True}
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 10), "what is not given does not change"


def test_a_suspended_target_still_moves_into_its_range() -> None:
    """RegisterScalableTarget adjusts the capacity even when no range is given."""
    scaled = Scaled()
    scaled.call("RegisterScalableTarget", SuspendedState={"DynamicScalingInSuspended": True})
    scaled.desired = 12
    scaled.call("RegisterScalableTarget")
    assert scaled.desired == 10


def test_a_resource_that_is_being_changed_is_left_where_it_is() -> None:
    scaled = Scaled()
    scaled.active = False
    scaled.call("RegisterScalableTarget", MinCapacity=5)
    assert scaled.desired == 2


def test_a_scheduled_action_runs_at_its_time_and_moves_range_and_capacity() -> None:
    scaled = Scaled()
    scaled.now = 1_767_225_540.0  # 2025-12-31T23:59:00Z
    scaled.call(
        "PutScheduledAction",
        ScheduledActionName="morning",
        Schedule="cron(0 0 1 1 ? *)",
        ScalableTargetAction={"MinCapacity": 4, "MaxCapacity": 6},
    )
    scaled.now += 55
    scaled.service.tick()
    assert scaled.desired == 2
    scaled.now += 10
    scaled.service.tick()
    assert scaled.desired == 4
    [target] = scaled.call("DescribeScalableTargets", key=False, ServiceNamespace="sagemaker")[
        "ScalableTargets"
    ]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (4, 6)
    assert [activity["Cause"] for activity in scaled.activities()] == [
        "scheduled action name morning was triggered"
    ] * 2
    scaled.desired = 5
    scaled.service.tick()
    assert scaled.desired == 5, "it ran once"


def test_suspended_scheduled_scaling_does_not_run_and_does_not_catch_up() -> None:
    scaled = Scaled()
    scaled.call("RegisterScalableTarget", SuspendedState={"ScheduledScalingSuspended": True})
    scaled.call(
        "PutScheduledAction",
        ScheduledActionName="often",
        Schedule="rate(1 minute)",
        ScalableTargetAction={"MinCapacity": 4},
    )
    scaled.now += 3600
    scaled.service.tick()
    scaled.call("RegisterScalableTarget", SuspendedState={"ScheduledScalingSuspended": False})
    scaled.service.tick()
    assert scaled.desired == 2


def test_deregistering_takes_policies_alarms_actions_and_tags_along() -> None:
    scaled = Scaled()
    track(scaled)
    scaled.step_policy()
    scaled.call("PutScheduledAction", ScheduledActionName="a", Schedule="rate(1 day)")
    scaled.call("DeregisterScalableTarget")
    assert scaled.alarms == {}
    assert scaled.call("DescribeScalingPolicies")["ScalingPolicies"] == []
    assert scaled.call("DescribeScheduledActions")["ScheduledActions"] == []
    assert not scaled.service.registered(SCOPE, KEY["ResourceId"])
    scaled.service.forget(SCOPE, KEY["ResourceId"])


def test_tags_are_added_replaced_and_removed() -> None:
    scaled = Scaled()
    [target] = scaled.call("DescribeScalableTargets", key=False, ServiceNamespace="sagemaker")[
        "ScalableTargets"
    ]
    arn = target["ScalableTargetARN"]
    scaled.call("RegisterScalableTarget", Tags={"stack": "a"})
    scaled.call("TagResource", key=False, ResourceARN=arn, Tags={"stack": "b", "held": "yes"})
    assert scaled.call("ListTagsForResource", key=False, ResourceARN=arn) == {
        "Tags": {"stack": "b", "held": "yes"}
    }
    scaled.call("UntagResource", key=False, ResourceARN=arn, TagKeys=["held", "never"])
    assert scaled.call("ListTagsForResource", key=False, ResourceARN=arn) == {"Tags": {"stack": "b"}}
    with pytest.raises(AwsError, match="ResourceNotFoundException"):
        scaled.call("TagResource", key=False, ResourceARN=f"{arn}x", Tags={"a": "b"})


@pytest.mark.parametrize(
    ("breach", "above", "expected"),
    [(0, True, 1), (9.9, True, 1), (10, True, 5), (-1, True, None), (0, False, None), (10, False, 1)],
)
def test_bounds_are_inclusive_on_the_side_of_the_threshold(
    breach: float, above: bool, expected: int | None
) -> None:
    steps = [
        {"MetricIntervalLowerBound": 0, "MetricIntervalUpperBound": 10, "ScalingAdjustment": 1},
        {"MetricIntervalLowerBound": 10, "ScalingAdjustment": 5},
    ]
    assert adjustment_for(steps, breach, above=above) == expected


@pytest.mark.parametrize(
    ("capacity", "percent", "least", "expected"),
    [
        (4, 25, 0, 5),
        (4, 25, 2, 6),
        (10, 17, 0, 11),
        (2, 10, 0, 3),
        (4, -10, 0, 3),
        (10, -17, 0, 9),
        (0, 50, 0, 0),
    ],
)
def test_percentages_are_rounded_as_documented(
    capacity: int, percent: int, least: int, expected: int
) -> None:
    """Above 1 down, between 0 and 1 to 1, between 0 and -1 to -1, below -1 towards 0."""
    config = {"AdjustmentType": "PercentChangeInCapacity", "MinAdjustmentMagnitude": least}
    assert capacity_after(capacity, percent, config) == expected


def test_an_exact_capacity_is_taken_as_it_is() -> None:
    assert capacity_after(7, 3, {"AdjustmentType": "ExactCapacity"}) == 3


@pytest.mark.parametrize(("kind", "expected"), [("Maximum", 3), ("Minimum", 1), (None, 2)])
def test_data_points_are_aggregated_as_the_policy_says(kind: str | None, expected: float) -> None:
    assert aggregated([1, 2, 3], kind) == expected
    assert aggregated([], kind) is None


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([], "needs AdjustmentType and StepAdjustments"),
        ([{"ScalingAdjustment": 1}], "at least one interval bound"),
        (
            [
                {"MetricIntervalLowerBound": 0, "MetricIntervalUpperBound": 5, "ScalingAdjustment": 1},
                {"MetricIntervalLowerBound": 6, "ScalingAdjustment": 2},
            ],
            "leave a gap between 5 and 6",
        ),
        (
            [{"MetricIntervalLowerBound": 5, "MetricIntervalUpperBound": 5, "ScalingAdjustment": 1}],
            "is empty",
        ),
    ],
)
def test_fails_steps_that_do_not_cover_the_breaches_once(steps: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(AwsError, match=said):
        Scaled().step_policy(StepAdjustments=steps)
