"""Provisioned units in a template, and what is said of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from support_stack import of_type, template_of
from tokenmill.bedrock import Commitment, ProvisionedThroughput

if TYPE_CHECKING:
    import aws_cdk as cdk
    from constructs import Construct

LITE = "amazon.nova-lite-v1:0:24k"
ON_DEMAND = "amazon.nova-lite-v1:0"
KIND = "Custom::TokenmillProvisionedThroughput"


def make_units(scope: Construct, id: str = "Units", /, **changes: Any) -> ProvisionedThroughput:
    """Return two units of a small model at 20 USD an hour, with some keywords changed."""
    keywords = {
        "model": LITE,
        "units": 2,
        "commitment": Commitment.NONE,
        "fallback": ON_DEMAND,
        "hourly_usd": 20.0,
        **changes,
    }
    return ProvisionedThroughput(scope, id, **keywords)


def unit_properties(stack: cdk.Stack) -> dict[str, Any]:
    """Return the properties of the only units of a stack."""
    [resource] = of_type(template_of(stack), KIND).values()
    found: dict[str, Any] = resource["Properties"]
    return found


def inputs(template: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what each schedule tells the function, by its task and schedule, references as <Name>."""
    found = {}
    for schedule in of_type(template, "AWS::Scheduler::Schedule").values():
        given = schedule["Properties"]["Target"]["Input"]
        text = given if isinstance(given, str) else "".join(map(_part, given["Fn::Join"][1]))
        event = json.loads(text)
        key = event["UnitsTask"] + event.get("Schedule", {}).get("Id", "")
        found[key] = {"event": event, **schedule["Properties"]}
    return found


def _part(part: Any) -> str:
    return part if isinstance(part, str) else f"<{part.get('Ref') or '.'.join(part['Fn::GetAtt'])}>"
