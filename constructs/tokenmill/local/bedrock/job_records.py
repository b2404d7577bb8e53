"""Jobs as the control plane keeps them: their statuses, and what tells others of a change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tokenmill.local.aws_requests import AwsError
from tokenmill.local.bedrock.paging import moment_of, page

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from tokenmill.local.aws_requests import Params, Scope
    from tokenmill.local.bedrock.control import BedrockControl

ENDED = frozenset({"Completed", "Failed", "Stopped", "PartiallyCompleted", "Expired"})


@dataclass(slots=True, kw_only=True)
class Job:
    """One job.

    Args:
        arn: Its ARN.
        name: Its name.
        request: The members of the request that made it.
        status: Its status.
        created: When it was made.
        modified: When it changed last.
        due: When its next status comes by itself, in seconds since 1970; nothing when others end it.
        ended: When it ended.
        message: Why it failed.
        made: ARN of the model that it made.
        counts: Records: total, processed, success, error.
    """

    arn: str
    name: str
    request: Params
    status: str
    created: datetime
    modified: datetime
    due: float | None = None
    ended: datetime | None = None
    message: str | None = None
    made: str | None = None
    counts: dict[str, int] = field(default_factory=dict)

    def described(self, *, made: str = "creationTime") -> Params:
        """Return the members that Get and List have of every job.

        Args:
            made: Name of the time of its making.
        """
        return {
            "jobArn": self.arn,
            "jobName": self.name,
            "status": self.status,
            made: self.created,
            "lastModifiedTime": self.modified,
            "endTime": self.ended,
        }

    @property
    def id(self) -> str:
        """The last part of its ARN."""
        return self.arn.rpartition("/")[2]

    def progress(self, *, total: int, processed: int, success: int, error: int) -> None:
        """Say how many records there are and how many are through.

        Args:
            total: Records of the input.
            processed: Records with an answer or an error.
            success: Records with an answer.
            error: Records with an error.
        """
        self.counts = {"total": total, "processed": processed, "success": success, "error": error}


class Jobs:
    """The jobs of one kind.

    Args:
        control: The control plane.
        operation: The operation that makes them.
        status: The status that they begin with.
        tags: Member of that operation that has their tags.
        moved: Told of every new status, after it is set.
    """

    def __init__(
        self,
        control: BedrockControl,
        operation: str,
        *,
        status: str,
        tags: str,
        moved: Callable[[Scope, Job], None],
    ) -> None:
        self._control = control
        self._operation = operation
        self._status = status
        self._tags = tags
        self._moved = moved
        self._jobs: dict[Scope, dict[str, Job]] = {}

    def begin(
        self, scope: Scope, params: Params, kind: str, *, seconds: float, check: Callable[[], None]
    ) -> Params:
        """Make a job, once for a client token; return the operation's answer.

        Args:
            scope: Whose.
            params: The request's members.
            kind: What stands before its id in its ARN.
            seconds: When its next status comes.
            check: Raises for a request that cannot be met.

        Raises:
            AwsError: Its name is taken, or what the check raises.
        """
        control = self._control

        def make() -> str:
            name = params["jobName"]
            if any(job.name == name for job in self._jobs.get(scope, {}).values()):
                raise AwsError("ConflictException", f"A job with the name {name} exists.")
            check()
            job = Job(
                arn=scope.arn("bedrock", f"{kind}/{control.new_id(scope)}"),
                name=name,
                request=params,
                status=self._status,
                created=control.now(),
                modified=control.now(),
                due=control.clock() + seconds,
            )
            control.tags.add(scope, job.arn, params.get(self._tags))
            self._jobs.setdefault(scope, {})[job.arn] = job
            self._moved(scope, job)
            return job.arn

        arn = control.tokens.once(scope, self._operation, params, make=make, exists=lambda made: True)
        return {"jobArn": arn}

    def move(self, scope: Scope, job: Job, status: str, at: datetime, message: str | None = None) -> None:
        """Give a job a status.

        Args:
            scope: Whose.
            job: The job.
            status: The status.
            at: When.
            message: Why, where it failed.
        """
        job.status, job.modified = status, at
        job.message = message if message is not None else job.message
        if status in ENDED:
            job.ended, job.due = at, None
        self._moved(scope, job)

    def all(self) -> list[tuple[Scope, Job]]:
        """Return every job of every account."""
        return [(scope, job) for scope, jobs in self._jobs.items() for job in jobs.values()]

    def existing(self, scope: Scope, identifier: str) -> Job:
        """Return a job by its ARN, the last part of it, or its name.

        Args:
            scope: Whose.
            identifier: Any of them.

        Raises:
            AwsError: There is none.
        """
        for job in self._jobs.get(scope, {}).values():
            if identifier in (job.arn, job.id, job.name):
                return job
        raise AwsError("ResourceNotFoundException", f"Could not find the job {identifier}.")

    def listing(
        self, scope: Scope, params: Params, describe: Callable[[Scope, Job], Params], *, into: str, made: str
    ) -> Params:
        """Return a List's answer: the page of jobs that it asks for, newest first.

        Args:
            scope: Whose.
            params: The request's members.
            describe: Returns a summary; what is None in it is left out.
            into: Member of the answer that has them.
            made: What the members for the time of their making begin with: "creationTime" or "submitTime".
        """
        after, before = params.get(f"{made}After"), params.get(f"{made}Before")
        chosen = [
            job
            for job in self._jobs.get(scope, {}).values()
            if params.get("nameContains", "") in job.name
            and params.get("statusEquals", job.status) == job.status
            and (after is None or job.created > moment_of(after))
            and (before is None or job.created < moment_of(before))
        ]
        chosen.sort(key=lambda job: job.created, reverse=params.get("sortOrder") != "Ascending")
        some, token = page([describe(scope, job) for job in chosen], params)
        shown = [{name: value for name, value in one.items() if value is not None} for one in some]
        return {into: shown, "nextToken": token}
