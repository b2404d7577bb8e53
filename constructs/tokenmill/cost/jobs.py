"""Jobs of tokenmill: state machines that describe themselves, and what an hour of a run costs.

The description is the first state of the machine (`tokenmill_runtime.jobs`); a job without instances of its
own pays for functions, or runs on an endpoint that is counted already. "Amazon SageMaker AI pricing" lists
training and batch transform beside hosting, by the same instance types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenmill.cost.assembly import plain_text
from tokenmill.cost.report import RunCost
from tokenmill_runtime.jobs import JOB_TAG, read_description

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokenmill.cost.assembly import CostStack, Resource
    from tokenmill.cost.prices import PriceList

MACHINE = "AWS::StepFunctions::StateMachine"
SECONDS_AN_HOUR = 3600
USAGES = {"compile": "training job", "transform": "transform job"}
"""What Service Quotas calls the instances of a kind of job."""

_HOSTING = "at the type's hosting price; SageMaker lists jobs apart, so check it there"


def run_costs(stack: CostStack, prices: PriceList | None = None) -> Iterable[RunCost]:
    """Yield what each job with instances of its own costs an hour.

    Args:
        stack: A template.
        prices: Prices; none otherwise.
    """
    for machine in stack.of_type(MACHINE):
        found = _description(machine)
        kind, instance = str(found.get("kind")), found.get("instance_type")
        if kind not in USAGES or not isinstance(instance, str):
            continue
        count, limit = int(found.get("instance_count", 1)), found.get("limit_seconds")
        price = None if prices is None else prices.find(instance, stack.region)
        missing = f"no price of {instance} in {stack.region} is known; give --price {instance}=USD"
        yield RunCost(
            stack=stack.name,
            resource=machine.name,
            kind=kind,
            about=str(found.get("about", kind)),
            instance_type=instance,
            instances=count,
            limit_hours=None if limit is None else limit / SECONDS_AN_HOUR,
            usd_per_hour=None if price is None else count * price.usd,
            note=missing if price is None else _HOSTING,
        )


def _description(machine: Resource) -> dict[str, Any]:
    tags = machine.properties.get("Tags", [])
    if not any(isinstance(tag, dict) and tag.get("Key") == JOB_TAG for tag in tags):
        return {}
    try:
        return read_description(plain_text(machine.properties.get("DefinitionString")))
    except ValueError:
        return {}  # a job of somebody else's, or of another version: its state machine is by use all the same
