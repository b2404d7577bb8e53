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
        moved: Told of every new status, after it is set.
    """

    def __init__(self, moved: Callable[[Scope, Job], None]) -> None:
        self._moved = moved
        self._jobs: dict[Scope, dict[str, Job]] = {}

    def add(self, scope: Scope, job: Job) -> None:
        """Take a new job.

        Args:
            scope: Whose.
            job: The job.
        """
        self._jobs.setdefault(scope, {})[job.arn] = job
        self._moved(scope, job)

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

    def named(self, scope: Scope, name: str) -> Job | None:
        """Return the job of a name.

        Args:
            scope: Whose.
            name: Its name.
        """
        return next((job for job in self._jobs.get(scope, {}).values() if job.name == name), None)

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

    def page(
        self, scope: Scope, params: Params, describe: Callable[[Scope, Job], Params], *, prefix: str
    ) -> tuple[list[Params], str | None]:
        """Return the page of jobs that a List asks for, newest first, and the token of the next.

        Args:
            scope: Whose.
            params: The request's members.
            describe: Returns a summary.
            prefix: What the members for times begin with: "creationTime" or "submitTime".
        """
        after, before = params.get(f"{prefix}After"), params.get(f"{prefix}Before")
        chosen = [
            job
            for job in self._jobs.get(scope, {}).values()
            if params.get("nameContains", "") in job.name
            and params.get("statusEquals", job.status) == job.status
            and (after is None or job.created > moment_of(after))
            and (before is None or job.created < moment_of(before))
        ]
        chosen.sort(key=lambda job: job.created, reverse=params.get("sortOrder") != "Ascending")
        some, token = page([{"job": job} for job in chosen], params)
        return [describe(scope, one["job"]) for one in some], token
