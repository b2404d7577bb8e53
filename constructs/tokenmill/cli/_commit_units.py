"""`tokenmill jobs run commit-units`: buys the commitment that a stack declares, once the stack is healthy.

Nothing is kept on this machine: the ledger says what is declared, Bedrock what is bought. A purchase that was
interrupted goes on when the command is started again, and is not asked about twice.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from tokenmill.cli._job_runner import PATIENCE
from tokenmill.cli._output import console, print_json
from tokenmill.core.errors import TokenmillError
from tokenmill.core.model_units import ARN, HOURS_PER_MONTH, unit_price
from tokenmill_runtime import units_commit
from tokenmill_runtime.custom_resource import Refused
from tokenmill_runtime.units_ledger import PREFIX, RETAINED, Ledger
from tokenmill_runtime.units_market import Market
from tokenmill_runtime.units_plan import COMMITTED, slot_of
from tokenmill_runtime.waited_resource import error_message, is_passing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import boto3

    from tokenmill_runtime.units_commit import Declared, Progress

Found = TypeVar("Found")
MONTHS = {"ONE_MONTH": 1, "SIX_MONTHS": 6}
POLL_SECONDS = 15.0
ATTEMPTS, FIRST_SECONDS = 5, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a purchase is made.

    Args:
        session: The boto3 session.
        local: Address of the local cloud; empty for AWS.
    """

    session: boto3.Session
    local: str

    @property
    def region(self) -> str:
        """The region."""
        return self.session.region_name or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a commitment costs.

    Args:
        units: What is bought.
        hourly_usd: US dollars for all its units in an hour; None where no price is known.
        source: Where the price stands, for people.
        under_way: Whether it is bought already and only has to be finished.
    """

    units: Declared
    hourly_usd: float | None
    source: str
    under_way: bool

    @property
    def months(self) -> int:
        """The term, in months."""
        return MONTHS[self.units.wanted.commitment]

    @property
    def total_usd(self) -> float | None:
        """US dollars of the whole term, in months of 730 hours."""
        return None if self.hourly_usd is None else self.hourly_usd * self.months * HOURS_PER_MONTH

    def sentence(self) -> str:
        """What is bought, for how long and for how much."""
        wanted = self.units.wanted
        term = "1 month" if self.months == 1 else f"{self.months} months"
        what = f"{wanted.units} model units of {wanted.model} for {term}"
        if self.hourly_usd is None or self.total_usd is None:
            base = base_model(wanted.model)
            return f"{what}, at a price that is not known here; look it up and give --price {base}=USD"
        return (
            f"{what}: {self.hourly_usd:.2f} USD an hour, {self.total_usd:,.2f} USD in all, used or not "
            f"({self.source}); it cannot be cancelled before its term ends, and then "
            "costs on, or for another term, until it is deleted"
        )

    def document(self) -> dict[str, object]:
        """The same for machines."""
        wanted = self.units.wanted
        return {
            "resource": str(self.units.id),
            "stack": stack_name(self.units.stack_id),
            "model": wanted.model,
            "units": wanted.units,
            "commitment": wanted.commitment,
            "hourly_usd": self.hourly_usd,
            "total_usd": self.total_usd,
            "under_way": self.under_way,
        }


def commit(
    place: Place,
    *,
    stack: str,
    name: str,
    prices: Mapping[str, float],
    agree: Callable[[Offer], None],
    as_json: bool,
) -> None:
    """Buy one declared commitment, wait until callers use it, and give the uncommitted units back.

    Args:
        place: Where.
        stack: Only this stack's; needed where several have one.
        name: Only those of this resource; needed where a stack has several.
        prices: US dollars a unit and hour with the commitment, by base model.
        agree: Asks, and raises where nobody agrees; not called for a purchase that is under way.
        as_json: Whether to print one JSON document instead of text.

    Raises:
        TokenmillError: It is not clear which is meant, nobody agreed, or Bedrock refuses.
    """
    _use(place.session)
    units = _only(_asked(units_commit.declared), stack, name)
    if units is None:
        if as_json:
            print_json({"schema": 1, "commitment": None, "done": True, "text": ""})
        else:
            typer.echo(
                f"no commitment is declared in {place.region} that is not bought already; a "
                "ProvisionedThroughput with commitment=Commitment.ONE_MONTH declares one"
            )
        return
    offer = offer_of(units, place.region, prices)
    if not as_json:
        where = f"in the local cloud at {place.local}, which costs nothing; on AWS " if place.local else ""
        typer.echo(f"{where}{offer.sentence()}")
    if offer.under_way:
        if not as_json:
            typer.echo("it is bought already; going on where that purchase stopped")
    else:
        agree(offer)
    done = _finish(offer, quiet=as_json)
    if as_json:
        print_json({"schema": 1, "commitment": offer.document(), "done": done.done, "text": done.text})
    else:
        typer.echo(done.text)


def offer_of(units: Declared, region: str, prices: Mapping[str, float]) -> Offer:
    """Return what a declared commitment costs, and whether it is bought.

    Args:
        units: What is declared.
        region: The region.
        prices: US dollars a unit and hour with the commitment, by base model; they win over the table.
    """
    wanted = units.wanted
    base = base_model(wanted.model)
    listed = unit_price(base, region, wanted.commitment)
    if base in prices:
        each, source = prices[base], "the price that you gave"
    elif listed is not None:
        each, source = listed.usd_per_hour, f"{listed.source}, read {listed.source_date}"
    else:
        each, source = 0.0, ""
    hourly = each * wanted.units or None
    return Offer(units=units, hourly_usd=hourly, source=source, under_way=_asked(lambda: _bought(units)))


def retained_units(session: boto3.Session, stack: str = "") -> list[dict[str, Any]]:
    """Return the ledger's entries of units that stayed when their resource went, the dearest first.

    Args:
        session: The boto3 session.
        stack: Only those that this stack left; all otherwise.

    Raises:
        TokenmillError: The ledger cannot be read.
    """
    client = session.client("ssm", config=PATIENCE)
    found = _asked(lambda: list(Ledger(prefix=PREFIX, client=lambda: client).entries(RETAINED)))
    found = [entry for entry in found if not stack or stack_name(str(entry["stack"])) == stack]
    return sorted(found, key=lambda entry: -float(entry.get("daily_usd") or 0))


def retained_line(entry: Mapping[str, Any]) -> str:
    """Return a retained entry as a line for people.

    Args:
        entry: The entry.
    """
    daily = float(entry.get("daily_usd") or 0)
    cost = f"{daily:.2f} USD a day" if daily else "at a price that is not known"
    expires = entry.get("expires")
    until = f"committed until {str(expires)[:10]}" if expires else "without commitment, until deleted"
    what = f"{entry['name']}  {entry['units']} model units, {cost}, {until}: {entry['reason']}"
    return f"{stack_name(str(entry['stack']))}  retained  {what}"


def base_model(model: str) -> str:
    """Return the base model's id of an id or an ARN.

    Args:
        model: The id or ARN.
    """
    found = ARN.fullmatch(model)
    return model if found is None else found["base"]


def stack_name(stack_id: str) -> str:
    """Return the name in a stack's ARN.

    Args:
        stack_id: The ARN.
    """
    return stack_id.split("/")[1] if stack_id.count("/") >= 2 else stack_id


def _use(session: boto3.Session) -> None:
    """Let the runtime's clients, which boto3 makes, be in the session's region."""
    import boto3

    boto3.setup_default_session(region_name=session.region_name)


def _only(found: list[Declared], stack: str, name: str) -> Declared | None:
    chosen = [
        units
        for units in found
        if (not stack or stack_name(units.stack_id) == stack)
        and (not name or name in (units.id.logical, units.wanted.name))
    ]
    if len(chosen) > 1:
        each = "; ".join(f"--stack {stack_name(one.stack_id)} --name {one.id.logical}" for one in chosen)
        raise TokenmillError(f"{len(chosen)} commitments are declared, say which: {each}")
    if found and not chosen:
        each = "; ".join(f"{one.id.logical} of {stack_name(one.stack_id)}" for one in found)
        raise TokenmillError(f"no such commitment is declared; there are: {each}")
    return chosen[0] if chosen else None


def _bought(units: Declared) -> bool:
    id, key = units.id, units.wanted.key(units.id.owner)
    return any(
        each.resource == str(id) and not each.retained and slot_of(each.name, key) == COMMITTED
        for each in Market().held(id.owner, (id.generation,), (units.wanted.name,))
    )


def _finish(offer: Offer, *, quiet: bool) -> Progress:
    """Take steps until callers use the committed units and the others are gone; wait out what passes."""
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Bar(*columns, console=console(), disable=quiet, transient=True) as shown:
        task = shown.add_task(f"buying for {offer.units.id.logical}", total=None)
        while True:
            step = _asked(lambda: _step(offer.units))
            if step is not None and step.done:
                return step
            if step is not None:
                shown.update(task, description=step.text)
            time.sleep(POLL_SECONDS)


def _step(units: Declared) -> Progress | None:
    try:
        return units_commit.advance(units)
    except Exception as error:
        if not is_passing(error):
            raise
        return None


def _asked(call: Callable[[], Found]) -> Found:
    """Call AWS, again where it was busy; what it refuses is one sentence."""
    from botocore.exceptions import BotoCoreError, ClientError

    attempt = 1
    while True:
        try:
            return call()
        except Refused as error:
            raise TokenmillError(str(error)) from error
        except (ClientError, BotoCoreError) as error:
            if attempt == ATTEMPTS or not is_passing(error):
                raise TokenmillError(f"model units: {error_message(error)}") from error
        time.sleep(FIRST_SECONDS * attempt)
        attempt += 1
