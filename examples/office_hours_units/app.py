"""Model units that are owned in office hours only; at night, and above what they process, on demand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_sns as sns

from tokenmill import ApiKeyTable, ChatGateway, OfficeHours, ServedModel
from tokenmill.bedrock import Commitment, ProvisionedThroughput, Replacement, UnitAlarms
from tokenmill.gateway import TokenLimits
from tokenmill.lint import acknowledge_from, register_packs
from tokenmill_runtime.token_work import TokenWorkCoefficients

if TYPE_CHECKING:
    from constructs import Construct

HERE = Path(__file__).resolve().parent
LIMITS = TokenLimits(context_tokens=24_000, max_output_tokens=2048)
WORK = TokenWorkCoefficients(
    prefill_seconds_per_request=0.0, prefill_seconds_per_token=0.0005, decode_seconds_per_token=0.02
)


class OfficeHoursUnits(cdk.Stack):
    """Callers never notice which of the two answers: one handle says it, and the gateway reads that."""

    def __init__(self, scope: Construct, id: str) -> None:
        super().__init__(scope, id, env=cdk.Environment(region="us-east-1"))
        # No public source states the price; your account manager does: cdk deploy -c hourlyUsd=...
        usd = self.node.try_get_context("hourlyUsd")
        units = ProvisionedThroughput(
            self,
            "Units",
            model="amazon.nova-lite-v1:0:24k",
            units=1,
            commitment=Commitment.NONE,
            # Another number of units gives the old ones up first; the quota need not hold both.
            replacement=Replacement.BREAK_BEFORE_MAKE,
            fallback="amazon.nova-lite-v1:0",
            alarms=UnitAlarms(topic=sns.Topic(self, "Alarms", enforce_ssl=True)),
            hourly_usd=None if usd is None else float(usd),
        )
        start, _, end = (self.node.try_get_context("hours") or "07:30-18:30").partition("-")
        units.add_schedule("Office", OfficeHours(start=start, end=end, timezone="Europe/Berlin"))
        served = ServedModel.on_bedrock(units, name="nova-lite", limits=LIMITS, token_work=WORK)
        keys = ApiKeyTable(self, "Keys")
        gateway = ChatGateway(self, "Gateway", models=[served], api_keys=keys)
        cdk.CfnOutput(self, "BaseUrl", value=gateway.base_url)
        cdk.CfnOutput(self, "ApiKeyTable", value=keys.table.table_name)
        cdk.CfnOutput(self, "Handle", value=units.handle_name)


app = cdk.App()
stack = OfficeHoursUnits(app, "office-hours-units")
acknowledge_from(stack, HERE.parent / "acknowledgements.toml")
register_packs(app, packs=app.node.try_get_context("tokenmill:packs") or [])
app.synth()
