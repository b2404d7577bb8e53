"""How changes reach a running model: what renders, and what is refused before anything exists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_sagemaker as sagemaker

from support_stack import template_of
from tokenmill.core.errors import TokenmillError
from tokenmill.core.workload import Capacity
from tokenmill.endpoints.smoke_test import SmokeTest
from tokenmill.endpoints.update_changes import change_table
from tokenmill.endpoints.update_policy import UpdatePolicy
from tokenmill.endpoints.update_strategy import BlueGreen, Rolling, Share

if TYPE_CHECKING:
    from collections.abc import Callable

TWO = Capacity(minimum=2, maximum=6, initial=2)
ONE = Capacity(minimum=1, maximum=6, initial=1)
MINUTE = cdk.Duration.minutes(1)


def alarm(stack: cdk.Stack, name: str = "Errors") -> cloudwatch.IAlarm:
    return cloudwatch.Alarm.from_alarm_name(stack, name, name)


def rendered(stack: cdk.Stack, policy: UpdatePolicy, capacity: Capacity, *, variant: bool) -> Any:
    if variant:
        sagemaker.CfnEndpoint(
            stack,
            "Endpoint",
            endpoint_config_name="c",
            deployment_config=policy.endpoint_deployment(capacity),
        )
    else:
        sagemaker.CfnInferenceComponent(
            stack,
            "Component",
            endpoint_name="e",
            specification=sagemaker.CfnInferenceComponent.InferenceComponentSpecificationProperty(
                model_name="m"
            ),
            deployment_config=policy.component_deployment(capacity),
        )
    (resource,) = template_of(stack)["Resources"].values()
    return resource["Properties"].get("DeploymentConfig")


def percent(value: int) -> dict[str, object]:
    return {"Type": "CAPACITY_PERCENT", "Value": value}


def test_components_roll_one_of_the_fewest_at_a_time(stack: cdk.Stack) -> None:
    """Both ways, because putting everything back at once needs instances for twice the copies."""
    assert rendered(stack, UpdatePolicy(), TWO, variant=False) == {
        "RollingUpdatePolicy": {
            "MaximumBatchSize": percent(50),
            "RollbackMaximumBatchSize": percent(50),
            "WaitIntervalInSeconds": 120,
            "MaximumExecutionTimeoutInSeconds": 28800,
        }
    }


def test_one_copy_has_no_rolling_update_and_says_so(stack: cdk.Stack) -> None:
    """Announced: the sentence names the downtime and both ways out."""
    assert rendered(stack, UpdatePolicy(), ONE, variant=False) is None
    announced = str(UpdatePolicy().downtime(ONE))
    assert "an update of the component is a downtime" in announced
    assert "min_copies = 2" in announced and "second component" in announced
    assert UpdatePolicy().downtime(TWO) is None


def test_batches_and_alarms_of_components(stack: cdk.Stack) -> None:
    """A count, the alarms that turn it back, and how fast."""
    policy = UpdatePolicy.rolling(
        batch_count=2,
        wait=cdk.Duration.minutes(5),
        limit=cdk.Duration.hours(2),
        rollback_percent=100,
        alarms=(alarm(stack),),
    )
    capacity = Capacity(minimum=4, maximum=10, initial=4)
    policy.check_components(capacity)
    assert rendered(stack, policy, capacity, variant=False) == {
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "Errors"}]},
        "RollingUpdatePolicy": {
            "MaximumBatchSize": {"Type": "COPY_COUNT", "Value": 2},
            "RollbackMaximumBatchSize": percent(100),
            "WaitIntervalInSeconds": 300,
            "MaximumExecutionTimeoutInSeconds": 7200,
        },
    }


def test_variants_move_all_traffic_at_once_by_default(stack: cdk.Stack) -> None:
    """SageMaker's own default, said in the template."""
    assert rendered(stack, UpdatePolicy(), ONE, variant=True) == {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0},
            "TerminationWaitInSeconds": 0,
            "MaximumExecutionTimeoutInSeconds": 28800,
        }
    }


