"""The custom resource of model units: bought, adopted, replaced, kept and given up.

Invariant under lost answers, repeated and reordered requests, throttles, crashes between two calls and
rollbacks: *units owned = units declared + units retained*. docs/reliability.md has the protocol; this is why
it holds. `begin` changes nothing. A purchase carries a token of the request and a name that the service takes
once. A step looks, does one thing and returns; every look may be behind, so nothing counts as there before a
write on it succeeded. Before a request fails, what it bought is given up. A deletion that does not see its
units deletes them by name. Units of other requests, stacks and people, which tags tell apart, are left alone.

``AWS_ENDPOINT_URL_BEDROCK`` redirects the service; ledger, handle, alarms, quotas and questions to the stack
are off unless the environment or a property names them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from tokenmill_runtime import waited_resource
from tokenmill_runtime.clock import SYSTEM_CLOCK
from tokenmill_runtime.custom_resource import Answer, Refused, Request
from tokenmill_runtime.units_handle import Handles
from tokenmill_runtime.units_ledger import Ledger
from tokenmill_runtime.units_market import Market
from tokenmill_runtime.units_plan import (
    BASE,
    RESOURCE_TAG,
    RESOURCE_TYPE,
    RETAINED_TAG,
    Units,
    UnitsId,
    Wanted,
    generation_of,
    id_for,
    main_of,
    of_generation,
    own_tags,
    owner_of,
    prefixes_of,
    slot_of,
    user_tags,
)
from tokenmill_runtime.units_purchase import BREAK, Purchase
from tokenmill_runtime.units_release import Release
from tokenmill_runtime.units_stack import Stack

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill_runtime.clock import Clock


def on_event(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Begin a request, as the CDK's Provider framework asks for; see `waited_resource.on_event`."""
    asked = {"ResourceType": RESOURCE_TYPE, **event}
    return waited_resource.on_event({asked["ResourceType"]: ProvisionedThroughputResource()}, asked, context)


