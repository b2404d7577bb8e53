"""State machines that `tokenmill jobs` finds, starts and waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk

from tokenmill.security.place import stack_of
from tokenmill_runtime import jobs

if TYPE_CHECKING:
    from constructs import IConstruct


def tag_job(state_machine: IConstruct, *, kind: str, name: str) -> None:
    """Tag a state machine as a job.

    Args:
        state_machine: The state machine, whose definition begins with `tokenmill_runtime.jobs`' first state.
        kind: One of `tokenmill_runtime.jobs.KINDS`.
        name: What tells it from other jobs of its kind in the stack: the id of the construct.

    Raises:
        ValueError: If there is no such kind.
    """
    tags = cdk.Tags.of(state_machine)
    for key, value in job_tags(state_machine, kind=kind, name=name).items():
        tags.add(key, value)


def job_tags(scope: IConstruct, *, kind: str, name: str) -> dict[str, str]:
    """Return the tags of a job, for a state machine that is made with them.

    Args:
        scope: A construct of the stack.
        kind: One of `tokenmill_runtime.jobs.KINDS`.
        name: As `tag_job` takes it.

    Raises:
        ValueError: If there is no such kind.
    """
    if kind not in jobs.KINDS:
        raise ValueError(f"kind is {kind!r}; allowed are {', '.join(jobs.KINDS)}")
    return {jobs.JOB_TAG: kind, jobs.NAME_TAG: name, jobs.STACK_TAG: stack_of(scope).stack_name}