def test_alarms_of_a_variant_are_watched_for_a_while(stack: cdk.Stack) -> None:
    """An alarm that is looked at for no time turns nothing back."""
    found = rendered(stack, UpdatePolicy(alarms=(alarm(stack),)), ONE, variant=True)
    assert found["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]["WaitIntervalInSeconds"] == 120
    assert found["AutoRollbackConfiguration"] == {"Alarms": [{"AlarmName": "Errors"}]}


def test_canary(stack: cdk.Stack) -> None:
    """A small part first, then the rest; the old fleet stays a while."""
    policy = UpdatePolicy.canary(count=1, wait=MINUTE, keep_old=MINUTE)
    policy.check_variant(TWO)
    assert rendered(stack, policy, TWO, variant=True)["BlueGreenUpdatePolicy"] == {
        "TrafficRoutingConfiguration": {
            "Type": "CANARY",
            "WaitIntervalInSeconds": 60,
            "CanarySize": {"Type": "INSTANCE_COUNT", "Value": 1},
        },
        "TerminationWaitInSeconds": 60,
        "MaximumExecutionTimeoutInSeconds": 28800,
    }


def test_linear(stack: cdk.Stack) -> None:
    """Equal steps."""
    policy = UpdatePolicy.linear(step_percent=20, wait=MINUTE)
    policy.check_variant(TWO)
    found = rendered(stack, policy, TWO, variant=True)["BlueGreenUpdatePolicy"]
    assert found["TrafficRoutingConfiguration"] == {
        "Type": "LINEAR",
        "WaitIntervalInSeconds": 60,
        "LinearStepSize": percent(20),
    }


def test_rolling_of_a_variant_puts_everything_back_at_once(stack: cdk.Stack) -> None:
    """Without RollbackMaximumBatchSize SageMaker brings up the whole old fleet."""
    policy = UpdatePolicy.rolling(batch_percent=25)
    policy.check_variant(TWO)
    assert rendered(stack, policy, TWO, variant=True) == {
        "RollingUpdatePolicy": {
            "MaximumBatchSize": percent(25),
            "WaitIntervalInSeconds": 120,
            "MaximumExecutionTimeoutInSeconds": 28800,
        }
    }


def test_blue_green_waits_and_keeps_the_old_fleet(stack: cdk.Stack) -> None:
    """All times as given."""
    policy = UpdatePolicy.blue_green(wait=MINUTE, keep_old=MINUTE, limit=cdk.Duration.hours(1))
    policy.check_variant(ONE)
    found = rendered(stack, policy, ONE, variant=True)["BlueGreenUpdatePolicy"]
    assert (found["TerminationWaitInSeconds"], found["MaximumExecutionTimeoutInSeconds"]) == (60, 3600)


@pytest.mark.parametrize(
    ("policy", "capacity", "extra"),
    [
        (UpdatePolicy(), TWO, 3),
        (UpdatePolicy(), ONE, 0),
        (UpdatePolicy.rolling(batch_count=1), TWO, 1),
        (UpdatePolicy.rolling(batch_percent=10), Capacity(minimum=10, maximum=20, initial=10), 2),
        (UpdatePolicy.rolling(batch_percent=10, rollback_percent=50), TWO, 3),
    ],
)
def test_room_for_the_copies_of_an_update(policy: UpdatePolicy, capacity: Capacity, extra: int) -> None:
    """The largest batch in either direction, at the largest fleet."""
    assert policy.extra_copies(capacity) == extra


def test_unguarded_has_nothing_to_do() -> None:
    """No function is made for it."""
    assert not UpdatePolicy.unguarded().guarded
    assert UpdatePolicy().guarded
    assert UpdatePolicy(keep_copies=False).guarded
    assert UpdatePolicy(check=None).guarded


@pytest.mark.parametrize(
    ("policy", "capacity", "sentence"),
    [
        (
            UpdatePolicy.blue_green(),
            TWO,
            "update is ALL_AT_ONCE, but blue/green, canary and linear belong to an endpoint configuration "
            "and a component has none; use UpdatePolicy.rolling(), or VariantEndpoint",
        ),
        (UpdatePolicy.rolling(), ONE, "update is rolling, but capacity.minimum is 1: "),
        (
            UpdatePolicy.rolling(batch_percent=60),
            TWO,
            "the batch is 60 percent; SageMaker allows 5 to 50 percent of the copies",
        ),
        (
            UpdatePolicy.rolling(batch_percent=4),
            TWO,
            "the batch is 4 percent; SageMaker allows 5 to 50 percent of the copies",
        ),
        (
            UpdatePolicy.rolling(batch_count=2),
            TWO,
            "the batch is 2 copies; SageMaker allows 5 to 50 percent of the copies, which is 1 to 1 for 2 to "
            "6 copies",
        ),
        (
            UpdatePolicy.rolling(batch_count=1),
            Capacity(minimum=2, maximum=60, initial=2),
            "the batch is 1 copies, and no number is 5 to 50 percent of the copies at 2 as well as at 60; "
            "give a percentage",
        ),
        (
            UpdatePolicy.rolling(wait=cdk.Duration.minutes(30), limit=cdk.Duration.hours(1)),
            TWO,
            "waiting alone takes 3600 s for 2 batches, and limit is 3600 s",
        ),
        (
            UpdatePolicy.rolling(rollback_percent=101),
            TWO,
            "the rollback batch is 101 percent; give 1 to 100 percent",
        ),
    ],
)
def test_fails_for_what_components_cannot_do(policy: UpdatePolicy, capacity: Capacity, sentence: str) -> None:
    """The value, what is allowed and the way out, by capacity, before any construct."""
    with pytest.raises(TokenmillError) as raised:
        policy.check_components(capacity)
    assert str(raised.value).startswith(sentence)


def test_fails_for_alarms_that_nothing_watches(stack: cdk.Stack) -> None:
    """One copy has no rolling update, and SageMaker watches alarms in one only."""
    with pytest.raises(TokenmillError, match="SageMaker watches them in a rolling update only"):
        UpdatePolicy(alarms=(alarm(stack),)).check_components(ONE)


@pytest.mark.parametrize(
    ("policy", "capacity", "sentence"),
    [
        (UpdatePolicy.rolling(), ONE, "update is rolling, but capacity.minimum is 1: a batch is at most 50 "),
        (UpdatePolicy.canary(percent=51), TWO, "the canary is 51 percent; SageMaker allows 1 to 50 percent"),
        (UpdatePolicy.canary(percent=10), ONE, "capacity.minimum is 1, and the canary is at most 50 percent"),
        (
            UpdatePolicy.canary(count=2),
            TWO,
            "the canary is 2 instances; SageMaker allows 1 to 50 percent of the instances, which is 1 to 1",
        ),
        (UpdatePolicy.linear(step_percent=9), TWO, "the step is 9 percent; SageMaker allows 10 to 50"),
        (UpdatePolicy.linear(step_percent=10), ONE, "capacity.minimum is 1, and the step is at most 50"),
        (
            UpdatePolicy.linear(step_percent=10, wait=cdk.Duration.hours(1)),
            TWO,
            "waiting alone takes 21600 s for 6 steps and the old fleet, and limit is 28800 s",
        ),
        (
            UpdatePolicy.blue_green(
                wait=cdk.Duration.minutes(5),
                keep_old=cdk.Duration.minutes(5),
                limit=cdk.Duration.minutes(10),
            ),
            ONE,
            "waiting alone takes 600 s for 1 steps and the old fleet, and limit is 600 s",
        ),
    ],
)
def test_fails_for_what_a_variant_cannot_do(policy: UpdatePolicy, capacity: Capacity, sentence: str) -> None:
    """The same for instances."""
    if "21600" in sentence:
        policy = UpdatePolicy.linear(
            step_percent=10, wait=cdk.Duration.hours(1), limit=cdk.Duration.seconds(21600)
        )
        sentence = sentence.replace("28800", "21600")
    with pytest.raises(TokenmillError) as raised:
        policy.check_variant(capacity)
    assert str(raised.value).startswith(sentence)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: UpdatePolicy.rolling(wait=cdk.Duration.minutes(61)),
            "wait is 3660 s; SageMaker allows 0 to 3600 s",
        ),
        (
            lambda: UpdatePolicy.rolling(limit=cdk.Duration.minutes(9)),
            "limit is 540 s; SageMaker allows 600 to 28800 s",
        ),
        (
            lambda: UpdatePolicy.canary(keep_old=cdk.Duration.hours(2)),
            "keep_old is 7200 s; SageMaker allows 0 to 3600 s",
        ),
        (lambda: UpdatePolicy.rolling(batch_percent=5, batch_count=1), "a share has percent 5 and count 1"),
        (lambda: Share(), "a share has percent None and count None; give exactly one of them"),
        (
            lambda: BlueGreen(routing="CANARY"),
            "routing 'CANARY' has step None; a canary and linear steps have one, all at once has none",
        ),
        (
            lambda: UpdatePolicy.rolling(wait=cdk.Duration.seconds(cdk.Token.as_number(cdk.Fn.ref("Wait")))),
            "wait is a token, whose value only the deployment knows; give a Duration of a number",
        ),
        (lambda: SmokeTest(prompt=""), "prompt has 0 characters; give 1 to 1000, or None"),
        (lambda: SmokeTest(max_tokens=0), "max_tokens is 0; it must be 1 to 512"),
        (
            lambda: SmokeTest(wait_seconds=721),
            "wait_seconds is 721; it must be 1 to 720, because the function that asks runs at most 15 "
            "minutes",
        ),
    ],
)
def test_fails_for_values_outside_the_api(make: Callable[[], object], sentence: str) -> None:
    """Whatever the capacity, where the value is made."""
    with pytest.raises(TokenmillError) as raised:
        make()
    assert str(raised.value).startswith(sentence)


def test_fails_for_more_alarms_than_sagemaker_watches(stack: cdk.Stack) -> None:
    """Ten, as AutoRollbackConfig says."""
    eleven = tuple(alarm(stack, f"Alarm{number}") for number in range(11))
    with pytest.raises(TokenmillError, match="alarms has 11; SageMaker watches at most 10"):
        UpdatePolicy(alarms=eleven)


def test_the_table_says_something_for_both_modes() -> None:
    """Every change has a mechanism, or a reason why there is none."""
    rows = change_table()
    assert len({row.what for row in rows}) == len(rows)
    assert all(row.components and row.variant for row in rows)


def test_the_smallest_batch_is_within_the_api_for_every_fleet() -> None:
    """5 to 50 percent, whatever the fewest copies."""
    for fewest in range(2, 200):
        capacity = Capacity(minimum=fewest, maximum=fewest, initial=fewest)
        assert 5 <= (Rolling().chosen(capacity).percent or 0) <= 50
        UpdatePolicy().check_components(capacity)
