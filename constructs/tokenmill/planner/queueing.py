"""Waits that planning adds up: exponential tails, sums of parts, and Erlang's C formula."""

from __future__ import annotations

import math

NEVER_WAITS = 7.0
"""With this many standard deviations of places to spare, fewer than one request in a million waits."""


def tail(mean: float, waits: float, share: float) -> tuple[float, float]:
    """Return mean and percentile of a wait that is 0 for most and exponential for the rest.

    Where few wait, how few is not known well (bursts gather them), so the share that puts the percentile
    highest for this mean is taken.

    Args:
        mean: Mean wait, in any unit.
        waits: Share of requests that wait.
        share: The percentile as a share.
    """
    beyond = 1 - share
    waits = min(1.0, max(waits, math.e * beyond))
    return mean, mean / waits * math.log(waits / beyond)


def together(parts: tuple[tuple[float, float], ...]) -> float:
    """Return the percentile of a sum of waits, taken as independent normal variables.

    Args:
        parts: Mean and percentile of each.
    """
    certain = sum(min(part) for part in parts)
    return certain + math.sqrt(sum(max(0.0, high - mean) ** 2 for mean, high in parts))


def erlang_c(places: int, load: float) -> float:
    """Return the share of requests that find every place taken (Kleinrock, "Queueing Systems", 1, 3.5).

    Args:
        places: Requests that run together.
        load: Requests that would run if nothing ever waited; below places.
    """
    if places - load > NEVER_WAITS * math.sqrt(load) + NEVER_WAITS:
        return 0.0
    blocked = 1.0
    for place in range(1, places + 1):
        blocked = load * blocked / (place + load * blocked)
    return blocked / (1 - load / places * (1 - blocked))
