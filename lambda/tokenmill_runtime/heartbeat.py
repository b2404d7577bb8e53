"""One-minute heartbeat: zero demand and the current copies of every target.

A gateway function that nobody calls is frozen and publishes nothing, and a target-tracking policy does not
scale in on missing data (AWS page "Target tracking scaling policies for Application Auto Scaling").
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tokenmill_runtime.aws import sagemaker
from tokenmill_runtime.emf import emf_line
from tokenmill_runtime.metric_contract import COPIES, REQUESTS, TOKEN_WORK

if TYPE_CHECKING:
    from collections.abc import Mapping

HEARTBEAT_VARIABLE: Final = "TOKENMILL_HEARTBEAT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is published for: a component with copies, an endpoint with instances, or neither (Bedrock)."""

    target: str
    component: str | None = None
    endpoint: str | None = None

    @property
    def name(self) -> str | None:
        """What is counted."""
        return self.component or self.endpoint


class HeartbeatError(RuntimeError):
    """The copies of some targets could not be read; their zero demand was published all the same."""


def handler(event: object, context: object) -> None:
    """Print an EMF line of zero demand for every target, then one of its copies for each component.

    The zeros need no other service, so they are out before SageMaker is asked: one that hangs until the
    function's time is over takes no target's demand along.

    Raises HeartbeatError naming every component whose copies could not be read, after all lines are out;
    ValueError when the environment document is not of its form.
    """
    targets = read_targets(os.environ)
    for item in targets:
        _publish({TOKEN_WORK: 0, REQUESTS: 0}, item.target)
    failures = []
    for item in targets:
        if item.name is None:
            continue
        copies = _copies(item)
        if isinstance(copies, int):
            _publish({COPIES: copies}, item.target)
        else:
            failures.append(f"{item.name}: {copies}")
    if failures:
        raise HeartbeatError("the copies could not be read of " + "; ".join(failures))


def _publish(values: Mapping[str, float], target: str) -> None:
    print(emf_line(values, target=target, publisher="heartbeat", timestamp=time.time()), flush=True)


def read_targets(environment: Mapping[str, str]) -> list[Target]:
    """The targets to publish for, each with its inference component or its endpoint if it has one.

    Form: ``{"targets": [{"target": ..., "component": name or null, "endpoint": name or null}]}``. Raises
    ValueError naming what is wrong.
    """
    text = environment.get(HEARTBEAT_VARIABLE)
    if text is None:
        raise ValueError(f"environment variable {HEARTBEAT_VARIABLE} is not set; TokenScaling renders it")
    try:
        return [_target(item) for item in json.loads(text)["targets"]]
    except (ValueError, KeyError, TypeError) as error:
        form = '{"targets": [{"target": "<name>", "component": "<name>" or null}]}'
        raise ValueError(f"{HEARTBEAT_VARIABLE} must be {form}, got {text!r}") from error


def _target(item: dict[str, object]) -> Target:
    target, component, endpoint = item["target"], item["component"], item.get("endpoint")
    if not isinstance(component, str | None) or not isinstance(endpoint, str | None):
        raise ValueError("component and endpoint must be a text or null")
    if not isinstance(target, str) or not target:
        raise ValueError("target must be a text")
    return Target(target=target, component=component, endpoint=endpoint)


def _copies(item: Target) -> int | str:
    """The component's copies or the endpoint's instances in service, or why they could not be read."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        if item.component is not None:
            described = sagemaker().describe_inference_component(InferenceComponentName=item.component)
            return described.get("RuntimeConfig", {}).get("CurrentCopyCount", 0)
        found = sagemaker().describe_endpoint(EndpointName=str(item.endpoint))
    except (BotoCoreError, ClientError) as error:
        return str(error)
    return sum(variant.get("CurrentInstanceCount", 0) for variant in found.get("ProductionVariants", []))
