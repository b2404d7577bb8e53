"""Deployments, adapters and faults through the cloud: real requests, model servers and alarms."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import botocore.exceptions
import pytest

from support_local import ROLE, TIMING, specification, variant
from support_sagemaker_cloud import ADMIN
from tokenmill.local.processes import wait_until

if TYPE_CHECKING:
    from support_sagemaker_cloud import Api

GPU = "ml.g6.2xlarge"


def canary(alarm: str) -> dict[str, Any]:
    routing = {
        "Type": "CANARY",
        "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 50},
        "WaitIntervalInSeconds": 3600,
    }
    return {
        "BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing},
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": alarm}]},
    }


def test_a_canary_gets_its_share_and_its_errors_roll_it_back(api: Api) -> None:
    """Half of the requests reach the new image, which fails: the alarm on 5xx ends the deployment."""
    api.served("old", ModelName=api.model("old"), InstanceType=GPU, InitialInstanceCount=2)
    alarm = api.alarm("Invocation5XXErrors", {"EndpointName": api.name, "VariantName": "AllTraffic"})
    new = api.config("new", ModelName=api.model("new"), InstanceType=GPU, InitialInstanceCount=2)
    api.sagemaker.update_endpoint(
        EndpointName=api.name, EndpointConfigName=new, DeploymentConfig=canary(alarm)
    )

    def baking() -> bool:
        pending = api.endpoint().get("PendingDeploymentSummary", {"ProductionVariants": [{}]})
        return bool(pending["ProductionVariants"][0].get("VariantStatus") == [{"Status": "Baking"}])

    assert wait_until(baking, 5)
    answers = [api.invoke()["model"] for _ in range(4)]
    assert sorted(answers) == ["weights-new"] * 2 + ["weights-old"] * 2
    api.faults(failing_images=[f"registry/{api.name}-new"])
    with pytest.raises(api.runtime.exceptions.ModelError) as raised:
        for _ in range(2):
            api.invoke()
    assert raised.value.response["OriginalStatusCode"] == 500
    assert wait_until(lambda: api.endpoint()["EndpointStatus"] == "InService", 10)
    described = api.endpoint()
    assert described["EndpointConfigName"] == f"{api.name}-old"
    assert alarm in described["FailureReason"]
    assert [api.invoke()["model"] for _ in range(4)] == ["weights-old"] * 4


def test_invoking_an_adapter_reaches_the_base_and_names_the_adapter(api: Api) -> None:
    api.served("config")
    base = api.component("base", specification())
    adapter = api.component(
        "support",
        {
            "BaseInferenceComponentName": base,
            "Container": {"ArtifactUrl": "s3://bucket/support.tar.gz"},
        },
    )
    assert api.invoke(base)["model"] == "Qwen/Qwen3-8B"
    assert api.invoke(adapter)["model"] == adapter
    metrics = api.cloudwatch.list_metrics(
        Namespace="AWS/SageMaker", Dimensions=[{"Name": "InferenceComponentName", "Value": adapter}]
    )["Metrics"]
    assert {"InvocationsPerCopy", "ConcurrentRequestsPerCopy", "Invocation5XXErrors"} <= {
        metric["MetricName"] for metric in metrics
    }
    api.sagemaker.delete_inference_component(InferenceComponentName=adapter)
    assert wait_until(
        lambda: not api.sagemaker.list_inference_components(NameContains=adapter)["InferenceComponents"], 5
    )


def test_answers_come_later_on_request(api: Api) -> None:
    api.served("old", ModelName=api.model("old"), InstanceType=GPU)
    api.faults(latency_ms={api.name: 400})
    began = time.monotonic()
    api.invoke()
    assert time.monotonic() - began >= 0.4


def stack(api: Api, image: str, *, copies: int = 1) -> str:
    """A template with an endpoint that serves a model by itself, and one with a component."""
    container = {"Image": image, "Environment": {"HF_MODEL_ID": image}}
    resources = {
        "Model": {
            "Type": "AWS::SageMaker::Model",
            "Metadata": {"tokenmill": {"engine": TIMING.to_json(), "model": "planned"}},
            "Properties": {"ExecutionRoleArn": ROLE, "PrimaryContainer": container},
        },
        "Config": {
            "Type": "AWS::SageMaker::EndpointConfig",
            "Properties": {
                "ProductionVariants": [
                    variant(InstanceType=GPU, ModelName={"Fn::GetAtt": ["Model", "ModelName"]})
                ]
            },
        },
        "Endpoint": {
            "Type": "AWS::SageMaker::Endpoint",
            "Properties": {
                "EndpointName": api.name,
                "EndpointConfigName": {"Fn::GetAtt": ["Config", "EndpointConfigName"]},
            },
        },
        "ComponentConfig": {
            "Type": "AWS::SageMaker::EndpointConfig",
            "Properties": {"ExecutionRoleArn": ROLE, "ProductionVariants": [variant()]},
        },
        "ComponentEndpoint": {
            "Type": "AWS::SageMaker::Endpoint",
            "Properties": {"EndpointConfigName": {"Fn::GetAtt": ["ComponentConfig", "EndpointConfigName"]}},
        },
        "Component": {
            "Type": "AWS::SageMaker::InferenceComponent",
            "Properties": {
                "InferenceComponentName": f"{api.name}-c",
                "EndpointName": {"Fn::GetAtt": ["ComponentEndpoint", "EndpointName"]},
                "VariantName": "AllTraffic",
                "RuntimeConfig": {"CopyCount": copies},
                "Specification": specification(Container=container),
            },
        },
    }
    return json.dumps({"Resources": resources})


def test_a_stack_update_that_sagemaker_rolls_back_succeeds_and_leaves_a_trap(api: Api) -> None:
    """The stack says UPDATE_COMPLETE, the endpoint has the old configuration, and that one is deleted.

    The next update then fails, as in terraform-provider-aws #48997.
    """
    api.cloudformation.create_stack(StackName=api.name, TemplateBody=stack(api, "image:1"))
    api.wait_for_stack("stack_create_complete")
    before = api.endpoint()["EndpointConfigName"]
    servers = api.cloud.admin("status", {**ADMIN, "stack": api.name})["model_servers"]
    [server] = [each for each in servers if each["component"] == f"{api.name}/AllTraffic"]
    assert (server["timing"], server["model"]) == ("plan", "planned"), "the model's metadata has the plan"
    api.faults(unhealthy_images=["image:2"])
    api.cloudformation.update_stack(StackName=api.name, TemplateBody=stack(api, "image:2"))
    api.wait_for_stack("stack_update_complete")
    described = api.endpoint()
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", before)
    assert "ping health check" in described["FailureReason"]
    with pytest.raises(botocore.exceptions.ClientError, match="Could not find endpoint configuration"):
        api.sagemaker.describe_endpoint_config(EndpointConfigName=before)
    component = api.described(f"{api.name}-c")
    image = component["Specification"]["Container"]["DeployedImage"]
    assert image["SpecifiedImage"] == "image:1"
    api.faults(unhealthy_images=[])
    with pytest.raises(botocore.exceptions.ClientError, match="Could not find endpoint configuration"):
        api.sagemaker.update_endpoint(EndpointName=api.name, EndpointConfigName=api.config("next"))
    api.cloudformation.delete_stack(StackName=api.name)
    api.wait_for_stack("stack_delete_complete")


def test_a_stack_update_of_the_image_resets_the_copies_that_scaling_made(api: Api) -> None:
    """The template's CopyCount goes along with every change of the component: what a live count prevents."""
    api.cloudformation.create_stack(StackName=api.name, TemplateBody=stack(api, "image:1"))
    api.wait_for_stack("stack_create_complete")
    component = f"{api.name}-c"
    api.sagemaker.update_inference_component_runtime_config(
        InferenceComponentName=component, DesiredRuntimeConfig={"CopyCount": 3}
    )
    assert wait_until(lambda: api.copies(component) == 3, 5)
    api.cloudformation.update_stack(StackName=api.name, TemplateBody=stack(api, "image:2"))
    api.wait_for_stack("stack_update_complete")
    assert api.copies(component) == 1
    api.cloudformation.update_stack(StackName=api.name, TemplateBody=stack(api, "image:3", copies=3))
    api.wait_for_stack("stack_update_complete")
    assert api.copies(component) == 3
    api.cloudformation.delete_stack(StackName=api.name)
    api.wait_for_stack("stack_delete_complete")


