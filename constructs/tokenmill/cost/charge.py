"""What a rule finds on a resource, before prices are put to it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """Something to pay for every month.

    Args:
        item: Key of its price.
        what: What it is, in words.
        quantity: How many.
        note: What a reader must know of it.
        each: What one of it is, for a reader who pays for none without traffic and by the hour with it.
        instead: Items that may run in its place, with how many.
        usd_per_hour: What one costs, in US dollars an hour, where the template itself says it.
    """

    item: str
    what: str
    quantity: float = 1
    note: str = ""
    each: str = ""
    instead: tuple[tuple[str, float], ...] = ()
    usd_per_hour: float | None = None
