"""How units go: deleted, or kept where they are protected, committed or refused to be deleted."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from tokenmill_runtime.custom_resource import Answer, Refused
from tokenmill_runtime.units_plan import (
    RETAINED_TAG,
    UNITS_TAG,
    Units,
    UnitsId,
    generation_of,
    key_of,
    of_generation,
    owner_of,
    prefixes_of,
    slot_name,
)
from tokenmill_runtime.waited_resource import error_message, is_denied

if TYPE_CHECKING:
    from tokenmill_runtime.clock import Clock
    from tokenmill_runtime.custom_resource import Request
    from tokenmill_runtime.units_handle import Handles
    from tokenmill_runtime.units_ledger import Ledger
    from tokenmill_runtime.units_market import Market
    from tokenmill_runtime.units_plan import Wanted
    from tokenmill_runtime.units_stack import Stack

# How long units that nobody sees may still turn up after the request that bought them; the waiter keeps time.
UNSEEN_SECONDS: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Gives up units, and keeps those that cannot be given up."""

    market: Market
    ledger: Ledger
    handles: Handles
    stack: Stack
    clock: Clock

    def advance(self, request: Request) -> Answer | None:
        """One step of a deletion; None where units are still busy, or may still turn up."""
        physical_id = request.physical_id or request.own_id
        owner, id = owner_of(request), UnitsId.parse(physical_id)
        known = id is not None and id.owner == owner
        # An id that CloudFormation made up is about units that the resource may have been given since.
        if self.stack.is_late(request) or (not known and self.stack.was_replaced(request)):
            return Answer(physical_id=physical_id)
        generations = {generation_of(request.properties)}
        if id is not None and known:
            generations.add(id.generation)
        held = self.market.held(owner, sorted(generations), prefixes_of(request.properties))
        if known:
            mine = [units for units in held if units.resource == physical_id]
        else:
            # CloudFormation makes an id up for a resource that never got an answer.
            asked = of_generation(held, owner, generation_of(request.properties))
            mine = [units for units in asked if units.owned_by(owner)]
        for generation in generations:
            for units in of_generation(held, owner, generation):
                if units.retained and units.owned_by(owner):
                    self._still_retained(units)
        others = [
            units
            for units in held
            if units not in mine
            and units.owned_by(owner)
            and units.status == "InService"
            and not units.retained
            and self._serves(request, units)
        ]
        self.handles.without(request.properties, physical_id, {units.arn for units in mine}, others)
        if not self._all(request, mine) or (not mine and not self._unseen(request, held, owner, generations)):
            return None
        self.ledger.forget(physical_id)
        return Answer(physical_id=physical_id)

    def unknown(self, request: Request, id: UnitsId) -> bool:
        """Give up what an update bought of which CloudFormation never heard; whether there is nothing left.

        Such an update comes back as its opposite, under the id of before.
        """
        generation = generation_of(request.old_properties)
        known = request.replaces != str(id) or generation == generation_of(request.properties)
        if request.kind != "Update" or known or not request.old_properties:
            return True
        held = self._before(request)
        strays = [
            units
            for units in of_generation(held, id.owner, generation)
            if units.owned_by(id.owner) and not units.retained
        ]
        if strays:
            return self._all(request, strays, protected=False)
        return self._unseen(request, held, id.owner, {generation})

    def check_break(self, request: Request, wanted: Wanted) -> None:
        """Raise Refused where the units of before cannot be given up for others."""
        before = request.old_properties
        if wanted.protected and str(before.get("Protected", "")).lower() == "true":
            raise Refused(
                "Replacement is BREAK_BEFORE_MAKE, which deletes units that are Protected; write "
                "MAKE_BEFORE_BREAK, or Protected false in a deployment of its own before; nothing was "
                "changed",
                code="protected",
            )
        owner = owner_of(request)
        for units in of_generation(self._before(request), owner, generation_of(before)):
            if units.committed_at(self._now()):
                raise Refused(
                    f"{units.arn} is committed until {units.expires}, and Bedrock deletes nothing before; "
                    "wait, or write MAKE_BEFORE_BREAK and pay for both; nothing was changed",
                    code="committed",
                )

    def broken(self, request: Request, wanted: Wanted, id: UnitsId) -> bool:
        """Give up the units of before, callers on the fallback; whether they are gone."""
        generation = generation_of(request.old_properties)
        if generation == wanted.generation:
            return True
        replaced = request.replaces if request.replaces != str(id) else None
        before = [
            units
            for units in of_generation(self._before(request), id.owner, generation)
            if units.owned_by(id.owner) and not units.retained and replaced in (None, units.resource)
        ]
        if not before:
            return True
        self.handles.write(wanted, str(id), [])
        return self._all(request, before, protected=False)

    def retain(self, request: Request, units: Units, reason: str) -> None:
        """Keep units: in the ledger, under an alarm, tagged."""
        self.ledger.retained(units, request, reason, self._now())
        tags = {RETAINED_TAG: self._now().date().isoformat()}
        self.market.tag(units, tags)
        print(
            f"{units.arn} is kept: {reason}; {units.units} units are paid for until they are deleted",
            flush=True,
        )

    def _all(self, request: Request, all_units: list[Units], *, protected: bool = True) -> bool:
        """Give up or keep each of the units; whether nothing is left to be done."""
        keep = (
            protected
            and str(request.properties.get("Protected", "")).lower() == "true"
            and not self.stack.was_replaced(request)
        )
        return all([self._one(request, units, keep=keep) for units in all_units])

    def _one(self, request: Request, units: Units, *, keep: bool) -> bool:
        if units.retained:
            self._still_retained(units)
            return True
        # Units that failed serve nobody, protected or not.
        if keep and units.status != "Failed":
            self.retain(request, units, "it is protected")
            return True
        if units.committed_at(self._now()):
            self.retain(request, units, f"it is committed until {units.expires}")
            return True
        try:
            given = self.market.give_up(units.arn)
        except Exception as error:
            if is_denied(error) and not request.budget.over:
                self.retain(request, units, "the function's role may not delete it")
                raise Refused(
                    f"the function's role may not delete {units.arn}, which stays and is paid for: "
                    f"{error_message(error)}",
                    code="permission",
                ) from error
            raise
        if given.outcome in ("gone", "missing"):
            return True
        waiting = units.busy or (given.outcome == "busy" and not units.commitment)
        if waiting and not request.budget.over:
            return False
        self.retain(request, units, f"Bedrock does not delete it: {given.words}")
        return True

    def _serves(self, request: Request, units: Units) -> bool:
        """Whether callers may go on with units that a look shows, which may be gone or given up since."""
        declared = self.stack.still_declares(request.stack_id, request.logical_id, units.resource)
        return declared and self.market.tag(units, {UNITS_TAG: units.tags.get(UNITS_TAG, "")})

    def _still_retained(self, units: Units) -> None:
        """Make true what a look shows, which may be behind: units may have been adopted since."""
        self.market.tag(units, {RETAINED_TAG: units.tags[RETAINED_TAG]})

    def _unseen(self, request: Request, held: list[Units], owner: str, generations: set[str]) -> bool:
        """Delete by name what no look shows; whether nothing can turn up any more."""
        names = {units.name for units in held}
        prefixes = prefixes_of(request.properties, request.old_properties)
        for prefix, generation in itertools.product(prefixes, sorted(generations)):
            name = slot_name(prefix, key_of(owner, generation))
            if name in names:
                continue
            outcome = self.market.give_up_unseen(name).outcome
            if outcome in ("busy", "kept"):
                return request.budget.over
        kept_time = request.budget.since is not None
        return not kept_time or request.budget.spent >= UNSEEN_SECONDS

    def _before(self, request: Request) -> list[Units]:
        prefixes = prefixes_of(request.old_properties, request.properties)
        return self.market.held(owner_of(request), (generation_of(request.old_properties),), prefixes)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.wall(), UTC)
