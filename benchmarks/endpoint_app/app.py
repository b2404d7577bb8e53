"""An endpoint with two components, two adapters and scaling, or none, as the argument says."""

from __future__ import annotations

import sys

import aws_cdk as cdk


def endpoint_stack(app: cdk.App, *, checked: bool) -> None:
    """Make the stack that the limit is about.

    Args:
        app: The app.
        checked: Whether deployments are guarded and verified.
    """
    from tokenmill import Adapter, Capacity, EngineOptions, LlmEndpoint, Serving, TokenScaling, UpdatePolicy
    from tokenmill.core.engine_options import LoraSlots
    from tokenmill.scaling import TokenScalingPolicy

    stack = cdk.Stack(app, "endpoint", env=cdk.Environment(region="us-east-1"))
    serving = Serving(
        model="Qwen/Qwen3-8B",
        instance_type="ml.g6e.2xlarge",
        tensor_parallel=1,
        max_sequences=16,
        context_tokens=8192,
        options=EngineOptions(lora=LoraSlots(max_adapters=2, max_rank=16)),
    )
    capacity = Capacity(minimum=2, maximum=4, initial=2)
    update = None if checked else UpdatePolicy.unguarded()
    endpoint = LlmEndpoint(stack, "Llm", serving=serving, capacity=capacity, update=update)
    second = endpoint.add_component("Second", serving=serving, capacity=capacity)
    for name in ("Support", "Sales"):
        artifact = f"s3://my-adapters/{name.lower()}.tar.gz"
        adapter = Adapter(name=name.lower(), base_model="Qwen/Qwen3-8B", rank=16, artifact=artifact)
        endpoint.add_adapter(name, adapter=adapter)
    policy = TokenScalingPolicy(target_utilization_percent=70, concurrent_requests_per_copy=12)
    for name, component in (("Scaling", endpoint), ("SecondScaling", second)):
        TokenScaling(stack, name, endpoint=component, capacity=capacity, policy=policy)


app = cdk.App(analytics_reporting=False)
if sys.argv[1] == "empty":
    cdk.Stack(app, "endpoint")
else:
    endpoint_stack(app, checked=sys.argv[1] == "checked")
app.synth()
