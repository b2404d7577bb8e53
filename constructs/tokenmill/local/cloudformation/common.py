"""What the CloudFormation handlers share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError
from tokenmill.local.aws_requests import AwsError, ModelledService, Params, Scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.local.autoscaling import AutoScaling

Outcome = tuple[str, dict[str, Any]]

SETTLE_SECONDS = 120.0


def call(service: ModelledService, scope: Scope, operation: str, params: Params) -> Params:
    """Run an operation of a service with a resource's properties, validated as a request is.

    Args:
        service: The service.
        scope: Whose resources.
        operation: Name of the operation.
        params: Properties under the members' names.

    Raises:
        AwsError: The service refuses.
    """
    typed = service.shapes.coerce(operation, params)
    service.shapes.check(operation, typed)
    return service.call(scope, operation, typed)


def call_if_there(service: AutoScaling, scope: Scope, operation: str, params: Params) -> None:
    """Run a delete operation; an object that is gone is fine.

    Args:
        service: The service.
        scope: Whose resources.
        operation: Name of the operation.
        params: Properties under the members' names.
    """
    try:
        call(service, scope, operation, params)
    except AwsError as error:
        if error.code != "ObjectNotFoundException":
            raise


def only(properties: Params, *names: str) -> Params:
    """Return some of the properties, those that are there.

    Args:
        properties: A resource's properties.
        names: Which.
    """
    return {name: properties[name] for name in names if name in properties}


def last_part(name_or_arn: str) -> str:
    """Return a name, whether given as such or at the end of an ARN.

    Args:
        name_or_arn: One of them.
    """
    return name_or_arn.rsplit("/", 1)[-1]


def wait(condition: Callable[[], bool], problem: str, *, seconds: float = SETTLE_SECONDS) -> None:
    """Wait for a state.

    Args:
        condition: Whether it is reached.
        problem: What to say when it is not.
        seconds: How long, in seconds.

    Raises:
        TokenmillError: It is not reached in that time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TokenmillError(f"{problem} after {seconds:.0f} s")
        time.sleep(0.02)
