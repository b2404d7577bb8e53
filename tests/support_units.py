"""Requests for model units, driven as the CDK's Provider framework drives them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenmill_runtime import provisioned_throughput

if TYPE_CHECKING:
    from support_bedrock import FakeBedrock

EVENTS = Path(__file__).parent / "data" / "events"
STACK = "arn:aws:cloudformation:us-east-1:123456789012:stack/chat/51af3dc0-da77-11e4-872e-1234567db123"
MOST_STEPS = 80
WAIT_SECONDS = 15.0
_numbers = itertools.count(1)


def sample(name: str) -> dict[str, Any]:
    """A sample event of the documentation."""
    event: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return event


def properties(**changes: Any) -> dict[str, Any]:
    """The sample's properties with changes."""
    return {**sample("create")["ResourceProperties"], **changes}


def request(
    kind: str,
    asked: dict[str, Any],
    *,
    physical_id: str | None = None,
    old: dict[str, Any] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """A request with an id of its own."""
    event = {
        **{key: value for key, value in sample("create").items() if key != "ResourceProperties"},
        "RequestType": kind,
        "RequestId": f"request-{next(_numbers)}",
        "ResourceProperties": asked,
        **changes,
    }
    if physical_id is not None:
        event["PhysicalResourceId"] = physical_id
    if old is not None:
        event["OldResourceProperties"] = old
    return event


def finish(fake: FakeBedrock, event: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Drive a request to its end: physical id and data."""
    begun = provisioned_throughput.on_event(event, None)
    laid = {**event, **begun}
    for _ in range(MOST_STEPS):
        answer = provisioned_throughput.is_complete(laid, None)
        if answer["IsComplete"]:
            return begun["PhysicalResourceId"], answer["Data"]
        fake.clock.pass_(WAIT_SECONDS)
    raise AssertionError(f"{event['RequestType']} is not over after {MOST_STEPS} steps")


def create(fake: FakeBedrock, **changes: Any) -> str:
    """Create units; the physical id."""
    return finish(fake, request("Create", properties(**changes)))[0]


def undeclared(fake: FakeBedrock, *declared: str) -> list[str]:
    """Names of units that are paid for, and neither declared nor retained."""
    return [
        model.name
        for model in fake.owned()
        if "tokenmill:retained" not in model.tags and model.tags.get("tokenmill:resource") not in declared
    ]
