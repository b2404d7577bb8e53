"""Canary deployments of a single-variant endpoint: a fifth of the traffic first, and back when it alarms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_sns as sns
from aws_cdk.aws_cloudwatch_actions import SnsAction

from tokenmill import Capacity, Serving
from tokenmill.endpoints import UpdatePolicy, VariantEndpoint
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


class BlueGreen(cdk.Stack):
    """Two instances; `-c context_tokens=4096` is a change that goes through the canary."""

    def __init__(self, scope: Construct, id: str, *, serving: Serving) -> None:
        super().__init__(scope, id)
        topic = sns.Topic(self, "OnCall", enforce_ssl=True)
        errors = cloudwatch.Alarm(
            self,
            "Errors",
            metric=cloudwatch.Metric(namespace="MyService", metric_name="Errors", statistic="Sum"),
            threshold=1,
            evaluation_periods=1,
        )
        errors.add_alarm_action(SnsAction(topic))
        update = UpdatePolicy.canary(percent=20, wait=cdk.Duration.minutes(5), alarms=(errors,))
        capacity = Capacity(minimum=5, maximum=5, initial=5)
        endpoint = VariantEndpoint(self, "Llm", serving=serving, capacity=capacity, update=update)
        cdk.CfnOutput(self, "EndpointName", value=endpoint.endpoint_name)
        cdk.CfnOutput(self, "Alarm", value=errors.alarm_name)


app = cdk.App()
tokens = int(app.node.try_get_context("context_tokens") or SERVING.context_tokens)
stack = BlueGreen(app, "blue-green", serving=replace(SERVING, context_tokens=tokens))
acknowledge_from(stack, HERE.parent / "acknowledgements.toml")
register_packs(app, packs=app.node.try_get_context("tokenmill:packs") or [])
app.synth()
