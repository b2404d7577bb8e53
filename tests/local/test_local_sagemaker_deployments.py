"""Endpoints that move from one configuration to another: traffic, baking, alarms, rollback."""

from __future__ import annotations

from typing import Any

import pytest

from support_sagemaker import Control
from tokenmill.core.errors import TokenmillError
from tokenmill.local.aws_requests import AwsError
from tokenmill.local.sagemaker.records import Split
from tokenmill.local.sagemaker.rollout import bake_seconds, batches

GPU = "ml.g6.2xlarge"
ALARM = {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}]}}


def blue_green(kind: str, wait: int = 300, **size: Any) -> dict[str, Any]:
    routing = {"Type": kind, "WaitIntervalInSeconds": wait, **size}
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing}, **ALARM}


def percent(value: int) -> dict[str, Any]:
    return {"Type": "CAPACITY_PERCENT", "Value": value}


def served(instances: int = 4, **changes: Any) -> Control:
    """An endpoint whose variant serves model `old`; a configuration `next` serves model `new`."""
    control = Control()
    control.model("old", "registry/image:1")
    control.model("new", "registry/image:2")
    control.endpoint(ModelName="old", InstanceType=GPU, InitialInstanceCount=instances)
    control.later.run()
    control.config(
        "next", **{"ModelName": "new", "InstanceType": GPU, "InitialInstanceCount": instances, **changes}
    )
    return control


def update(control: Control, deployment: dict[str, Any] | None = None, **more: Any) -> None:
    if deployment is not None:
        more["DeploymentConfig"] = deployment
    control.call("UpdateEndpoint", EndpointName="chat", EndpointConfigName="next", **more)


def watch(control: Control) -> list[tuple[str, float, str | None]]:
    """Collect status, traffic share and stage at each wait."""
    seen: list[tuple[str, float, str | None]] = []

    def look() -> None:
        [endpoint] = next(iter(control.sagemaker.accounts.values())).endpoints.values()
        pending = endpoint.pending
        share = round(pending.split.share, 3) if pending else 0.0
        stage = pending.variants[0].stage if pending else None
        if not seen or seen[-1] != (endpoint.status, share, stage):
            seen.append((endpoint.status, share, stage))

    control.on_sleep = look
    return seen


def test_without_a_policy_all_traffic_moves_at_once_and_nothing_bakes() -> None:
    control = served()
    update(control)
    pending = control.endpoint_document()["PendingDeploymentSummary"]
    assert pending["EndpointConfigName"] == "next"
    assert control.endpoint_document()["EndpointConfigName"] == "chat-config", "the old one until it is done"
    seen = watch(control)
    control.later.run()
    assert seen == [("Updating", 0.0, "Creating")]
    described = control.endpoint_document()
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", "next")
    assert "PendingDeploymentSummary" not in described
    assert control.fleet.running["chat/AllTraffic"].model == "weights-of-new"
    assert list(control.fleet.running) == ["chat/AllTraffic"], "the old server ended"


@pytest.mark.parametrize(
    ("deployment", "shares"),
    [
        (blue_green("ALL_AT_ONCE"), [1.0]),
        (blue_green("CANARY", CanarySize=percent(25)), [0.25, 1.0]),
        (blue_green("CANARY", CanarySize={"Type": "INSTANCE_COUNT", "Value": 2}), [0.5, 1.0]),
        (blue_green("LINEAR", LinearStepSize=percent(25)), [0.25, 0.5, 0.75, 1.0]),
    ],
)
def test_traffic_moves_in_the_policys_steps_and_each_bakes(
    deployment: dict[str, Any], shares: list[float]
) -> None:
    control = served()
    update(control, deployment)
    seen = watch(control)
    control.later.run()
    assert seen == [("Updating", 0.0, "Creating"), *(("Updating", share, "Baking") for share in shares)]
    assert control.endpoint_document()["EndpointConfigName"] == "next"
    assert sum(control.slept) == pytest.approx(1 + 1 + len(shares) * 6), "launches, and a bake of 6 a step"


def test_an_alarm_during_the_bake_brings_the_old_configuration_back() -> None:
    """DescribeEndpoint then shows InService with the old EndpointConfigName, as terraform users report."""
    control = served()
    update(control, blue_green("CANARY", CanarySize=percent(25)))
    statuses: list[str] = []

    def look() -> None:
        statuses.append(control.endpoint_status())
        if len(statuses) == 3:
            control.alarms["errors"] = "ALARM"

    control.on_sleep = look
    control.later.run()
    assert statuses[-1] == "RollingBack"
    described = control.endpoint_document()
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", "chat-config")
    assert "alarm errors was in ALARM" in described["FailureReason"]
    assert {key: launch.model for key, launch in control.fleet.running.items()} == {
        "chat/AllTraffic": "weights-of-old"
    }
    assert described["ProductionVariants"][0]["CurrentInstanceCount"] == 4


