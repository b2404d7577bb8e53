"""Prompts kept in Amazon Bedrock's Prompt management: checked at synthesis, in versions that never change."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
from aws_cdk import aws_bedrock as bedrock
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from constructs import Construct

from tokenmill.bedrock.foundation_model import (
    MODEL_DIMENSION,
    NAMESPACE,
    NamedModel,
    named_model,
)
from tokenmill.bedrock.homes import WITHOUT_PROMPTS, check_place, check_type
from tokenmill.bedrock.inference_profile import InferenceProfile
from tokenmill.bedrock.prompt_values import (
    MOST_VARIANTS,
    AnswerSettings,
    Block,
    CacheAlarm,
    CachePoint,
    CountedText,
    PromptVariant,
)
from tokenmill.core._checks import whole
from tokenmill.core._kinds import KEY, flags, instance_or_none, members, resource
from tokenmill.core.bedrock_prices import bedrock_prices
from tokenmill.core.errors import TokenmillError
from tokenmill.core.prompt_text import (
    PromptVariable,
    cache_rule,
    check_budget,
    check_cache,
    check_variables,
)
from tokenmill.security import actions
from tokenmill.security.acknowledge import acknowledge_resources
from tokenmill.security.place import stack_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from aws_cdk import aws_kms as kms

    from tokenmill.bedrock.model import IBedrockModel

LONGEST_NAME = 100
QUARTER_SECONDS = 900


class ManagedPrompt(Construct):
    """A prompt with variants, and a version of its default variant that callers use by ARN.

    A change of the default variant makes a new version and keeps the old ones, which callers that still have
    the old ARN go on using; deleting the stack deletes the prompt with all its versions. Checked at
    synthesis: every declared variable is used and every used one declared, the filled prompt fits its budget,
    what is to be cached comes first, has no variable and is long enough for the model's cache. A version
    holds one variant (AWS::Bedrock::PromptVersion), so the others can be compared in the draft only.

    Args:
        scope: The parent construct.
        id: The construct's id.
        variants: One to three wordings; the first is the default.
        max_prompt_tokens: Tokens that a filled prompt may have, in each variant.
        variables: What callers fill; each variant uses all of them.
        encryption_key: The customer's key of the prompt; AWS's own otherwise.
        cache_alarm: When somebody is told that the default variant's cache is never read; only made where it
            has a cache point. It watches the model's metrics, so give the prompt an InferenceProfile of its
            own where other calls of the model share its cache.
        allow_unlisted: Whether models that the library does not know are taken as they stand.

    Raises:
        TokenmillError: If one of the checks fails, or a model is unknown or cannot be called in this region.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        variants: Sequence[PromptVariant],
        max_prompt_tokens: int,
        variables: Sequence[PromptVariable] = (),
        encryption_key: kms.IKey | None = None,
        cache_alarm: CacheAlarm | None = None,
        allow_unlisted: bool = False,
    ) -> None:
        variants = members("variants", variants, PromptVariant)
        variables = members("variables", variables, PromptVariable)
        _check_names(variants)
        flags(allow_unlisted=allow_unlisted)
        instance_or_none(CacheAlarm, cache_alarm=cache_alarm)
        resource(KEY, encryption_key=encryption_key)
        topic = None if cache_alarm is None else cache_alarm.topic
        check_place(scope, id, {"encryption_key": encryption_key, "the topic of cache_alarm": topic})
        check_type(scope, "AWS::Bedrock::Prompt", WITHOUT_PROMPTS)
        budget = whole("max_prompt_tokens", max_prompt_tokens)
        if budget < 1:
            raise TokenmillError(f"max_prompt_tokens is {budget}; it must be 1 or more")
        models = [named_model(scope, variant.model, allow_unlisted=allow_unlisted) for variant in variants]
        warnings = [
            warning
            for variant, model in zip(variants, models, strict=True)
            for warning in _check(variant, model, variables, budget)
        ]
        super().__init__(scope, id)
        self._key = encryption_key
        self.variables: AbstractSet[str] = frozenset(variable.name for variable in variables)
        self.model: IBedrockModel = models[0]
        rendered = [
            _variant(variant, model, sorted(self.variables))
            for variant, model in zip(variants, models, strict=True)
        ]
        self.resource = bedrock.CfnPrompt(
            self,
            "Resource",
            name=cdk.Names.unique_resource_name(self, max_length=LONGEST_NAME, separator="-"),
            default_variant=variants[0].name,
            variants=rendered,
            customer_encryption_key_arn=None if encryption_key is None else encryption_key.key_arn,
        )
        self.version = self._version(rendered[0])
        self.cache_alarm = self._alarm(cache_alarm or CacheAlarm()) if variants[0].caches else None
        for warning in warnings:
            cdk.Validations.of(self).add_warning("tokenmill:PromptTokens", warning)

    def _version(self, default: dict[str, Any]) -> bedrock.CfnPromptVersion:
        # A version is a copy of the prompt as it was: another description replaces the resource, which makes
        # a new version, and RETAIN keeps the old one.
        content = json.dumps(stack_of(self).resolve(default), sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()
        version = bedrock.CfnPromptVersion(
            self,
            "Version",
            prompt_arn=self.resource.attr_arn,
            description=f"content {digest[:32]}",
        )
        version.apply_removal_policy(cdk.RemovalPolicy.RETAIN)
        return version

    @property
    def prompt_arn(self) -> str:
        """The prompt's ARN, without a version."""
        return self.resource.attr_arn

    @property
    def prompt_version_arn(self) -> str:
        """The version's ARN, which Converse takes as `modelId`."""
        return self.version.attr_arn

    def grant_use(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal use this prompt, in all its versions, and call the default variant's model.

        Older versions are included, because a deployment changes policies before the callers that use them.

        Args:
            grantee: The principal.
        """
        versions = f"{self.prompt_arn}:*"
        grant = iam.Grant.add_to_principal(
            grantee=grantee, actions=list(actions.PROMPT_USE), resource_arns=[self.prompt_arn, versions]
        )
        principal = grantee.grant_principal
        if isinstance(principal, Construct):
            reason = "The versions of this one prompt, of which callers use older ones during a deployment."
            acknowledge_resources(principal, {versions: reason})
        if self._key is not None:
            grant = grant.combine(self._key.grant(grantee, *actions.PROMPT_KEY_USE))
        return grant.combine(self.model.grant_invoke(grantee))

    def _alarm(self, settings: CacheAlarm) -> cloudwatch.CfnCompositeAlarm:
        # Two alarms and not one expression: a cache that is never read may have no metric at all, and metric
        # math makes nothing of a metric that is not there.
        busy = self._watch(
            "Called",
            "Invocations",
            settings,
            description=f"The prompt's model was called {settings.calls} times in each quarter of an hour",
            comparison="GreaterThanOrEqualToThreshold",
            threshold=settings.calls,
            missing="notBreaching",
        )
        unread = self._watch(
            "Unread",
            "CacheReadInputTokens",
            settings,
            description="The prompt's model read no token from its cache",
            comparison="LessThanThreshold",
            threshold=1,
            missing="breaching",
        )
        told = None if settings.topic is None else [settings.topic.topic_arn]
        return cloudwatch.CfnCompositeAlarm(
            self,
            "NoCacheReads",
            alarm_rule=f'ALARM("{busy.attr_arn}") AND ALARM("{unread.attr_arn}")',
            alarm_description="The prompt has a cache point, is called, and no token is read from the cache: "
            "its beginning changes from call to call or is too short",
            alarm_actions=told,
            ok_actions=told,
        )

    def _watch(
        self,
        id: str,
        metric: str,
        settings: CacheAlarm,
        *,
        description: str,
        comparison: str,
        threshold: float,
        missing: str,
    ) -> cloudwatch.CfnAlarm:
        return cloudwatch.CfnAlarm(
            self,
            id,
            namespace=NAMESPACE,
            metric_name=metric,
            dimensions=[{"name": MODEL_DIMENSION, "value": self.model.metric_dimension}],
            statistic="Sum",
            period=QUARTER_SECONDS,
            evaluation_periods=settings.quarters,
            alarm_description=description,
            comparison_operator=comparison,
            threshold=threshold,
            treat_missing_data=missing,
        )


def _check_names(variants: Sequence[PromptVariant]) -> None:
    names = [variant.name for variant in variants]
    if not 1 <= len(names) <= MOST_VARIANTS:
        raise TokenmillError(f"variants has {len(names)}; give one to {MOST_VARIANTS}")
    if len(set(names)) < len(names):
        raise TokenmillError(f"variants are called {', '.join(names)}; give each a name of its own")


def _check(
    variant: PromptVariant, model: IBedrockModel, variables: Sequence[PromptVariable], budget: int
) -> list[str]:
    where = f"variant {variant.name!r}"
    parts = variant.parts
    check_variables(parts, variables, where=where)
    found = [check_budget(parts, variables, most=budget, where=where)]
    foundation = _foundation(model)
    longest = None if foundation is None else _longest_input(foundation)
    if longest is not None and budget > longest:
        raise TokenmillError(
            f"max_prompt_tokens is {budget}, and the model of {where} takes {longest} tokens; lower it"
        )
    rule = variant.cache or (None if foundation is None else cache_rule(foundation))
    return [warning for warning in (*found, *check_cache(parts, rule, where=where)) if warning]


def _foundation(model: IBedrockModel) -> str | None:
    named = model.source if isinstance(model, InferenceProfile) else model
    return named.foundation_model if isinstance(named, NamedModel) else None


def _longest_input(model_id: str) -> int | None:
    rows = bedrock_prices().get(model_id, {}).values()
    return max((row.max_input_tokens for row in rows if row.max_input_tokens), default=None)


def _variant(variant: PromptVariant, model: IBedrockModel, variables: Sequence[str]) -> dict[str, Any]:
    named = [{"name": name} for name in variables]
    inputs = {"inputVariables": named} if named else {}
    if variant.template:
        template: dict[str, Any] = {"text": {"text": variant.parts[0].text, **inputs}}
    else:
        messages = [
            {"role": turn.role, "content": [_block(block) for block in turn.content]}
            for turn in variant.messages
        ]
        system = {"system": [_block(block) for block in variant.system]} if variant.system else {}
        template = {"chat": {"messages": messages, **system, **inputs}}
    answer = _answer(variant.answer)
    return {
        "name": variant.name,
        "modelId": model.model_id,
        "templateType": "TEXT" if variant.template else "CHAT",
        "templateConfiguration": template,
        **({"inferenceConfiguration": {"text": answer}} if answer else {}),
    }


def _block(block: Block) -> dict[str, Any]:
    if isinstance(block, CachePoint):
        return {"cachePoint": {"type": "default"}}
    return {"text": block.text if isinstance(block, CountedText) else block}


def _answer(settings: AnswerSettings) -> dict[str, Any]:
    given = {
        "maxTokens": settings.max_tokens,
        "temperature": settings.temperature,
        "topP": settings.top_p,
        "stopSequences": list(settings.stop_sequences) or None,
    }
    return {key: value for key, value in given.items() if value is not None}
