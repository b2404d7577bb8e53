"""CloudFormation handler of EventBridge Scheduler's schedules: MiniStack's own drops time zones and dates.

Source: CloudFormation Template Reference, "AWS::Scheduler::Schedule" (`Ref` is the name;
Name and GroupName replace).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from tokenmill.local.aws_requests import Params
    from tokenmill.local.cloudformation.common import Outcome
    from tokenmill.local.ministack_seams import Ministack

DEFAULT_GROUP = "default"


class ScheduleHandler:
    """Schedules.

    Args:
        ministack: MiniStack's modules.
    """

    def __init__(self, ministack: Ministack) -> None:
        self._ministack = ministack

    def create(self, logical_id: str, properties: Params, stack: str) -> Outcome:
        """Create the schedule."""
        name = properties.get("Name") or self._ministack.physical_name(stack, logical_id, longest=64)
        scheduler, group = self._ministack.scheduler, properties.get("GroupName", DEFAULT_GROUP)
        scheduler._ensure_default_group()
        _check(scheduler._create_schedule(name, _body(properties)))
        return name, {"Arn": scheduler._schedule_arn(group, name)}

    def update(self, physical_id: str, before: Params, after: Params, stack: str, logical_id: str) -> Outcome:
        """Change the schedule in place, or replace it when its name or group changes."""
        if any(before.get(key) != after.get(key) for key in ("Name", "GroupName")):
            return self.create(logical_id, after, stack)
        scheduler, group = self._ministack.scheduler, after.get("GroupName", DEFAULT_GROUP)
        _check(scheduler._update_schedule(physical_id, _body(after)))
        return physical_id, {"Arn": scheduler._schedule_arn(group, physical_id)}

    def delete(self, physical_id: str, properties: Params) -> None:
        """Delete the schedule; one that is gone is fine."""
        query = {"groupName": properties.get("GroupName", DEFAULT_GROUP)}
        status, _, body = self._ministack.scheduler._delete_schedule(physical_id, query)
        if status not in (200, 404):
            raise TokenmillError(_message(body))


def _body(properties: Params) -> Params:
    return {name: value for name, value in properties.items() if name != "Name"}


def _check(answer: tuple[int, object, bytes | str]) -> None:
    status, _, body = answer
    if status >= 400:
        raise TokenmillError(_message(body))


def _message(body: bytes | str) -> str:
    document = json.loads(body)
    return str(document.get("Message") or document.get("message") or document)
