"""What a gateway serves: models on inference components and on Bedrock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_iam as iam

from tokenmill.core._checks import as_whole, text
from tokenmill.core._kinds import instance
from tokenmill.core.bedrock_prices import ARN
from tokenmill.core.errors import TokenmillError
from tokenmill.observability.heartbeat import HeartbeatTarget
from tokenmill.security import actions
from tokenmill_runtime import gateway_options
from tokenmill_runtime.gateway_config import GatewayModel
from tokenmill_runtime.token_work import TokenWorkCoefficients

if TYPE_CHECKING:
    from constructs import IConstruct

    from tokenmill.bedrock.guardrail import GuardrailHook
    from tokenmill.bedrock.model import IBedrockModel
    from tokenmill.bedrock.options import BedrockOptions
    from tokenmill.core.plan import Plan
    from tokenmill.endpoints.base import EndpointBase

# "Converse" (Amazon Bedrock Runtime API Reference), modelId: what has an ARN that says no model.
CALLED_ARN = re.compile(
    r"arn:aws[a-z-]*:bedrock:([a-z0-9-]+):\d{12}:(?:provisioned-model|custom-model-deployment|imported-model|"
    r"application-inference-profile|default-prompt-router|prompt-router)/[a-zA-Z0-9:._-]+"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLimits:
    """How many tokens one request may take.

    Args:
        context_tokens: Prompt plus answer, in tokens.
        max_output_tokens: Longest answer, in tokens.

    Raises:
        TokenmillError: If a limit is no whole number, is below 1 or the answer is longer than the context.
    """

    context_tokens: int
    max_output_tokens: int

    def __post_init__(self) -> None:
        as_whole(self, "context_tokens", "max_output_tokens")
        if not 1 <= self.max_output_tokens <= self.context_tokens:
            raise TokenmillError(
                f"max_output_tokens is {self.max_output_tokens} and context_tokens {self.context_tokens}; "
                "they must satisfy 1 <= max_output_tokens <= context_tokens"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """One model that callers may name. Made by `on_endpoint` or `on_bedrock`.

    Args:
        name: What callers put into `model`.
        limits: Tokens a request may take.
        token_work: What a request costs a copy, for the metric that scaling follows.
        endpoint: The endpoint that serves it, if SageMaker does.
        bedrock: The model that serves it, if Bedrock does: an id, an ARN, or a model of `tokenmill.bedrock`.
        options: How it is asked; of an endpoint, only the guardrail counts.
        plan_hash: The plan that the coefficients come from, or "none".

    Raises:
        TokenmillError: If the model is on nothing or on both, a value is of another kind, or a managed prompt
            stands before units.
    """

    name: str
    limits: TokenLimits
    token_work: TokenWorkCoefficients
    endpoint: EndpointBase | None = None
    bedrock: IBedrockModel | str | None = None
    options: BedrockOptions | None = None
    plan_hash: str = "none"

    def __post_init__(self) -> None:
        text("name", self.name)
        instance(TokenLimits, limits=self.limits)
        instance(TokenWorkCoefficients, token_work=self.token_work)
        if (self.endpoint is None) == (self.bedrock is None):
            raise TokenmillError(
                f"the model {self.name!r} must have an endpoint or a Bedrock model, and not both"
            )
        if self.bedrock is not None:
            _check_bedrock(self.bedrock)
        if self.options is not None:
            from tokenmill.bedrock.options import BedrockOptions

            instance(BedrockOptions, options=self.options)
        prompt = None if self.options is None else self.options.prompt
        if prompt is not None and (self.handle is not None or self.fallback_id is not None):
            raise TokenmillError(
                f"the model {self.name!r} has a managed prompt and a handle or a fallback, but the prompt "
                "names its own model; leave the prompt out, or give the model that the prompt names"
            )

    @classmethod
    def on_endpoint(
        cls,
        endpoint: EndpointBase,
        *,
        name: str,
        limits: TokenLimits,
        token_work: TokenWorkCoefficients,
        plan_hash: str = "none",
        guardrail: GuardrailHook | None = None,
    ) -> ServedModel:
        """Return a model that an endpoint serves, or one of its components.

        Args:
            endpoint: The endpoint or component, made here or imported; not an asynchronous one.
            name: What callers put into `model`.
            limits: Tokens a request may take.
            token_work: What a request costs a copy.
            plan_hash: The plan that the coefficients come from.
            guardrail: What looks at questions and answers; `Guardrail.hook` gives it.

        Raises:
            ValueError: If the endpoint is asynchronous.
        """
        if endpoint.answers_async:
            raise ValueError(
                f"the model {name!r} is on an asynchronous endpoint, which answers into a bucket and no "
                "caller can wait for; give an LlmEndpoint or a VariantEndpoint"
            )
        from tokenmill.bedrock.options import BedrockOptions

        return cls(
            name=name,
            limits=limits,
            token_work=token_work,
            endpoint=endpoint,
            options=None if guardrail is None else BedrockOptions(guardrail=guardrail),
            plan_hash=plan_hash,
        )

    @classmethod
    def from_plan(cls, endpoint: EndpointBase, plan: Plan) -> ServedModel:
        """Return the model of a plan, under its own name and with its coefficients.

        Args:
            endpoint: The endpoint that serves the plan's chosen candidate.
            plan: A plan with at least one candidate.

        Raises:
            NoPlanError: If no candidate met the goals.
        """
        chosen = plan.chosen
        return cls.on_endpoint(
            endpoint,
            name=plan.model.id,
            limits=TokenLimits(context_tokens=chosen.context_tokens, max_output_tokens=chosen.context_tokens),
            token_work=chosen.token_work,
            plan_hash=plan.hash,
        )

    @classmethod
    def on_bedrock(
        cls,
        model: IBedrockModel | str,
        *,
        name: str,
        limits: TokenLimits,
        token_work: TokenWorkCoefficients,
        options: BedrockOptions | None = None,
    ) -> ServedModel:
        """Return a model that Bedrock serves through ConverseStream.

        Args:
            model: An `InferenceProfile`, `ProvisionedThroughput`, `PromptRouter` or `ModelDeployment`; or a
                foundation model's id ("amazon.nova-lite-v1:0"), a cross-Region profile's id
                ("us.amazon.nova-lite-v1:0"), or an ARN.
            name: What callers put into `model`.
            limits: Tokens a request may take.
            token_work: What a request costs, for the metrics.
            options: How it is asked: service tier, latency, guardrail, managed prompt, fallback.

        Raises:
            TokenmillError: If a managed prompt, which names its own model, is given with units or a fallback.
        """
        return cls(name=name, limits=limits, token_work=token_work, bedrock=model, options=options)

    @property
    def bedrock_model_id(self) -> str | None:
        """What Converse takes as the model's id, if Bedrock serves it."""
        model = self.bedrock
        return model if model is None or isinstance(model, str) else model.model_id

    @property
    def handle(self) -> str | None:
        """The SSM parameter that says which units to call; None for a model that never changes."""
        return None if self.bedrock is None or isinstance(self.bedrock, str) else self.bedrock.handle

    @property
    def fallback_id(self) -> str | None:
        """What Converse is asked for while the model throttles or has no units; None for nothing."""
        own = None if self.bedrock is None or isinstance(self.bedrock, str) else self.bedrock.fallback_id
        given = None if self.options is None else self.options.fallback
        if own is not None or given is None:
            return own
        return given if isinstance(given, str) else given.model_id

    @property
    def heartbeat_target(self) -> HeartbeatTarget:
        """What the heartbeat publishes for this model."""
        if self.endpoint is not None:
            return HeartbeatTarget.endpoint(self.endpoint)
        model = self.bedrock
        if model is None or isinstance(model, str):
            return HeartbeatTarget.bedrock(model or "")
        # Units come and go, and their handle stays.
        return HeartbeatTarget.bedrock(model.handle or model.metric_dimension)

    def to_gateway_model(self) -> GatewayModel:
        """Return the entry of the gateway function's document."""
        endpoint = self.endpoint
        return GatewayModel(
            name=self.name,
            backend="bedrock" if endpoint is None else "sagemaker",
            target=self.heartbeat_target.target,
            context_tokens=self.limits.context_tokens,
            max_output_tokens=self.limits.max_output_tokens,
            token_work=self.token_work,
            endpoint=None if endpoint is None else endpoint.endpoint_name,
            component=self.heartbeat_target.component,
            bedrock_model_id=self.bedrock_model_id,
            guardrail=_guardrail_use(self.options),
            bedrock=self._bedrock_use(),
        )

    def check(self, scope: IConstruct) -> None:
        """Refuse a model of Bedrock that cannot be called from the stack; warn of options that it has not.

        Args:
            scope: A construct of the stack.

        Raises:
            TokenmillError: If an id is unknown, or cannot be called from the stack's region.
        """
        for model in self._asked():
            self._tell(scope, _bedrock_model(scope, model))

    def grant_invoke(self, grantee: iam.IGrantable, *, scope: IConstruct) -> iam.Grant:
        """Let a principal call this model and what stands in for it, and nothing else.

        Args:
            grantee: The principal.
            scope: A construct of the stack that calls.
        """
        grants = [] if self.endpoint is None else [self.endpoint.grant_invoke(grantee)]
        options = self.options
        if options is not None and options.prompt is not None:
            grants.append(options.prompt.prompt.grant_use(grantee))
        else:
            grants += [_bedrock_model(scope, model).grant_invoke(grantee) for model in self._asked()]
        if options is not None and options.guardrail is not None:
            grants.append(options.guardrail.guardrail.grant_apply(grantee))
        whole = grants[0]
        for grant in grants[1:]:
            whole = whole.combine(grant)
        return whole

    def _asked(self) -> list[IBedrockModel | str]:
        """The model, and the fallback of the options where it has none of its own."""
        if self.bedrock is None:
            return []
        own = None if isinstance(self.bedrock, str) else self.bedrock.fallback_id
        given = None if own is not None or self.options is None else self.options.fallback
        return [self.bedrock] if given is None else [self.bedrock, given]

    def _tell(self, scope: IConstruct, model: IBedrockModel) -> None:
        from tokenmill.bedrock.foundation_model import NamedModel

        # What an application inference profile stands for is known here, and its ARN is not.
        named = getattr(model, "source", model)
        if self.options is None or not isinstance(named, NamedModel):
            return
        from tokenmill.bedrock.options import Latency
        from tokenmill.core.serving_modes import serving_notes

        tier, optimized = self.options.service_tier, self.options.latency is Latency.OPTIMIZED
        for note in serving_notes(named.model_id, service_tier=tier, optimized=optimized):
            cdk.Validations.of(scope).add_warning("tokenmill:ServingMode", f"model {self.name!r}: {note}")

    def _bedrock_use(self) -> gateway_options.BedrockUse | None:
        if self.bedrock is None:
            return None
        tier = None if self.options is None else self.options.service_tier
        latency = None if self.options is None else self.options.latency
        use = gateway_options.BedrockUse(
            service_tier=None if tier is None else tier.value,
            latency=None if latency is None else latency.value,
            handle=self.handle,
            fallback_id=self.fallback_id,
            prompt=_prompt_use(self.options),
        )
        return None if use == gateway_options.BedrockUse() else use


