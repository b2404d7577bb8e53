"""Sentences about an answer that the table, the record and the charts share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenmill.planner.advise.options import PROVISIONED, SAGEMAKER, UNIT_NOT_PUBLIC
from tokenmill.planner.advise.sensitivity import RANGE

SAME = 0.01

if TYPE_CHECKING:
    from tokenmill.planner.advise.advice import Advice, BreakEven, Ranked


def money(usd: float) -> str:
    """Return a price with as many digits as it needs.

    Args:
        usd: US dollars.
    """
    return f"{usd:,.2f}" if usd >= 1 else f"{usd:.4g}"


def monthly_cost(item: Ranked) -> str:
    """Return a month's cost with its interval, or what is missing.

    Args:
        item: A ranked option.
    """
    cost = item.monthly
    if cost is None:
        even = item.even_usd_per_hour
        return "no price" if even is None else f"no price; cheapest below {even:,.2f} an hour"
    if cost.low == cost.high:
        return f"{cost.expected:,.0f}"
    return f"{cost.expected:,.0f} ({cost.low:,.0f}-{cost.high:,.0f})"


def load_sentence(advice: Advice) -> str:
    """Return the peak hour in a sentence.

    Args:
        advice: The answer.
    """
    load = advice.workload
    return (
        f"{load.requests_per_second:g} requests/s of {load.input_tokens:,} + {load.output_tokens:,} tokens "
        f"in the peak hour, in {advice.region}."
    )


def traffic_sentence(advice: Advice) -> str:
    """Return the month in a sentence.

    Args:
        advice: The answer.
    """
    traffic = advice.traffic
    requests = traffic.requests_per_month(advice.workload.requests_per_second)
    return (
        f"Traffic is {traffic.shape}: {traffic.active_hours:,.0f} hours a month, peak {traffic.peak:g} times "
        f"the mean, {requests:,.0f} requests."
    )


def breaks(advice: Advice) -> list[str]:
    """Return where the answer changes, one sentence each; what cannot be drawn is said too.

    Args:
        advice: The answer.
    """
    found = [_break(advice, item) for item in advice.break_evens]
    if advice.recommendation and not found:
        name = advice.title_of(advice.recommendation)
        found = [
            f"no other option with a price becomes cheaper than {name} within a thousandth to a "
            "thousand times the rate"
        ]
    if advice.carried is not None and advice.carried < advice.workload.requests_per_second * RANGE:
        found.append(
            f"above {advice.carried:.3g} requests/s {advice.title_of(advice.recommendation)} needs more "
            "instances than limits.max_instances allows"
        )
    if any(item.id == PROVISIONED and item.monthly is None for item in advice.ranked):
        found.append(f"Bedrock provisioned throughput: {UNIT_NOT_PUBLIC}")
    return found or ["nothing is recommended, so nothing changes"]


def _break(advice: Advice, item: BreakEven) -> str:
    if item.latest is None:
        interval = f"{item.earliest:.3g} to never"
    else:
        low, high = sorted([item.earliest, item.latest])
        interval = f"{low:.3g} to {high:.3g}"
    if item.lasting is None:
        stays = " for some rates"
    elif abs(item.lasting / item.requests_per_second - 1) < SAME:
        stays = ""
    else:
        stays = (
            f" at first, for good {item.direction} {item.lasting:.3g}, since fleets grow by whole instances"
        )
    name = advice.title_of(item.other)
    return (
        f"{item.direction} {item.requests_per_second:.3g} requests/s {name} is cheaper{stays} "
        f"(interval {interval})"
    )


def names(advice: Advice, options: tuple[str, ...]) -> str:
    """Return options by name, SageMaker's accelerators as one where all are meant.

    Args:
        advice: The answer.
        options: Their ids.
    """
    every = {option for option in advice.titles if option.startswith(SAGEMAKER)}
    together = len(every) > 1 and every <= set(options)
    shown = [advice.title_of(option) for option in options if not (together and option in every)]
    return ", ".join([*shown, "SageMaker"] if together else shown)