def test_a_component_serves_during_a_rolling_update(api: Api) -> None:
    """Requests are answered all the time, by the old copies, by both, and by the new ones."""
    scaling = {"Status": "ENABLED", "MinInstanceCount": 1, "MaxInstanceCount": 3}
    api.served("config", ManagedInstanceScaling=scaling)
    component = api.component("rolling", specification())
    api.sagemaker.update_inference_component_runtime_config(
        InferenceComponentName=component, DesiredRuntimeConfig={"CopyCount": 2}
    )
    assert wait_until(lambda: api.copies(component) == 2, 5)
    policy = {"MaximumBatchSize": {"Type": "COPY_COUNT", "Value": 1}, "WaitIntervalInSeconds": 900}
    environment = {"HF_MODEL_ID": "new", "SM_ON_SEQUENCE_LENGTH": "2048"}
    api.sagemaker.update_inference_component(
        InferenceComponentName=component,
        Specification=specification(Container={"Image": "image:2", "Environment": environment}),
        DeploymentConfig={"RollingUpdatePolicy": policy},
    )
    answered: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                answered.append(api.invoke(component)["model"])
            except botocore.exceptions.ClientError as error:
                answered.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    done = wait_until(lambda: api.described(component)["InferenceComponentStatus"] == "InService", 20)
    stop.set()
    asking.join()
    assert done
    assert answered[0] == "Qwen/Qwen3-8B"
    assert set(answered) == {"Qwen/Qwen3-8B", "new"}
    assert api.invoke(component)["model"] == "new"
