"""State machines that `tokenmill jobs` finds, starts and waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk

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
    if kind not in jobs.KINDS:
        raise ValueError(f"kind is {kind!r}; allowed are {', '.join(jobs.KINDS)}")
    tags = cdk.Tags.of(state_machine)
    tags.add(jobs.JOB_TAG, kind)
    tags.add(jobs.NAME_TAG, name)
    tags.add(jobs.STACK_TAG, cdk.Stack.of(state_machine).stack_name)
