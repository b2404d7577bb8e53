"""Buys the commitment that a deployment declared: beside the units that are there, which go when it serves.

Used by ``tokenmill jobs run commit-units``, never by a deployment. The committed purchase has a slot, and so
a name, of its own; a step may be taken any number of times.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenmill_runtime.custom_resource import Refused
from tokenmill_runtime.units_handle import Handles
from tokenmill_runtime.units_ledger import DECLARED, PREFIX, RETAINED, Ledger
from tokenmill_runtime.units_market import Market
from tokenmill_runtime.units_plan import (
    BASE,
    COMMITMENTS,
    COMMITTED,
    UnitsId,
    Wanted,
    own_tags,
    slot_of,
)
from tokenmill_runtime.units_stack import Stack

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """Units whose commitment is declared and not bought.

    Args:
        id: The resource's physical id.
        stack_id: ARN of the stack.
        wanted: What the resource asks for; its ``commitment`` is what would be bought.
        arn: ARN of the uncommitted units that serve until then.
    """

    id: UnitsId
    stack_id: str
    wanted: Wanted
    arn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a purchase is, in one sentence."""

    done: bool
    text: str


def declared(prefix: str = PREFIX) -> list[Declared]:
    """All units of the account and region whose commitment is declared and not bought."""
    return [_declared(entry) for entry in Ledger(prefix=prefix).entries(DECLARED)]


def retained(prefix: str = PREFIX) -> list[dict[str, Any]]:
    """The ledger's entries of units that stayed when their resource went.

    Each has ``arn``, ``name``, ``model``, ``units``, ``hourly_usd``, ``daily_usd``, ``commitment``,
    ``expires``, ``reason``, ``resource``, ``stack``, ``logical_id`` and ``since``.
    """
    return list(Ledger(prefix=prefix).entries(RETAINED))


def advance(units: Declared, *, prefix: str = PREFIX, market: Market | None = None) -> Progress:
    """Take one step of a purchase with commitment.

    Raises Refused where the service sells none, or the resource is gone or has not come into service.
    """
    market, wanted, id = market or Market(), units.wanted, units.id
    found = market.held(id.owner, (wanted.generation,), (wanted.name,))
    held = [each for each in found if each.resource == str(id) and not each.retained]
    slots = {slot_of(each.name, wanted.key(id.owner)): each for each in held}
    base, committed = slots.get(BASE), slots.get(COMMITTED)
    if committed is None:
        if base is None or base.status != "InService":
            raise Refused(
                f"the units of {id} are not in service, so nothing is committed; deploy the stack first",
                code="not-in-service",
            )
        _buy(market, units)
        return Progress(done=False, text=f"asked for {wanted.units} units with {wanted.commitment}")
    if committed.busy:
        return Progress(done=False, text=f"{committed.arn} is {committed.status}")
    if committed.status != "InService":
        market.give_up(committed.arn)
        raise Refused(f"Bedrock could not provide the units: {committed.failure}", code="failed")
    Handles().write(wanted, str(id), [each for each in held if each is not base])
    if base is not None and market.give_up(base.arn).outcome not in ("gone", "missing"):
        return Progress(done=False, text=f"{base.arn}, without commitment, is not gone yet")
    Ledger(prefix=prefix).declare(wanted, str(id), committed)
    return Progress(done=True, text=f"{committed.arn} is committed until {committed.expires}")


def _buy(market: Market, units: Declared) -> None:
    wanted, id = units.wanted, units.id
    if not Stack(asked=True).still_declares(units.stack_id, id.logical, str(id)):
        raise Refused(f"the stack {units.stack_id} has no {id} any more; nothing was bought", code="gone")
    # The units that it replaces make the token: a second commitment needs a second purchase without.
    text = f"{id}\n{units.arn}\n{wanted.commitment}"
    token = hashlib.sha256(text.encode()).hexdigest()[:48]
    market.buy(
        wanted,
        wanted.slot(id.owner, COMMITTED),
        own_tags(id, units.stack_id, wanted),
        token,
        units=wanted.units,
        commitment=wanted.commitment,
    )


def _declared(entry: Mapping[str, Any]) -> Declared:
    id = UnitsId.parse(entry["resource"])
    if id is None or entry["commitment"] not in COMMITMENTS:
        raise Refused(f"the ledger has an entry that nobody wrote so: {dict(entry)!r:.300}")
    wanted = Wanted(
        name=entry["name"],
        model=entry["model"],
        units=int(entry["units"]),
        commitment=entry["commitment"],
        hourly_usd=float(entry["hourly_usd"]),
        handle=entry["handle"],
        fallback=entry["fallback"],
        tags=entry["tags"],
    )
    return Declared(id=id, stack_id=entry["stack"], wanted=wanted, arn=entry["arn"])
