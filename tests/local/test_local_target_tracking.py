"""Target tracking of Application Auto Scaling: its alarms, and what follows them."""

from __future__ import annotations

from support_autoscaling import Scaled, track
from support_local import SCOPE


def alarm(scaled: Scaled, kind: str, metric: float, policy: str = "track") -> None:
    [found] = [each for name, each in scaled.alarms.items() if kind in name and policy in str(each)]
    scaled.value = metric
    scaled.states[found["AlarmName"]] = "ALARM"
    scaled.service.alarm_evaluated(SCOPE, {**found, "StateValue": "ALARM"})


def test_target_tracking_makes_its_two_alarms() -> None:
    """3 of 3 minutes above the target, 15 of 15 below nine tenths of it."""
    scaled = Scaled()
    track(scaled)
    shapes = {
        name.rpartition("-Alarm")[2].partition("-")[0]: (
            each["ComparisonOperator"], each["Threshold"], each["EvaluationPeriods"], each["Period"],
        )
        for name, each in scaled.alarms.items()
    }  # fmt: skip
    assert shapes == {
        "High": ("GreaterThanThreshold", 50.0, 3, 60),
        "Low": ("LessThanThreshold", 45.0, 15, 60),
    }
    before = set(scaled.alarms)
    track(scaled, DisableScaleIn=True)
    assert {name for name in before if "AlarmHigh" in name} == set(scaled.alarms), "the low one is gone"
    scaled.call("DeleteScalingPolicy", PolicyName="track")
    assert scaled.alarms == {}


def test_target_tracking_scales_in_proportion_and_rounds_up() -> None:
    scaled = Scaled()
    track(scaled)
    alarm(scaled, "High", 110.0)
    assert scaled.desired == 5, "2 copies at 110 of 50 are 4.4"


def test_target_tracking_waits_for_its_cooldown_unless_more_is_needed() -> None:
    scaled = Scaled()
    track(scaled, ScaleOutCooldown=300)
    alarm(scaled, "High", 60.0)
    assert scaled.desired == 3
    scaled.desired = 2
    scaled.now += 60
    alarm(scaled, "High", 60.0)
    assert scaled.desired == 2, "the same demand within the cooldown"
    scaled.now += 60
    alarm(scaled, "High", 200.0)
    assert scaled.desired == 8


def test_target_tracking_takes_copies_away_only_when_every_policy_wants_less() -> None:
    scaled = Scaled(desired=8)
    track(scaled)
    track(scaled, "other")
    alarm(scaled, "Low", 10.0, "policyName/track")
    assert scaled.desired == 8
    alarm(scaled, "Low", 10.0, "policyName/other")
    assert scaled.desired == 2


def test_target_tracking_without_data_does_nothing() -> None:
    scaled = Scaled(desired=8)
    track(scaled)
    [low] = [each for name, each in scaled.alarms.items() if "Low" in name]
    scaled.service.alarm_evaluated(SCOPE, {**low, "StateValue": "ALARM"})
    assert scaled.desired == 8


def test_high_resolution_concurrency_is_looked_at_every_ten_seconds() -> None:
    scaled = Scaled()
    scaled.call(
        "PutScalingPolicy",
        PolicyName="safety",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 4.0,
            "DisableScaleIn": True,
            "PredefinedMetricSpecification": {
                "PredefinedMetricType": "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution"
            },
        },
    )
    [high] = scaled.alarms.values()
    assert (high["MetricName"], high["Period"]) == ("ConcurrentRequestsPerCopy", 10)
    assert high["Dimensions"] == [{"Name": "InferenceComponentName", "Value": "qwen"}]
