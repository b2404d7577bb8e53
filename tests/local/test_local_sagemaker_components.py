"""Inference components that change: batches, baking, rollback, adapters, pools, nothing left."""

from __future__ import annotations

from typing import Any

import pytest

from support_local import SCOPE, specification
from support_sagemaker import Control
from tokenmill.local.aws_requests import AwsError

ROLLING = {
    "RollingUpdatePolicy": {
        "MaximumBatchSize": {"Type": "COPY_COUNT", "Value": 1},
        "WaitIntervalInSeconds": 60,
    },
    "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}]},
}
ROOMY = {"Status": "ENABLED", "MinInstanceCount": 1, "MaxInstanceCount": 4}


def image(name: str) -> dict[str, Any]:
    return specification(Container={"Image": name, "Environment": {"HF_MODEL_ID": f"weights-of-{name}"}})


def update(control: Control, **members: Any) -> None:
    control.call("UpdateInferenceComponent", InferenceComponentName="qwen", **members)


def copies(control: Control) -> tuple[int, int]:
    config = control.described()["RuntimeConfig"]
    return config["DesiredCopyCount"], config["CurrentCopyCount"]


def component(control: Control) -> Any:
    return control.sagemaker.accounts[SCOPE].components["qwen"]


def test_a_rolling_update_serves_all_copies_all_the_time() -> None:
    """Each batch takes its share, bakes, and then as many old copies end."""
    control = Control()
    control.serving(copies=3, ManagedInstanceScaling=ROOMY)
    update(control, Specification=image("image:2"), DeploymentConfig=ROLLING)
    shares: list[float] = []

    def look() -> None:
        assert copies(control)[1] >= 3
        share = round(component(control).split.share, 3)
        if not shares or shares[-1] != share:
            shares.append(share)

    control.on_sleep = look
    control.later.run()
    assert shares == [0.0, 0.25, 0.333, 0.5, 0.667, 0.75], "a batch beside the old ones, then instead of them"
    described = control.described()
    assert described["InferenceComponentStatus"] == "InService"
    assert "FailureReason" not in described
    assert described["LastDeploymentConfig"] == ROLLING
    assert control.fleet.running["qwen"].model == "weights-of-image:2"
    assert list(control.fleet.running) == ["qwen"]
    assert copies(control) == (3, 3)


def test_a_rolling_update_takes_an_instance_more_while_it_lasts() -> None:
    """AWS's own example: two copies on two instances, three during the update, two after it."""
    control = Control()
    control.serving(copies=6, ManagedInstanceScaling=ROOMY)
    most = 0

    def look() -> None:
        nonlocal most
        most = max(most, control.endpoint_document()["ProductionVariants"][0]["CurrentInstanceCount"])

    control.on_sleep = look
    update(control, Specification=image("image:2"), DeploymentConfig=ROLLING)
    control.later.run()
    assert most == 3
    assert control.endpoint_document()["ProductionVariants"][0]["CurrentInstanceCount"] == 2


def test_fails_a_rolling_update_without_room_and_keeps_the_old_copies() -> None:
    control = Control()
    control.serving(copies=3)
    update(control, Specification=image("image:2"), DeploymentConfig=ROLLING)
    control.later.run()
    described = control.described()
    assert described["InferenceComponentStatus"] == "InService"
    assert "Not enough hardware resources" in described["FailureReason"]
    assert described["Specification"]["Container"]["DeployedImage"]["SpecifiedImage"] == "image"
    assert copies(control) == (3, 3)


