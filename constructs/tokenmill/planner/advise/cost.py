"""What a month costs, as a function of the peak hour's rate: tokens, model units, fleets of instances."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tokenmill.planner.advise.need import HOURS_PER_MONTH

if TYPE_CHECKING:
    from tokenmill.core.bedrock_prices import TokenPrice
    from tokenmill.core.plan import Candidate
    from tokenmill.core.workload import Workload
    from tokenmill.planner.advise.need import Traffic, UnitCapacity, Usage

# "Prompt caching for faster model inference" (Amazon Bedrock User Guide): the least of the models' minima
SMALLEST_CACHED_PREFIX = 1024
# a rate that fills a fleet exactly must not buy another copy for a rounding error
SLACK = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthlyCost:
    """US dollars a month.

    Args:
        low: Low end of the interval.
        expected: Best estimate.
        high: High end of the interval.
    """

    low: float
    expected: float
    high: float


class Curve(Protocol):
    """A month's cost at any rate."""

    def cost(self, requests_per_second: float) -> MonthlyCost | None:
        """Return the cost of a month, or None where the rate cannot be carried.

        Args:
            requests_per_second: Rate of the peak hour.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCurve:
    """Bedrock by the token.

    Args:
        usd_per_request: What the mean request costs.
        traffic: How requests spread over a month.
    """

    usd_per_request: float
    traffic: Traffic

    def cost(self, requests_per_second: float) -> MonthlyCost | None:
        """Return the cost of a month; it has no interval, since the price is known.

        Args:
            requests_per_second: Rate of the peak hour.
        """
        usd = self.traffic.requests_per_month(requests_per_second) * self.usd_per_request
        return MonthlyCost(low=usd, expected=usd, high=usd)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCurve:
    """Bedrock by the model unit: whole units, billed every hour until they are deleted.

    "Billing continues until you delete the Provisioned Throughput" ("Increase model invocation capacity with
    Provisioned Throughput in Amazon Bedrock", Amazon Bedrock User Guide).

    Args:
        unit: What a unit delivers and costs.
        workload: Prompt and answer lengths.
    """

    unit: UnitCapacity
    workload: Workload

    def units(self, requests_per_second: float) -> int:
        """Return the units that a rate needs.

        Args:
            requests_per_second: Rate of the peak hour.
        """
        minute = requests_per_second * 60
        load = max(
            minute * self.workload.input_tokens / self.unit.input_tpm,
            minute * self.workload.output_tokens / self.unit.output_tpm,
        )
        return max(1, math.ceil(load * (1 - SLACK)))

    def cost(self, requests_per_second: float) -> MonthlyCost | None:
        """Return the cost of a month; it has no interval, since both numbers are given.

        Args:
            requests_per_second: Rate of the peak hour.
        """
        usd = self.units(requests_per_second) * self.unit.usd_per_hour * HOURS_PER_MONTH
        return MonthlyCost(low=usd, expected=usd, high=usd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Instances of one type that hold copies of the model.

    Args:
        instance_type: Hosting instance type.
        usd_per_hour: Price of one instance.
        copies_per_instance: Copies that an instance holds.
        requests_per_second: Rate that one copy carries at the target utilization.
        slow: The same at the slow end of the timing interval.
        fast: The same at the fast end.
        min_copies: Fewest copies while anything runs.
        max_instances: Most instances.
    """

    instance_type: str
    usd_per_hour: float
    copies_per_instance: int
    requests_per_second: float
    slow: float
    fast: float
    min_copies: int
    max_instances: int

    @classmethod
    def of(cls, candidate: Candidate, *, usd_per_hour: float, min_copies: int, max_instances: int) -> Fleet:
        """Return the fleet of a plan's candidate.

        What a copy carries is taken to be inverse to its inter-token latency, so the ends of that interval
        give the ends of the rate.

        Args:
            candidate: One way to run the model that meets the goals.
            usd_per_hour: Price of one instance.
            min_copies: Fewest copies while anything runs.
            max_instances: Most instances.
        """
        rate = candidate.requests_per_second_per_copy
        return cls(
            instance_type=candidate.instance_type,
            usd_per_hour=usd_per_hour,
            copies_per_instance=candidate.copies_per_instance,
            requests_per_second=rate,
            slow=rate * candidate.itl_ms / max(candidate.itl_ms_high, candidate.itl_ms),
            fast=rate * candidate.itl_ms / min(candidate.itl_ms_low, candidate.itl_ms),
            min_copies=min_copies,
            max_instances=max_instances,
        )

    def instances(self, requests_per_second: float, per_copy: float) -> int:
        """Return the instances that a rate needs.

        Args:
            requests_per_second: What arrives.
            per_copy: Rate that one copy carries.
        """
        copies = max(self.min_copies, math.ceil(requests_per_second / per_copy * (1 - SLACK)))
        return math.ceil(copies / self.copies_per_instance)

    def cost(self, requests_per_second: float, traffic: Traffic) -> MonthlyCost | None:
        """Return the cost of a month, or None above the most instances.

        The best estimate keeps the peak hour's fleet through all hours with traffic; the low end scales down
        to the mean rate and takes the fast end of the timing, the high end takes the slow one.

        Args:
            requests_per_second: Rate of the peak hour.
            traffic: How requests spread over a month.
        """
        expected = self.instances(requests_per_second, self.requests_per_second)
        if expected > self.max_instances:
            return None
        floor = self.instances(0.0, self.requests_per_second) if traffic.idle_costs else 0
        idle = floor * traffic.idle_hours
        low = self.instances(requests_per_second / traffic.peak, self.fast)
        high = self.instances(requests_per_second, self.slow)
        hour = self.usd_per_hour
        return MonthlyCost(
            low=(low * traffic.active_hours + idle) * hour,
            expected=(expected * traffic.active_hours + idle) * hour,
            high=(high * traffic.active_hours + idle) * hour,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetCurve:
    """SageMaker on one accelerator: at each rate the cheapest of its instance types and splits.

    Args:
        fleets: The ways to run the model on the accelerator.
        traffic: How requests spread over a month.
    """

    fleets: tuple[Fleet, ...]
    traffic: Traffic

    @property
    def most(self) -> float:
        """The largest rate that the most instances carry, in requests a second."""
        return max(
            fleet.max_instances * fleet.copies_per_instance * fleet.requests_per_second
            for fleet in self.fleets
        )

    def best(self, requests_per_second: float) -> tuple[Fleet, MonthlyCost] | None:
        """Return the cheapest fleet and its cost, or None where none carries the rate.

        Args:
            requests_per_second: Rate of the peak hour.
        """
        costs = [(fleet, fleet.cost(requests_per_second, self.traffic)) for fleet in self.fleets]
        found = [(fleet, cost) for fleet, cost in costs if cost is not None]
        return min(found, key=lambda item: item[1].expected, default=None)

    def cost(self, requests_per_second: float) -> MonthlyCost | None:
        """Return the cost of a month.

        Args:
            requests_per_second: Rate of the peak hour.
        """
        found = self.best(requests_per_second)
        return None if found is None else found[1]


def request_price(price: TokenPrice, workload: Workload, usage: Usage) -> tuple[float, str]:
    """Return what the mean request costs, in US dollars, and what to say of its prompt cache, if anything.

    Args:
        price: The tier's prices.
        workload: Prompt and answer lengths.
        usage: How much of the prompt repeats, and how often the cache holds it.
    """
    prompt, answer = workload.input_tokens, workload.output_tokens
    prefix = prompt * usage.cached_share
    plain = (prompt * price.input + answer * price.output) / 1e6
    if not prefix:
        return plain, ""
    if price.cache_read is None:
        return plain, "the price table has no cache price for it, so the prompt cache saves nothing here"
    if prefix < SMALLEST_CACHED_PREFIX:
        return plain, (
            f"the repeated {prefix:,.0f} tokens of a prompt are fewer than the {SMALLEST_CACHED_PREFIX:,} "
            "that a cache checkpoint needs at the least, so the prompt cache saves nothing"
        )
    write = price.input if price.cache_write is None else price.cache_write
    read = prefix * usage.cache_hits
    usd = (prompt - prefix) * price.input + read * price.cache_read + (prefix - read) * write
    note = "the price table has no price for cache writes; they are counted as input"
    return (usd + answer * price.output) / 1e6, note if price.cache_write is None else ""
