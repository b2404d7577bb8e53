"""Where a construct is to stand, and whether Amazon Bedrock finds there what the construct is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from constructs import Construct

from tokenmill.core._checks import is_token, text
from tokenmill.core.errors import TokenmillError
from tokenmill.security.place import known, node_of, place_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from constructs import IConstruct

    from tokenmill.security.hosting import FunctionHosting

WITHOUT_BEDROCK = "cn-"
# Resource types by region, as CloudFormation publishes them and cfn-lint 1.58.0 has them.
WITHOUT_GUARDRAILS = frozenset({"af-south-1", "ap-east-1", "ap-southeast-6", "ca-west-1", "mx-central-1"})
WITHOUT_PROMPTS = frozenset(
    {
        *WITHOUT_GUARDRAILS,
        "ap-east-2",
        "ap-southeast-3",
        "ap-southeast-4",
        "ap-southeast-5",
        "ap-southeast-7",
        "il-central-1",
        "me-central-1",
        "us-west-1",
    }
)


def region_of(scope: IConstruct) -> str | None:
    """Return the stack's region, or None where only the deployment knows it.

    Args:
        scope: A construct of the stack.
    """
    return known(place_of(scope).region)


def account_of(scope: IConstruct) -> str | None:
    """Return the stack's account, or None where only the deployment knows it.

    Args:
        scope: A construct of the stack.
    """
    return known(place_of(scope).account)


def check_place(scope: object, id: object, resources: Mapping[str, cdk.IResource | None]) -> None:
    """Refuse a place in which nothing can be made, and resources that are elsewhere.

    Args:
        scope: The parent construct.
        id: The construct's id.
        resources: Resources by what they are called in the sentence.

    Raises:
        TokenmillError: If the parent is in no stack, the id is none or taken, or as `check_home`.
    """
    if not isinstance(scope, Construct):
        raise TokenmillError(f"scope is {scope!r:.80}; give a stack or a construct in one")
    text("id", id)
    node = node_of(scope)
    if isinstance(scope, cdk.App | cdk.Stage):
        raise TokenmillError(f"scope is {node.path or 'the app'!r}; give a stack or a construct in one")
    if node.try_find_child(str(id)) is not None:
        raise TokenmillError(f"{node.path} has a construct called {id!r} already; give each its own id")
    check_home(scope, resources)


def check_home(scope: IConstruct, resources: Mapping[str, cdk.IResource | None]) -> None:
    """Refuse resources that Bedrock would look for in another region than they are in, and such regions.

    Args:
        scope: A construct of the stack.
        resources: Resources by what they are called in the sentence.

    Raises:
        TokenmillError: If one is known to be elsewhere, or the stack is where there is no Bedrock.
    """
    here = region_of(scope)
    if here is None:
        return
    if here.startswith(WITHOUT_BEDROCK):
        raise TokenmillError(f"{here} has no Amazon Bedrock; choose a region outside of China")
    for name, found in resources.items():
        home = here if found is None else found.env.region
        if home != here and not is_token(home):
            raise TokenmillError(
                f"{name} is in {home}, and the stack in {here}, which uses what is in its own region; give "
                f"one in {here}"
            )


def check_type(scope: IConstruct, kind: str, missing: Collection[str]) -> None:
    """Refuse a region in which CloudFormation has no such type.

    Args:
        scope: A construct of the stack.
        kind: The type.
        missing: Regions without it.

    Raises:
        TokenmillError: If the stack is in one of them.
    """
    region = region_of(scope)
    if region in missing:
        raise TokenmillError(
            f"{region} has no {kind} in CloudFormation; deploy to another region, such as us-east-1"
        )


def of_hosting(hosting: FunctionHosting | None) -> dict[str, cdk.IResource | None]:
    """Return the resources of a hosting by what they are called in a sentence.

    Args:
        hosting: Network, keys and logs of functions.
    """
    if hosting is None:
        return {}
    return {
        "hosting.encryption_key": hosting.encryption_key,
        "hosting.vpc": hosting.vpc,
        "hosting.dead_letter_queue": hosting.dead_letter_queue,
    }
