"""An OpenAI-compatible chat service on one planned model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import aws_cdk as cdk

from tokenmill.core.errors import TokenmillError
from tokenmill.gateway import (
    ApiKeyTable,
    ChatGateway,
    ConversationTable,
    GatewayLimits,
    ServedModel,
    TokenLimits,
)
from tokenmill.observability import ChatAlarms, ChatDashboard, Heartbeat
from tokenmill.observability.alarms import AlarmedTarget
from tokenmill_runtime.token_work import TokenWorkCoefficients
from tokenmill_stacks.profile import Surroundings, plain_surroundings

if TYPE_CHECKING:
    from aws_cdk import aws_ec2 as ec2
    from aws_cdk import aws_kms as kms
    from aws_cdk import aws_lambda as lambda_
    from aws_cdk import aws_sns as sns
    from constructs import Construct

    from tokenmill.core.plan import Plan
    from tokenmill.core.settings import StackSettings
    from tokenmill.endpoints import LlmEndpoint, ModelSource
    from tokenmill.security import FunctionHosting

BEDROCK_ANSWER_ROOM = 4
GUARD_CONCURRENCY = 2


class ChatStack(cdk.Stack):
    """A model, its scaling, its gateway, its keys, its conversations and its alarms.

    Outputs: BaseUrl (what an OpenAI client takes), ApiKeyTable, GatewayFunction, and with SageMaker
    EndpointName and ComponentName.

    Args:
        scope: The app.
        id: The stack's id, which becomes its name.
        settings: The stack's section of tokenmill.toml.
        plan: The committed plan; None where Bedrock serves.
        env: Account and region.
        alarm_topic: Who alarms tell; the compliance profile makes a topic otherwise.
        runtime_dependencies: A layer instead of the gateway's vendored libraries.
        source: Where SageMaker's weights and image come from; the Hugging Face Hub otherwise.
        vpc: The network of functions; the compliance profile makes one otherwise.

    Raises:
        TokenmillError: If plan and backend do not belong together, or Bedrock's context is not set.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: StackSettings,
        plan: Plan | None,
        env: cdk.Environment | None = None,
        alarm_topic: sns.ITopic | None = None,
        runtime_dependencies: lambda_.ILayerVersion | None = None,
        source: ModelSource | None = None,
        vpc: ec2.IVpc | None = None,
    ) -> None:
        _check(settings, plan)
        model = settings.model if plan is None else plan.model.id
        super().__init__(scope, id, env=env, description=f"Chat on {model} by tokenmill")
        self.settings = settings
        surroundings = self._surroundings(alarm_topic, vpc)
        self.endpoint: LlmEndpoint | None = None
        self.model = (
            self._bedrock_model() if plan is None else self._sagemaker_model(plan, surroundings, source)
        )
        key, kept = surroundings.encryption_key, surroundings.removal_policy
        self.api_keys = ApiKeyTable(self, "ApiKeys", encryption_key=key, removal_policy=kept)
        self.conversations = ConversationTable(self, "Conversations", encryption_key=key, removal_policy=kept)
        if key is not None:
            self._back_up(key)
        self.gateway = ChatGateway(
            self,
            "Gateway",
            models=[self.model],
            api_keys=self.api_keys,
            conversations=self.conversations,
            limits=GatewayLimits.for_rate(settings.workload.requests_per_second),
            hosting=surroundings.hosting,
            runtime_dependencies=runtime_dependencies,
        )
        self._observe(surroundings)
        self._outputs()

    @property
    def availability_zones(self) -> list[str]:
        """Two zones by number, so that a VPC needs no look-up in an account."""
        zones = cdk.Fn.get_azs()
        return [cdk.Fn.select(number, zones) for number in range(2)]

    def _surroundings(self, alarm_topic: sns.ITopic | None, vpc: ec2.IVpc | None) -> Surroundings:
        if not self.settings.own_network:
            return plain_surroundings(self.settings, alarm_topic=alarm_topic, vpc=vpc)
        # Networks and keys cost a second to import, and most stacks have none.
        from tokenmill_stacks.compliance import compliant_surroundings

        return compliant_surroundings(self, self.settings, vpc=vpc, alarm_topic=alarm_topic)

    def _back_up(self, key: kms.IKey) -> None:
        from tokenmill_stacks.compliance import back_up

        self.backup_plan = back_up(self, key, [self.api_keys.table, self.conversations.table])

    def _sagemaker_model(
        self, plan: Plan, surroundings: Surroundings, source: ModelSource | None
    ) -> ServedModel:
        from tokenmill.endpoints import EndpointHosting, LlmEndpoint, Serving
        from tokenmill.scaling import TokenScaling

        chosen = plan.chosen
        local_nvme = Serving.from_plan(plan).instance.local_nvme
        self.endpoint = LlmEndpoint.from_plan(
            self,
            "Endpoint",
            plan=plan,
            source=source,
            hosting=EndpointHosting(
                network=surroundings.endpoint_network,
                encryption_key=None if local_nvme else surroundings.encryption_key,
                functions=_guard_hosting(surroundings.hosting),
            ),
        )
        if chosen.capacity.minimum != chosen.capacity.maximum:
            self.scaling = TokenScaling.from_plan(self, "Scaling", endpoint=self.endpoint, plan=plan)
        return ServedModel.from_plan(self.endpoint, plan)

    def _bedrock_model(self) -> ServedModel:
        settings = self.settings
        context = settings.limits.context_tokens
        assert context is not None, "checked before the stack was made"
        # Bedrock has no copies to keep busy, so work is the time that a request takes at the goals.
        work = TokenWorkCoefficients(
            prefill_seconds_per_request=0.0,
            prefill_seconds_per_token=settings.slo.ttft_ms / 1000 / settings.workload.input_tokens,
            decode_seconds_per_token=settings.slo.itl_ms / 1000,
        )
        # Bedrock takes the longest answer from the quota when a request starts ("Understanding how tokens are
        # counted in Amazon Bedrock"), so an answer that names no length gets room, but not the whole context.
        answer = min(context, settings.workload.output_tokens * BEDROCK_ANSWER_ROOM)
        limits = TokenLimits(context_tokens=context, max_output_tokens=answer)
        return ServedModel.on_bedrock(settings.model, name=settings.model, limits=limits, token_work=work)

    def _observe(self, surroundings: Surroundings) -> None:
        target = self.model.heartbeat_target
        self.heartbeat = Heartbeat(self, "Heartbeat", targets=[target], hosting=surroundings.hosting)
        self.alarms = ChatAlarms(
            self,
            "Alarms",
            watched=AlarmedTarget(
                target=target.target, function=self.gateway.function, copies=self.endpoint is not None
            ),
            slo=self.settings.slo,
            topic=surroundings.alarm_topic,
        )
        self.dashboard = ChatDashboard(self, "Dashboard", target=target.target, slo=self.settings.slo)

    def _outputs(self) -> None:
        outputs = {
            "BaseUrl": self.gateway.base_url,
            "ApiKeyTable": self.api_keys.table_name,
            "GatewayFunction": self.gateway.function.function_name,
        }
        if self.endpoint is not None:
            outputs["EndpointName"] = self.endpoint.endpoint_name
            outputs["ComponentName"] = self.endpoint.component_name
        for key, value in outputs.items():
            cdk.CfnOutput(self, key, value=value)


def _guard_hosting(hosting: FunctionHosting) -> FunctionHosting:
    """Return where the guard of deployments runs: one deployment at a time, and an event beside it."""
    if hosting.reserved_concurrency is None:
        return hosting
    return replace(hosting, reserved_concurrency=GUARD_CONCURRENCY)


def _check(settings: StackSettings, plan: Plan | None) -> None:
    if settings.needs_plan and plan is None:
        raise TokenmillError(
            f"backend is {settings.backend!r} and there is no plan; run: tokenmill plan "
            f"{settings.stack} --write"
        )
    if not settings.needs_plan and plan is not None:
        raise TokenmillError(f"backend is {settings.backend!r}, which has no plan; leave plan out")
    if not settings.needs_plan and settings.limits.context_tokens is None:
        raise TokenmillError(
            f"{settings.stack}.limits.context_tokens is not set; backend {settings.backend!r} needs "
            "the model's context window, in tokens"
        )
