"""Provisioned model units of Bedrock: what is owned without a request, over the hours of a week."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tokenmill.bedrock.unit_schedule import HOURS_A_WEEK, UnitHours, unit_hours
from tokenmill.core.errors import TokenmillError
from tokenmill.core.model_units import ARN
from tokenmill.cost.assembly import TOKEN, NotKnownError, plain_text
from tokenmill.cost.charge import Charge
from tokenmill.scaling.office_hours import OfficeHours
from tokenmill_runtime.units_plan import quota_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tokenmill.cost.assembly import CostStack, Resource

UNITS_TYPE = "Custom::TokenmillProvisionedThroughput"


def unit_charges(resource: Resource, stack: CostStack) -> Iterable[Charge]:
    """Yield what the units of a resource cost.

    Args:
        resource: A resource of provisioned units.
        stack: Its template.

    Raises:
        NotKnownError: The number of units is decided by the deployment.
        TokenmillError: A property is malformed.
    """
    properties = resource.properties
    model, notes = _model(properties.get("ModelId")), []
    always = 0.0 if properties.get("Scheduled") == "true" else resource.number("ModelUnits")
    hours = _hours(resource)
    scaling = _scaling(resource)
    quantity = sum(unit_hours(hours, always=always, floor=_floor(scaling))) / HOURS_A_WEEK
    if hours:
        zones = ", ".join(sorted({item.hours.timezone for item in hours}))
        notes.append(f"a mean over the hours of a week, by schedules in {zones}")
    commitment = properties.get("Commitment", "NONE")
    if commitment != "NONE":
        notes.append(
            f"at the price without commitment, until `tokenmill jobs run commit-units` buys {commitment}"
        )
    if scaling:
        notes.append(
            f"on tokens up to {scaling.get('Ceiling')} units and {scaling.get('DailyUsd')} USD a day besides"
        )
    notes.append("protected or committed units cost on after the stack is gone")
    stated = resource.number("HourlyUsd") if "HourlyUsd" in properties else None
    yield Charge(
        item=f"unit.{model}",
        what=f"model units of {model}",
        quantity=quantity,
        note="; ".join(notes),
        usd_per_hour=stated,
    )


def most_units(resource: Resource) -> tuple[str, float, float]:
    """Return the quota that units count against, and how many are owned in the busiest hour, and at the most.

    Replacing units beside the old ones takes both for minutes.

    Args:
        resource: A resource of provisioned units.

    Raises:
        NotKnownError: The number of units is decided by the deployment.
        TokenmillError: A property is malformed.
    """
    properties = resource.properties
    always = 0.0 if properties.get("Scheduled") == "true" else resource.number("ModelUnits")
    scaling = _scaling(resource)
    most = always + sum(item.units for item in _hours(resource))
    busiest = max(most, _floor(scaling))
    if scaling:
        most += int(scaling["Ceiling"]) - always
    if properties.get("Replacement") == "MAKE_BEFORE_BREAK":
        most += always
    model = plain_text(properties.get("ModelId"))
    # What a deployment buys is without commitment.
    return quota_name(custom="custom-model/" in model or TOKEN in model), busiest, most


def _model(value: object) -> str:
    text = plain_text(value)
    if TOKEN in text:
        return "a-model-of-the-deployment"
    found = ARN.fullmatch(text)
    return found["base"] if found else text


def _hours(resource: Resource) -> list[UnitHours]:
    if "Hours" not in resource.properties:
        return []
    document = _document(resource.properties["Hours"], resource, "Hours")
    try:
        return [
            UnitHours(
                id=str(item["Id"]),
                hours=OfficeHours(
                    start=item["Start"], end=item["End"], days=item["Days"], timezone=item["TimeZone"]
                ),
                units=int(item["Units"]),
            )
            for item in document
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise TokenmillError(
            f"{resource.stack}: {resource.logical_id}.Hours are no hours of units ({error!r}); synthesize "
            "again"
        ) from error


def _scaling(resource: Resource) -> dict[str, str]:
    if "Scaling" not in resource.properties:
        return {}
    document: dict[str, str] = _document(resource.properties["Scaling"], resource, "Scaling")
    return document


def _floor(scaling: Mapping[str, str]) -> float:
    return float(scaling.get("Floor", 0))


def _document(value: object, resource: Resource, key: str) -> Any:
    text = plain_text(value)
    if TOKEN in text:
        raise NotKnownError(f"{key} is decided by the deployment")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise TokenmillError(
            f"{resource.stack}: {resource.logical_id}.{key} is no JSON; synthesize again"
        ) from error
