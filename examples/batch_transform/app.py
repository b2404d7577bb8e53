"""Files of requests in, files of answers out: instances run for the length of a job and no longer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import aws_cdk as cdk

from tokenmill import Serving
from tokenmill.batch import BatchTransform, TransformJob
from tokenmill.lint import acknowledge_from, register_packs

if TYPE_CHECKING:
    from constructs import Construct

HERE = Path(__file__).resolve().parent
SERVING = Serving(
    model="Qwen/Qwen3-8B",
    instance_type="ml.g5.12xlarge",
    tensor_parallel=4,
    max_sequences=16,
    context_tokens=8192,
)


class Transform(cdk.Stack):
    """`tokenmill jobs run transform` starts a job; see docs/sagemaker.md."""

    def __init__(self, scope: Construct, id: str) -> None:
        super().__init__(scope, id)
        job = TransformJob(instances=2, limit_hours=6)
        transform = BatchTransform(self, "Transform", serving=SERVING, job=job)
        cdk.CfnOutput(self, "Files", value=transform.bucket.bucket_name)
        cdk.CfnOutput(self, "StateMachine", value=transform.state_machine.state_machine_arn)


app = cdk.App()
stack = Transform(app, "batch-transform")
acknowledge_from(stack, HERE.parent / "acknowledgements.toml")
register_packs(app, packs=app.node.try_get_context("tokenmill:packs") or [])
app.synth()
