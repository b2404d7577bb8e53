"""Managed prompts in versions, what may stand beside one in a request, and what `Ref` gives in a stack."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from tokenmill.security import actions
from tokenmill.verification import bedrock_asks, stacks
from tokenmill.verification.bedrock_asks import model_here, tried
from tokenmill.verification.probe import Outcome, Verdict, holds

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tokenmill.verification.aws import Aws

FIRST, SECOND = "Say one.", "Say two."
# Both are what a request has without them, so that any model takes them.
OPTIONS: dict[str, dict[str, Any]] = {
    "serviceTier": {"serviceTier": {"type": "default"}},
    "performanceConfig": {"performanceConfig": {"latency": "standard"}},
}
# Logical ids of the stack whose Ref is the ARN, with the attribute that is the ARN as well.
ARN_REFS = {
    "Profile": "InferenceProfileArn",
    "Router": "PromptRouterArn",
    "Guardrail": "GuardrailArn",
    "Prompt": "Arn",
    "PromptVersion": "Arn",
}


def prompt_lines(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Make a prompt in two versions and ask with the first; make one of everything by a stack.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    if {"prompt-version-kept", "prompt-options", "prompt-rights"} & set(wanted):
        model = model_here(aws).id
        prompt = _create(aws, model)
        first = _version(aws, prompt["id"])
        if "prompt-options" in wanted:
            yield "prompt-options", tried(lambda: _options(aws, first))
        if "prompt-rights" in wanted:
            yield "prompt-rights", tried(lambda: _rights(aws, prompt["arn"], first))
        if "prompt-version-kept" in wanted:
            yield "prompt-version-kept", tried(lambda: _kept(aws, prompt, first, model))
    if "bedrock-refs" in wanted:
        yield "bedrock-refs", tried(lambda: _refs(aws))


def _variants(model: str, text: str) -> list[dict[str, Any]]:
    template = {"text": {"text": text}}
    config = {"text": {"maxTokens": bedrock_asks.MAX_TOKENS}}
    return [
        {
            "name": "one",
            "templateType": "TEXT",
            "templateConfiguration": template,
            "modelId": model,
            "inferenceConfiguration": config,
        }
    ]


def _create(aws: Aws, model: str) -> dict[str, str]:
    name = aws.name("prompt")
    aws.declare("prompt", name)
    made = aws.client("bedrock-agent").create_prompt(
        name=name,
        defaultVariant="one",
        variants=_variants(model, FIRST),
        tags={tag["Key"]: tag["Value"] for tag in aws.tags},
    )
    return {"id": made["id"], "arn": made["arn"]}


def _version(aws: Aws, prompt: str) -> str:
    made = aws.client("bedrock-agent").create_prompt_version(promptIdentifier=prompt)
    return str(made["arn"])


def _converse(client: Any, arn: str, **more: Any) -> Any:
    return client.converse(modelId=arn, **more)


def _options(aws: Aws, version: str) -> Outcome:
    client = aws.client("bedrock-runtime")
    _converse(client, version)
    seen = {
        name: bedrock_asks.told(partial(_converse, client, version, **option))
        for name, option in OPTIONS.items()
    }
    codes = {each["code"] for each in seen.values()}
    if codes <= {"", "ValidationException"}:
        return Outcome(holds(codes == {""}), seen)
    return Outcome(Verdict.UNCLEAR, seen)


def _rights(aws: Aws, prompt: str, version: str) -> Outcome:
    model = model_here(aws).grant
    use = bedrock_asks.allow(actions.PROMPT_USE, prompt, f"{prompt}:*")
    allowed = bedrock_asks.caller(aws, "prompt-caller", use, model)
    lacking = bedrock_asks.caller(aws, "prompt-without", model)
    return bedrock_asks.rights(
        aws, lambda: _converse(allowed, version), without=lambda: _converse(lacking, version)
    )


def _kept(aws: Aws, prompt: dict[str, str], first: str, model: str) -> Outcome:
    client = aws.client("bedrock-agent")
    client.update_prompt(
        promptIdentifier=prompt["id"],
        name=aws.name("prompt"),
        defaultVariant="one",
        variants=_variants(model, SECOND),
    )
    second = _version(aws, prompt["id"])
    kept = client.get_prompt(promptIdentifier=prompt["id"], promptVersion=first.rpartition(":")[2])
    text = kept["variants"][0]["templateConfiguration"]["text"]["text"]
    runtime = aws.client("bedrock-runtime")
    said = {arn: bedrock_asks.told(partial(_converse, runtime, arn)) for arn in (first, second)}
    seen = {"first_version_s_text": text, "calls": said}
    refused = {each["code"] for each in said.values()}
    if refused <= {"", "ValidationException", "ResourceNotFoundException"}:
        return Outcome(holds(text == FIRST and refused == {""}), seen)
    return Outcome(Verdict.UNCLEAR, seen)


def _refs(aws: Aws) -> Outcome:
    name = aws.name("refs")
    stacks.create(aws, name, refs_template(aws))
    (stack,) = aws.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    arns = {key: [outputs[f"{key}Ref"], outputs[f"{key}Arn"]] for key in ARN_REFS}
    version = [outputs["VersionRef"], f"{outputs['GuardrailId']}|{outputs['VersionNumber']}"]
    right = all(ref == arn for ref, arn in (*arns.values(), version))
    return Outcome(holds(right), {"refs_and_arns": arns, "guardrail_version": version})


def refs_template(aws: Aws) -> dict[str, Any]:
    """Return a stack with one of each resource whose `Ref` the library or its examples use.

    Args:
        aws: The run.
    """
    small, larger = (model_here(aws, name) for name in (bedrock_asks.SMALL, bedrock_asks.LARGER))
    blocked = {"BlockedInputMessaging": "no", "BlockedOutputsMessaging": "no"}
    words = {"WordPolicyConfig": {"WordsConfig": [{"Text": "quetzalcoatl"}]}}
    variant = {
        "Name": "one",
        "TemplateType": "TEXT",
        "TemplateConfiguration": {"Text": {"Text": FIRST}},
        "ModelId": small.id,
    }
    properties: dict[str, tuple[str, dict[str, Any]]] = {
        "Profile": (
            "ApplicationInferenceProfile",
            {"InferenceProfileName": aws.name("ref"), "ModelSource": {"CopyFrom": small.arn}},
        ),
        "Router": (
            "IntelligentPromptRouter",
            {
                "PromptRouterName": aws.name("ref"),
                "Models": [{"ModelArn": small.arn}, {"ModelArn": larger.arn}],
                "FallbackModel": {"ModelArn": small.arn},
                "RoutingCriteria": {"ResponseQualityDifference": 10},
            },
        ),
        "Guardrail": ("Guardrail", {"Name": aws.name("ref"), **blocked, **words}),
        "Version": ("GuardrailVersion", {"GuardrailIdentifier": _get("Guardrail", "GuardrailId")}),
        "Prompt": ("Prompt", {"Name": aws.name("ref"), "DefaultVariant": "one", "Variants": [variant]}),
        "PromptVersion": ("PromptVersion", {"PromptArn": _get("Prompt", "Arn")}),
    }
    outputs = {
        **{f"{key}Ref": {"Ref": key} for key in (*ARN_REFS, "Version")},
        **{f"{key}Arn": _get(key, attribute) for key, attribute in ARN_REFS.items()},
        "GuardrailId": _get("Guardrail", "GuardrailId"),
        "VersionNumber": _get("Version", "Version"),
    }
    return {
        "Resources": {
            key: {"Type": f"AWS::Bedrock::{kind}", "Properties": values}
            for key, (kind, values) in properties.items()
        },
        "Outputs": {key: {"Value": value} for key, value in outputs.items()},
    }


def _get(resource: str, attribute: str) -> dict[str, list[str]]:
    return {"Fn::GetAtt": [resource, attribute]}