@pytest.mark.parametrize("fault", ["alarm", "health"])
def test_a_rolling_update_that_goes_wrong_brings_the_old_copies_back(fault: str) -> None:
    control = Control()
    control.serving(copies=3, ManagedInstanceScaling=ROOMY)
    update(control, Specification=image("image:2"), DeploymentConfig=ROLLING)
    if fault == "health":
        control.faults(unhealthy_images=["image:2"])

    def look() -> None:
        if fault == "alarm" and component(control).split.share > 0.4:
            control.alarms["errors"] = "ALARM"

    control.on_sleep = look
    control.later.run()
    described = control.described()
    assert described["InferenceComponentStatus"] == "InService"
    expected = {"alarm": "alarm errors was in ALARM", "health": "did not pass the ping health check"}[fault]
    assert expected in described["FailureReason"]
    assert described["Specification"]["Container"]["DeployedImage"]["SpecifiedImage"] == "image"
    assert {key: launch.model for key, launch in control.fleet.running.items()} == {"qwen": "Qwen/Qwen3-8B"}
    assert copies(control) == (3, 3)
    assert component(control).split.share == 0


def test_without_a_policy_nothing_is_served_while_the_new_copies_start() -> None:
    control = Control()
    control.serving(copies=2)
    update(control, Specification=image("image:2"))
    served: list[int] = []
    control.on_sleep = lambda: served.append(copies(control)[1])
    control.later.run()
    assert served == [0]
    assert copies(control) == (2, 2)
    assert control.fleet.running["qwen"].model == "weights-of-image:2"


def test_without_a_policy_a_failed_start_brings_the_old_copies_back() -> None:
    control = Control()
    control.serving(copies=2)
    control.faults(unhealthy_images=["image:2"])
    update(control, Specification=image("image:2"))
    control.later.run()
    described = control.described()
    assert "did not pass the ping health check" in described["FailureReason"]
    assert control.fleet.running["qwen"].model == "Qwen/Qwen3-8B"
    assert copies(control) == (2, 2)


def test_the_copies_of_an_update_replace_those_that_scaling_made() -> None:
    control = Control()
    control.serving(copies=1, ManagedInstanceScaling=ROOMY)
    control.call(
        "UpdateInferenceComponentRuntimeConfig",
        InferenceComponentName="qwen",
        DesiredRuntimeConfig={"CopyCount": 5},
    )
    control.later.run()
    assert copies(control) == (5, 5)
    update(control, Specification=image("image:2"), RuntimeConfig={"CopyCount": 1})
    control.later.run()
    assert copies(control) == (1, 1)


def test_an_update_that_says_nothing_of_copies_leaves_them() -> None:
    control = Control()
    control.serving(copies=3)
    update(control, Specification=image("image:2"))
    control.later.run()
    assert copies(control) == (3, 3)


@pytest.mark.parametrize(
    ("copies_there", "size"),
    [(1, {"Type": "COPY_COUNT", "Value": 1}), (4, {"Type": "CAPACITY_PERCENT", "Value": 60})],
)
def test_fails_a_batch_above_half_of_the_copies(copies_there: int, size: dict[str, Any]) -> None:
    """MaximumBatchSize is between 5% and 50% of the copies, so that one copy cannot be rolled."""
    control = Control()
    control.serving(copies=copies_there, ManagedInstanceScaling=ROOMY)
    policy = {"RollingUpdatePolicy": {"MaximumBatchSize": size, "WaitIntervalInSeconds": 0}}
    with pytest.raises(AwsError, match="between 5% and 50% of the copy count"):
        update(control, Specification=image("image:2"), DeploymentConfig=policy)
    assert control.described()["InferenceComponentStatus"] == "InService"


def adapter(control: Control, name: str = "support", **container: Any) -> None:
    control.call(
        "CreateInferenceComponent",
        InferenceComponentName=name,
        EndpointName="chat",
        Specification={
            "BaseInferenceComponentName": "qwen",
            "Container": {"ArtifactUrl": "s3://bucket/adapter.tar.gz", **container},
        },
        RuntimeConfig={"CopyCount": 1},
    )


def test_an_adapter_is_in_service_on_its_base_and_takes_nothing_of_its_own() -> None:
    control = Control()
    control.serving(copies=3)
    adapter(control)
    control.later.run()
    described = control.described("support")
    assert described["InferenceComponentStatus"] == "InService"
    assert described["VariantName"] == "AllTraffic"
    assert described["Specification"]["BaseInferenceComponentName"] == "qwen"
    assert list(control.fleet.running) == ["qwen"], "the base's server answers"


