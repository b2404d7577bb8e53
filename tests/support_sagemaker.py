"""A SageMaker control plane whose time stands still and whose transitions the test runs."""

from __future__ import annotations

from typing import Any

from support_local import ROLE, SCOPE, ByHand, FakeFleet, specification, variant
from tokenmill.local.sagemaker.control import SageMaker


class Control:
    """A control plane; `slept` has what a transition waited, `on_sleep` is called at each wait."""

    def __init__(self) -> None:
        self.fleet = FakeFleet()
        self.later = ByHand()
        self.slept: list[float] = []
        self.on_sleep: Any = lambda: None
        self.alarms: dict[str, str] = {}
        self.sagemaker = SageMaker(self.fleet, background=self.later, sleep=self._sleep)
        self.sagemaker.alarm_state = lambda _scope, name: self.alarms.get(name)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.on_sleep()

    def call(self, operation: str, **params: Any) -> dict[str, Any]:
        self.sagemaker.shapes.check(operation, params)
        return self.sagemaker.call(SCOPE, operation, params)

    def faults(self, **faults: Any) -> None:
        self.sagemaker.set_faults(SCOPE, faults)

    def config(self, name: str, **changes: Any) -> None:
        """An endpoint configuration with one variant."""
        self.call(
            "CreateEndpointConfig",
            EndpointConfigName=name,
            ExecutionRoleArn=ROLE,
            ProductionVariants=[variant(**changes)],
        )

    def model(self, name: str, image: str) -> None:
        environment = {"HF_MODEL_ID": f"weights-of-{name}"}
        container = {"Image": image, "Environment": environment}
        self.call("CreateModel", ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)

    def endpoint(self, name: str = "chat", **changes: Any) -> None:
        self.config(f"{name}-config", **changes)
        self.call("CreateEndpoint", EndpointName=name, EndpointConfigName=f"{name}-config")

    def component(self, name: str = "qwen", copies: int = 1, **changes: Any) -> None:
        self.call(
            "CreateInferenceComponent",
            InferenceComponentName=name,
            EndpointName="chat",
            VariantName="AllTraffic",
            Specification=specification(**changes),
            RuntimeConfig={"CopyCount": copies},
        )

    def endpoint_status(self) -> str:
        return str(self.endpoint_document()["EndpointStatus"])

    def endpoint_document(self) -> dict[str, Any]:
        return self.call("DescribeEndpoint", EndpointName="chat")

    def described(self, name: str = "qwen") -> dict[str, Any]:
        return self.call("DescribeInferenceComponent", InferenceComponentName=name)

    def serving(self, copies: int = 1, **changes: Any) -> None:
        """An endpoint and a component in service."""
        self.endpoint(**changes)
        self.later.run()
        self.component(copies=copies)
        self.later.run()
