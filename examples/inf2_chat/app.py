"""A chat service on Inferentia2: the planned model behind an OpenAI-compatible gateway, scaled on tokens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import aws_cdk as cdk

from tokenmill import (
    ApiKeyTable,
    ChatGateway,
    ConversationTable,
    Heartbeat,
    LlmEndpoint,
    Plan,
    ServedModel,
    TokenScaling,
)
from tokenmill.lint import acknowledge_from, register_packs

if TYPE_CHECKING:
    from constructs import Construct

HERE = Path(__file__).resolve().parent


class Inf2Chat(cdk.Stack):
    """What `tokenmill plan` chose, and what people call it by."""

    def __init__(self, scope: Construct, id: str, *, plan: Plan) -> None:
        super().__init__(scope, id)
        endpoint = LlmEndpoint.from_plan(self, "Llm", plan=plan)
        TokenScaling.from_plan(self, "Scaling", endpoint=endpoint, plan=plan)
        model = ServedModel.from_plan(endpoint, plan)
        keys = ApiKeyTable(self, "ApiKeys", removal_policy=cdk.RemovalPolicy.DESTROY)
        turns = ConversationTable(self, "Conversations", removal_policy=cdk.RemovalPolicy.DESTROY)
        gateway = ChatGateway(self, "Gateway", models=[model], api_keys=keys, conversations=turns)
        Heartbeat(self, "Heartbeat", targets=[model.heartbeat_target])
        for name, value in {
            "BaseUrl": gateway.base_url,
            "ApiKeyTable": keys.table_name,
            "GatewayFunction": gateway.function.function_name,
            "EndpointName": endpoint.endpoint_name,
            "ComponentName": endpoint.component_name,
        }.items():
            cdk.CfnOutput(self, name, value=value)


app = cdk.App()
stack = Inf2Chat(app, "inf2-chat", plan=Plan.read(HERE / "chat.plan.json"))
acknowledge_from(stack, HERE.parent / "acknowledgements.toml")
register_packs(app, packs=app.node.try_get_context("tokenmill:packs") or [])
app.synth()
