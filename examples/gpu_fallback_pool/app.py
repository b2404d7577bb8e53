"""GPU types by preference: where the first has no capacity, the next one serves the same model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import aws_cdk as cdk

from tokenmill import Capacity, LlmEndpoint, Serving
from tokenmill.endpoints import Fleet, InstancePool, Routing
from tokenmill.lint import acknowledge_from, register_packs

if TYPE_CHECKING:
    from constructs import Construct

HERE = Path(__file__).resolve().parent
SERVING = Serving(
    model="Qwen/Qwen3-8B",
    instance_type="ml.g6e.2xlarge",
    tensor_parallel=1,
    max_sequences=16,
    context_tokens=8192,
)


class GpuFallbackPool(cdk.Stack):
    """Three types of one vendor under one endpoint; Inferentia2 beside GPUs would be two endpoints."""

    def __init__(self, scope: Construct, id: str) -> None:
        super().__init__(scope, id)
        fleet = Fleet(
            pools=(
                InstancePool(instance_type="ml.g6e.2xlarge", priority=1),
                InstancePool(instance_type="ml.g6e.4xlarge", priority=2),
                InstancePool(instance_type="ml.g6e.8xlarge", priority=3),
            ),
            routing=Routing.prefix_aware(concurrency_threshold=16),
        )
        capacity = Capacity(minimum=2, maximum=6, initial=2)
        endpoint = LlmEndpoint(self, "Llm", serving=SERVING, capacity=capacity, fleet=fleet)
        cdk.CfnOutput(self, "EndpointName", value=endpoint.endpoint_name)
        cdk.CfnOutput(self, "ComponentName", value=endpoint.component_name)


app = cdk.App()
stack = GpuFallbackPool(app, "gpu-fallback-pool")
acknowledge_from(stack, HERE.parent / "acknowledgements.toml")
register_packs(app, packs=app.node.try_get_context("tokenmill:packs") or [])
app.synth()
