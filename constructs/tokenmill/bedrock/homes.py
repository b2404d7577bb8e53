"""Where a stack is, and whether Amazon Bedrock finds there what a construct is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from constructs import IConstruct

WITHOUT_BEDROCK = "cn-"


def region_of(scope: IConstruct) -> str | None:
    """Return the stack's region, or None where only the deployment knows it.

    Args:
        scope: A construct of the stack.
    """
    region = cdk.Stack.of(scope).region
    return None if cdk.Token.is_unresolved(region) else region


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
        if home != here and not cdk.Token.is_unresolved(home):
            raise TokenmillError(
                f"{name} is in {home}, and the stack in {here}, whose Amazon Bedrock uses what is in its own "
                f"region; give one in {here}"
            )
