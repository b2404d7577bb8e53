"""Every look-up for one stack, in the order in which a user would mend things."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenmill.doctor import machine
from tokenmill.doctor.account import Account
from tokenmill.doctor.item import Item, State
from tokenmill.doctor.quotas import endpoint_quota

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import boto3

    from tokenmill.core.plan import Candidate
    from tokenmill.core.settings import StackSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorReport:
    """What one stack needs.

    Args:
        stack: Name of the settings' section, or the assembly.
        region: AWS region.
        items: What it needs, in the order of mending.
    """

    stack: str
    region: str
    items: tuple[Item, ...]

    @property
    def remaining(self) -> tuple[Item, ...]:
        """What is not known to be there and does not wait for the deploy."""
        return tuple(item for item in self.items if item.state is not State.OK and not item.after_deploy)

    @property
    def exit_code(self) -> int:
        """0: nothing remains; 1: something does, or could not be told."""
        return 1 if self.remaining else 0


def diagnose(
    settings: StackSettings,
    *,
    session: boto3.Session,
    folder: Path,
    progress: Callable[[str], None] = lambda _: None,
) -> DoctorReport:
    """Look up everything that a deployment of one stack needs.

    Args:
        settings: The stack's settings.
        session: A boto3 session; without credentials or network the account's items are unknown.
        folder: The project's folder.
        progress: Told what is being looked up.
    """
    progress("this machine")
    items = [machine.node(), machine.cdk_command(folder), machine.linters(folder)]
    plan, chosen = machine.plan(settings)
    items += [plan, machine.licence(settings)]
    if chosen is not None:
        items.append(machine.endpoints_in_region(settings.region, components=True))
        items.append(machine.instance_in_region(chosen.instance_type, settings.region))
        items.append(machine.image_in_region(chosen, settings.region))
    progress("the account")
    account = Account(session, settings.region)
    items += [account.credentials(), account.bootstrap()]
    if chosen is not None:
        needed = instances_at_most(chosen)
        title = f"quota for {needed} x {chosen.instance_type}"
        items.append(account.quota(endpoint_quota(chosen.instance_type), needed=needed, title=title))
    items.append(account.keys(settings.stack, stack_id=f"tokenmill-{settings.stack}"))
    return DoctorReport(stack=settings.stack, region=settings.region, items=tuple(items))


def instances_at_most(candidate: Candidate) -> int:
    """Return the instances that hold the largest number of copies.

    Args:
        candidate: What the plan chose.
    """
    return math.ceil(candidate.capacity.maximum / candidate.copies_per_instance)
