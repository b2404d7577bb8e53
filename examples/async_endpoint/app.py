"""Long answers without a waiting caller: requests from S3, answers to S3, no instance while nothing waits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import aws_cdk as cdk

from tokenmill import Capacity, Serving
from tokenmill.batch import AsyncFanOut
from tokenmill.endpoints import AsyncEndpoint
from tokenmill.lint import acknowledge_from, register_packs
from tokenmill.scaling import BacklogScaling

if TYPE_CHECKING:
    from constructs import Construct

HERE = Path(__file__).resolve().parent
CAPACITY = Capacity(minimum=0, maximum=4, initial=1)
SERVING = Serving(
    model="Qwen/Qwen3-8B",
    instance_type="ml.g6e.2xlarge",
    tensor_parallel=1,
    max_sequences=16,
    context_tokens=16384,
)


class AsyncRequests(cdk.Stack):
    """An asynchronous endpoint that follows its backlog, and a job that sends it a file of requests."""

    def __init__(self, scope: Construct, id: str) -> None:
        super().__init__(scope, id)
        endpoint = AsyncEndpoint(self, "Llm", serving=SERVING, capacity=CAPACITY)
        BacklogScaling(self, "Scaling", endpoint=endpoint, capacity=CAPACITY)
        fan_out = AsyncFanOut(self, "FanOut", endpoint=endpoint)
        cdk.CfnOutput(self, "EndpointName", value=endpoint.endpoint_name)
        cdk.CfnOutput(self, "Files", value=fan_out.bucket.bucket_name)


app = cdk.App()
stack = AsyncRequests(app, "async-endpoint")
acknowledge_from(stack, HERE.parent / "acknowledgements.toml")
register_packs(app, packs=app.node.try_get_context("tokenmill:packs") or [])
app.synth()
