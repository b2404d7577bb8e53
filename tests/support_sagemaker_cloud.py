"""Endpoints and components of the running local cloud, asked through its clients."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from support_local import ACCOUNT, REGION, ROLE, client, variant
from tokenmill.local.processes import wait_until

if TYPE_CHECKING:
    from tokenmill.local.cloud_process import CloudProcess

CHAT = json.dumps({"messages": [{"role": "user", "content": "hello"}], "max_tokens": 1})
ADMIN = {"account": ACCOUNT, "region": REGION}


class Api:
    """The cloud's clients, and what a test made with them."""

    def __init__(self, cloud: CloudProcess) -> None:
        self.cloud = cloud
        self.name = f"t-{uuid4().hex[:8]}"
        self.sagemaker = client(cloud.endpoint, "sagemaker")
        self.runtime = client(cloud.endpoint, "sagemaker-runtime")
        self.scaling = client(cloud.endpoint, "application-autoscaling")
        self.cloudwatch = client(cloud.endpoint, "cloudwatch")
        self.cloudformation = client(cloud.endpoint, "cloudformation")

    def faults(self, **faults: Any) -> None:
        self.cloud.admin("faults", {**ADMIN, **faults})

    def model(self, suffix: str) -> str:
        """A model whose image and weights end with a suffix."""
        name = f"{self.name}-{suffix}"
        environment = {"HF_MODEL_ID": f"weights-{suffix}"}
        container = {"Image": f"registry/{name}", "Environment": environment}
        self.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
        return name

    def config(self, suffix: str, **changes: Any) -> str:
        name = f"{self.name}-{suffix}"
        self.sagemaker.create_endpoint_config(
            EndpointConfigName=name, ExecutionRoleArn=ROLE, ProductionVariants=[variant(**changes)]
        )
        return name

    def served(self, suffix: str, **changes: Any) -> None:
        """An endpoint in service."""
        self.sagemaker.create_endpoint(
            EndpointName=self.name, EndpointConfigName=self.config(suffix, **changes)
        )
        assert wait_until(lambda: self.endpoint()["EndpointStatus"] == "InService", 10)

    def endpoint(self) -> dict[str, Any]:
        return dict(self.sagemaker.describe_endpoint(EndpointName=self.name))

    def component(self, name: str, specification: dict[str, Any]) -> str:
        full = f"{self.name}-{name}"
        self.sagemaker.create_inference_component(
            InferenceComponentName=full,
            EndpointName=self.name,
            VariantName="AllTraffic",
            Specification=specification,
            RuntimeConfig={"CopyCount": 1},
        )
        assert wait_until(lambda: self.described(full)["InferenceComponentStatus"] == "InService", 10)
        return full

    def described(self, component: str) -> dict[str, Any]:
        return dict(self.sagemaker.describe_inference_component(InferenceComponentName=component))

    def copies(self, component: str) -> int:
        return int(self.described(component)["RuntimeConfig"]["CurrentCopyCount"])

    def invoke(self, component: str | None = None) -> dict[str, Any]:
        more = {"InferenceComponentName": component} if component else {}
        answer = self.runtime.invoke_endpoint(EndpointName=self.name, Body=CHAT, **more)
        return dict(json.loads(answer["Body"].read()))

    def alarm(self, metric: str, dimensions: dict[str, str], actions: list[str] | None = None) -> str:
        name = f"{self.name}-{metric}"
        self.cloudwatch.put_metric_alarm(
            AlarmName=name,
            Namespace="AWS/SageMaker",
            MetricName=metric,
            Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
            Statistic="Sum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=1.0,
            ComparisonOperator="GreaterThanOrEqualToThreshold",
            TreatMissingData="notBreaching",
            AlarmActions=actions or [],
        )
        return name

    def wait_for_stack(self, waiter: str) -> None:
        self.cloudformation.get_waiter(waiter).wait(
            StackName=self.name, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
        )