def test_fails_an_adapter_whose_base_is_not_in_service() -> None:
    control = Control()
    control.endpoint()
    control.later.run()
    control.component(copies=9)
    control.later.run()
    adapter(control)
    control.later.run()
    assert control.described("support")["InferenceComponentStatus"] == "Failed"
    assert "base inference component qwen is Failed" in control.described("support")["FailureReason"]


def test_fails_an_adapter_without_an_artifact() -> None:
    control = Control()
    control.serving()
    with pytest.raises(AwsError, match=r"Container\.ArtifactUrl"):
        control.call(
            "CreateInferenceComponent",
            InferenceComponentName="support",
            EndpointName="chat",
            Specification={"BaseInferenceComponentName": "qwen"},
        )


def test_fails_to_delete_a_base_while_adapters_lie_on_it() -> None:
    control = Control()
    control.serving()
    adapter(control)
    control.later.run()
    with pytest.raises(AwsError, match=r"Cannot delete .* while \['support'\] refer to it"):
        control.call("DeleteInferenceComponent", InferenceComponentName="qwen")
    control.call("DeleteInferenceComponent", InferenceComponentName="support")
    control.later.run()
    control.call("DeleteInferenceComponent", InferenceComponentName="qwen")


def test_a_base_with_adapters_changes_and_they_are_served_again() -> None:
    """No page says that AWS refuses it; scaling such a base is no change of it either."""
    control = Control()
    control.serving()
    adapter(control)
    control.later.run()
    update(control, Specification=image("image:2"))
    control.later.run()
    assert control.described("support")["InferenceComponentStatus"] == "InService"
    assert control.described()["InferenceComponentStatus"] == "InService"
    assert control.fleet.running["qwen"].model == "weights-of-image:2"
    update(control, RuntimeConfig={"CopyCount": 2})
    control.later.run()
    assert copies(control) == (2, 2)


def test_without_copies_the_instances_go_and_come_back_with_them() -> None:
    """ "Scale an endpoint to zero instances": MinInstanceCount 0 and no copies."""
    control = Control()
    control.serving(
        ManagedInstanceScaling={"Status": "ENABLED", "MinInstanceCount": 0, "MaxInstanceCount": 2}
    )

    def scale(wanted: int) -> int:
        control.call(
            "UpdateInferenceComponentRuntimeConfig",
            InferenceComponentName="qwen",
            DesiredRuntimeConfig={"CopyCount": wanted},
        )
        control.later.run()
        assert copies(control) == (wanted, wanted)
        return int(control.endpoint_document()["ProductionVariants"][0]["CurrentInstanceCount"])

    assert scale(0) == 0
    assert scale(1) == 1


def pools(*types: str) -> dict[str, Any]:
    return {
        "InstanceType": None,
        "InstancePools": [{"InstanceType": name, "Priority": n} for n, name in enumerate(types, 1)],
    }


class PooledControl(Control):
    """Variants without a member that a change sets to None."""

    def call(self, operation: str, **params: Any) -> dict[str, Any]:
        for each in params.get("ProductionVariants", []):
            for name in [name for name, value in each.items() if value is None]:
                del each[name]
        return super().call(operation, **params)


def pooled(fault: list[str]) -> PooledControl:
    control = PooledControl()
    control.faults(insufficient_capacity=fault)
    control.endpoint(**pools("ml.g6.2xlarge", "ml.g6.12xlarge"), ManagedInstanceScaling=ROOMY)
    control.later.run()
    return control


def test_the_first_pool_is_used_while_it_has_capacity() -> None:
    [variant] = pooled([]).endpoint_document()["ProductionVariants"]
    assert variant["InstancePools"] == [
        {"InstanceType": "ml.g6.2xlarge", "CurrentInstanceCount": 1},
        {"InstanceType": "ml.g6.12xlarge", "CurrentInstanceCount": 0},
    ]


