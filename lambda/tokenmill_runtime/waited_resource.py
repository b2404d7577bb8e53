"""Custom resources that wait for minutes without a Lambda function waiting with them.

A resource says what it is called (`begin`) and takes one idempotent step at a time (`advance`). Two drivers
run it: the Provider framework of the CDK, through `on_event` and `is_complete` (README of
aws-cdk-lib/custom-resources: "Asynchronous Providers: isComplete"), and `handle`, which needs one function
and one state machine for all resources of a stack.

`handle` does nothing itself with a request of CloudFormation but start the waiter's execution under the
request's id: "StartExecution" (AWS Step Functions API reference) takes a name once in 90 days, so that a
request that is delivered again, however late, changes nothing. The execution calls the function until it
answers ``Again: false``, and then calls it once more with the ``Answer`` that came along, which the function
puts where CloudFormation waits. What is told is decided once: a call whose end nobody heard of is repeated,
and a step that is taken again after CloudFormation believed its answer could make what nobody waits for.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from tokenmill_runtime import aws
from tokenmill_runtime.custom_resource import (
    SERVICE_SECONDS,
    Answer,
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

# The Provider framework calls `on_event` once, and a rollback that fails for a storm leaves a stack stuck.
BEGIN_PAUSES: Final = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)

_FUNCTION: Final = "Function"
_WAITING: Final = "Waiting"
_SINCE: Final = "Since"
_REPLACES: Final = "Replaces"
_AGAIN: Final = "Again"
_ANSWER: Final = "Answer"

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
        answer lost. Raises Refused after whatever the request made is gone again; errors that pass
        (throttles, 5xx, lost connections) may be left to the driver, which calls again.
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

    Returns ``PhysicalResourceId`` and, for an update, ``Replaces``, the id that it found, also in ``Data``:
    the framework lays all of it over the event for `is_complete`. Raises Refused with the text for the
    stack's events.
    """
    request = read(event)
    resource = _resource(resources, request)
    physical_id = None
    for pause in BEGIN_PAUSES:
        try:
            physical_id = resource.begin(request)
            break
        except Exception as error:
            if not is_passing(error):
                raise _refusal(request, error) from error
        time.sleep(pause)
    if physical_id is None:
        physical_id = _begin_at_last(resource, request)
    replaced = {_REPLACES: request.physical_id} if request.kind == "Update" else {}
    return {"PhysicalResourceId": physical_id, "Data": replaced, **replaced}


def _begin_at_last(resource: WaitedResource, request: Request) -> str:
    try:
        return resource.begin(request)
    except Exception as error:
        raise _refusal(request, error) from error


def is_complete(
    resources: Mapping[str, WaitedResource], event: Mapping[str, Any], context: Any
) -> dict[str, Any]:
    """Take a step, as "isComplete" of the CDK's Provider framework.

    The event is that of CloudFormation with what `on_event` returned laid over it; without that, the resource
    begins again. Returns ``{"IsComplete": False}`` or ``{"IsComplete": True, "Data": {...}}``. Raises Refused
    with the text for the stack's events.
    """
    answer = _step(resources, read(event))
    if answer is None:
        return {"IsComplete": False}
    return {"IsComplete": True, "Data": dict(answer.data)}


def handle(
    resources: Mapping[str, WaitedResource], event: Mapping[str, Any], context: Any
) -> dict[str, Any] | None:
    """Serve CloudFormation and the waiter as the function's handler.

    A request of CloudFormation starts the waiter with ``{"Function": ARN, "Waiting": request}``; the waiter
    sends ``{"Waiting": request, "Since": time}`` and gets ``{"Again": true}`` until there is an answer:
    ``{"Again": false, "Answer": answer}``. It sends that back as ``{"Waiting": request, "Answer": answer}``.
    """
    if _ANSWER in event:
        respond(read(event[_WAITING]), **event[_ANSWER])
        return {_AGAIN: False}
    if _WAITING in event:
        answer = _turn(resources, event[_WAITING], str(event[_SINCE]))
        return {_AGAIN: True} if answer is None else {_AGAIN: False, _ANSWER: answer}
    request = read(event)
    try:
        _start(request, event, context)
    except Exception as error:
        if is_passing(error):
            # Lambda calls again ("Asynchronous invocation", AWS Lambda Developer Guide).
            raise
        respond(
            request,
            status="FAILED",
            physical_id=_known_id(request),
            reason=str(_refusal(request, error)),
        )
    return None


def read(event: Mapping[str, Any]) -> Request:
    """Read an event of CloudFormation, of the Provider framework or of the waiter.

    Raises ValueError as `custom_resource.parse` does.
    """
    # The Provider framework keeps the URL to itself.
    request = parse({"ResponseURL": "", **event})
    data, since = event.get("Data") or {}, event.get(_SINCE)
    return replace(
        request,
        replaces=event.get(_REPLACES) or data.get(_REPLACES),
        budget=TimeBudget(since=None if since is None else float(since)),
    )