def is_complete(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Take a step, as the CDK's Provider framework asks for; see `waited_resource.is_complete`."""
    asked = {"ResourceType": RESOURCE_TYPE, **event}
    return waited_resource.is_complete(
        {asked["ResourceType"]: ProvisionedThroughputResource()}, asked, context
    )


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
        stack = Stack.from_environment()
        self._release = Release(
            market=self._market, ledger=self._ledger, handles=self._handles, stack=stack, clock=clock
        )
        self._purchase = Purchase(market=self._market, release=self._release, stack=stack)

    def begin(self, request: Request) -> str:
        """The physical id of the units; see `waited_resource.WaitedResource`."""
        if request.kind == "Delete":
            return request.physical_id or request.own_id
        wanted = Wanted.read(request.properties)
        if request.kind == "Create":
            return str(id_for(request, wanted.generation))
        return self._after_update(request, wanted)

    def advance(self, request: Request) -> Answer | None:
        """One step; see `waited_resource.WaitedResource`."""
        if request.kind == "Delete":
            return self._release.advance(request)
        wanted = Wanted.read(request.properties)
        id = UnitsId.parse(request.physical_id)
        if id is None:
            raise Refused(
                f"PhysicalResourceId is {request.physical_id!r:.200}, which is not of this resource"
            )
        prefixes = prefixes_of(request.properties, request.old_properties)
        held = self._market.held(id.owner, (wanted.generation,), prefixes)
        main = None if wanted.scheduled else main_of(held, wanted.key(id.owner))
        if main is None and not wanted.scheduled:
            self._purchase.advance(request, wanted, id)
            return None
        if main is not None and not self._settle(request, wanted, id, main):
            return None
        serving = self._tell_callers(wanted, id, held, main)
        if not self._release.unknown(request, id):
            return None
        return self._finish(wanted, id, main, serving=serving)

    def _after_update(self, request: Request, wanted: Wanted) -> str:
        """The id after an update: the same in place, that of units which a rollback finds, or a new one.

        BREAK_BEFORE_MAKE is in place. A new id tells CloudFormation that the old units are still there: it
        may go back to them by deleting the new ones, without an update.

        Raises Refused where units may not be replaced; nothing has been changed then.
        """
        owner, known = owner_of(request), UnitsId.parse(request.physical_id)
        if known is None or known.owner != owner:
            return str(id_for(request, wanted.generation))
        before = generation_of(request.old_properties)
        if before == wanted.generation:
            return str(known)
        prefixes = prefixes_of(request.properties, request.old_properties)
        held = self._market.held(owner, (wanted.generation, before), prefixes)
        live = [units for units in held if units.owned_by(owner) and not units.retained]
        there = main_of(live, wanted.key(owner))
        # Written again, since the look may show units that are gone: with another id for nothing, a rollback
        # of BREAK_BEFORE_MAKE may be a Delete alone, after which nobody buys the old ones.
        if there is not None and self._market.tag(there, {RESOURCE_TAG: there.resource}):
            return there.resource
        if not wanted.scheduled:
            self._purchase.check_replacement(request, wanted)
            if self._purchase.replacement(request, wanted) == BREAK:
                return str(known)
        has_others = any(units.resource == str(known) for units in of_generation(live, owner, before))
        if known.generation == wanted.generation and not has_others:
            return str(known)
        return str(id_for(request, wanted.generation))

    def _settle(self, request: Request, wanted: Wanted, id: UnitsId, main: Units) -> bool:
        """Bring units that exist to what is asked; whether they are."""
        whose = self._whose(request, id, main)
        if whose == "gone":
            # The look showed what an earlier request had.
            self._purchase.advance(request, wanted, id)
        if whose != "ours" or main.busy:
            return False
        if main.status == "Failed":
            if not self._purchase.give_back(request, id, main):
                self._purchase.advance(request, wanted, id)
            return False
        name = wanted.slot(id.owner, slot_of(main.name, wanted.key(id.owner)) or BASE)
        if main.name != name:
            self._market.rename(main.arn, name)
            return False
        # They count as retained until a look shows whose they are: a deletion may follow at once.
        seen = main.resource == str(id)
        unwanted = user_tags(request.old_properties) - wanted.tags.keys()
        tags = own_tags(id, request.stack_id, wanted)
        if self._market.tag(main, tags, without={RETAINED_TAG, *unwanted} if seen else ()):
            return seen and not main.retained and tags.items() <= main.tags.items()
        # The look showed units that are gone.
        self._purchase.advance(request, wanted, id)
        return False

    def _whose(self, request: Request, id: UnitsId, main: Units) -> Literal["ours", "gone", "other"]:
        """Whether units are this request's, or gone whatever the look shows, or this resource's earlier ones.

        Raises Refused where they are somebody else's, or stay another request's until time is up.
        """
        if main.resource == str(id) or main.retained:
            return "ours"
        if not main.owned_by(id.owner):
            raise Refused(
                f"the name {main.name} is taken by {main.arn}, which this stack did not buy; give the units "
                "another Name, or delete those; nothing was bought",
                code="name-taken",
            )
        if not self._market.tag(main, {RESOURCE_TAG: main.resource}):
            return "gone"
        if request.kind == "Update":
            return "ours"
        if request.budget.over:
            raise Refused(
                f"{main.arn} belongs to {main.resource}, which is this resource under an earlier request; "
                "nothing was bought",
                code="stale",
            )
        return "other"

    def _tell_callers(self, wanted: Wanted, id: UnitsId, held: list[Units], main: Units | None) -> bool:
        """Send callers to what serves, before anything else goes; whether anything does."""
        serving = [
            units
            for units in of_generation(held, id.owner, wanted.generation)
            if units.status == "InService" and not units.retained and units.resource == str(id)
        ]
        if main is not None and main.arn not in [units.arn for units in serving]:
            serving.insert(0, main)
        self._handles.write(wanted, str(id), serving)
        return bool(serving)

    def _finish(self, wanted: Wanted, id: UnitsId, main: Units | None, *, serving: bool) -> Answer:
        """Tell the ledger, and answer."""
        if main is not None:
            self._ledger.released(main)
            self._ledger.declare(wanted, str(id), main)
        return Answer(
            physical_id=str(id),
            data={
                "Handle": wanted.handle,
                # Callers without the handle ask this; it names something in hours without units, too.
                "ModelArn": main.arn if main else wanted.fallback or "none",
                "Name": main.name if main else "",
                "Units": main.units if main else 0,
                "State": "units" if serving else "overflow",
            },
        )