def test_a_pool_without_capacity_falls_back_to_the_next() -> None:
    """ "Deploy to multiple instance types with instance pools": lack of capacity is no failure."""
    control = pooled(["ml.g6.2xlarge"])
    assert control.endpoint_status() == "InService"
    [variant] = control.endpoint_document()["ProductionVariants"]
    assert [pool["CurrentInstanceCount"] for pool in variant["InstancePools"]] == [0, 1]


def test_fails_when_every_pool_is_without_capacity() -> None:
    control = pooled(["ml.g6.2xlarge", "ml.g6.12xlarge"])
    assert control.endpoint_status() == "Failed"
    reason = control.endpoint_document()["FailureReason"]
    assert "ml.g6.2xlarge, ml.g6.12xlarge" in reason
    assert "InsufficientInstanceCapacity" in reason


def test_each_instance_type_runs_the_specification_that_names_it() -> None:
    """One device a copy on the small type, two on the large one; the placement is shown by type."""
    control = pooled([])

    def on(name: str, devices: int) -> dict[str, Any]:
        needs = {"MinMemoryRequiredInMb": 1024, "NumberOfAcceleratorDevicesRequired": devices}
        return specification(InstanceType=name, ComputeResourceRequirements=needs)

    control.faults(insufficient_capacity=["ml.g6.2xlarge"])
    control.call(
        "CreateInferenceComponent",
        InferenceComponentName="qwen",
        EndpointName="chat",
        VariantName="AllTraffic",
        Specifications=[on("ml.g6.2xlarge", 1), on("ml.g6.12xlarge", 2)],
        RuntimeConfig={"CopyCount": 3},
    )
    control.later.run()
    described = control.described()
    assert described["InferenceComponentStatus"] == "InService"
    assert "Specification" not in described
    assert len(described["Specifications"]) == 2
    assert described["RuntimeConfig"]["PlacementStatus"] == [
        {"InstanceType": "ml.g6.2xlarge", "CurrentCopyCount": 1},
        {"InstanceType": "ml.g6.12xlarge", "CurrentCopyCount": 2},
    ], "the instance that is held takes one; the second pool takes the others, two devices each"


def test_fails_several_specifications_without_their_instance_types() -> None:
    control = pooled([])
    with pytest.raises(AwsError, match="InstanceType is required"):
        control.call(
            "CreateInferenceComponent",
            InferenceComponentName="qwen",
            EndpointName="chat",
            Specifications=[specification(), specification()],
        )


def test_an_adapter_gets_another_artifact_while_its_base_serves_on() -> None:
    control = Control()
    control.serving(copies=2)
    adapter(control)
    control.later.run()
    new = {"BaseInferenceComponentName": "qwen", "Container": {"ArtifactUrl": "s3://bucket/better.tar.gz"}}
    control.call("UpdateInferenceComponent", InferenceComponentName="support", Specification=new)
    control.on_sleep = lambda: copies(control) == (2, 2) or pytest.fail("the base was touched")
    control.later.run()
    assert control.described("support")["Specification"] == new
    assert control.described("support")["InferenceComponentStatus"] == "InService"


def test_a_component_that_is_deleted_while_it_comes_up_leaves_no_server() -> None:
    control = Control()
    control.endpoint()
    control.later.run()
    control.component()
    control.call("DeleteInferenceComponent", InferenceComponentName="qwen")
    control.later.run()
    assert control.fleet.running == {}
    with pytest.raises(AwsError, match="Could not find inference component"):
        control.described()


def test_a_model_that_a_variant_serves_has_its_own_plan() -> None:
    control = Control()
    control.model("planned", "image")
    control.sagemaker.set_plan(SCOPE, "model/planned", {"engine": {"step_base_ms": 7}, "model": "qwen"})
    control.endpoint(ModelName="planned")
    control.later.run()
    launch = control.fleet.running["chat/AllTraffic"]
    assert (launch.model, launch.engine) == ("qwen", {"step_base_ms": 7})
