"""Ways to serve a request on demand that not every model has: service tiers, and a faster version.

Sources: "Optimize model inference for latency" (Amazon Bedrock User Guide) names the models with a faster
version; a tier that a model has is one that the price table knows a price of.
"""

from __future__ import annotations

import functools

from tokenmill.core._tables import rows
from tokenmill.core.bedrock_prices import bedrock_prices
from tokenmill.core.bedrock_profiles import split_profile

PRICED_TIERS = ("flex", "priority")
# Half the price of jobs, and nothing that a request asks for.
BATCH = "batch"


def serving_notes(model_id: str, *, service_tier: str | None = None, optimized: bool = False) -> list[str]:
    """Return what speaks against asking a model so; Bedrock refuses every such request if it is right.

    Args:
        model_id: A foundation model's or a system-defined profile's id.
        service_tier: The tier that is asked for; None for Bedrock's default.
        optimized: Whether the faster version is asked for.
    """
    foundation = split_profile(model_id)[1]
    notes = []
    if optimized and foundation not in latency_optimized():
        known = ", ".join(sorted(latency_optimized()))
        notes.append(
            f"no faster version of {foundation} is known, and Bedrock refuses latency=optimized without one; "
            f"known: {known}"
        )
    tiers = _tiers(foundation)
    if service_tier in PRICED_TIERS and tiers and service_tier not in tiers:
        notes.append(
            f"no price of {foundation} in the tier {service_tier} is known, and Bedrock refuses a tier that "
            f"a model has not; known: {', '.join(sorted(tiers - {BATCH}))}"
        )
    return notes


@functools.cache
def latency_optimized() -> frozenset[str]:
    """Return the foundation models with a faster version."""
    return frozenset(row["model_id"] for row in rows("latency_optimized.csv"))


def _tiers(foundation: str) -> set[str]:
    """The tiers with a price, of the model or a profile of it; none for a model that the table lacks."""
    return {
        tier
        for name, prices in bedrock_prices().items()
        if split_profile(name)[1] == foundation
        for row in prices.values()
        for tier in row.tiers
    }
