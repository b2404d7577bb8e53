"""A model that costs nothing while nobody asks: a request wakes it, and a queue keeps that request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import aws_cdk as cdk

from tokenmill import Capacity, Heartbeat, LlmEndpoint, Serving, TokenScaling, TokenScalingPolicy
from tokenmill.lint import acknowledge_from, register_packs
from tokenmill.observability import HeartbeatTarget
from tokenmill.scaling import WakeUpQueue

if TYPE_CHECKING:
    from constructs import Construct

HERE = Path(__file__).resolve().parent
CAPACITY = Capacity(minimum=0, maximum=3, initial=1)
SERVING = Serving(
    model="Qwen/Qwen3-8B",
    instance_type="ml.inf2.8xlarge",
    tensor_parallel=2,
    max_sequences=8,
    context_tokens=4096,
)


class ScaleToZero(cdk.Stack):
    """Copies follow the work down to none; instances go with the last copy."""

    def __init__(self, scope: Construct, id: str) -> None:
        super().__init__(scope, id)
        endpoint = LlmEndpoint(self, "Llm", serving=SERVING, capacity=CAPACITY)
        policy = TokenScalingPolicy(target_utilization_percent=70, concurrent_requests_per_copy=6)
        TokenScaling(self, "Scaling", endpoint=endpoint, capacity=CAPACITY, policy=policy)
        Heartbeat(self, "Heartbeat", targets=[HeartbeatTarget.endpoint(endpoint)])
        requests = WakeUpQueue(self, "Requests", endpoint=endpoint)
        cdk.CfnOutput(self, "QueueUrl", value=requests.queue.queue_url)
        cdk.CfnOutput(self, "Answers", value=requests.answers.bucket_name)
        cdk.CfnOutput(self, "EndpointName", value=endpoint.endpoint_name)
        cdk.CfnOutput(self, "ComponentName", value=endpoint.component_name)


app = cdk.App()
stack = ScaleToZero(app, "scale-to-zero")
acknowledge_from(stack, HERE.parent / "acknowledgements.toml")
register_packs(app, packs=app.node.try_get_context("tokenmill:packs") or [])
app.synth()
