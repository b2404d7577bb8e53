"""Prices: instances from the planner's catalog, everything else from a dated table, both by region."""

from __future__ import annotations

import datetime
import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenmill.core._tables import rows
from tokenmill.core.errors import TokenmillError
from tokenmill.core.instances import PRICE_MAX_AGE_DAYS, instance_catalog
from tokenmill.core.model_units import unit_price

if TYPE_CHECKING:
    from collections.abc import Mapping

HOURS_PER_MONTH = 730
UNITS: dict[str, float] = {"hour": HOURS_PER_MONTH, "month": 1, "gb-second": HOURS_PER_MONTH * 3600}
GLOBAL = "global"
INSTANCE, TYPE, MODEL_UNIT = "ml.", "AWS::", "unit."


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemPrice:
    """What one unit of something costs in a region.

    Args:
        usd: US dollars a unit.
        unit: "hour", "month" or "gb-second".
        source: Where the price stands.
        source_date: When it stood there, as YYYY-MM-DD; empty for a price of the user's.
    """

    usd: float
    unit: str
    source: str
    source_date: str


@functools.cache
def _rows() -> tuple[dict[str, str], ...]:
    return tuple(rows("service_prices.csv"))


@functools.cache
def service_prices() -> dict[tuple[str, str], ItemPrice]:
    """Return the table of everything but instances, by item and region; a row without a price is no price."""
    return {
        (row["item"], row["region"]): ItemPrice(
            usd=float(row["usd"]), unit=row["unit"], source=row["source"], source_date=row["source_date"]
        )
        for row in _rows()
        if row["usd"]
    }


@functools.cache
def service_items() -> dict[str, str]:
    """Return the unit that each item of the table is priced by, known price or not."""
    return {row["item"]: row["unit"] for row in _rows()}


def unit_of(item: str) -> str:
    """Return what an item is priced by: instances and model units by the hour, unlisted types by the month.

    Args:
        item: An instance type, "unit." and a model's id, an item of the table or a CloudFormation type.
    """
    return "hour" if item.startswith((INSTANCE, MODEL_UNIT)) else service_items().get(item, "month")


class PriceList:
    """Prices in every region, with those that the user gives in place of the catalog's.

    Args:
        given: US dollars by item; an instance type's is an hour's, another item's is in the table's unit.

    Raises:
        TokenmillError: An item is neither an instance type nor in the table, or a price is no number above 0.
    """

    def __init__(self, given: Mapping[str, float] | None = None) -> None:
        self._given = dict(given or {})
        self._used: set[str] = set()
        for item, usd in self._given.items():
            if not item.startswith((INSTANCE, TYPE, MODEL_UNIT)) and item not in service_items():
                raise TokenmillError(
                    f"unknown price item {item!r}; give an instance type (ml.…), a CloudFormation type "
                    "(AWS::…, a month each), a unit of a Bedrock model (unit.…, an hour each) or one of "
                    f"{', '.join(sorted(service_items()))}"
                )
            if not (math.isfinite(usd) and usd > 0):
                raise TokenmillError(f"the price of {item} must be above 0, got {usd!r}")

    @property
    def unused(self) -> tuple[str, ...]:
        """Items that the user gave a price of and nothing asked for yet."""
        return tuple(item for item in self._given if item not in self._used)

    def find(self, item: str, region: str, stated: float | None = None) -> ItemPrice | None:
        """Return a price, or None where none is known; another region's price is never used.

        Args:
            item: An instance type, "unit." and a model's id, or an item of the table.
            region: AWS region.
            stated: US dollars an hour that the template says itself.
        """
        if item in self._given:
            self._used.add(item)
            return ItemPrice(
                usd=self._given[item], unit=unit_of(item), source="given on the command line", source_date=""
            )
        if stated is not None:
            return ItemPrice(usd=stated, unit="hour", source="stated in the template", source_date="")
        if item.startswith(MODEL_UNIT):
            return _unit(item.removeprefix(MODEL_UNIT), region)
        if item.startswith(INSTANCE):
            known = instance_catalog().get(item)
            price = None if known is None else known.price(region)
            if price is None:
                return None
            return ItemPrice(
                usd=price.usd_per_hour, unit="hour", source=price.source, source_date=price.source_date
            )
        table = service_prices()
        return table.get((item, region)) or table.get((item, GLOBAL))


def _unit(model_id: str, region: str) -> ItemPrice | None:
    # A deployment buys units without commitment; the commitments' prices are those of another purchase.
    price = unit_price(model_id, region, "NONE")
    if price is None:
        return None
    return ItemPrice(usd=price.usd_per_hour, unit="hour", source=price.source, source_date=price.source_date)


def stale(source_date: str, today: datetime.date) -> bool:
    """Return whether a price is older than 180 days.

    Args:
        source_date: YYYY-MM-DD, or empty for a price of the user's.
        today: The day to measure from.
    """
    if not source_date:
        return False
    return (today - datetime.date.fromisoformat(source_date)).days > PRICE_MAX_AGE_DAYS
