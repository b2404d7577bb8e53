"""Stacks that probes make and change, and how these end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.verification.aws import Aws

SECONDS = 40 * 60


def create(aws: Aws, name: str, template: dict[str, Any], *, roles: bool = False) -> str:
    """Create a stack, wait until it is there, and return its id.

    Args:
        aws: The run.
        name: Its name.
        template: Its template.
        roles: Whether it has roles.

    Raises:
        TokenmillError: The stack failed.
    """
    aws.declare("stack", name)
    capabilities = {"Capabilities": ["CAPABILITY_IAM"]} if roles else {}
    aws.client("cloudformation").create_stack(
        StackName=name, TemplateBody=json.dumps(template), Tags=aws.tags, **capabilities
    )
    stack = settled(aws, name)
    if stack["StackStatus"] != "CREATE_COMPLETE":
        raise TokenmillError(f"stack {name} is {stack['StackStatus']}: {stack.get('StackStatusReason', '')}")
    return str(stack.get("StackId", name))


def update(
    aws: Aws,
    name: str,
    template: dict[str, Any],
    *,
    roles: bool = False,
    meanwhile: Callable[[], object] | None = None,
) -> str:
    """Update a stack and return the status that it ends with.

    Args:
        aws: The run.
        name: Its name.
        template: Its template.
        roles: Whether it has roles.
        meanwhile: Called before each look.
    """
    capabilities = {"Capabilities": ["CAPABILITY_IAM"]} if roles else {}
    aws.client("cloudformation").update_stack(
        StackName=name, TemplateBody=json.dumps(template), Tags=aws.tags, **capabilities
    )
    return str(settled(aws, name, meanwhile=meanwhile)["StackStatus"])


def settled(aws: Aws, name: str, *, meanwhile: Callable[[], object] | None = None) -> dict[str, Any]:
    """Wait until a stack is no longer being changed, and return its description.

    Args:
        aws: The run.
        name: Its name.
        meanwhile: Called before each look.
    """

    def look() -> dict[str, Any] | None:
        if meanwhile is not None:
            meanwhile()
        found: dict[str, Any] = aws.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
        return None if found["StackStatus"].endswith("_IN_PROGRESS") else found

    stack: dict[str, Any] = aws.wait(f"stack {name}", look, seconds=SECONDS)
    return stack
