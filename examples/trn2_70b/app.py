"""A 70-billion model on Trainium2: its image is built in your account, it is compiled before it serves.

npx cdk deploy trn2-build
tokenmill jobs run compile --stack trn2-build
npx cdk deploy trn2-serve
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_secretsmanager as secretsmanager

from tokenmill import Capacity, LlmEndpoint, Serving
from tokenmill.core.images import image
from tokenmill.endpoints import CompiledModel, ModelMirror, ServingImage
from tokenmill.lint import acknowledge_from, register_packs

if TYPE_CHECKING:
    from constructs import Construct

HERE = Path(__file__).resolve().parent
REVISION = "6f6073b423013f6a7d4d9f39144961bfbfbc386b"
SERVING = Serving(
    model="meta-llama/Llama-3.3-70B-Instruct",
    instance_type="ml.trn2.48xlarge",
    tensor_parallel=32,
    max_sequences=16,
    context_tokens=8192,
    image=image("tokenmill-vllm-neuronx"),
)


class Trn2Build(cdk.Stack):
    """Image, weights and what is compiled from both; it stays while serving stacks come and go."""

    def __init__(self, scope: Construct, id: str) -> None:
        super().__init__(scope, id)
        token = secretsmanager.Secret.from_secret_name_v2(self, "Token", "hugging-face-token")
        serving_image = ServingImage(self, "Image")
        mirror = ModelMirror(
            self, "Mirror", model=SERVING.model, revision=REVISION, licence="llama3.3", token=token
        )
        self.compiled = CompiledModel(
            self, "Compiled", serving=SERVING, image=serving_image, source=mirror.source
        )


app = cdk.App()
build = Trn2Build(app, "trn2-build")
serve = cdk.Stack(app, "trn2-serve")
capacity = Capacity(minimum=2, maximum=4, initial=2)
LlmEndpoint(serve, "Llm", serving=SERVING, capacity=capacity, source=build.compiled.source)
for stack in (build, serve):
    acknowledge_from(stack, HERE.parent / "acknowledgements.toml")
register_packs(app, packs=app.node.try_get_context("tokenmill:packs") or [])
app.synth()
