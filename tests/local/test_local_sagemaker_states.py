"""The control plane's states, with transitions that the test runs by hand."""

from __future__ import annotations

from typing import Any

import pytest

from support_local import ROLE, SCOPE, variant
from support_sagemaker import Control
from tokenmill.local.aws_requests import AwsError


def test_an_endpoint_goes_from_creating_to_in_service() -> None:
    control = Control()
    control.endpoint()
    assert control.endpoint_status() == "Creating"
    control.later.run()
    assert control.endpoint_status() == "InService"


def test_a_component_starts_a_model_server_and_is_then_in_service() -> None:
    control = Control()
    control.endpoint()
    control.later.run()
    control.component(copies=2)
    assert control.described()["InferenceComponentStatus"] == "Creating"
    assert control.described()["RuntimeConfig"] == {"DesiredCopyCount": 2, "CurrentCopyCount": 0}
    control.later.run()
    assert control.described()["InferenceComponentStatus"] == "InService"
    assert control.described()["RuntimeConfig"] == {"DesiredCopyCount": 2, "CurrentCopyCount": 2}
    launch = control.fleet.running["qwen"]
    assert (launch.model, launch.context_tokens, launch.copies) == ("Qwen/Qwen3-8B", 2048, 2)


def test_the_plan_in_the_templates_metadata_reaches_the_model_server() -> None:
    control = Control()
    control.endpoint()
    control.later.run()
    control.sagemaker.set_plan(SCOPE, "qwen", {"engine": {"step_base_ms": 7}, "model": "planned"})
    control.component()
    control.later.run()
    assert control.fleet.running["qwen"].engine == {"step_base_ms": 7}
    assert control.fleet.running["qwen"].model == "planned"


def test_a_plan_that_changed_alone_starts_the_server_again() -> None:
    control = Control()
    control.serving()
    control.sagemaker.set_plan(SCOPE, "qwen", {"engine": {"step_base_ms": 8}})
    control.sagemaker.follow_plan(SCOPE, "qwen")
    assert control.fleet.running["qwen"].engine == {"step_base_ms": 8}
    assert control.described()["InferenceComponentStatus"] == "InService"


def test_a_model_server_that_does_not_start_fails_the_component_with_its_reason() -> None:
    control = Control()
    control.endpoint()
    control.later.run()
    control.fleet.failure = "the server behind TOKENMILL_MODEL_URL does not answer"
    control.component()
    control.later.run()
    assert control.described()["InferenceComponentStatus"] == "Failed"
    assert "TOKENMILL_MODEL_URL" in control.described()["FailureReason"]


def test_copies_are_changed_in_place() -> None:
    control = Control()
    control.serving()
    control.call(
        "UpdateInferenceComponentRuntimeConfig",
        InferenceComponentName="qwen",
        DesiredRuntimeConfig={"CopyCount": 3},
    )
    assert control.described()["InferenceComponentStatus"] == "Updating"
    control.later.run()
    assert control.described()["RuntimeConfig"] == {"DesiredCopyCount": 3, "CurrentCopyCount": 3}
    assert control.fleet.resized == [("qwen", 3)]


def test_fails_to_place_more_copies_than_the_instances_have_accelerators() -> None:
    """ml.inf2.24xlarge has 6 devices: three copies of two fit, four do not."""
    control = Control()
    control.endpoint()
    control.later.run()
    control.component(copies=4)
    control.later.run()
    assert control.described()["InferenceComponentStatus"] == "Failed"
    assert "at most 1 ml.inf2.24xlarge with 6 each" in control.described()["FailureReason"]


def test_managed_instance_scaling_follows_the_copies_between_its_bounds() -> None:
    scaling = {"Status": "ENABLED", "MinInstanceCount": 1, "MaxInstanceCount": 2}
    control = Control()
    control.serving(copies=4, ManagedInstanceScaling=scaling)
    [described] = control.call("DescribeEndpoint", EndpointName="chat")["ProductionVariants"]
    assert described["CurrentInstanceCount"] == 2
    control.call(
        "UpdateInferenceComponentRuntimeConfig",
        InferenceComponentName="qwen",
        DesiredRuntimeConfig={"CopyCount": 1},
    )
    control.later.run()
    [described] = control.call("DescribeEndpoint", EndpointName="chat")["ProductionVariants"]
    assert described["CurrentInstanceCount"] == 1


def test_fails_an_update_that_fits_nowhere_and_keeps_serving() -> None:
    control = Control()
    control.serving()
    control.call(
        "UpdateInferenceComponentRuntimeConfig",
        InferenceComponentName="qwen",
        DesiredRuntimeConfig={"CopyCount": 9},
    )
    control.later.run()
    described = control.described()
    assert described["InferenceComponentStatus"] == "InService"
    assert described["RuntimeConfig"] == {"DesiredCopyCount": 1, "CurrentCopyCount": 1}
    assert "Not enough hardware" in described["FailureReason"]


def test_injected_lack_of_capacity_fails_a_launch_as_aws_words_it() -> None:
    control = Control()
    control.endpoint(ManagedInstanceScaling={"Status": "ENABLED", "MaxInstanceCount": 2})
    control.later.run()
    control.faults(insufficient_capacity=["ml.inf2.24xlarge"])
    control.component(copies=4)
    control.later.run()
    assert "InsufficientInstanceCapacity" in control.described()["FailureReason"]
    control.faults(insufficient_capacity=[])
    control.component(name="second", copies=4)
    control.later.run()
    assert control.described("second")["InferenceComponentStatus"] == "InService"


