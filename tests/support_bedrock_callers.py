"""Who calls what the Bedrock constructs make: a role for each grant, and a gateway before all models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_iam as iam

from support_stack import WORK, make_app
from tokenmill import ApiKeyTable, ChatGateway, ServedModel
from tokenmill.batch import BatchInference
from tokenmill.bedrock import (
    BedrockOptions,
    Commitment,
    Guardrail,
    GuardrailPolicies,
    InferenceProfile,
    ManagedPrompt,
    Message,
    PromptRouter,
    PromptUse,
    PromptVariant,
    ProvisionedThroughput,
    Words,
)
from tokenmill.core.prompt_text import PromptVariable
from tokenmill.customization import ImportSource, ModelArtifact, ModelDeployment, ModelImport
from tokenmill.gateway import TokenLimits

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tokenmill.bedrock.model import IBedrockModel

ACCOUNT = "111122223333"
MODEL = "amazon.nova-lite-v1:0"
CHECKPOINT = "s3://customer-escrow-111122223333-smtj-example/nova/checkpoint/"
LIMITS = TokenLimits(context_tokens=20_000, max_output_tokens=1000)


def caller_app(out: Path) -> cdk.App:
    """Return an app whose roles are named after what they may call."""
    app = make_app(out)
    where = cdk.Environment(account=ACCOUNT, region="us-east-1")
    stack, door = cdk.Stack(app, "callers", env=where), cdk.Stack(app, "gateway", env=where)
    models = _models(stack, jobs=cdk.Stack(app, "jobs", env=where))
    for name, model in models.items():
        model.grant_invoke(_role(stack, name))
    _grant_the_rest(stack)
    _gateway(door)
    return app


def _role(scope: cdk.Stack, name: str) -> iam.Role:
    return iam.Role(scope, f"Calls{name}", assumed_by=iam.AccountRootPrincipal())


def _models(stack: cdk.Stack, *, jobs: cdk.Stack) -> Mapping[str, IBedrockModel]:
    profile = InferenceProfile(stack, "Profile", model=MODEL)
    artifact = ModelArtifact(jobs, "Artifact")
    made = ModelImport(jobs, "Import", artifact=artifact, source=ImportSource.nova(CHECKPOINT))
    made.grant_start(_role(jobs, "Import"))
    return {
        "CrossRegion": InferenceProfile.cross_region(f"us.{MODEL}"),
        "Global": InferenceProfile.global_("global.amazon.nova-2-lite-v1:0"),
        "Profile": profile,
        "Router": PromptRouter(
            stack,
            "Router",
            models=[MODEL, "amazon.nova-pro-v1:0"],
            fallback=MODEL,
            quality_difference=10,
        ),
        "Units": ProvisionedThroughput(
            stack,
            "Units",
            model=f"{MODEL}:24k",
            units=1,
            commitment=Commitment.NONE,
            fallback=profile,
        ),
        "Deployment": ModelDeployment(stack, "Deployment", model=artifact.version("1"), fallback=profile),
    }


def _grant_the_rest(stack: cdk.Stack) -> None:
    guardrail, prompt = _texts(stack)
    guardrail.grant_apply(_role(stack, "Guardrail"))
    prompt.grant_use(_role(stack, "Prompt"))
    batch = BatchInference(stack, "Batch", model=InferenceProfile(stack, "BatchModel", model=f"us.{MODEL}"))
    batch.grant_start(_role(stack, "BatchStart"))
    batch.grant_upload(_role(stack, "BatchUpload"))
    batch.grant_read_output(_role(stack, "BatchOutput"))


def _texts(stack: cdk.Stack) -> tuple[Guardrail, ManagedPrompt]:
    policies = GuardrailPolicies(words=Words(words=("password",)))
    variant = PromptVariant(
        name="short", model=MODEL, messages=(Message(role="user", content=("{{question}}",)),)
    )
    prompt = ManagedPrompt(
        stack,
        "Prompt",
        variants=[variant],
        variables=[PromptVariable(name="question", max_tokens=500)],
        max_prompt_tokens=1000,
    )
    return Guardrail(stack, "Guardrail", policies=policies), prompt


def _gateway(stack: cdk.Stack) -> None:
    guardrail, prompt = _texts(stack)
    units = ProvisionedThroughput(
        stack, "Units", model=f"{MODEL}:24k", units=1, commitment=Commitment.NONE, fallback=MODEL
    )
    guarded = BedrockOptions(guardrail=guardrail.hook())
    prompted = BedrockOptions(prompt=PromptUse(prompt=prompt, question="question"))
    ChatGateway(
        stack,
        "Gateway",
        models=[
            ServedModel.on_bedrock(units, name="units", limits=LIMITS, token_work=WORK, options=guarded),
            ServedModel.on_bedrock(MODEL, name="prompt", limits=LIMITS, token_work=WORK, options=prompted),
        ],
        api_keys=ApiKeyTable(stack, "Keys"),
    )
