"""Units by the tokens: more while they are used up, never beyond a ceiling or a day's money."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenmill.bedrock.unit_schedule import unit_hours
from tokenmill.bedrock.unit_values import MOST_UNITS, UnitCapacity, checked_usd
from tokenmill.core._checks import as_whole
from tokenmill.core._kinds import instance
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenmill.bedrock.unit_schedule import UnitHours


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitScaling:
    """How many units follow the tokens.

    Args:
        capacity: What one unit processes.
        floor: Fewest units, those of the resource included.
        ceiling: Most units, those of the resource included.
        daily_usd: US dollars that all of them may cost a day; buying stops there.

    Raises:
        TokenmillError: If a number is out of its range, or the ceiling is below the floor.
    """

    capacity: UnitCapacity
    floor: int
    ceiling: int
    daily_usd: float

    def __post_init__(self) -> None:
        instance(UnitCapacity, capacity=self.capacity)
        as_whole(self, "floor", "ceiling")
        if self.floor < 1:
            raise TokenmillError(f"floor is {self.floor}; it must be 1 or more")
        if self.ceiling < self.floor:
            raise TokenmillError(
                f"ceiling is {self.ceiling}, which is below floor {self.floor}; give a higher one"
            )
        if self.ceiling > MOST_UNITS:
            raise TokenmillError(f"ceiling is {self.ceiling}; model units are from 1 to {MOST_UNITS}")
        if checked_usd("daily_usd", self.daily_usd) is None:
            raise TokenmillError("daily_usd is None; say what all units may cost a day, in US dollars")

    def check(self, *, units: int, hourly_usd: float | None, hours: Sequence[UnitHours] = ()) -> None:
        """Compare with the units that are there without a token, and with their price.

        Args:
            units: The resource's own units.
            hourly_usd: US dollars a unit and hour; None where no source says it.
            hours: Further units, by the clock.

        Raises:
            TokenmillError: If the floor is below them, their price is not known, or they cost more than a
                day's money.
        """
        if self.floor < units:
            raise TokenmillError(
                f"floor is {self.floor}, but the resource owns {units} all the time; give floor {units} or "
                "fewer units"
            )
        if hourly_usd is None:
            raise TokenmillError(
                "daily_usd guards money, but no source states what an hour of a unit costs; give hourly_usd "
                "to the units"
            )
        fewest = max(unit_hours(hours, always=units, floor=self.floor)) * hourly_usd
        if fewest > self.daily_usd:
            named = f"floor {self.floor} with the scheduled units" if hours else f"floor {self.floor}"
            raise TokenmillError(
                f"{named} costs {fewest:,.2f} USD a day at {hourly_usd:g} USD an hour each, over the spend "
                f"guard daily_usd={self.daily_usd:g}; lower one of them or raise daily_usd"
            )

    def document(self) -> dict[str, str]:
        """Return the scaling as the function reads it."""
        return {
            "InputTokensPerMinute": str(self.capacity.input_tokens_per_minute),
            "OutputTokensPerMinute": str(self.capacity.output_tokens_per_minute),
            "Floor": str(self.floor),
            "Ceiling": str(self.ceiling),
            "DailyUsd": f"{self.daily_usd:.2f}",
        }
