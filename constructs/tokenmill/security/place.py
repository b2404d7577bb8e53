"""Where a stack is, asked once: each question to CDK crosses into another process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import aws_cdk as cdk

if TYPE_CHECKING:
    from constructs import IConstruct, Node

PARTITION, REGION, ACCOUNT_ID, STACK_ID = (
    cdk.Aws.PARTITION,
    cdk.Aws.REGION,
    cdk.Aws.ACCOUNT_ID,
    cdk.Aws.STACK_ID,
)
# How a text begins that stands for a value of the deployment ("Tokens", AWS CDK developer guide).
TOKEN = "${Token["


@dataclass(frozen=True, slots=True)
class Place:
    """The account, the region and the partition of a stack, as texts or tokens."""

    account: str
    region: str
    partition: str


_nodes: WeakKeyDictionary[IConstruct, Node] = WeakKeyDictionary()
_stacks: WeakKeyDictionary[IConstruct, cdk.Stack] = WeakKeyDictionary()
_places: WeakKeyDictionary[cdk.Stack, Place] = WeakKeyDictionary()


def node_of(construct: IConstruct) -> Node:
    """Return a construct's node.

    Args:
        construct: The construct.
    """
    found = _nodes.get(construct)
    if found is None:
        found = _nodes[construct] = construct.node
    return found


def stack_of(scope: IConstruct) -> cdk.Stack:
    """Return a construct's stack.

    Args:
        scope: The construct.
    """
    if isinstance(scope, cdk.Stack):
        return scope
    found = _stacks.get(scope)
    if found is None:
        found = _stacks[scope] = cdk.Stack.of(scope)
    return found


def place_of(scope: IConstruct) -> Place:
    """Return where a construct's stack is.

    Args:
        scope: The construct.
    """
    stack = stack_of(scope)
    found = _places.get(stack)
    if found is None:
        found = _places[stack] = Place(account=stack.account, region=stack.region, partition=stack.partition)
    return found


def arn_in(scope: IConstruct, service: str, resource: str) -> str:
    """Return the ARN of what is in a stack's account and region, as `Stack.format_arn` writes it.

    Args:
        scope: A construct of the stack.
        service: The service's namespace.
        resource: Type and name.
    """
    place = place_of(scope)
    return f"arn:{place.partition}:{service}:{place.region}:{place.account}:{resource}"


def known(value: str) -> str | None:
    """Return a text, or None where only the deployment knows it.

    Args:
        value: The text.
    """
    return None if TOKEN in value else value
