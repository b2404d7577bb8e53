"""Two LoRA adapters on one base model: each is called by its own name, both share the base's copies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_s3 as s3

from tokenmill import Adapter, Capacity, LlmEndpoint, Serving
from tokenmill.core.engine_options import EngineOptions, LoraSlots
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
    options=EngineOptions(lora=LoraSlots(max_adapters=4, max_rank=32)),
)


class LoraAdapters(cdk.Stack):
    """One endpoint, one base model, an adapter for each team."""

    def __init__(self, scope: Construct, id: str, *, bucket_name: str) -> None:
        super().__init__(scope, id)
        weights = s3.Bucket.from_bucket_name(self, "Weights", bucket_name)
        capacity = Capacity(minimum=2, maximum=4, initial=2)
        endpoint = LlmEndpoint(self, "Llm", serving=SERVING, capacity=capacity)
        for name, rank in (("Support", 16), ("Sales", 32)):
            adapter = Adapter(
                name=name.lower(),
                base_model="Qwen/Qwen3-8B",
                rank=rank,
                artifact=f"s3://{bucket_name}/adapters/{name.lower()}.tar.gz",
            )
            made = endpoint.add_adapter(name, adapter=adapter, bucket=weights)
            cdk.CfnOutput(self, f"{name}Name", value=made.component_name)
        cdk.CfnOutput(self, "EndpointName", value=endpoint.endpoint_name)
        cdk.CfnOutput(self, "ComponentName", value=endpoint.component_name)


app = cdk.App()
stack = LoraAdapters(app, "lora-adapters", bucket_name="my-adapters")
acknowledge_from(stack, HERE.parent / "acknowledgements.toml")
register_packs(app, packs=app.node.try_get_context("tokenmill:packs") or [])
app.synth()