def _start(request: Request, event: Mapping[str, Any], context: Any) -> None:
    """Start the waiter under the request's id; nothing where that was done before."""
    client = aws.step_functions()
    waiting = {_FUNCTION: context.invoked_function_arn, _WAITING: dict(event)}
    try:
        client.start_execution(
            stateMachineArn=os.environ[WAITER_VARIABLE], name=request.request_id, input=json.dumps(waiting)
        )
    except client.exceptions.ExecutionAlreadyExists:
        print(f"request {request.request_id} was delivered again; it is waited for once", flush=True)


def _turn(
    resources: Mapping[str, WaitedResource], event: Mapping[str, Any], since: str
) -> dict[str, Any] | None:
    """Take a step for the waiter; what CloudFormation is to be answered, or None to call again."""
    known = {_REPLACES: event.get("PhysicalResourceId")} if event["RequestType"] == "Update" else {}
    request = read({**event, **known, _SINCE: datetime.fromisoformat(since).timestamp()})
    try:
        request = _in_time(request)
        begun = _begun(resources, request)
        answer = None if begun is None else _step(resources, begun)
    except Refused as refused:
        return {"status": "FAILED", "physical_id": _known_id(request), "reason": str(refused)}
    if answer is None:
        return None
    return {
        "status": "SUCCESS",
        "physical_id": answer.physical_id,
        "data": dict(answer.data),
        "no_echo": answer.no_echo,
    }


def _in_time(request: Request) -> Request:
    """The request with the time that CloudFormation still waits for it.

    A function that was throttled gets an event hours later, when the stack has gone on and another request
    may be about the same. A deletion has its whole time all the same: what it is about is to go.

    Raises Refused for one that CloudFormation gave up.
    """
    budget, sent = request.budget, request.sent
    if request.kind == "Delete" or sent is None or budget.since is None:
        return request
    budget = replace(budget, since=min(budget.since, sent))
    if budget.spent >= SERVICE_SECONDS:
        raise Refused(
            f"{request.kind} of {request.logical_id} was sent {budget.spent / 60:.0f} minutes ago, and "
            "CloudFormation waits for it no longer; nothing more is done for it",
            code="stale",
        )
    return replace(request, budget=budget)


def _begun(resources: Mapping[str, WaitedResource], request: Request) -> Request | None:
    """The request under the id that it begins with; None when that has to be asked again later."""
    try:
        return replace(request, physical_id=_resource(resources, request).begin(request))
    except Exception as error:
        if not _again(request, error):
            raise _refusal(request, error) from error
        return None


def _step(resources: Mapping[str, WaitedResource], request: Request) -> Answer | None:
    resource = _resource(resources, request)
    try:
        if request.physical_id is None or (request.kind == "Update" and request.replaces is None):
            request = replace(request, physical_id=resource.begin(request))
        answer = resource.advance(request)
    except Exception as error:
        if not _again(request, error):
            raise _refusal(request, error) from error
        print(redact(f"{request.logical_id}: called again after {error}"), file=sys.stderr, flush=True)
        return None
    if answer is None and request.budget.over:
        raise _refusal(request, None)
    return answer


def _again(request: Request, error: Exception) -> bool:
    """Whether a step that failed may be taken again."""
    if request.budget.over:
        return False
    waited_for = request.budget.since is not None and request.budget.spent < PERMISSION_SECONDS
    return is_passing(error) or (is_denied(error) and waited_for)


def _resource(resources: Mapping[str, WaitedResource], request: Request) -> WaitedResource:
    found = resources.get(request.resource_type)
    if found is None:
        known = ", ".join(sorted(resources))
        raise Refused(f"this function has no resource {request.resource_type!r}; it has {known}")
    return found


def _refusal(request: Request, error: Exception | None) -> Refused:
    """What the stack's events say of an error; None for a budget that is over."""
    if isinstance(error, Refused):
        return Refused(redact(str(error)), code=error.code)
    if error is not None and is_denied(error):
        return Refused(
            f"the function's role lacks a permission: {redact(error_message(error))}", code="permission"
        )
    if request.budget.over:
        seen = f", and the last call failed: {redact(str(error))}" if error else ""
        return Refused(
            f"{request.kind} of {request.logical_id} was not over after {request.budget.seconds / 60:.0f} "
            f"minutes{seen}",
            code="time",
        )
    if error is not None and is_passing(error):
        return Refused(
            f"{request.kind} of {request.logical_id} could not begin, and nothing was changed: "
            f"{redact(str(error))}",
            code="passing",
        )
    print(redact("".join(traceback.format_exception(error))), file=sys.stderr, flush=True)
    text = " ".join(str(error).split())
    return Refused(redact(f"{type(error).__name__}: {text}"))


def _known_id(request: Request) -> str:
    """The id of a failure: the one that CloudFormation knows, so that what follows speaks of it."""
    return request.physical_id or request.own_id