@dataclass(frozen=True, slots=True)
class _ArnModel:
    """What only its ARN is known of: units, a router or an application profile of another stack."""

    model_id: str
    handle: None = None
    fallback_id: None = None

    @property
    def metric_dimension(self) -> str:
        """The ARN."""
        return self.model_id

    def grant_invoke(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal call what has this ARN; what stands behind it must be granted where it is known."""
        return iam.Grant.add_to_principal(
            grantee=grantee, actions=list(actions.BEDROCK_INVOKE), resource_arns=[self.model_id]
        )


def _check_arn(scope: IConstruct, model: str) -> None:
    from tokenmill.bedrock.homes import region_of

    found, here = CALLED_ARN.fullmatch(model), region_of(scope)
    if found is None:
        raise TokenmillError(
            f"model is {model!r:.120}, which is no ARN of what Bedrock answers with; give one of a model, a "
            "profile, a router, units or a deployment"
        )
    if here is not None and found[1] != here:
        raise TokenmillError(
            f"model is {model!r:.120} of {found[1]}, and the gateway calls from {here}; give one of {here}, "
            "or a cross-Region profile"
        )


def _check_bedrock(model: object) -> None:
    if isinstance(model, str):
        text("model", model)
        return
    from tokenmill.bedrock.model import IBedrockModel

    if not isinstance(model, IBedrockModel):
        raise TokenmillError(
            f"model is {model!r:.80}; give a model's id or ARN, or a model of tokenmill.bedrock"
        )


def _bedrock_model(scope: IConstruct, model: IBedrockModel | str) -> IBedrockModel:
    if not isinstance(model, str):
        from tokenmill.bedrock.foundation_model import check_model_home

        check_model_home(scope, model)
        return model
    if model.startswith("arn:") and not ARN.fullmatch(model):
        _check_arn(scope, model)
        return _ArnModel(model)
    # The data of profiles and the metrics' module are only needed by stacks that call Bedrock.
    from tokenmill.bedrock.foundation_model import named_model

    return named_model(scope, model)


def _prompt_use(options: BedrockOptions | None) -> gateway_options.PromptUse | None:
    use = None if options is None else options.prompt
    if use is None:
        return None
    return gateway_options.PromptUse(
        arn=use.prompt.prompt_version_arn, variables=dict(use.variables), question=use.question
    )


def _guardrail_use(options: BedrockOptions | None) -> gateway_options.GuardrailUse | None:
    hook = None if options is None else options.guardrail
    if hook is None:
        return None
    return gateway_options.GuardrailUse(
        id=hook.guardrail.guardrail_arn,
        version=hook.guardrail.guardrail_version,
        mode=hook.mode.value,
        blocked_input=hook.guardrail.blocked_question,
    )
