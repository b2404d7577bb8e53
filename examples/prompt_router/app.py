"""A chat whose easy questions go to a small model: a prompt router behind the gateway, every call logged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import aws_cdk as cdk

from tokenmill import ApiKeyTable, ChatGateway, ConversationTable, ServedModel
from tokenmill.bedrock import InferenceProfile, InvocationLogging, LogStream, PromptRouter
from tokenmill.gateway import GatewayLimits, TokenLimits
from tokenmill.lint import acknowledge_from, register_packs
from tokenmill_runtime.token_work import TokenWorkCoefficients

if TYPE_CHECKING:
    from constructs import Construct

HERE = Path(__file__).resolve().parent
SMALL = "us.amazon.nova-lite-v1:0"
LARGE = "us.amazon.nova-pro-v1:0"
LIMITS = TokenLimits(context_tokens=100_000, max_output_tokens=4096)
WORK = TokenWorkCoefficients(
    prefill_seconds_per_request=0.0, prefill_seconds_per_token=0.0005, decode_seconds_per_token=0.02
)


class RoutedChat(cdk.Stack):
    """One gateway with two models: `auto` is routed, `nova-pro` is the large model under a tagged profile."""

    def __init__(self, scope: Construct, id: str) -> None:
        super().__init__(scope, id)
        # The small model answers unless the large one is expected to be more than ten percent better.
        router = PromptRouter(self, "Router", models=[SMALL, LARGE], fallback=SMALL, quality_difference=10)
        profile = InferenceProfile(self, "Profile", model=LARGE, tags={"team": "chat"})
        InvocationLogging(self, "Calls", stream=LogStream(retention_days=30))
        keys = ApiKeyTable(self, "Keys")
        gateway = ChatGateway(
            self,
            "Gateway",
            models=[
                ServedModel.on_bedrock(router, name="auto", limits=LIMITS, token_work=WORK),
                ServedModel.on_bedrock(profile, name="nova-pro", limits=LIMITS, token_work=WORK),
            ],
            api_keys=keys,
            conversations=ConversationTable(self, "Conversations", time_to_live=cdk.Duration.days(30)),
            limits=GatewayLimits(requests_per_second=20, burst=40),
        )
        cdk.CfnOutput(self, "BaseUrl", value=gateway.base_url)
        cdk.CfnOutput(self, "ApiKeyTable", value=keys.table_name)
        cdk.CfnOutput(self, "RouterArn", value=router.arn)


app = cdk.App()
stack = RoutedChat(app, "prompt-router")
acknowledge_from(stack, HERE.parent / "acknowledgements.toml")
register_packs(app, packs=app.node.try_get_context("tokenmill:packs") or [])
app.synth()