def test_copies_that_fit_on_the_instances_that_are_there_need_no_capacity() -> None:
    control = Control()
    control.endpoint()
    control.later.run()
    control.faults(insufficient_capacity=["ml.inf2.24xlarge"])
    control.component(copies=3)
    control.later.run()
    assert control.described()["InferenceComponentStatus"] == "InService"


@pytest.mark.parametrize("operation", ["UpdateEndpoint", "DeleteEndpoint"])
def test_fails_to_touch_an_endpoint_in_progress(operation: str) -> None:
    control = Control()
    control.endpoint()
    params = {"EndpointName": "chat"} | (
        {"EndpointConfigName": "chat-config"} if operation == "UpdateEndpoint" else {}
    )
    with pytest.raises(AwsError, match=r"Cannot (update|delete) in-progress endpoint \"arn:aws:sagemaker"):
        control.call(operation, **params)


def test_fails_to_update_a_component_in_progress() -> None:
    control = Control()
    control.endpoint()
    control.later.run()
    control.component()
    with pytest.raises(AwsError, match="in status Creating"):
        control.call(
            "UpdateInferenceComponentRuntimeConfig",
            InferenceComponentName="qwen",
            DesiredRuntimeConfig={"CopyCount": 2},
        )


def test_fails_to_delete_an_endpoint_that_hosts_components() -> None:
    control = Control()
    control.serving()
    with pytest.raises(AwsError, match="while it hosts inference components"):
        control.call("DeleteEndpoint", EndpointName="chat")


def test_deleting_ends_the_server_and_then_forgets_the_component() -> None:
    control = Control()
    control.serving()
    control.call("DeleteInferenceComponent", InferenceComponentName="qwen")
    assert control.described()["InferenceComponentStatus"] == "Deleting"
    control.later.run()
    assert control.fleet.running == {}
    with pytest.raises(AwsError, match="Could not find inference component"):
        control.described()
    control.call("DeleteEndpoint", EndpointName="chat")
    control.later.run()
    with pytest.raises(AwsError, match=r"Could not find endpoint \"arn"):
        control.endpoint_status()


def test_an_update_with_another_configuration_keeps_the_endpoint() -> None:
    control = Control()
    control.serving()
    control.call(
        "CreateEndpointConfig",
        EndpointConfigName="larger",
        ExecutionRoleArn=ROLE,
        ProductionVariants=[variant(InitialInstanceCount=2)],
    )
    control.call("UpdateEndpoint", EndpointName="chat", EndpointConfigName="larger")
    assert control.endpoint_status() == "Updating"
    control.later.run()
    described = control.call("DescribeEndpoint", EndpointName="chat")
    assert described["EndpointStatus"] == "InService"
    assert described["EndpointConfigName"] == "larger"
    assert described["ProductionVariants"][0]["CurrentInstanceCount"] == 2


def test_fails_a_component_with_no_copies_from_the_start() -> None:
    """Scale to zero is reached later; users of the real service report this refusal."""
    control = Control()
    control.endpoint()
    control.later.run()
    with pytest.raises(AwsError, match="copy count an integer larger than 0"):
        control.component(copies=0)


def test_fails_a_configuration_for_components_without_a_role() -> None:
    control = Control()
    with pytest.raises(AwsError, match="ExecutionRoleArn is required"):
        control.call("CreateEndpointConfig", EndpointConfigName="c", ProductionVariants=[variant()])


def test_fails_a_name_twice() -> None:
    control = Control()
    control.serving()
    with pytest.raises(AwsError, match="Cannot create already existing"):
        control.component()


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"EndpointName": "under_score", "EndpointConfigName": "c"}, "regular expression pattern"),
        ({"EndpointName": "e" * 64, "EndpointConfigName": "c"}, "length less than or equal to 63"),
        ({"EndpointName": "e"}, "Missing required parameter"),
        ({"EndpointName": "e", "EndpointConfigName": "c", "Colour": "red"}, "Unknown parameter"),
        ({"EndpointName": 7, "EndpointConfigName": "c"}, "Invalid type"),
    ],
)
def test_fails_requests_that_botocores_own_model_does_not_allow(params: dict[str, Any], said: str) -> None:
    with pytest.raises(AwsError, match=said) as raised:
        Control().call("CreateEndpoint", **params)
    assert raised.value.code == "ValidationException"


def test_fails_an_operation_that_is_not_modelled_by_name() -> None:
    with pytest.raises(AwsError, match="SageMaker CreateTrainingJob is not modelled"):
        Control().sagemaker.call(SCOPE, "CreateTrainingJob", {})


def test_a_variant_that_names_a_model_serves_without_components() -> None:
    control = Control()
    environment = {"HF_MODEL_ID": "Qwen/Qwen3-8B"}
    control.call(
        "CreateModel",
        ModelName="qwen-model",
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"Image": "image", "Environment": environment},
    )
    control.endpoint(ModelName="qwen-model")
    control.later.run()
    assert control.fleet.running["chat/AllTraffic"].model == "Qwen/Qwen3-8B"
    with pytest.raises(AwsError, match="Inference Components are not supported in this Endpoint"):
        control.component()
