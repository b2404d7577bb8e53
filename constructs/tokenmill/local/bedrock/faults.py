"""What goes wrong on request with Bedrock's control plane.

Source: Amazon Bedrock API Reference, "Common Errors" and the errors of each operation (429, 500); AWS SDKs
and Tools Reference Guide, "Retry behavior" (what a client tries again, unsure whether the service acted).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from tokenmill.core.errors import TokenmillError
from tokenmill.local.aws_requests import AwsError

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["throttled", "failed", "failed_after", "dropped", "lost", "denied"]
KINDS: tuple[str, ...] = get_args(Kind)
ACTS: tuple[str, ...] = ("failed_after", "lost")
MOST_TIMES = 1000
FORM = (
    'bedrock_faults takes a list of {"kind": "' + "|".join(KINDS) + '", "operation": "NAME", "times": N, '
    '"after": N}; all but kind may be left out; an empty list ends every fault'
)


@dataclass(slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong.

    Args:
        kind: "throttled" (429), "failed" (500 and nothing done), "failed_after" (500 after it was done),
            "dropped" (the connection breaks before), "lost" (it breaks after it was done, as in a time-out),
            "denied".
        operation: Name of the operation; None means every one.
        times: How many calls it befalls.
        after: How many calls of the operation it lets pass first.
    """

    kind: Kind
    operation: str | None = None
    times: int = 1
    after: int = 0


class Faults:
    """The faults that are waiting for their calls; `met` counts those that met one, by kind and operation."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []
        self.met: Counter[tuple[str, str]] = Counter()

    def add(self, fault: Fault) -> None:
        """Let something go wrong.

        Args:
            fault: What.
        """
        self._waiting.append(fault)

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        self._waiting.clear()

    def take(self, operation: str) -> Fault | None:
        """Return what befalls a call; every fault that waits for the operation counts the call.

        Args:
            operation: Name of the call's operation.
        """
        meets: Fault | None = None
        for fault in self._waiting:
            if fault.operation not in (None, operation):
                continue
            if fault.after > 0:
                fault.after -= 1
            elif meets is None:
                meets = fault
        if meets is not None:
            meets.times -= 1
            self._waiting = [fault for fault in self._waiting if fault.times > 0]
            self.met[meets.kind, operation] += 1
        return meets

    def inject(self, requests: object) -> None:
        """Replace the faults by those of an admin call.

        Args:
            requests: A list of objects with the members of `Fault`.

        Raises:
            TokenmillError: It has another form.
        """
        if not isinstance(requests, list):
            raise TokenmillError(FORM)
        faults = [_fault(request) for request in requests]
        self._waiting = faults


def error_of(fault: Fault, operation: str) -> AwsError:
    """Return the error that a call meets.

    Args:
        fault: A fault that answers.
        operation: Name of the operation.
    """
    if fault.kind == "throttled":
        return AwsError("ThrottlingException", "Rate exceeded", status=429)
    if fault.kind == "denied":
        return AwsError(
            "AccessDeniedException", f"User is not authorized to perform: bedrock:{operation}", status=403
        )
    return AwsError("InternalServerException", "An internal server error occurred", status=500)


def _fault(request: object) -> Fault:
    if not isinstance(request, dict) or not set(request) <= {"kind", "operation", "times", "after"}:
        raise TokenmillError(FORM)
    given: Mapping[str, Any] = request
    times, after = given.get("times", 1), given.get("after", 0)
    operation = given.get("operation")
    good = isinstance(operation, str | None) and given.get("kind") in KINDS
    numbers = all(type(number) is int and 0 <= number <= MOST_TIMES for number in (times, after))
    if not good or not numbers:
        raise TokenmillError(FORM)
    return Fault(kind=given["kind"], operation=operation, times=times, after=after)
