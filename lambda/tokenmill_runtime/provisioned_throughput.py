"""The custom resource of model units: bought, adopted, replaced, kept and given up.

Invariant under lost answers, repeated and reordered requests, throttles, crashes between two calls and
rollbacks: *units owned = units declared + units retained*. docs/reliability.md has the protocol; this is why it
holds. `begin` changes nothing. A purchase carries a token of the request and a name that the service takes
once. A step looks, does one thing and returns; every look may be behind, so nothing is finished before a write
on the units succeeded. Before a request fails, what it bought is given up. A deletion that does not see its
units deletes them by name. Units of other requests, stacks and people, which their tags tell apart, are left
alone.

``AWS_ENDPOINT_URL_BEDROCK`` redirects the service; ledger, handle, alarm, quotas and the question to the stack
are off unless the environment or a property names them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime import waited_resource
from tokenmill_runtime.clock import SYSTEM_CLOCK
from tokenmill_runtime.custom_resource import Answer, Refused, Request
from tokenmill_runtime.units_handle import Handles
from tokenmill_runtime.units_ledger import Ledger
from tokenmill_runtime.units_market import Market
from tokenmill_runtime.units_plan import (
    BASE,
    COMMITTED,
    RESOURCE_TYPE,
    RETAINED_TAG,
    Units,
    UnitsId,
    Wanted,
    generation_of,
    id_for,
    own_tags,
    owner_of,
    replacement_of,
    slot_name,
    slot_of,
)
from tokenmill_runtime.units_purchase import Purchase
from tokenmill_runtime.units_release import Release
from tokenmill_runtime.units_stack import Stack

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill_runtime.clock import Clock
    from tokenmill_runtime.waited_resource import WaitedResource


def on_event(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Begin a request, as the CDK's Provider framework asks for; see `waited_resource.on_event`."""
    return waited_resource.on_event(_resources(), event, context)


def is_complete(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Take a step, as the CDK's Provider framework asks for; see `waited_resource.is_complete`."""
    return waited_resource.is_complete(_resources(), event, context)


def _resources() -> Mapping[str, WaitedResource]:
    return _AnyType(ProvisionedThroughputResource())


class _AnyType(dict[str, "WaitedResource"]):
    """This module's only resource, whatever a template calls its type."""

    def __init__(self, resource: WaitedResource) -> None:
        super().__init__({RESOURCE_TYPE: resource})
        self._resource = resource

    def get(self, key: str, default: Any = None) -> Any:
        return self._resource


class ProvisionedThroughputResource:
    """Units from their first request to their last; see the module.

    Args:
        market: Bedrock's provisioned models.
        clock: Time.
    """

    def __init__(self, market: Market | None = None, clock: Clock = SYSTEM_CLOCK) -> None:
        self._market = market or Market()
        self._ledger = Ledger.from_environment()
        self._handles = Handles()
        self._stack = Stack.from_environment()
        self._release = Release(self._market, self._ledger, self._handles, self._stack, clock)
        self._purchase = Purchase(self._market, self._stack, clock)

    def begin(self, request: Request) -> str:
        """The physical id of the units; see `waited_resource.WaitedResource`."""
        if request.kind == "Delete":
            return request.physical_id or request.own_id
        wanted = Wanted.read(request.properties)
        known = UnitsId.parse(request.physical_id)
        if known is not None and known.owner == owner_of(request) and known.generation == wanted.generation:
            return str(known)
        if request.kind == "Create":
            return str(id_for(request, wanted.generation))
        return self._successor(request, wanted)

    def advance(self, request: Request) -> Answer | None:
        """One step; see `waited_resource.WaitedResource`."""
        if request.kind == "Delete":
            return self._release.advance(request)
        wanted = Wanted.read(request.properties)
        id = UnitsId.parse(request.physical_id)
        if id is None:
            raise Refused(f"PhysicalResourceId is {request.physical_id!r:.200}, which is not of this resource")
        held = self._market.held(id.owner, id.generation, _prefixes(request, wanted))
        main = _main(held, id)
        if main is None:
            if not wanted.scheduled:
                self._purchase.advance(request, wanted, id)
                return None
        elif wanted.scheduled and not main.retained:
            return self._hand_over(request, wanted, id, main)
        elif not self._settle(request, wanted, id, main):
            return None
        if not self._sweep(request, wanted, id):
            return None
        return self._finish(request, wanted, id, main)

    def _successor(self, request: Request, wanted: Wanted) -> str:
        """The id of what replaces units: that of units which are there, as a rollback finds them, or a new one.

        Raises Refused where units may not be replaced; nothing has been changed then.
        """
        owner = owner_of(request)
        for prefix in _prefixes(request, wanted):
            units = self._market.named(slot_name(prefix, owner + wanted.generation))
            if units is not None and units.owned_by(owner) and not units.retained:
                return units.resource
        how = replacement_of(request, wanted)
        before = request.old_properties
        if how == "REFUSE":
            raise Refused(
                f"units cannot change in place: {before.get('ModelUnits')} of {before.get('ModelId')} would have to "
                f"be replaced by {wanted.units} of {wanted.model}, and Replacement is REFUSE; write "
                "MAKE_BEFORE_BREAK (a quota and the price for both, for minutes) or BREAK_BEFORE_MAKE (callers use "
                "the fallback in between); nothing was changed",
                code="replacement",
            )
        if how == "BREAK_BEFORE_MAKE":
            self._release.check_break(request, wanted)
        self._purchase.check_quota(request, wanted, how)
        return str(id_for(request, wanted.generation))

    def _settle(self, request: Request, wanted: Wanted, id: UnitsId, main: Units) -> bool:
        """Bring units that exist to what is asked; whether they are."""
        self._check_owner(request, id, main)
        if main.busy:
            return False
        if main.status == "Failed":
            self._purchase.give_back(request, main)
        slot = slot_of(main.name, id.key) or BASE
        name = slot_name(wanted.name, id.key, slot)
        if main.name != name:
            self._market.rename(main.arn, name)
            return False
        unwanted = {key for key in request.old_properties_tags if key not in wanted.tags}
        if not self._market.tag(
            main, own_tags(id, request.stack_id, wanted), without={RETAINED_TAG, *unwanted}
        ):
            # A read showed units that are gone.
            self._purchase.advance(request, wanted, id)
            return False
        return True
