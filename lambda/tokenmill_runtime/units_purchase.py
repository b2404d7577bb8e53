"""How units come to be there: adopted where somebody left them, bought otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tokenmill_runtime.custom_resource import Refused
from tokenmill_runtime.units_plan import (
    Units,
    UnitsId,
    Wanted,
    generation_of,
    of_generation,
    own_tags,
    owner_of,
    replacement_of,
)
from tokenmill_runtime.units_quota import check_quota

if TYPE_CHECKING:
    from tokenmill_runtime.custom_resource import Request
    from tokenmill_runtime.units_market import Market
    from tokenmill_runtime.units_release import Release
    from tokenmill_runtime.units_stack import Stack

BREAK: Final = "BREAK_BEFORE_MAKE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """Buys units that a request asks for and that are not there."""

    market: Market
    release: Release
    stack: Stack

    def check_replacement(self, request: Request, wanted: Wanted) -> None:
        """Raise Refused where units may not be replaced, or could not be; nothing has been changed then."""
        before, how = request.old_properties, self.replacement(request, wanted)
        if str(before.get("Scheduled", "")).lower() == "true":
            return
        if how == "REFUSE":
            raise Refused(
                f"units cannot change in place: {before.get('ModelUnits')} of {before.get('ModelId')} would "
                f"have to be replaced by {wanted.units} of {wanted.model}, and Replacement is REFUSE; write "
                "MAKE_BEFORE_BREAK (quota and price for both, for minutes) or BREAK_BEFORE_MAKE (callers use "
                "the fallback in between); nothing was changed",
                code="replacement",
            )
        if how == BREAK:
            self.release.check_break(request, wanted)
        check_quota(self.market, wanted, instead_of=self._broken(request, how))

    def replacement(self, request: Request, wanted: Wanted) -> str:
        """How the request may replace units."""
        unsure = wanted.replacement == "REFUSE" != request.old_properties.get("Replacement", "REFUSE")
        forward = unsure and self.stack.goes_forward(request)
        return replacement_of(request, wanted, forward=forward)

    def advance(self, request: Request, wanted: Wanted, id: UnitsId) -> None:
        """One step towards units that are not there. Raises Refused after what it bought is gone again."""
        self._check_time(request, wanted)
        breaks = request.kind == "Update" and self.replacement(request, wanted) == BREAK
        if breaks and not self.release.broken(request, wanted, id):
            return
        if self._adopt(wanted, id):
            return
        name = wanted.slot(id.owner)
        try:
            check_quota(self.market, wanted, instead_of=0)
            self.market.buy(
                wanted,
                name,
                own_tags(id, request.stack_id, wanted),
                request.token(str(id)),
                units=wanted.units,
                commitment="NONE",
            )
        except Refused:
            # An earlier answer may be lost, and what it bought not yet to be seen.
            self.market.give_up_unseen(name)
            raise

    def give_back(self, request: Request, id: UnitsId, units: Units) -> bool:
        """Delete units that never came into service; whether they have to be waited for.

        False for those of an earlier request, which are gone now. Raises Refused with the service's reason
        for this request's own.
        """
        why = units.failure or "without a reason"
        in_place = request.kind == "Update" and request.replaces == request.physical_id
        if in_place and generation_of(request.old_properties) == generation_of(request.properties):
            raise Refused(f"Bedrock says that {units.arn} failed: {why}; nothing was changed", code="failed")
        outcome = self.market.give_up(units.arn).outcome
        if outcome == "busy":
            return True
        if units.resource != str(id):
            return False
        raise Refused(f"Bedrock could not provide the units: {why}; they are deleted again", code="failed")

    def _check_time(self, request: Request, wanted: Wanted) -> None:
        """Raise Refused for a request that came after its time, and so must not buy."""
        if not self.stack.may_buy(request):
            raise Refused(
                f"the stack is not in a deployment that could ask for these units; request "
                f"{request.request_id} came late; nothing was bought",
                code="stale",
            )
        in_place = request.kind == "Update" and request.replaces == request.physical_id
        if in_place and not self.stack.asked and not self._replaces_in_place(request, wanted):
            raise Refused(
                f"the units of {request.physical_id} are gone, and this update does not ask for others; "
                "somebody deleted them, or the request came late; change ModelUnits or the resource's "
                "logical id to buy anew; nothing was bought",
                code="gone",
            )

    def _replaces_in_place(self, request: Request, wanted: Wanted) -> bool:
        """Whether an update under the same id asks for other units than before."""
        generation = generation_of(request.old_properties)
        if generation == wanted.generation:
            return False
        # A rollback's own Replacement does not tell how the units were replaced that it wants back.
        if BREAK in (wanted.replacement, request.old_properties.get("Replacement")):
            return True
        # The look of `begin` may have shown units that are gone, and so have kept the id.
        held = self.market.held(owner_of(request), (generation,), ())
        before = of_generation(held, owner_of(request), generation)
        return any(units.resource == request.physical_id for units in before)

    def _adopt(self, wanted: Wanted, id: UnitsId) -> bool:
        """Take over units that a deleted resource left behind; whether there are any.

        The name comes first: it is taken once, and until the tags follow the units still count as retained.
        """
        name = wanted.slot(id.owner)
        for units in self.market.alike(wanted):
            if units.retained and units.status == "InService" and self.market.rename(units.arn, name):
                return True
        return False

    def _broken(self, request: Request, how: str) -> int:
        """The units that are given up before the purchase."""
        if how != BREAK:
            return 0
        owner, generation = owner_of(request), generation_of(request.old_properties)
        held = self.market.held(owner, (generation,), ())
        return sum(units.units for units in of_generation(held, owner, generation))
