"""A compiled model in a stack of its own, and what the tests of Trainium2 endpoints share."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
from aws_cdk import aws_s3 as s3

from support_stack import REGION, make_app
from tokenmill.core.images import image
from tokenmill.endpoints import CompiledModel, ModelSource, Serving, ServingImage

if TYPE_CHECKING:
    from pathlib import Path

HOME, SERVE = "compile", "serve"
REVISION = "a" * 40
MODEL = "meta-llama/Llama-3.3-70B-Instruct"


def trn2(**changes: Any) -> Serving:
    """Llama 3.3 70B on four chips of sixteen."""
    fields: dict[str, Any] = {
        "model": MODEL,
        "instance_type": "ml.trn2.48xlarge",
        "tensor_parallel": 16,
        "max_sequences": 8,
        "context_tokens": 16_384,
        "image": image("tokenmill-vllm-neuronx"),
    }
    return Serving(**{**fields, **changes})


def weights(stack: cdk.Stack, *, revision: str | None = REVISION) -> ModelSource:
    """What a ModelMirror yields, without its build."""
    bucket = s3.Bucket.from_bucket_name(stack, "Weights", "weights")
    source = ModelSource.s3(bucket, f"models/{MODEL}/{REVISION}/")
    return replace(source, model=MODEL, revision=revision)


def compile_and_serve(folder: Path) -> tuple[cdk.Stack, cdk.Stack]:
    """The compiled model's stack and the endpoint's, in one app."""
    app = make_app(folder)
    where = cdk.Environment(region=REGION)
    return cdk.Stack(app, HOME, env=where), cdk.Stack(app, SERVE, env=where)


def compiled_model(stack: cdk.Stack, **changes: Any) -> CompiledModel:
    """A compiled model with its image."""
    fields = {"serving": trn2(), **changes}
    if "image" not in fields:
        fields["image"] = ServingImage(stack, "Image")
    if "source" not in fields:
        fields["source"] = weights(stack)
    return CompiledModel(stack, "Compiled", **fields)
