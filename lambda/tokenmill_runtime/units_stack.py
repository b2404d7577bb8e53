"""What CloudFormation says about the stack that a request comes from.

An answer only ever stops a purchase or a deletion that is late; without rights to ask, or without an answer,
the other safeguards stand alone. Source: AWS CloudFormation User Guide, "Stack status codes".
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tokenmill_runtime import aws
from tokenmill_runtime.waited_resource import error_message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill_runtime.custom_resource import Request

ASK_VARIABLE: Final = "TOKENMILL_ASK_STACK"

# Only then does a stack declare what it did not declare before.
_BUYING: Final = frozenset(
    {
        "CREATE_IN_PROGRESS",
        "IMPORT_IN_PROGRESS",
        "UPDATE_IN_PROGRESS",
        "UPDATE_ROLLBACK_IN_PROGRESS",
        "REVIEW_IN_PROGRESS",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Questions to CloudFormation, if it may be asked at all."""

    asked: bool

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Stack:
        """Ask where the environment says so."""
        return cls(asked=environment.get(ASK_VARIABLE) == "1")

    def may_buy(self, request: Request) -> bool:
        """Whether the stack is being created, updated or rolled back to what it had."""
        if not self.asked:
            return True
        return self._status(request.stack_id) in _BUYING

    def goes_forward(self, request: Request) -> bool:
        """Whether the stack is known to be on its way to what the request asks for, and not back to it."""
        return self.asked and self._status(request.stack_id) == "UPDATE_IN_PROGRESS"

    def is_late(self, request: Request) -> bool:
        """Whether a deletion came late: the stack has these units and is not giving them up."""
        if not self.asked or self._status(request.stack_id).endswith("IN_PROGRESS"):
            return False
        status, physical_id = self._resource(request.stack_id, request.logical_id)
        return physical_id == request.physical_id and status in ("CREATE_COMPLETE", "UPDATE_COMPLETE")

    def was_replaced(self, request: Request) -> bool:
        """Whether a deletion cleans up what other units of the same resource replaced."""
        if not self.asked:
            return False
        status, physical_id = self._resource(request.stack_id, request.logical_id)
        return bool(physical_id) and physical_id != request.physical_id and not status.startswith("DELETE")

    def still_declares(self, stack_id: str, logical_id: str, physical_id: str) -> bool:
        """Whether the stack has a resource with this id and is not about to give it up."""
        if not self.asked:
            return True
        status, found = self._resource(stack_id, logical_id)
        return found == physical_id and not status.startswith("DELETE") and status != "CREATE_FAILED"

    def _status(self, stack_id: str) -> str:
        found = aws.cloudformation().describe_stacks(StackName=stack_id)["Stacks"]
        return str(found[0]["StackStatus"])

    def _resource(self, stack_id: str, logical_id: str) -> tuple[str, str]:
        """Status and physical id of the resource; two empty texts where the stack has none."""
        from botocore.exceptions import ClientError

        try:
            found = aws.cloudformation().describe_stack_resource(
                StackName=stack_id, LogicalResourceId=logical_id
            )["StackResourceDetail"]
        except ClientError as error:
            # The stack without this resource, and no stack at all, are one code with two messages.
            if "does not exist" not in error_message(error):
                raise
            return "", ""
        return found["ResourceStatus"], found.get("PhysicalResourceId", "")