def test_another_alarm_does_not_roll_back() -> None:
    control = served()
    control.alarms = {"errors": "OK", "latency": "ALARM"}
    update(control, blue_green("ALL_AT_ONCE"))
    control.later.run()
    assert control.endpoint_document()["EndpointConfigName"] == "next"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"unhealthy_images": ["image:2"]}, "did not pass the ping health check"),
        ({"insufficient_capacity": [GPU]}, "InsufficientInstanceCapacity"),
    ],
)
def test_a_new_fleet_that_does_not_come_up_never_gets_traffic(fault: dict[str, Any], said: str) -> None:
    control = served()
    control.faults(**fault)
    update(control, blue_green("ALL_AT_ONCE"))
    seen = watch(control)
    control.later.run()
    assert {share for _, share, _ in seen} == {0.0}
    described = control.endpoint_document()
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", "chat-config")
    assert said in described["FailureReason"]


def test_a_rolling_deployment_replaces_batches_and_never_holds_two_whole_fleets() -> None:
    control = served()
    policy = {"MaximumBatchSize": percent(50), "WaitIntervalInSeconds": 60}
    update(control, {"RollingUpdatePolicy": policy})
    most = 0

    def look() -> None:
        nonlocal most
        [endpoint] = next(iter(control.sagemaker.accounts.values())).endpoints.values()
        assert endpoint.pending is not None
        held = endpoint.variants[0].instances + endpoint.pending.variants[0].instances
        most = max(most, held)
        assert held >= 4, "the old capacity is there all the time"

    control.on_sleep = look
    control.later.run()
    assert most == 6, "one batch of two more than the four"
    assert control.endpoint_document()["EndpointConfigName"] == "next"
    assert control.endpoint_document()["ProductionVariants"][0]["CurrentInstanceCount"] == 4


def test_fails_a_rolling_rollback_without_capacity_and_keeps_both() -> None:
    """EndpointStatus UpdateRollbackFailed: in service with a mix of the old and new configurations."""
    control = served(InstanceType="ml.g6.4xlarge")
    policy = {"MaximumBatchSize": percent(50), "WaitIntervalInSeconds": 60}
    update(control, {"RollingUpdatePolicy": policy, **ALARM})

    def look() -> None:
        if len(control.fleet.resized) == 1:
            control.faults(insufficient_capacity=[GPU])
            control.alarms["errors"] = "ALARM"

    control.on_sleep = look
    control.later.run()
    assert control.endpoint_status() == "UpdateRollbackFailed"
    assert set(control.fleet.running) == {"chat/AllTraffic", "chat/AllTraffic~new"}
    control.faults(insufficient_capacity=[])
    control.alarms.clear()
    control.on_sleep = lambda: None
    update(control)
    control.later.run()
    assert control.endpoint_status() == "InService"
    assert set(control.fleet.running) == {"chat/AllTraffic"}


@pytest.mark.parametrize(
    ("deployment", "instances", "said"),
    [
        (blue_green("CANARY", CanarySize=percent(60)), 4, "between 0% and 50%"),
        (blue_green("CANARY", CanarySize=percent(50)), 1, "between 0% and 50%"),
        (blue_green("LINEAR", LinearStepSize=percent(5)), 4, "between 10% and 50%"),
        (blue_green("LINEAR"), 4, "LinearStepSize is required when Type is LINEAR"),
        (
            {"RollingUpdatePolicy": {"MaximumBatchSize": percent(51), "WaitIntervalInSeconds": 0}},
            4,
            "between 5% and 50%",
        ),
        (
            {
                **blue_green("ALL_AT_ONCE"),
                "RollingUpdatePolicy": {"MaximumBatchSize": percent(50), "WaitIntervalInSeconds": 0},
            },
            4,
            "Only one update policy",
        ),
    ],
)
def test_fails_deployments_that_the_reference_does_not_allow(
    deployment: dict[str, Any], instances: int, said: str
) -> None:
    control = served(instances)
    with pytest.raises(AwsError, match=said):
        update(control, deployment)
    assert control.endpoint_status() == "InService"


def scale(control: Control, instances: int) -> None:
    change = [{"VariantName": "AllTraffic", "DesiredInstanceCount": instances}]
    members = {"EndpointName": "chat", "DesiredWeightsAndCapacities": change}
    control.call("UpdateEndpointWeightsAndCapacities", **members)


@pytest.mark.parametrize(
    ("members", "instances"),
    [
        ({}, 2),
        ({"RetainAllVariantProperties": True}, 5),
        (
            {
                "RetainAllVariantProperties": True,
                "ExcludeRetainedVariantProperties": [{"VariantPropertyType": "DesiredInstanceCount"}],
            },
            2,
        ),
    ],
)
def test_a_scaled_fleet_keeps_its_size_only_when_it_is_told_to(
    members: dict[str, Any], instances: int
) -> None:
    control = served(2, InitialInstanceCount=2)
    change = [{"VariantName": "AllTraffic", "DesiredInstanceCount": 5}]
    control.call(
        "UpdateEndpointWeightsAndCapacities", EndpointName="chat", DesiredWeightsAndCapacities=change
    )
    assert control.endpoint_status() == "Updating"
    control.later.run()
    assert control.fleet.resized[-1] == ("chat/AllTraffic", 5)
    update(control, **members)
    control.later.run()
    [described] = control.endpoint_document()["ProductionVariants"]
    assert described["CurrentInstanceCount"] == instances
    assert control.fleet.running["chat/AllTraffic"].copies == instances


