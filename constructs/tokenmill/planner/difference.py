"""What a new plan would change against a committed one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenmill.core.plan import Candidate, Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference between two plans.

    Args:
        what: What differs: "chosen.instance_type", "catalog prices", "inputs".
        old: Value in the committed plan.
        new: Value in the new plan.
        replaces_fleet: Whether deploying the new plan would change what runs.
    """

    what: str
    old: object
    new: object
    replaces_fleet: bool = False


FLEET_FIELDS = (
    "instance_type",
    "cores_per_copy",
    "chips_per_copy",
    "copies_per_instance",
    "max_sequences",
    "context_tokens",
    "quantization",
    "environment",
    "image",
    "instances",
)
FIGURE_FIELDS = (
    "itl_ms",
    "ttft_ms",
    "requests_per_second_per_copy",
    "utilization_percent",
    "target_utilization_percent",
    "usd_per_hour",
    "usd_per_million_tokens",
)


def changes(old: Plan, new: Plan) -> tuple[Change, ...]:
    """Return what the new plan would change, the fleet first.

    Args:
        old: The committed plan.
        new: What the planner says now.
    """
    return tuple(_changes(old, new))


def _changes(old: Plan, new: Plan) -> Iterator[Change]:
    if old.input_hash != new.input_hash:
        yield Change(what="inputs", old=old.input_hash[:16], new=new.input_hash[:16])
    for name in sorted(set(old.versions) | set(new.versions)):
        before, after = old.versions.get(name), new.versions.get(name)
        if before != after:
            yield Change(what=f"catalog {name}", old=before, new=after)
    if old.candidates and new.candidates:
        yield from _candidate_changes(old.chosen, new.chosen)
    elif old.candidates or new.candidates:
        before, after = (plan.candidates[0].instance_type if plan.candidates else None for plan in (old, new))
        yield Change(what="chosen", old=before, new=after, replaces_fleet=True)
    corrected = [plan.calibration.digest[:16] if plan.calibration else None for plan in (old, new)]
    if corrected[0] != corrected[1]:
        yield Change(what="calibration", old=corrected[0], new=corrected[1])
    known = {item.instance_type for item in old.candidates}
    now = {item.instance_type for item in new.candidates}
    if known != now:
        yield Change(what="candidates lost or gained", old=sorted(known - now), new=sorted(now - known))


def _candidate_changes(old: Candidate, new: Candidate) -> Iterator[Change]:
    for name in FLEET_FIELDS + FIGURE_FIELDS:
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield Change(what=f"chosen.{name}", old=before, new=after, replaces_fleet=name in FLEET_FIELDS)
    for name in ("minimum", "maximum", "initial"):
        before, after = getattr(old.capacity, name), getattr(new.capacity, name)
        if before != after:
            yield Change(what=f"chosen.capacity.{name}", old=before, new=after, replaces_fleet=True)
