"""What a gateway serves: models on inference components and on Bedrock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aws_cdk import Aws
from aws_cdk import aws_iam as iam

from tokenmill.observability.heartbeat import HeartbeatTarget
from tokenmill.security import actions
from tokenmill.security.acknowledge import acknowledge, any_resource
from tokenmill_runtime.gateway_config import GatewayModel

if TYPE_CHECKING:
    from constructs import IConstruct

    from tokenmill.core.plan import Plan
    from tokenmill.endpoints.base import EndpointBase
    from tokenmill_runtime.token_work import TokenWorkCoefficients


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLimits:
    """How many tokens one request may take.

    Args:
        context_tokens: Prompt plus answer, in tokens.
        max_output_tokens: Longest answer, in tokens.

    Raises:
        ValueError: If a limit is below 1 or the answer is longer than the context.
    """

    context_tokens: int
    max_output_tokens: int

    def __post_init__(self) -> None:
        if not 1 <= self.max_output_tokens <= self.context_tokens:
            raise ValueError(
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
        bedrock_model_id: The model or inference profile that serves it, if Bedrock does.
        plan_hash: The plan that the coefficients come from, or "none".
    """

    name: str
    limits: TokenLimits
    token_work: TokenWorkCoefficients
    endpoint: EndpointBase | None = None
    bedrock_model_id: str | None = None
    plan_hash: str = "none"

    def __post_init__(self) -> None:
        if (self.endpoint is None) == (self.bedrock_model_id is None):
            raise ValueError(
                f"the model {self.name!r} must have an endpoint or a bedrock_model_id, and not both"
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
    ) -> ServedModel:
        """Return a model that an endpoint serves, or one of its components.

        Args:
            endpoint: The endpoint or component, made here or imported; not an asynchronous one.
            name: What callers put into `model`.
            limits: Tokens a request may take.
            token_work: What a request costs a copy.
            plan_hash: The plan that the coefficients come from.

        Raises:
            ValueError: If the endpoint is asynchronous.
        """
        if endpoint.answers_async:
            raise ValueError(
                f"the model {name!r} is on an asynchronous endpoint, which answers into a bucket and no "
                "caller can wait for; give an LlmEndpoint or a VariantEndpoint"
            )
        return cls(name=name, limits=limits, token_work=token_work, endpoint=endpoint, plan_hash=plan_hash)

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
        cls, model_id: str, *, name: str, limits: TokenLimits, token_work: TokenWorkCoefficients
    ) -> ServedModel:
        """Return a model that Bedrock serves through ConverseStream.

        Args:
            model_id: A foundation model's id ("amazon.nova-lite-v1:0"), a regional inference profile's id
                ("us.amazon.nova-lite-v1:0"), or an ARN.
            name: What callers put into `model`.
            limits: Tokens a request may take.
            token_work: What a request costs, for the metrics.
        """
        return cls(name=name, limits=limits, token_work=token_work, bedrock_model_id=model_id)

    @property
    def heartbeat_target(self) -> HeartbeatTarget:
        """What the heartbeat publishes for this model."""
        if self.endpoint is not None:
            return HeartbeatTarget.endpoint(self.endpoint)
        return HeartbeatTarget.bedrock(self.bedrock_model_id or "")

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
        )

    def grant_invoke(self, grantee: iam.IGrantable, *, scope: IConstruct) -> iam.Grant:
        """Let a principal call this model and nothing else.

        Args:
            grantee: The principal.
            scope: The construct whose policy gets the statement, for its acknowledgement.
        """
        if self.endpoint is not None:
            return self.endpoint.grant_invoke(grantee)
        arns = bedrock_arns(self.bedrock_model_id or "")
        for arn in arns[1:]:
            # The second ARN of a profile names its model in any region; the check prints references as
            # <Name>.
            acknowledge(
                scope,
                {
                    any_resource(
                        arn.replace(Aws.PARTITION, "<AWS::Partition>")
                    ): "A cross-region profile calls this one model in whichever of its regions has room."
                },
            )
        return iam.Grant.add_to_principal(
            grantee=grantee, actions=list(actions.BEDROCK_INVOKE), resource_arns=arns
        )


def bedrock_arns(model_id: str) -> list[str]:
    """Return the ARNs that a call of a Bedrock model is checked against.

    A cross-region profile is checked against itself and against the foundation model in each of its
    destination regions ("Prerequisites for inference profiles", Amazon Bedrock user guide).

    Args:
        model_id: A foundation model's id, an inference profile's id, or an ARN.
    """
    if model_id.startswith("arn:"):
        return [model_id]
    geography, _, foundation = model_id.partition(".")
    if geography in PROFILE_PREFIXES:
        profile = f"arn:{Aws.PARTITION}:bedrock:{Aws.REGION}:{Aws.ACCOUNT_ID}:inference-profile/{model_id}"
        return [profile, f"arn:{Aws.PARTITION}:bedrock:{ANY_REGION}::foundation-model/{foundation}"]
    return [f"arn:{Aws.PARTITION}:bedrock:{Aws.REGION}::foundation-model/{model_id}"]


# "Supported Regions and models for inference profiles", Amazon Bedrock user guide.
ANY_REGION = "*"
PROFILE_PREFIXES = frozenset({"apac", "au", "ca", "eu", "global", "jp", "us", "us-gov"})