def test_scaling_without_capacity_rolls_back_to_the_old_number() -> None:
    control = served(2)
    control.faults(insufficient_capacity=[GPU])
    change = [{"VariantName": "AllTraffic", "DesiredInstanceCount": 5}]
    control.call(
        "UpdateEndpointWeightsAndCapacities", EndpointName="chat", DesiredWeightsAndCapacities=change
    )
    control.later.run()
    described = control.endpoint_document()
    assert described["EndpointStatus"] == "InService"
    assert "InsufficientInstanceCapacity" in described["FailureReason"]
    [variant] = described["ProductionVariants"]
    assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]) == (2, 2)


class Targets:
    """Scalable targets as the control plane asks for them."""

    def __init__(self, *registered: str) -> None:
        self.resources = set(registered)

    def registered(self, _scope: object, resource_id: str) -> bool:
        return resource_id in self.resources

    def forget(self, _scope: object, resource_id: str) -> None:
        self.resources.discard(resource_id)


def test_fails_to_change_the_instance_type_of_a_scalable_variant() -> None:
    """ "Update endpoints that use auto scaling": the update fails; another model is allowed."""
    control = served(InstanceType="ml.g6.4xlarge")
    control.config("other-model", ModelName="new", InstanceType=GPU)
    control.sagemaker.scaling = Targets("endpoint/chat/variant/AllTraffic")
    with pytest.raises(AwsError, match="AllTraffic.* must be deregistered as a scalable target"):
        update(control)
    control.call("UpdateEndpoint", EndpointName="chat", EndpointConfigName="other-model")
    control.later.run()
    assert control.endpoint_document()["EndpointConfigName"] == "other-model"


def test_a_deleted_endpoint_is_no_scalable_target_any_more() -> None:
    control = served()
    targets = Targets("endpoint/chat/variant/AllTraffic")
    control.sagemaker.scaling = targets
    control.call("DeleteEndpoint", EndpointName="chat")
    control.later.run()
    assert targets.resources == set()


def test_fails_to_leave_a_configuration_that_was_deleted() -> None:
    """What follows a silent rollback when a tool has deleted the configuration that is still in use."""
    control = served()
    control.call("DeleteEndpointConfig", EndpointConfigName="chat-config")
    with pytest.raises(AwsError, match=r'Could not find endpoint configuration ".*chat-config"'):
        update(control)


def test_the_deployed_image_is_shown_with_the_digest_that_it_resolved_to() -> None:
    control = served()
    control.sagemaker.resolve_image = lambda _scope, image: f"sha256:{image[-1] * 64}"
    [variant] = control.endpoint_document()["ProductionVariants"]
    [image] = variant["DeployedImages"]
    assert image["SpecifiedImage"] == "registry/image:1"
    assert image["ResolvedImage"] == f"registry/image@sha256:{'1' * 64}"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"ModelName": "old", "ManagedInstanceScaling": {"Status": "ENABLED", "MaxInstanceCount": 2}},
            "only supported for inference component endpoints",
        ),
        (
            {"ManagedInstanceScaling": {"MinInstanceCount": 3, "MaxInstanceCount": 2}},
            "MinInstanceCount must not be above",
        ),
        (
            {"InstancePools": [{"InstanceType": GPU, "Priority": 1}]},
            "Exactly one of InstanceType and InstancePools",
        ),
    ],
)
def test_fails_configurations_that_contradict_themselves(changes: dict[str, Any], said: str) -> None:
    control = served()
    with pytest.raises(AwsError, match=said):
        control.config("bad", **changes)


def test_requests_are_shared_without_chance() -> None:
    split = Split(share=1 / 3)
    assert [split.takes_new() for _ in range(6)] == [False, False, True] * 2
    assert not any(Split(share=0.0).takes_new() for _ in range(10))


@pytest.mark.parametrize(
    ("wait", "startup", "seconds"), [(0, 1.0, 0.0), (60, 1.0, 6.0), (600, 1.0, 10.0), (600, 0.05, 0.5)]
)
def test_a_waiting_minute_takes_as_long_as_a_launch(wait: float, startup: float, seconds: float) -> None:
    """And never less than six launches, so that the alarms are looked at once."""
    assert bake_seconds(wait, startup) == pytest.approx(seconds)


def test_the_last_batch_is_what_is_left() -> None:
    assert batches(2, 5) == [2, 4, 5]


@pytest.mark.parametrize(
    "request_body",
    [
        {},
        {"latency_ms": {"chat": -1}},
        {"latency_ms": 5},
        {"unhealthy_images": "image"},
        {"unhealthy_images": [""]},
        {"colour": []},
    ],
)
def test_fails_faults_of_another_form(request_body: dict[str, Any]) -> None:
    with pytest.raises(TokenmillError, match="faults takes"):
        Control().faults(**request_body)
