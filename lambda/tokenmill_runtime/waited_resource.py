"""Custom resources that wait for minutes without a Lambda function waiting with them.

A resource says what it is called (`begin`) and takes one idempotent step at a time (`advance`). Two drivers run
it: the Provider framework of the CDK, through `on_event` and `is_complete` (README of
aws-cdk-lib/custom-resources: "Asynchronous Providers: isComplete"), and `handle`, which needs one function and
one state machine for all resources of a stack.

`handle` does nothing itself with a request of CloudFormation but start the waiter's execution under the
request's id: "StartExecution" (AWS Step Functions API reference) takes a name once in 90 days, so that a
request that is delivered again, however late, changes nothing. The execution calls the function until it
answers ``Again: false``; the function answers CloudFormation.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, Final, Protocol

from tokenmill_runtime import aws
from tokenmill_runtime.custom_resource import (
    Answer,
    Identity,
    Refused,
    Request,
    TimeBudget,
    parse,
    redact,
    respond,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

WAITER_VARIABLE: Final = "TOKENMILL_WAITER"
# A role's policy may take a moment to be known everywhere after the deployment made it.
PERMISSION_SECONDS: Final = 60

_FUNCTION: Final = "Function"
_WAITING: Final = "Waiting"
_SINCE: Final = "Since"
_BEGUN: Final = "Begun"
_REPLACES: Final = "Replaces"
_LAST: Final = "Last"
_AGAIN: Final = "Again"
_GAVE_UP: Final = "GaveUp"

_PASSING: Final = frozenset(
    {
        "InternalFailure",
        "InternalServerException",
        "ModelNotReadyException",
        "RequestLimitExceeded",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
        "TooManyUpdates",
    }
)
_DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})


class WaitedResource(Protocol):
    """A custom resource that is made, changed and deleted in idempotent steps."""

    def begin(self, request: Request) -> str:
        """Return the physical id of what the request asks for, changing nothing anywhere.

        Called again with the same request it returns the same id. Raises Refused where the request cannot
        be met; nothing has to be undone then.
        """

    def advance(self, request: Request) -> Answer | None:
        """Take one step towards what the request asks for; None when it has to be called again later.

        The request's ``physical_id`` is what `begin` returned. Every step may have been taken before, and its
        answer lost. Raises Refused after whatever the request made is gone again; errors that pass (throttles,
        5xx, lost connections) may be left to the driver, which calls again.
        """


def error_code(error: BaseException) -> str:
    """The code of botocore's ClientError; empty for any other error."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def error_message(error: BaseException) -> str:
    """The service's own message in botocore's ClientError, or the error as a text."""
    response = getattr(error, "response", None)
    message = response.get("Error", {}).get("Message", "") if isinstance(response, dict) else ""
    return str(message or error)


def is_passing(error: BaseException) -> bool:
    """Whether a call failed only for now, and perhaps not at all: its answer may just be lost."""
    from botocore.exceptions import ClientError, ConnectionError, HTTPClientError, IncompleteReadError
    from botocore.parsers import ResponseParserError

    if isinstance(error, ClientError):
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        return error_code(error) in _PASSING or status == 429 or status >= 500
    return isinstance(error, HTTPClientError | ConnectionError | IncompleteReadError | ResponseParserError)


def is_denied(error: BaseException) -> bool:
    """Whether the function's role lacks a permission."""
    return error_code(error) in _DENIED


def on_event(
    resources: Mapping[str, WaitedResource], event: Mapping[str, Any], context: Any
) -> dict[str, Any]:
    """Begin a request, as "onEvent" of the CDK's Provider framework.

    Returns ``PhysicalResourceId``, ``Data`` and, for an update, ``Replaces``: the framework hands all of it to
    `is_complete`. Raises Refused with the text for the stack's events.
    """
    request = read(event)
    try:
        physical_id = _resource(resources, request).begin(request)
    except Exception as error:
        raise _refusal(error) from error
    replaced = {_REPLACES: request.physical_id} if request.kind == "Update" else {}
    return {"PhysicalResourceId": physical_id, "Data": {}, **replaced}


def is_complete(
    resources: Mapping[str, WaitedResource], event: Mapping[str, Any], context: Any
) -> dict[str, Any]:
    """Take a step, as "isComplete" of the CDK's Provider framework.

    The event is that of CloudFormation with what `on_event` returned laid over it; without that, the resource
    begins again. Returns ``{"IsComplete": False}`` or ``{"IsComplete": True, "Data": {...}}``. Raises Refused
    with the text for the stack's events.
    """
    resource, request = _resume(resources, event)
    try:
        answer = resource.advance(request)
    except Exception as error:
        if is_passing(error) and not request.budget.over:
            print(redact(f"called again after {error}"), file=sys.stderr, flush=True)
            return {"IsComplete": False}
        raise _refusal(error) from error
    if answer is not None:
        return {"IsComplete": True, "Data": dict(answer.data)}
    if request.budget.over:
        raise Refused(_too_long(request, ""), code="time")
    return {"IsComplete": False}


def read(event: Mapping[str, Any]) -> Request:
    """Read an event of CloudFormation, of the Provider framework or of the waiter.

    Raises ValueError as `custom_resource.parse` does.
    """
    from dataclasses import replace

    # The Provider framework keeps the URL to itself.
    request = parse({"ResponseURL": "", **event})
    since = event.get(_SINCE)
    return replace(
        request,
        replaces=event.get(_REPLACES),
        budget=TimeBudget(since=None if since is None else float(since)),
    )


def _resume(
    resources: Mapping[str, WaitedResource], event: Mapping[str, Any]
) -> tuple[WaitedResource, Request]:
    """The resource, and the request with the id that `begin` gave it."""
    from dataclasses import replace

    request = read(event)
    resource = _resource(resources, request)
    try:
        begun = resource.begin(request)
    except Exception as error:
        if not is_passing(error):
            raise _refusal(error) from error
        raise
    replaces = request.replaces
    if replaces is None and request.kind == "Update" and request.physical_id != begun:
        replaces = request.physical_id
    return resource, replace(request, physical_id=begun, replaces=replaces)
