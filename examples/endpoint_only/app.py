"""Your own stack, one of tokenmill's constructs in it: a model that scales on the work that tokens make."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from acknowledgements import acknowledge_findings
from aws_cdk import aws_kms as kms

from tokenmill import Capacity, Heartbeat, LlmEndpoint, TokenScaling
from tokenmill.endpoints import EndpointHosting, Serving
from tokenmill.lint import register_packs
from tokenmill.observability import HeartbeatTarget
from tokenmill.scaling import TokenScalingPolicy

if TYPE_CHECKING:
    from constructs import Construct

CAPACITY = Capacity(minimum=2, maximum=6, initial=2)
SERVING = Serving(
    model="Qwen/Qwen3-8B",
    instance_type="ml.inf2.8xlarge",
    tensor_parallel=2,
    max_sequences=8,
    context_tokens=4096,
)


class ModelStack(cdk.Stack):
    """A stack of yours; nothing but its base class comes from a library."""

    def __init__(self, scope: Construct, id: str) -> None:
        super().__init__(scope, id)
        key = kms.Key(self, "Key", enable_key_rotation=True)
        hosting = EndpointHosting(encryption_key=key)
        self.endpoint = LlmEndpoint(self, "Llm", serving=SERVING, capacity=CAPACITY, hosting=hosting)
        # Whoever calls the model publishes TokenWork (tokenmill_runtime.emf); the heartbeat counts copies.
        self.heartbeat = Heartbeat(self, "Heartbeat", targets=[HeartbeatTarget.endpoint(self.endpoint)])
        TokenScaling(
            self,
            "Scaling",
            endpoint=self.endpoint,
            capacity=CAPACITY,
            policy=TokenScalingPolicy(target_utilization_percent=70, concurrent_requests_per_copy=6),
        )
        cdk.CfnOutput(self, "ComponentName", value=self.endpoint.component_name)


app = cdk.App()
stack = ModelStack(app, "model")
acknowledge_findings(stack)
register_packs(app, packs=app.node.try_get_context("tokenmill:packs") or [])
app.synth()
