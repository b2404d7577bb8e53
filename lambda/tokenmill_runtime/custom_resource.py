"""CloudFormation's custom resource protocol, answered by the standard library alone.

"Custom resource request objects" and "Custom resource response objects" (AWS CloudFormation user guide): a
request names a URL of S3 that takes one JSON document of at most 4,096 bytes, and CloudFormation waits until
it is there or the resource's ServiceTimeout is over. Values of properties arrive as texts, whatever they were
in the template.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

Kind = Literal["Create", "Update", "Delete"]
Status = Literal["SUCCESS", "FAILED"]

MOST_ANSWER_BYTES: Final = 4096
MOST_REASON_CHARACTERS: Final = 1000
RESPOND_ATTEMPTS: Final = 5
RESPOND_SECONDS: Final = 10
# "ServiceTimeout" (AWS::CloudFormation::CustomResource): CloudFormation waits no longer.
SERVICE_SECONDS: Final = 3600
# What is left belongs to the answer and to whatever has to be undone.
MOST_WAIT_SECONDS: Final = 3000
# What an answer takes at worst when the function is about to be stopped.
LAST_WORDS_SECONDS: Final = 15

# "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)" (Amazon S3 API reference).
_SIGNED_AT: Final = re.compile(r"[?&]X-Amz-Date=(\d{8}T\d{6}Z)(?:&|$)")
_SECRETS: Final = re.compile(
    r"(hf_[A-Za-z0-9]{8,}|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|(?<=[Bb]earer )\S+"
    r"|(?<=X-Amz-Signature=)[^&\s]+|(?<=X-Amz-Security-Token=)[^&\s]+|(?<=Signature=)[^&\s]+)"
)


class Refused(Exception):
    """The resource cannot be made, changed or deleted; the text goes into the stack's events as it stands.

    Args:
        text: One sentence for the person who reads the stack's events.
        code: A short word for programs, such as "quota" or "name-taken".
    """

    def __init__(self, text: str, *, code: str = "") -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whom an answer goes to; an answer that is given later needs no more than this.

    Args:
        response_url: Where the answer is put.
        stack_id: The stack's ARN.
        request_id: The request's id, the same for a repeated delivery.
        logical_id: The resource's id in the template.
    """

    response_url: str
    stack_id: str
    request_id: str
    logical_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeBudget:
    """How long a request may still take, over all calls that wait for it.

    Args:
        since: Epoch seconds of the request's first call; None where nobody keeps the time.
        seconds: How long all calls together may take.
        now: Gives epoch seconds.
    """

    since: float | None = None
    seconds: float = MOST_WAIT_SECONDS
    now: Callable[[], float] = time.time

    @property
    def spent(self) -> float:
        """Seconds since the first call; 0 where nobody keeps the time."""
        return 0.0 if self.since is None else max(0.0, self.now() - self.since)

    @property
    def over(self) -> bool:
        """Whether the request has to end now."""
        return self.spent >= self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Identity):
    """What CloudFormation asks for.

    Args:
        kind: "Create", "Update" or "Delete".
        resource_type: The template's type, such as "Custom::TokenmillHold".
        physical_id: The id that an earlier answer gave; None for "Create".
        properties: The properties, every value a text, without ServiceToken and ServiceTimeout.
        old_properties: The properties before an update; empty otherwise.
        replaces: The id that an update found, where what was made of it since is another one.
        budget: How long the request may still take.
    """

    kind: Kind
    resource_type: str
    physical_id: str | None
    properties: Mapping[str, Any]
    old_properties: Mapping[str, Any]
    replaces: str | None = None
    budget: TimeBudget = field(default_factory=lambda: TimeBudget())

    @property
    def own_id(self) -> str:
        """An id that this resource of this stack always has: a repeated "Create" makes nothing twice."""
        digest = hashlib.sha256(f"{self.stack_id}/{self.logical_id}".encode()).hexdigest()
        return f"{self.logical_id[:80]}-{digest[:16]}"

    @property
    def sent(self) -> float | None:
        """Epoch seconds when CloudFormation signed the address of the answer; None where it does not say."""
        signed = _SIGNED_AT.search(self.response_url)
        return None if signed is None else datetime.strptime(signed[1], "%Y%m%dT%H%M%S%z").timestamp()

    def token(self, purpose: str = "") -> str:
        """An idempotency token: the same for every delivery of this request and this purpose.

        48 hexadecimal digits, which every service's client token takes. It does not hold the physical id,
        because an update that is read again after its answer has another one.
        """
        text = f"{self.request_id}\n{self.stack_id}\n{self.logical_id}\n{purpose}"
        return hashlib.sha256(text.encode()).hexdigest()[:48]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A resource that is as it was asked.

    Args:
        physical_id: The resource's id; another one than before replaces the resource.
        data: Attributes for Fn::GetAtt.
        no_echo: Whether CloudFormation masks the attributes.
    """

    physical_id: str
    data: Mapping[str, str | int] = field(default_factory=dict)
    no_echo: bool = False


def parse(event: Mapping[str, Any]) -> Request:
    """Read an event of CloudFormation.

    Raises ValueError naming the field that is missing or has a value that the protocol does not know.
    """
    try:
        kind = event["RequestType"]
        if kind not in get_args(Kind):
            raise ValueError(f"RequestType is {kind!r}; allowed are {', '.join(get_args(Kind))}")
        return Request(
            kind=cast("Kind", kind),
            request_id=event["RequestId"],
            stack_id=event["StackId"],
            logical_id=event["LogicalResourceId"],
            resource_type=event["ResourceType"],
            physical_id=event.get("PhysicalResourceId"),
            properties=_own_properties(event.get("ResourceProperties", {})),
            old_properties=_own_properties(event.get("OldResourceProperties", {})),
            response_url=event["ResponseURL"],
        )
    except KeyError as missing:
        raise ValueError(
            f"the event has no {missing.args[0]!r}; CloudFormation sends one with every request"
        ) from missing


def _own_properties(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in properties.items() if name not in ("ServiceToken", "ServiceTimeout")
    }


def redact(text: str) -> str:
    """Return a text without tokens, access keys and signatures of URLs."""
    return _SECRETS.sub("<redacted>", text)


def respond(
    to: Identity,
    *,
    status: Status,
    physical_id: str,
    reason: str = "",
    data: Mapping[str, str | int] | None = None,
    no_echo: bool = False,
) -> None:
    """Put the answer where CloudFormation waits for it; tried again where S3 does not take it.

    Raises OSError when no attempt got through, ValueError for an answer longer than CloudFormation takes.
    """
    document = {
        "Status": status,
        "Reason": redact(reason)[:MOST_REASON_CHARACTERS],
        "PhysicalResourceId": physical_id,
        "StackId": to.stack_id,
        "RequestId": to.request_id,
        "LogicalResourceId": to.logical_id,
        "NoEcho": no_echo,
        "Data": dict(data or {}),
    }
    # Escapes would make six bytes of a letter, and a long reason in another script too long to be told.
    body = json.dumps(document, ensure_ascii=False).encode()
    if len(body) > MOST_ANSWER_BYTES:
        raise ValueError(
            f"the answer of {to.logical_id} has {len(body)} bytes; CloudFormation takes {MOST_ANSWER_BYTES}, "
            "so return fewer or shorter attributes"
        )
    for attempt in range(1, RESPOND_ATTEMPTS + 1):
        try:
            _put(to.response_url, body)
            return
        except OSError:
            if attempt == RESPOND_ATTEMPTS:
                raise
            time.sleep(0.2 * 2**attempt)


def _put(url: str, body: bytes) -> None:
    import urllib.request

    if not url.startswith(("https://", "http://")):
        raise ValueError(f"ResponseURL begins with {url[:8]!r}; it must be an https address")
    # The URL is signed for an empty content type ("Custom resource response objects").
    request = urllib.request.Request(url, data=body, method="PUT", headers={"Content-Type": ""})
    with urllib.request.urlopen(request, timeout=RESPOND_SECONDS) as answer:
        answer.read()


def run(
    event: Mapping[str, Any],
    context: Any,
    resources: Mapping[str, Callable[[Request], Answer | None]],
) -> None:
    """Answer a request of CloudFormation, whatever happens in the resource's function.

    The function gets "Create", "Update" and "Delete" alike, may be called twice with the same request, and a
    "Delete" after a "Create" that failed. Returning None leaves the answer to somebody else, who has the
    request's Identity. An exception becomes one sentence in the stack's events, and its traceback goes to the
    log; it is not raised again, because Lambda would run the answered request a second time.
    """
    request = parse(event)
    with _Answering(request, context) as answering:
        resource = resources.get(request.resource_type)
        if resource is None:
            known = ", ".join(sorted(resources))
            raise Refused(f"this function has no resource {request.resource_type!r}; it has {known}")
        answer = resource(request)
        if answer is not None:
            answering.succeed(answer)


class _Answering:
    """Exactly one answer to a request, before the function's time is over."""

    def __init__(self, request: Request, context: Any) -> None:
        self._request = request
        self._lock = threading.Lock()
        self._answered = False
        self._timer: threading.Timer | None = None
        if context is not None:
            left = context.get_remaining_time_in_millis() / 1000
            self._timer = threading.Timer(max(0.0, left - LAST_WORDS_SECONDS), self._out_of_time, (left,))
            self._timer.daemon = True

    def __enter__(self) -> _Answering:
        if self._timer is not None:
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> bool:
        if self._timer is not None:
            self._timer.cancel()
        if not isinstance(error, Exception):
            return False
        if not isinstance(error, Refused):
            print(redact("".join(traceback.format_exception(error))), file=sys.stderr, flush=True)
        self._fail(_sentence(error))
        return True

    def succeed(self, answer: Answer) -> None:
        self._send("SUCCESS", answer.physical_id, data=answer.data, no_echo=answer.no_echo)

    def _out_of_time(self, seconds: float) -> None:
        self._fail(f"{self._request.kind} took longer than the function's {seconds:.0f} s")

    def _fail(self, reason: str) -> None:
        self._send("FAILED", self._request.physical_id or self._request.own_id, reason=reason)

    def _send(
        self,
        status: Status,
        physical_id: str,
        *,
        reason: str = "",
        data: Mapping[str, str | int] | None = None,
        no_echo: bool = False,
    ) -> None:
        with self._lock:
            if self._answered:
                return
            respond(
                self._request,
                status=status,
                physical_id=physical_id,
                reason=reason,
                data=data,
                no_echo=no_echo,
            )
            self._answered = True


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, Refused) and text else f"{type(error).__name__}: {text}"
